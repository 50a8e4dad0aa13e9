"""Step flow on a small run: whom it learns from, whom it is scored on, and what a replicate and corrupted frames change."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from flowvqtalker.audio import compute_mel, window_starts
from flowvqtalker.constants import EMOTIONS
from flowvqtalker.face.expressions import EXPRESSION_INDEX
from flowvqtalker.flow.expflow import BLINK_NAMES
from flowvqtalker.seeding import derive_seed
from pipeline import flow
from pipeline.context import Context
from pipeline.io import read_json, read_torch, write_index, write_npz
from pipeline.params import read_config, validate_section
from pipeline.training import TrainingFolder

E, FRAMES = 53, 24
#: clip: (identity, role, split, uses)
CLIPS = {f"tr{i}_a": (f"tr{i}", "talk", "train", "flow+imagegen") for i in range(4)} | {
    "tr0_enrol": ("tr0", "enrol", "train", "flow"), "va0_a": ("va0", "talk", "val", "flow"), "te0_enrol": ("te0", "enrol", "test", "test"),
    "te0_a": ("te0", "talk", "test", "test"), "te1_a": ("te1", "talk", "test", "test+judges"), "te2_other": ("te2", "talk", "test", "judges"),
    "tr9_judges": ("tr9", "talk", "train", "judges"),
}  # fmt: skip


@pytest.fixture(scope="module")
def reads(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("flow"), np.random.default_rng(0)
    rows = {"crop": [], "fit3dmm": [], "audio": []}
    for clip, (identity, role, split, uses) in CLIPS.items():
        sound = np.sin(np.arange(FRAMES * 640) * rng.uniform(0.1, 0.4)).astype(np.float32) * 0.3
        beta = np.abs(rng.normal(0.2, 0.1, (FRAMES, E))).cumsum(0).astype(np.float32) / FRAMES
        beta[:, [EXPRESSION_INDEX[name] for name in BLINK_NAMES]] = rng.uniform(0, 1, (FRAMES, 1))  # lids jump, as they do
        pose = rng.normal(0, 0.05, (FRAMES, 6)).cumsum(0).astype(np.float32)
        write_npz(root / f"fit3dmm/{clip}.npz", {"beta": beta, "pose": pose})
        write_npz(root / f"audio/{clip}.npz", {"mel": compute_mel(sound), "start": window_starts(FRAMES)})
        labels = {"clip": clip, "status": "ok", "reason": "", "file": f"{clip}.npz", "n_frames": FRAMES, "sha256": clip}
        rows["fit3dmm"].append(labels)
        rows["audio"].append(labels)
        rows["crop"].append({
            **labels, "kind": "video", "identity": identity, "role": role, "emotion": "happy", "level": 2, "sentence": "a", "take": 1, "split": split,
            "uses": uses, "source": "toy", "video": "", "sound": "", "landmarks": "", "size_px": 64, "audio_status": "ok",
        })  # fmt: skip
    for stage, table in rows.items():
        write_index(root / stage / "index.csv", table, stage)
    return {stage: root / stage / "index.csv" for stage in rows}


def context(reads, tmp_path: Path, **changes) -> Context:
    values = (
        read_config("params.yaml", "tests/smoke/config.yaml")["flow"]
        | {"long_frames": 8, "long_stride": 4, "calibration_rounds": 1}
        | changes
    )
    stamp = json.dumps({"seed": 1, "stage": "flow", "code": "abc", "params": {}})
    return Context(
        "flow", "full", stamp, tmp_path, tmp_path / "models/flow/full/index.json", reads, 1, {"flow": validate_section("flow", values)}
    )


def train(reads, tmp_path, monkeypatch, **changes) -> Path:
    monkeypatch.setenv("FVQT_CACHE", str(tmp_path / "cache"))
    folder = TrainingFolder(tmp_path / "training")
    flow.run(context(reads, tmp_path, **changes), folder)
    return folder.path / "result"


def test_clips_belong_to_the_split_and_the_use(reads, tmp_path):
    sides = flow.read_clips(context(reads, tmp_path))
    assert [[clip.name for clip in side] for side in sides] == [
        ["tr0_a", "tr0_enrol", "tr1_a", "tr2_a", "tr3_a"], ["va0_a"], ["te0_a", "te1_a"],
    ]  # fmt: skip
    source = sides[2][0].beta0
    fits = {name: np.load(reads["fit3dmm"].parent / f"{name}.npz")["beta"][0] for name in ("te0_enrol", "te0_a")}
    np.testing.assert_array_equal(source, fits["te0_enrol"])


def test_test_clips_are_scored_and_a_replicate_is_another_training(reads, tmp_path, monkeypatch):
    seeds = []
    fit = flow.fit_motion
    monkeypatch.setattr(flow, "fit_motion", lambda *args, seed, **rest: seeds.append(seed) or fit(*args, seed=seed, **rest))
    first = train(reads, tmp_path / "a", monkeypatch)
    bits = read_json(first / "held_out.json")
    assert {clip: entry["identity"] for clip, entry in bits.items()} == {"te0_a": "te0", "te1_a": "te1"}
    assert all(math.isfinite(entry["bits_per_dim"]) for entry in bits.values())
    second = train(reads, tmp_path / "b", monkeypatch, replicate=1)
    assert seeds[:2] == [derive_seed(1, "flow", "expression"), derive_seed(1, "flow", "pose")] and len(set(seeds)) == 4
    assert read_json(second / "held_out.json") != bits
    assert not same(read_torch(first / "poseflow.pt"), read_torch(second / "poseflow.pt"))


def test_latents_of_test_frames_are_kept_of_a_flow_and_of_no_regression(reads, tmp_path, monkeypatch):
    result = train(reads, tmp_path / "flow", monkeypatch)
    arrays = np.load(result / "latents.npz")
    window = min(read_config("params.yaml", "tests/smoke/config.yaml")["flow"]["window"], FRAMES)
    frames = 2 * (FRAMES // window) * window
    features = read_json(result / "metrics.json")["expflow_kept_dims"]
    assert arrays["z"].shape == (frames, features) and arrays["z"].dtype == np.float16 and np.isfinite(arrays["z"]).all()
    assert arrays["emotion"].tolist() == [EMOTIONS.index("happy")] * frames
    np.testing.assert_allclose(arrays["intensity"], 2 / 3, atol=1e-3)
    assert arrays["means"].shape == (len(EMOTIONS), features)
    assert not (train(reads, tmp_path / "regression", monkeypatch, model="regression") / "latents.npz").exists()


def test_corrupted_frames_reach_the_training_and_nothing_else(reads, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(flow, "fit_motion", lambda config, train, val, *args, **rest: seen.append((train, val)) or 1 / 0)
    for share in (0.0, 0.3):
        with pytest.raises(ZeroDivisionError):
            train(reads, tmp_path / str(share), monkeypatch, corrupted_share=share)
    (clean, held_out), (corrupted, also_held_out) = seen
    changed = [torch.equal(a.beta, b.beta) for a, b in zip(clean, corrupted, strict=True)]
    assert not any(changed) and torch.equal(held_out[0].beta, also_held_out[0].beta)


def same(one, other) -> bool:
    if isinstance(one, dict):
        return all(same(one[name], other[name]) for name in one)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
