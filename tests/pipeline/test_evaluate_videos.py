"""`flowvqtalker evaluate`: any method's videos, whole and faulty folders, coverage, exit codes, shards, differences, domains."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from headless_browser import Browser
from headless_browser import find as find_browser

from flowvqtalker.constants import EMOTIONS
from flowvqtalker.experts import judge
from flowvqtalker.experts.domain import Domain, admit
from flowvqtalker.experts.emotion import EmotionNet
from flowvqtalker.experts.features import FeatureNet
from flowvqtalker.experts.judge import DomainError
from flowvqtalker.experts.syncnet import SyncNet
from flowvqtalker.landmarks.schema import Detections
from pipeline.cli import evaluate as command
from pipeline.cli.app import main
from pipeline.errors import PipelineError
from pipeline.evaluation.pairs import match
from pipeline.evaluation.summary import read_clip_table
from pipeline.io import write_json, write_torch
from pipeline.media import write_sound, write_video

SIDE, FRAMES = 64, 30
KEPT: list[Path] = []
PEOPLE = [f"p{number}" for number in range(9)]


class DrawnFace:
    """Finds the face that :func:`face_video` drew: the bright square's place is the nose."""

    def detect(self, frames: np.ndarray, *, video: bool = True) -> Detections:
        result = np.full((len(frames), 68, 2), np.nan, np.float32)
        for index, frame in enumerate(frames):
            rows, columns = np.nonzero(frame[..., 0] > 200)
            if rows.size:
                result[index] = layout() + np.array([columns.mean(), rows.mean()])
        return Detections(result, np.ones(len(frames), np.float32))

    detect_pieces = detect


def layout() -> np.ndarray:
    """(68, 2) points around a nose at (0, 0)."""
    points = np.zeros((68, 2))
    points[:17] = np.stack([np.linspace(-20, 20, 17), 18 - np.abs(np.linspace(-16, 16, 17))], -1)
    points[17:27] = np.stack([np.linspace(-14, 14, 10), np.full(10, -12)], -1)
    points[27:36] = np.stack([np.r_[0, 0, 0, 0, -4, -2, 0, 2, 4], np.r_[-6, -4, -2, 0, 2, 2, 2, 2, 2]], -1)
    for first, u in ((36, -12), (42, 4)):
        points[first : first + 6] = np.array([(0, 0), (3, -2), (5, -2), (8, 0), (5, 2), (3, 2)]) + np.array([u, -8])
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    points[48:68] = np.stack([6 * np.cos(angle), 9 + 3 * np.sin(angle)], -1)
    return points


def face_video(
    path: Path, seed: int, frames: int = FRAMES, side: int = SIDE, noise: float = 0.0, sound: str = "speech", fps: float = 25.0
) -> None:
    """A dark patterned picture with a bright square that sways, and a sound."""
    generator = np.random.default_rng(seed)
    base = generator.integers(30, 120, size=(8, 8, 3)).repeat(side // 8, 0).repeat(side // 8, 1)
    pictures = []
    for t in range(frames):
        picture = base + noise * generator.normal(size=base.shape)
        u, v = side // 2 + int(3 * np.sin(t / 4 + seed)), side // 2 - 2
        picture[v - 2 : v + 3, u - 2 : u + 3] = 240
        pictures.append(np.clip(picture, 0, 255).astype(np.uint8))
    loud = {"speech": 0.3, "silent": 0.0, "none": None}[sound]
    samples = None if loud is None else (loud * generator.uniform(-1, 1, frames * 640)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, np.stack(pictures), sound=samples, fps_hz=fps)


def make_judges(folder: Path, domain: str) -> Path:
    torch.manual_seed(0)
    sync = {"size_px": 32, "width": 4, "dim": 8}
    emotion = {"size_px": 32, "width": 4, "dim": 8, "n_emotions": len(EMOTIONS), "n_expressions": 0, "dropout": 0.0}
    features = {"size_px": 32, "width": 4, "dim": 8, "n_identities": 3, "n_emotions": len(EMOTIONS)}
    for kind, network, sizes in (("syncnet", SyncNet, sync), ("emotion", EmotionNet, emotion), ("features", FeatureNet, features)):
        write_torch(folder / f"{kind}.pt", judge.pack(kind, network(**sizes), sizes, domain))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """Nine people with one clip each, well made, and a method whose pictures are noisy."""
    root = tmp_path_factory.mktemp("videos")
    for number, person in enumerate(PEOPLE):
        face_video(root / "real" / person / "a.mp4", number)
        face_video(root / "good" / person / "a.mp4", number, noise=3.0)
        face_video(root / "bad" / person / "a.mp4", number, noise=20.0)
    make_judges(root / "judges", "folder:toy")
    KEPT[:] = [root / "kept"]
    KEPT[0].mkdir()
    return root


@pytest.fixture(autouse=True)
def drawn_faces(monkeypatch):
    monkeypatch.setattr(command, "make_landmarker", lambda settings, folder: DrawnFace())
    monkeypatch.setattr(command, "backend_checksums", lambda settings, folder: ("drawn",))


def run(root: Path, out: Path, generated: str = "good", *more: str | Path, fresh: bool = False) -> int:
    """Exit code of the command; unless ``fresh``, finished clips are shared by all tests, addressed by what they depend on as always."""
    if not fresh and not (out / "clips").exists():
        out.mkdir(parents=True, exist_ok=True)
        (out / "clips").symlink_to(KEPT[0])
    options = [
        "--real",
        root / "real",
        "--generated",
        root / generated,
        "--out",
        out,
        "--experts",
        root / "judges",
        "--resamples",
        100,
        "--landmarks",
        "mediapipe",
    ]
    options += [] if "--domain" in more else ["--domain", "folder:toy"]
    try:
        main(["evaluate", *(str(option) for option in options), *(str(option) for option in more)])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def results(out: Path) -> dict:
    return json.loads((out / "metrics.json").read_text())


def test_a_whole_folder_is_scored_with_intervals_and_exit_code_0(folders, tmp_path):
    assert run(folders, tmp_path) == 0
    result = results(tmp_path)
    cells, real = result["methods"]["good"], result["methods"]["real"]
    assert result["coverage"]["complete"] and result["coverage"]["n_scored"] == 9
    assert cells["psnr_db"]["n"] == cells["psnr_db"]["n_expected"] == 9 and 25 < cells["psnr_db"]["value"] < 45
    assert cells["psnr_db"]["ci"][0] <= cells["psnr_db"]["value"] <= cells["psnr_db"]["ci"][1]
    for name in ("ssim", "lse_d", "fid_expert", "m_lmd_raw_px", "identity_similarity", "flicker_compensated", "cpbd", "blinks_per_s"):
        assert cells[name]["value"] is not None, (name, cells[name])
    assert real["psnr_db"]["value"] is None and "compared with" in real["psnr_db"]["reason"]
    assert real["flicker_compensated"]["value"] < cells["flicker_compensated"]["value"]
    assert cells["emotion_acc_pct"]["value"] is None and "label" in cells["emotion_acc_pct"]["reason"]
    assert result["judges"]["warnings"] == [] and set(result["judges"]["sha256"]) == {"syncnet", "emotion", "features", "landmarks"}
    page = (tmp_path / "index.html").read_text()
    assert "9 / 9" in page and "every expected clip was scored" in page.lower() and "http" not in page.replace("http-equiv", "")


def test_the_judges_own_accuracy_stands_beside_their_names(folders, tmp_path):
    """From the metrics.json beside the weights; without one the page says that it is not known."""
    import shutil

    assert run(folders, tmp_path / "unknown") == 0
    judges = results(tmp_path / "unknown")["judges"]
    assert judges["own_test"] == {} and judges["own_accuracy"] == dict.fromkeys(
        ("syncnet", "emotion", "features"), "own accuracy not known"
    )
    assert (tmp_path / "unknown" / "index.html").read_text().count("own accuracy not known") == 3
    shutil.copytree(folders / "judges", tmp_path / "judges")
    own = {"test_emotion_clip_acc_pct": 71.25, "test_emotion_clips": 80.0, "test_emotion_level_3_acc_pct": 90.0, "note": "text"}
    write_json(tmp_path / "judges" / "metrics.json", own)
    assert run(folders, tmp_path / "known", "good", "--experts", tmp_path / "judges") == 0
    judges = results(tmp_path / "known")["judges"]
    assert judges["own_test"] == {name: value for name, value in own.items() if name != "note"}
    assert "71.2 % of 80 clips named rightly (level 3 90.0 %)" in judges["own_accuracy"]["emotion"]
    assert judges["own_accuracy"]["syncnet"] == "own accuracy not known"
    page = (tmp_path / "known" / "index.html").read_text()
    assert "emotion: SHA-256" in page and "71.2 % of 80 clips named rightly" in page and page.count("own accuracy not known") == 2
    write_json(tmp_path / "judges" / "metrics.json", [1, 2])
    assert run(folders, tmp_path / "broken", "good", "--experts", tmp_path / "judges") == 2


def test_noise_of_fid_names_the_own_interval_and_keeps_clips_with_their_people(folders, tmp_path, monkeypatch):
    assert run(folders, tmp_path) == 0
    result = results(tmp_path)
    low, high = result["methods"]["good"]["fid_expert"]["ci"]
    assert result["fid_noise"]["own_half_width"] == pytest.approx((high - low) / 2) and result["fid_noise"]["clips"] == 9
    assert f"half the width of this method&#39;s own interval: {(high - low) / 2:.3f}" in (tmp_path / "index.html").read_text()

    from pipeline.evaluation import summary

    people = ["p0", "p1", "p2"]
    arrays = {"p0": {}, "p1": {"features": np.ones((4, 2))}, "p2": {"features": np.zeros((4, 2))}}
    seen = []

    class Tools:
        networks = {"features": None}  # noqa: RUF012

    class Scorer:
        tools, pairs = Tools(), ()

    table = summary.pd.DataFrame({"clip": people, "identity": people, "status": "ok"})
    monkeypatch.setattr(summary.Summary, "arrays", lambda self, row, which: arrays[row["clip"]])
    monkeypatch.setattr(summary, "half_split_fid", lambda units, names, generator: seen.append((len(units), names)) or np.array([0.5, 0.5]))
    noise = summary.Summary(Scorer(), table, table).fid_noise()
    assert seen == [(2, ["p1", "p2"])], "a clip without features must not lend its person to the next one"
    assert noise["own_half_width"] is None


def test_a_faulty_folder_drops_nothing_silently(folders, tmp_path, capsys):
    """Missing, short, silent, soundless, unreadable, other proportions, another size and rate, and files nobody asked for."""
    import shutil

    root = tmp_path / "set"
    shutil.copytree(folders / "real", root / "real")
    shutil.copytree(folders / "judges", root / "judges")
    face_video(root / "real" / "p9" / "a.mp4", 9)
    face_video(root / "real" / "p10" / "a.mp4", 10)
    method = root / "faulty"
    for number, person in enumerate(PEOPLE):
        face_video(method / person / "a.mp4", number, noise=3.0)
    (method / "p0" / "a.mp4").unlink()
    face_video(method / "p1" / "a.mp4", 1, frames=12)
    face_video(method / "p2" / "a.mp4", 2, noise=3.0, sound="silent")
    face_video(method / "p3" / "a.mp4", 3, noise=3.0, sound="none")
    (method / "p4" / "a.mp4").write_bytes((method / "p5" / "a.mp4").read_bytes()[:300])
    write_video(method / "p5" / "a.mp4", np.zeros((FRAMES, 64, 128, 3), np.uint8))
    face_video(method / "p6" / "a.mp4", 6, side=128)
    face_video(method / "p7" / "a.mp4", 7, frames=60, noise=3.0, fps=50.0)
    (root / "real" / "p8" / "a.mp4").write_bytes(b"")
    face_video(method / "p9" / "a.mp4", 9, frames=45, noise=3.0)
    face_video(method / "p10" / "a.mp4", 10, frames=FRAMES - 2, noise=3.0)
    face_video(method / "p1" / "extra.mp4", 1)

    assert run(root, tmp_path / "out", "faulty") == command.INCOMPLETE
    table = read_clip_table(tmp_path / "out" / "per_clip.csv").set_index("clip")
    status = table["status"].to_dict()
    assert status == {
        "p0/a": "missing", "p1/a": "short", "p2/a": "ok", "p3/a": "ok", "p4/a": "unreadable", "p5/a": "other_shape", "p6/a": "ok", "p7/a": "ok",
        "p8/a": "unreadable", "p9/a": "ok", "p10/a": "ok",
    }  # fmt: skip
    assert (
        "12 frames" in table.loc["p1/a", "reason"] and "generated" in table.loc["p4/a", "reason"] and "real" in table.loc["p8/a", "reason"]
    )
    assert (
        "resized" in table.loc["p6/a", "notes"]
        and "50 frames/s" in table.loc["p7/a", "notes"]
        and "cut from 45" in table.loc["p9/a", "notes"]
    )
    assert table.loc["p10/a", "n_compared"] == FRAMES - 2
    result = results(tmp_path / "out")
    coverage, cells = result["coverage"], result["methods"]["faulty"]
    assert (coverage["n_expected"], coverage["n_scored"], coverage["complete"]) == (11, 6, False)
    assert coverage["extra_files"] == ["p1/extra.mp4"] and len(coverage["not_scored"]) == 5
    assert cells["psnr_db"]["n"] == 6 and cells["psnr_db"]["n_expected"] == 11
    assert (
        "2 x unreadable" in cells["psnr_db"]["reason"]
        and "1 x missing" in cells["psnr_db"]["reason"]
        and "1 x short" in cells["psnr_db"]["reason"]
    )
    assert cells["psnr_db"]["ci"] is None and "n too small" in cells["psnr_db"]["reason"]
    # Sound counts by itself: silence and a missing track cost the lip-sync cells only, and are told apart.
    assert cells["lse_d"]["n"] == 4 and "1 x no sound" in cells["lse_d"]["reason"] and "1 x silent" in cells["lse_d"]["reason"]
    assert "lse_d" in coverage["incomplete_columns"]
    printed = capsys.readouterr().out
    assert "6 of 11 clips scored" in printed and "not scored: p4/a" in printed and "not asked for: p1/extra.mp4" in printed
    page = (tmp_path / "out" / "index.html").read_text()
    assert "6 / 11" in page and "p1/extra.mp4" in page and "incomplete" in page

    assert run(root, tmp_path / "real_sound", "faulty", "--sound", "real") == command.INCOMPLETE
    assert results(tmp_path / "real_sound")["methods"]["faulty"]["lse_d"]["n"] == 6


def test_only_extra_files_are_no_fault(folders, tmp_path):
    import shutil

    shutil.copytree(folders / "good", tmp_path / "good")
    shutil.copytree(folders / "real", tmp_path / "real")
    shutil.copytree(folders / "judges", tmp_path / "judges")
    face_video(tmp_path / "good" / "p0" / "b.mp4", 3)
    assert run(tmp_path, tmp_path / "out") == 0
    assert results(tmp_path / "out")["coverage"]["extra_files"] == ["p0/b.mp4"]


def test_identical_videos_are_called_identical(folders, tmp_path):
    assert run(folders, tmp_path, "real") == 0
    cells = results(tmp_path)["methods"]["real"]
    assert cells["ssim"]["value"] == pytest.approx(1.0) and "identical" in cells["psnr_db"]["reason"]
    assert cells["fid_expert"]["value"] == pytest.approx(0.0, abs=1e-6) and cells["m_lmd_raw_px"]["value"] == 0.0
    assert cells["identity_similarity"]["value"] == pytest.approx(1.0)


def test_shards_and_a_second_run_compute_nothing_twice(folders, tmp_path, monkeypatch):
    for number in range(3):
        assert run(folders, tmp_path, "good", "--shard", f"{number}/3", fresh=True) == 0
        assert not (tmp_path / "metrics.json").exists()
    from pipeline.evaluation.videos import VideoScorer

    monkeypatch.setattr(VideoScorer, "_score_pair", lambda *_: pytest.fail("a finished clip was scored again"))
    assert run(folders, tmp_path, fresh=True) == 0
    sharded = (tmp_path / "per_clip.csv").read_bytes(), (tmp_path / "metrics.json").read_bytes()
    monkeypatch.undo()
    monkeypatch.setattr(command, "make_landmarker", lambda settings, folder: DrawnFace())
    monkeypatch.setattr(command, "backend_checksums", lambda settings, folder: ("drawn",))
    assert run(folders, tmp_path / "alone", fresh=True) == 0
    assert sharded == ((tmp_path / "alone" / "per_clip.csv").read_bytes(), (tmp_path / "alone" / "metrics.json").read_bytes())
    assert run(folders, tmp_path, "good", "--shard", "3/3") == 2


def test_differences_against_a_baseline_are_paired_and_judged(folders, tmp_path):
    assert run(folders, tmp_path / "bad", "bad") == 0
    assert run(folders, tmp_path / "good", "good", "--baseline", tmp_path / "bad") == 0
    gap = results(tmp_path / "good")["against"]
    assert gap["psnr_db"]["verdict"] == "better" and gap["psnr_db"]["ci"][0] > 0 and gap["psnr_db"]["n"] == 9
    assert gap["flicker_compensated"]["value"] < 0 and gap["flicker_compensated"]["verdict"] == "no better or worse"
    make_judges(tmp_path / "other", "folder:toy")
    torch.manual_seed(1)
    sizes = {"size_px": 32, "width": 4, "dim": 8}
    write_torch(tmp_path / "other" / "syncnet.pt", judge.pack("syncnet", SyncNet(**sizes), sizes, "folder:toy"))
    assert run(folders, tmp_path / "again", "good", "--baseline", tmp_path / "bad", "--experts", tmp_path / "other") == 0
    assert "another syncnet judge" in results(tmp_path / "again")["against"]["lse_d"]["verdict"]
    assert run(folders, tmp_path / "x", "good", "--baseline", tmp_path / "nothing") == 2


def test_an_index_pairs_names_people_emotions_and_seeds(folders, tmp_path):
    index = tmp_path / "index.csv"
    rows = [
        (f"{p}/a.mp4", f"{p}/a.mp4", f"person_{p}", EMOTIONS[n % 8], 0 if n % 8 == 0 else 1 + n % 3, s)
        for n, p in enumerate(PEOPLE[:8])
        for s in (0, 1)
    ]
    with index.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["real", "generated", "identity", "emotion", "level", "seed"])
        writer.writerows(rows)
    assert run(folders, tmp_path / "out", "good", "--index", index) == 0
    cells = results(tmp_path / "out")["methods"]["good"]
    assert cells["psnr_db"]["n"] == 16 and "spread of whole seeds 0" in cells["psnr_db"]["reason"]
    assert cells["emotion_acc_pct"]["n"] == 16 and 0 <= cells["emotion_acc_pct"]["value"] <= 100
    judges = results(tmp_path / "out")["judges"]
    assert np.sum(judges["emotion_confusion_generated"]) == 16 and np.sum(judges["emotion_confusion_real"]) == 8
    assert results(tmp_path / "out")["coverage"]["extra_files"] == ["p8/a.mp4"]

    index.write_text("real,generated\np0/a.mp4,p0/a.mp4\np1/a.mp4,\nnone.mp4,p2/a.mp4\n")
    assert run(folders, tmp_path / "gaps", "good", "--index", index) == command.INCOMPLETE
    table = read_clip_table(tmp_path / "gaps" / "per_clip.csv").set_index("clip")
    assert (
        table["status"].to_dict() == {"p0/a": "ok", "p1/a": "missing", "none": "missing"}
        and "real video none.mp4" in table.loc["none", "reason"]
    )
    for text in (
        "generated\na.mp4\n",
        "real,generated,emotion\na.mp4,a.mp4,joyful\n",
        "real,generated\na.mp4,x.mp4\na.mp4,y.mp4\n",
        "real,generated\n",
    ):
        index.write_text(text)
        assert run(folders, tmp_path / "wrong", "good", "--index", index) == 2


def test_names_match_by_path_then_by_unique_file_name(tmp_path):
    for name in ("real/p1/x.mp4", "real/p1/y.mp4", "real/p2/y.mp4", "gen/x.mov", "gen/y.mp4", "gen/p2/y.avi"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = {pair.clip: pair for pair in match(tmp_path / "real", tmp_path / "gen", None).pairs}
    assert found["p1/x"].generated == tmp_path / "gen/x.mov" and found["p2/y"].generated == tmp_path / "gen/p2/y.avi"
    assert found["p1/y"].generated is None and found["p1/y"].reason.startswith("missing") and found["p1/y"].identity == "p1"
    with pytest.raises(PipelineError, match="no such folder"):
        match(tmp_path / "nowhere", tmp_path / "gen", None)
    flat = match(tmp_path / "gen", tmp_path / "gen", None)
    assert [pair.reason for pair in flat.pairs] == ["", "", ""]


def test_judges_of_another_domain_are_refused_unless_asked_for_and_then_a_warning_stands_in_the_table(folders, tmp_path, capsys):
    assert run(folders, tmp_path / "refused", "good", "--domain", "folder:mead") == 0
    result = results(tmp_path / "refused")
    cells = result["methods"]["good"]
    assert (
        cells["lse_d"]["value"] is None and "was trained on 'folder:toy' and says nothing about 'folder:mead'" in cells["lse_d"]["reason"]
    )
    assert cells["fid_expert"]["value"] is None if "fid_expert" in cells else True
    assert cells["psnr_db"]["value"] is not None
    assert run(folders, tmp_path / "forced", "good", "--domain", "folder:mead", "--allow-other-domain") == 0
    forced = results(tmp_path / "forced")
    assert forced["methods"]["good"]["lse_d"]["value"] is not None and len(forced["judges"]["warnings"]) == 3
    page = (tmp_path / "forced" / "index.html").read_text()
    assert page.count("not to be trusted") == 3 and "warning" in page
    assert run(folders, tmp_path / "typo", "good", "--domain", "mead") == 2
    assert "folder:<name>" in capsys.readouterr().err


def test_outside_judges_get_columns_of_their_own(folders, tmp_path, monkeypatch):
    from flowvqtalker.experts import official

    torch.manual_seed(0)
    network = torch.nn.Module()
    network.netcnnaud, network.netfcaud = official._stack(1, official._SOUND_LAYERS), official._head()
    network.netcnnlip, network.netfclip = official._stack(3, official._LIP_LAYERS), official._head()
    write_torch(tmp_path / "syncnet.pth", network.state_dict())
    monkeypatch.setattr(
        official.OfficialSyncNet, "lips", lambda self, frames: np.zeros((len(frames) - 4, 1024), np.float32)
    )  # 27 s of convolutions
    index = tmp_path / "index.csv"
    index.write_text("real,generated\np0/a.mp4,p0/a.mp4\n")
    assert run(folders, tmp_path / "out", "good", "--index", index, "--syncnet", tmp_path / "syncnet.pth") == 0
    cells = results(tmp_path / "out")["methods"]
    assert cells["good"]["lse_d_syncnet"]["value"] > 0 and cells["real"]["lse_d_syncnet"]["value"] > 0
    assert cells["good"]["lse_d"]["value"] != cells["good"]["lse_d_syncnet"]["value"]
    assert "syncnet_official" in results(tmp_path / "out")["judges"]["sha256"]
    assert run(folders, tmp_path / "x", "good", "--syncnet", folders / "judges" / "syncnet.pt") == 2
    assert run(folders, tmp_path / "x", "good", "--lpips-heads", tmp_path / "syncnet.pth") == 2


def test_the_page_opens_in_a_browser(folders, tmp_path):
    if find_browser() is None:
        pytest.skip("no Chromium on this machine")
    run(folders, tmp_path / "out")
    page = Browser(tmp_path)
    try:
        page.open(tmp_path / "out" / "index.html")
        first = "document.querySelector('#clips tbody tr td').textContent"
        page.evaluate("document.querySelector('#clips th button').click()")
        assert page.evaluate(first) == "p0/a"
        page.evaluate("document.querySelector('#clips th button').click()")
        assert page.evaluate(first) == "p8/a"
        assert page.problems == []
    finally:
        page.close()


def test_trained_landmarks_are_refused_on_other_domains(folders, tmp_path):
    assert run(folders, tmp_path / "out", "good", "--landmarks", "trained") == 0
    cells = results(tmp_path / "out")["methods"]["good"]
    assert "'trained' know 'clay' only" in cells["m_lmd_raw_px"]["reason"] and cells["m_lmd_raw_px"]["value"] is None
    assert cells["psnr_db"]["value"] is not None and cells["fid_expert"]["value"] is not None


def test_cut_to_the_face(folders, tmp_path):
    assert run(folders, tmp_path, "good", "--crop", "face", "--size", "64") == 0
    result = results(tmp_path)
    assert result["coverage"]["complete"] and any("cut to the face" in line for line in result["policy"])


def test_a_sound_beside_a_silent_video_counts(folders, tmp_path):
    import shutil

    shutil.copytree(folders / "good" / "p0", tmp_path / "gen" / "p0")
    shutil.copytree(folders / "real" / "p0", tmp_path / "real" / "p0")
    shutil.copytree(folders / "judges", tmp_path / "judges")
    face_video(tmp_path / "gen" / "p0" / "a.mp4", 0, sound="none")
    write_sound(tmp_path / "gen" / "p0" / "a.wav", np.random.default_rng(0).uniform(-0.3, 0.3, FRAMES * 640).astype(np.float32))
    run(tmp_path, tmp_path / "out", "gen")
    assert results(tmp_path / "out")["methods"]["gen"]["lse_d"]["n"] == 1


def test_head_pose_of_a_known_head():
    from flowvqtalker.face.camera import Camera, project
    from flowvqtalker.face.pose import transform
    from flowvqtalker.metrics.diversity import pose_over_time_deg
    from pipeline.evaluation.videos import _mean_face, head_pose

    truth = np.zeros((40, 6))
    truth[:, 0], truth[:, 1], truth[:, 2] = (np.radians(size) * np.sin(np.arange(40) / rate) for size, rate in ((6, 5), (12, 7), (4, 9)))
    points = transform(torch.from_numpy(_mean_face()).expand(40, -1, -1), torch.from_numpy(truth))
    landmarks = project(points, Camera(focal_px=3.0 * 160, cx=79.5, cy=59.5, distance_cm=60.0)).numpy()
    landmarks[7] = np.nan
    found = head_pose(landmarks, 120, 160)
    seen = np.arange(40) != 7
    np.testing.assert_allclose(found[seen, :3], truth[seen, :3], atol=1e-5)
    assert pose_over_time_deg(found) == pytest.approx(pose_over_time_deg(truth), rel=0.02)


def test_domains_are_typed():
    both = Domain.parse("folder:mead+clay")
    assert str(both) == "clay+folder:mead" and both.covers(Domain.parse("clay")) and not Domain.parse("clay").covers(both)
    for text in ("", "mead", "folder:", "clay+", "folder:a:b"):
        with pytest.raises(ValueError, match="domain"):
            Domain.parse(text)
    sizes = {"size_px": 32, "width": 4, "dim": 8}
    content = judge.pack("syncnet", SyncNet(**sizes), sizes, "clay")
    assert admit(content, "syncnet", Domain.parse("clay"))[1] == ""
    with pytest.raises(DomainError, match="trained on 'clay'"):
        admit(content, "syncnet", both)
    network, warning = admit(content, "syncnet", both, allow_other=True)
    assert isinstance(network, SyncNet) and "not on 'clay+folder:mead'" in warning
    with pytest.raises(ValueError, match="kind"):
        admit(content, "emotion", Domain.parse("clay"))
