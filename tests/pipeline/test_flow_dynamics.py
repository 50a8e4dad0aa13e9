"""The tool that compares generated motion with real: its arithmetic on motion of the corpus' own generator, and one run on tiny models."""

import argparse
import json

import numpy as np
import pytest
from tiny_models import write_models

from flowvqtalker.face.expressions import EXPRESSIONS
from flowvqtalker.motion.nonverbal import blink_closure, blink_events, head_pose
from pipeline.errors import PipelineError
from pipeline.io import write_index, write_npz, write_text
from pipeline.tools import flow_dynamics as tool

AT = tool.Thresholds(0.5, 0.3)


def motion(seed, frames=64, rate=0.36, slow=1.0, shaky=0.0):
    """A face that only blinks and trembles, with a head; ``slow`` stretches time, ``shaky`` adds noise of single frames."""
    generator = np.random.default_rng(seed)
    beta = np.zeros((frames, len(EXPRESSIONS)))
    beta[:] = 0.2 + 0.03 * np.cumsum(generator.standard_normal((frames, len(EXPRESSIONS))), 0) / 4
    closure = blink_closure(generator, slow * blink_events(generator, frames / 25 / slow, rate * slow), frames)
    beta[:, tool.LIDS] = closure[:, None]
    pose = head_pose(generator, [0.5, 1.2], frames)
    return beta + shaky * generator.standard_normal(beta.shape), pose + shaky * generator.standard_normal(pose.shape)


def cases(samples, **changes):
    """48 real clips of 8 people in two takes, with samples of the same process, or of a changed one."""
    return [
        tool.Case(
            f"te{i % 8}", f"s{(i // 16)}", "neutral", tool.moves_of(*motion(i), AT),
            [tool.moves_of(*motion(1000 + 10 * i + k, **changes), AT) for k in range(samples)],
        )
        for i in range(48)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def declared():
    return tool.declared_blinks(cases(1), AT, rounds=20)


def table(found, declared):
    return {one.name: one for one in tool.results_of([found], declared)}


def test_declared_blinks_in_both_forms(declared):
    assert declared.rate_per_s == pytest.approx(0.36)
    assert 0.2 < declared.lasting_s < 0.25
    # Thresholds see the middle of a blink; a clip also shows blinks that began before it.
    assert 0.08 < declared.detected_duration_s < declared.lasting_s
    assert declared.rate_per_s < declared.detected_rate_per_s < 1.25 * declared.rate_per_s


def test_motion_of_the_same_process_holds(declared):
    rows = table(cases(6), declared)
    for name in ("blink rate, declared and detected", "blink duration, mean", "head spectrum, distance", "head speed, distance",
                 "blink intervals, distance", "diversity, seeds over takes", "acceleration of the expression over real", "acceleration of the head over real"):  # fmt: skip
        assert rows[name].holds, rows[name]
    assert rows["generated motion"].holds is False  # 12 minutes
    low, high = rows["acceleration of the head over real"].ci
    assert low <= rows["acceleration of the head over real"].value <= high


def test_wrong_motion_does_not_hold(declared):
    slow = table(cases(3, slow=2.0), declared)
    assert not slow["blink duration, mean"].holds
    often = table(cases(3, rate=0.9), declared)
    assert not often["blink rate, declared"].holds and not often["blink rate, declared and detected"].holds
    shaky = table(cases(3, shaky=0.02), declared)
    for name in ("head spectrum, distance", "head speed, distance", "acceleration of the expression over real", "acceleration of the head over real"):  # fmt: skip
        assert shaky[name].holds is False, name
    found = cases(1)
    same = [tool.Case(c.identity, c.sentence, c.emotion, c.real, [c.made[0]] * 3) for c in found]
    assert table(same, declared)["diversity, seeds over takes"].value == 0.0


def test_replicates_are_averaged(declared):
    one, two = cases(2), cases(2, shaky=0.02)
    rows = {r.name: r for r in tool.results_of([one, two], declared)}
    found = rows["acceleration of the head over real"]
    assert len(found.per_model) == 2 and found.value == pytest.approx(np.mean(found.per_model)) and found.per_model[1] > found.per_model[0]


def write_run(root):
    """Two identities, three clips each, on disk as the steps leave them, with untrained flows."""
    rows, fits, sounds = [], [], []
    for i in range(6):
        clip, frames = f"te0{i % 2}_c{i}", 40
        beta, pose = motion(i, frames)
        write_npz(root / f"data/fit3dmm/clips/{clip}.npz", {"beta": beta.astype(np.float32), "pose": pose.astype(np.float32)})
        start = (80 * (np.arange(frames) - 2) // 25).astype(np.int64)
        mel = np.random.default_rng(i).uniform(-4, 4, (140, 80)).astype(np.float32)
        write_npz(root / f"data/audio/clips/{clip}.npz", {"mel": mel, "start": start})
        rows.append(
            {"clip": clip, "source_clip": clip, "identity": f"te0{i % 2}", "emotion": "happy", "level": 1, "role": "talk", "take": 1 + i // 4, "sentence": "s0",
             "split": "train" if i == 5 else "test", "kind": "video", "status": "ok", "reason": "", "audio_status": "ok", "uses": "flow+test", "n_frames": frames,
             "landmarks": "", "video": "", "sound": "", "source": "clay", "size_px": 128, "start_frame": 0, "sha256": "a" * 64, "source_sha256": "a" * 64,
             "blur": 1.0, "yaw_deg": 0.0, "face_share": 0.5}
        )  # fmt: skip
        fits.append({"clip": clip, "file": f"clips/{clip}.npz", "status": "ok", "reason": "", "n_frames": frames, "sha256": "a" * 64,
                     "landmark_error_pct": 1.0, "at_bound_share": 0.0})  # fmt: skip
        sounds.append({"clip": clip, "file": f"clips/{clip}.npz", "status": "ok", "reason": "", "n_frames": frames, "sha256": "a" * 64})
    for stage, table_rows in (("crop", rows), ("fit3dmm", fits), ("audio", sounds)):
        write_index(root / "data" / stage / "index.csv", table_rows, stage)
    write_models(root / "models")


def test_run_on_tiny_models(tmp_path, monkeypatch):
    write_run(tmp_path)
    monkeypatch.setattr(tool, "SPLITS", 10)
    monkeypatch.setattr(tool, "DECLARED_ROUNDS", 2)
    args = argparse.Namespace(
        root=tmp_path, params="params.yaml", overlay=[], models=["full"], minutes=0.2, note="A tiny run.", threads=1,
        out=tmp_path / "docs" / "flow_dynamics",
    )  # fmt: skip
    tool.run(args)
    found = json.loads((tmp_path / "docs/flow_dynamics.json").read_text())
    assert (
        found["clips"] == 5 and found["identities"] == 2 and list(found["tables"]) == ["temperature 0.95, as generated", "temperature 1.0"]
    )
    minutes = {row["name"]: row for row in found["tables"]["temperature 1.0"]}["generated motion"]
    assert minutes["value"] >= 0.2 and minutes["value"] == pytest.approx(found["minutes"]) and minutes["holds"] is False
    page = (tmp_path / "docs/flow_dynamics.md").read_text()
    assert "A tiny run." in page and "figures/flow_dynamics.png" in page and str(tmp_path) not in page
    assert (tmp_path / "docs/figures/flow_dynamics.png").stat().st_size > 10_000
    assert all(row["value"] is not None or row["holds"] is not True for rows in found["tables"].values() for row in rows)


def test_refuses_a_run_without_test_clips(tmp_path):
    write_text(tmp_path / "data/crop/index.csv", "")
    with pytest.raises(PipelineError):
        tool.read_test_clips(tmp_path)
