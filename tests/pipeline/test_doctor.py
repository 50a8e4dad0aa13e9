"""`doctor` on a machine with nothing, with the mirror, and with a corrupted asset; its needs follow typed parameters."""

from pathlib import Path

import pytest
import yaml

from pipeline import needs
from pipeline.cli import app
from pipeline.cli.assets import copy_from_mirror
from pipeline.needs import NEEDS, Need, asset_of, check, needs_of
from pipeline.params import read_config, validate

#: What the paper's scale asks of others: Basel faces, a perceptual network of torchvision's, the official judges.
PAPER_LIKE = {
    "name": "paper_like",
    "landmarks": {"backend": "face_alignment"},
    "fit3dmm": {"model": "bfm", "asset": "bfm/BFM_model_front.mat"},
    "codebook": {"perceptual": {"network": "squeezenet", "weights": "assets/torchvision/squeezenet1_1-b8a52dc0.pth"}},
    "outside": {"judges": ["syncnet", "inception", "lpips"], "speech": "none"},
}
PAPER_ASSETS = {
    "face_alignment/2DFAN4-11f355bf06.pth.tar": ("www.adrianbulat.com", "95.6 MB"),
    "blazeface/blazeface.pth": ("hollance/BlazeFace-PyTorch", "420.2 kB"),
    "blazeface/anchors.npy": ("hollance/BlazeFace-PyTorch", "28.8 kB"),
    "bfm/BFM_model_front.mat": ("faces.dmi.unibas.ch", "about 127.0 MB"),
    "torchvision/squeezenet1_1-b8a52dc0.pth": ("download.pytorch.org", "about 5.0 MB"),
    "torchvision/vgg16-397923af.pth": ("download.pytorch.org", "553.4 MB"),
    "lpips/v0.1/vgg.pth": ("richzhang/PerceptualSimilarity", "7.3 kB"),
    "syncnet/syncnet_v2.model": ("robots.ox.ac.uk", "54.6 MB"),
    "inception/pt_inception-2015-12-05-6726825d.pth": ("mseitzer/pytorch-fid", "95.6 MB"),
}


def typed(**overlays):
    from pipeline.params import merge

    return validate(merge(read_config("params.yaml"), overlays))


def names(found: list[Need], kind: str) -> set[str]:
    return {need.name for need in found if need.kind == kind}


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    """No asset folder holds anything; gives the one that FVQT_ASSETS names."""
    folder = tmp_path / "assets"
    monkeypatch.setenv("FVQT_ASSETS", str(folder))
    monkeypatch.setenv("FVQT_SHARED", str(tmp_path / "no_shared"))
    return folder


def doctor(*configfiles: Path) -> int:
    """Exit status of the command."""
    try:
        app.main(["doctor", *(["--configfile", *map(str, configfiles)] if configfiles else [])])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def overlay(folder: Path, content: dict) -> Path:
    path = folder / "overlay.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_default_configuration_needs_no_asset_and_passes_with_nothing_present(nothing, capsys):
    assert not names(needs_of(typed()), "asset")
    assert doctor() == 0
    said = capsys.readouterr().out
    assert "params.yaml can run here" in said and "missing" not in said


def test_paper_scale_fails_and_names_each_weight_with_source_and_size(nothing, tmp_path, capsys):
    assert doctor(overlay(tmp_path, PAPER_LIKE)) == 2
    said = capsys.readouterr()
    lines = said.out.splitlines()
    for name, (source, size) in PAPER_ASSETS.items():
        line = next(line for line in lines if f"{name} " in line)
        assert line.startswith("missing") and source in line and f" {size}, from" in line
        assert name in said.err
    assert "01_MorphableModel.mat" in said.out  # what a person has to do for the licensed model


def test_needs_follow_the_parameters_and_not_the_name():
    found = needs_of(typed(**{**PAPER_LIKE, "name": "anything"}))
    assert {asset.name for need in found if (asset := asset_of(need))} == set(PAPER_ASSETS)
    assert {"face_alignment", "espeakng_loader"} <= names(found, "package")
    fewer = needs_of(typed(**{**PAPER_LIKE, "outside": {"judges": ["pyfeat"], "speech": "wav2vec2"}, "landmarks": {"backend": "trained"}}))
    assert names(fewer, "asset") == {
        "bfm/BFM_model_front.mat", "wav2vec2/model.safetensors",
    }  # fmt: skip
    assert {"feat", "transformers"} <= names(fewer, "package") and "face_alignment" not in names(fewer, "package")


def test_every_rule_names_the_parameter_that_asks():
    params = typed(**PAPER_LIKE)
    for rule in NEEDS:
        for need in rule(params):
            section = need.because.split(".")[0]
            assert section in params, need


def test_a_user_file_outside_the_manifest_is_looked_for_where_it_is_named(tmp_path):
    weights = tmp_path / "mine.pth"
    found = needs_of(typed(codebook={"perceptual": {"network": "squeezenet", "weights": str(weights)}}))
    need = next(need for need in found if need.kind == "file")
    assert check(need).word == "missing"
    weights.write_bytes(b"x")
    assert check(need).word == "ok"


@pytest.mark.shared
def test_with_the_mirror_real_video_can_run_and_a_corrupted_asset_is_named(nothing, shared_folder, tmp_path, capsys):
    videos = tmp_path / "videos"
    videos.mkdir()
    source = {"name": "clips", "adapter": "folder", "root": str(videos), "uses": ["test"]}
    path = overlay(tmp_path, {"corpus": {"sources": [source]}})
    configs = (Path("configs/clips.yaml"), path)
    assert doctor(*configs) == 2
    capsys.readouterr()
    copy_from_mirror(shared_folder / "assets", nothing)
    assert doctor(*configs) == 0
    capsys.readouterr()
    task = nothing / "mediapipe/face_landmarker.task"
    content = bytearray(task.read_bytes())
    content[len(content) // 2] ^= 1
    task.unlink()  # it may be a hard link to the mirror's own file, which must stay as it is
    task.write_bytes(content)
    assert doctor(*configs) == 2
    said = capsys.readouterr()
    line = next(line for line in said.out.splitlines() if "face_landmarker.task" in line)
    assert line.startswith("damaged") and str(task) in line and "storage.googleapis.com" in line
    assert "face_landmarker.task (damaged)" in said.err


def test_a_missing_package_and_a_missing_folder_are_named(monkeypatch, capsys):
    monkeypatch.setattr(needs, "_ALWAYS", ("no_such_package_at_all",))
    assert doctor() == 2
    assert "no_such_package_at_all (missing)" in capsys.readouterr().err
    found = check(Need("folder", "no/such/folder", "corpus.sources: x", "lay the data there"))
    assert (found.word, found.fix) == ("missing", "lay the data there")


def test_an_invalid_configuration_is_an_error_of_its_own(tmp_path, capsys):
    assert doctor(overlay(tmp_path, {"fit3dmm": {"model": "wax"}})) == 2
    assert "fit3dmm.model" in capsys.readouterr().err
