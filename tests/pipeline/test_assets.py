"""Assets come from a checked mirror or a resumable download, and a damaged file is named."""

import hashlib
import http.server
import threading
from dataclasses import replace

import pytest

from pipeline.assetlist import ASSETS, BY_NAME, Asset
from pipeline.assets import download, find_asset, is_whole, state_of
from pipeline.backends import ASSETS as BACKEND_ASSETS
from pipeline.cli import assets as command
from pipeline.cli.assets import copy_from_mirror
from pipeline.errors import PipelineError
from pipeline.io import file_sha256

CONTENT = bytes(range(256)) * 400


@pytest.fixture
def mirror(tmp_path):
    folder = tmp_path / "mirror"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "x.bin").write_bytes(b"weights")
    (folder / "MANIFEST.csv").write_text(
        f"file,bytes,sha256,source,licence,what\na/x.bin,7,{file_sha256(folder / 'a/x.bin')},somewhere official,MIT,test\n"
    )
    return folder


@pytest.fixture
def server():
    """A loopback server whose ``cut`` says after how many bytes each answer breaks off; ``ranges`` lists what was asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        cut: int | None = None
        honours_range = True
        content = CONTENT
        ranges: list[str] = []  # noqa: RUF012

        def do_GET(self):
            asked = self.headers.get("Range", "")
            type(self).ranges.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.honours_range else 0
            body = self.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if self.cut is None else body[: self.cut])

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as instance:
        thread = threading.Thread(target=instance.serve_forever, daemon=True)
        thread.start()
        Handler.address = f"http://127.0.0.1:{instance.server_port}/x.bin"
        yield Handler
        instance.shutdown()
        thread.join()


def asset_at(address: str, **changes) -> Asset:
    asset = Asset("a/x.bin", "download", address, len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), "MIT", "a test")
    return replace(asset, **changes)


def test_files_arrive_checked_and_twice_is_once(mirror, tmp_path):
    target = tmp_path / "assets"
    assert copy_from_mirror(mirror, target) == ["a/x.bin"]
    assert (target / "a/x.bin").read_bytes() == b"weights"
    assert copy_from_mirror(mirror, target) == ["a/x.bin"]


@pytest.mark.parametrize(
    ("damage", "word"), [(lambda path: path.write_bytes(b"other"), "damaged"), (lambda path: path.unlink(), "missing")]
)
def test_a_bad_mirror_names_file_and_source(mirror, tmp_path, damage, word):
    damage(mirror / "a" / "x.bin")
    with pytest.raises(PipelineError, match=word) as error:
        copy_from_mirror(mirror, tmp_path / "assets")
    assert "somewhere official" in error.value.hint


def test_a_mirror_that_names_another_file_than_our_manifest_is_refused(mirror, tmp_path, monkeypatch):
    monkeypatch.setitem(BY_NAME, "a/x.bin", asset_at("official address"))
    with pytest.raises(PipelineError, match="another file") as error:
        copy_from_mirror(mirror, tmp_path / "assets")
    assert "official address" in error.value.hint


def test_the_manifest_is_complete_and_covers_what_the_stages_ask_for():
    assert len(BY_NAME) == len(ASSETS)
    for asset in ASSETS:
        assert asset.source.startswith("https://") and asset.licence and asset.needed_by and asset.n_bytes > 0
        assert asset.kind == "download" or asset.obtain, f"{asset.name}: nobody knows how to get it"
        assert asset.kind == "user" or len(asset.sha256) >= 8
    asked = {name for names in BACKEND_ASSETS.values() for name in names.values()}
    assert asked <= set(BY_NAME)


@pytest.mark.shared
def test_the_mirror_holds_the_files_of_the_manifest(shared_folder):
    checked = [asset.name for asset in ASSETS if (shared_folder / "assets" / asset.name).is_file()]
    assert "mediapipe/face_landmarker.task" in checked
    for name in checked:
        assert is_whole(BY_NAME[name], shared_folder / "assets" / name), name


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    asset, target = asset_at(server.address), tmp_path / "assets/a/x.bin"
    server.cut = 30_000
    with pytest.raises(PipelineError, match="30,000 of 102,400 bytes") as error:
        download(asset, target)
    assert "run the same command again" in error.value.hint and not target.exists()
    server.cut = None
    download(asset, target)
    assert target.read_bytes() == CONTENT and server.ranges == ["", "bytes=30000-"]
    assert [path.name for path in target.parent.iterdir()] == ["x.bin"]


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    target = tmp_path / "x.bin"
    (tmp_path / "x.bin.part").write_bytes(CONTENT[:1000])
    server.honours_range = False
    download(asset_at(server.address), target)
    assert target.read_bytes() == CONTENT


def test_a_finished_part_is_not_downloaded_again(server, tmp_path):
    (tmp_path / "x.bin.part").write_bytes(CONTENT)
    download(asset_at(server.address, is_about=True, n_bytes=100_000), tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == CONTENT and server.ranges == []


def test_a_wrong_file_is_thrown_away(server, tmp_path):
    server.content = CONTENT[::-1]
    with pytest.raises(PipelineError, match=r"not a/x\.bin"):
        download(asset_at(server.address), tmp_path / "x.bin")
    assert list(tmp_path.iterdir()) == []
    # A damaged part of full length does not stay in the way either.
    (tmp_path / "x.bin.part").write_bytes(CONTENT[::-1])
    server.content = CONTENT
    download(asset_at(server.address), tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


def test_no_network_is_said_in_two_lines(tmp_path):
    with pytest.raises(PipelineError, match=r"127\.0\.0\.1") as error:
        download(asset_at("http://127.0.0.1:9/x.bin"), tmp_path / "x.bin")
    assert "MIRROR" in error.value.hint


def test_the_command_downloads_what_is_missing_and_says_what_only_a_person_can_get(server, tmp_path, monkeypatch, capsys):
    asset = asset_at(server.address)
    licensed = asset_at("https://ask.example", name="b/y.mat", kind="user", obtain="ask there")
    monkeypatch.setattr(command, "ASSETS", (asset, licensed))
    for each in (asset, licensed):
        monkeypatch.setitem(BY_NAME, each.name, each)
    monkeypatch.setenv("FVQT_ASSETS", str(tmp_path))
    with pytest.raises(PipelineError, match=r"not here: b/y\.mat\n"):
        command.run(None, None, everything=True, target=tmp_path)
    assert (tmp_path / "a/x.bin").read_bytes() == CONTENT
    said = capsys.readouterr().out
    assert "ask there" in said and "https://ask.example" in said
    monkeypatch.setattr(command, "ASSETS", (asset,))
    command.run(None, None, everything=True, target=tmp_path)
    assert capsys.readouterr().out.startswith("present")
    assert len(server.ranges) == 1


def test_a_damaged_asset_is_seen_and_replaced(server, tmp_path, monkeypatch):
    asset = asset_at(server.address)
    monkeypatch.setattr(command, "ASSETS", (asset,))
    monkeypatch.setitem(BY_NAME, asset.name, asset)
    monkeypatch.setenv("FVQT_ASSETS", str(tmp_path))
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.bin").write_bytes(CONTENT[:-1] + b"!")
    assert state_of(asset).word == "damaged"
    command.run(None, None, everything=True, target=tmp_path)
    assert state_of(asset).word == "present"


def test_find_asset_names_source_size_and_cure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FVQT_SHARED", str(tmp_path / "nothing"))
    with pytest.raises(PipelineError, match="BFM_model_front") as error:
        find_asset("bfm/BFM_model_front.mat")
    assert "faces.dmi.unibas.ch" in error.value.hint and "about 127.0 MB" in error.value.hint


def test_weights_named_by_a_path_are_laid_there_and_checked(server, tmp_path, monkeypatch):
    asset = asset_at(server.address, name="torchvision/squeezenet1_1-b8a52dc0.pth")
    monkeypatch.setitem(BY_NAME, asset.name, asset)
    weights = tmp_path / "mine" / asset.name
    overlay = tmp_path / "o.yaml"
    overlay.write_text(f"codebook: {{perceptual: {{network: squeezenet, weights: {weights}}}}}\n")
    command.run(None, overlay, target=tmp_path / "assets")
    assert weights.read_bytes() == CONTENT and not (tmp_path / "assets").exists()
    weights.write_bytes(CONTENT[1:])
    (need,) = command.wanted_assets(overlay, everything=False)
    assert command.check(need).word == "damaged"
