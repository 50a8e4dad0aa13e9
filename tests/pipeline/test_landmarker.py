"""The training step on a corpus of drawn faces: publication, resume, and what happens with another back end."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from flowvqtalker.face.expressions import EXPRESSIONS
from flowvqtalker.landmarks.network import TrainedLandmarker
from pipeline import landmarker
from pipeline.errors import PipelineError
from pipeline.io import read_json, read_torch, write_index, write_npz
from pipeline.params.landmarker import LandmarkerParams, NetworkTraining
from pipeline.params.landmarks import LandmarksParams
from pipeline.training import TrainingFolder

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "landmarks"))
from dot_faces import make_pictures


def training(**changes) -> NetworkTraining:
    values = {
        "size_px": 32, "channels": (16, 16), "steps": 4, "batch": 4, "lr": 1e-3, "warmup_steps": 1, "final_lr_share": 0.1,
        "weight_decay": 0.0, "grad_clip": 1.0, "ema_decay": 0.9, "validate_every": 2,
    }  # fmt: skip
    return NetworkTraining(**{**values, **changes})


def make_ctx(root: Path, backend: str = "trained", **changes) -> SimpleNamespace:
    values = {
        "video_frames_per_clip": 2, "stills_per_clip": 6, "faceless": 4, "validation_samples": 8, "precision": "fp32", "map_weight": 0.05,
        "gap_weight": 0.5, "score_weight": 0.1, "finder": training(), "points": training(channels=(16, 16, 16)), "refiner": training(),
    }  # fmt: skip
    landmarks = LandmarksParams(backend=backend, min_score=0.5, smooth_sd_frames=0, fan_flip=False, precision="fp32")
    return SimpleNamespace(
        cfg=LandmarkerParams(**{**values, **changes}), params={"landmarks": landmarks}, seed=1, reads={"corpus": root / "index.csv"},
        threads=1,
        log=SimpleNamespace(info=lambda *a: None),
    )  # fmt: skip


@pytest.fixture
def corpus(tmp_path) -> Path:
    """Two clips of stills, one for training and one for validation."""
    (tmp_path / "corpus" / "stills").mkdir(parents=True)
    rows = []
    for number, split in enumerate(("train", "val")):
        frames, points = make_pictures(8, 64, number)
        beta = np.zeros((len(frames), len(EXPRESSIONS)), np.float32)
        write_npz(
            tmp_path / "corpus" / "stills" / f"s{number}.npz", {"frames": frames, "landmarks_px": points.astype(np.float32), "beta": beta}
        )
        rows.append(
            {
                "clip": f"s{number}",
                "status": "ok",
                "reason": "",
                "kind": "stills",
                "split": split,
                "uses": "judges+landmarker",
                "file": f"stills/s{number}.npz",
            }
        )
    write_index(tmp_path / "corpus" / "index.csv", rows, "corpus")
    return tmp_path / "corpus"


def test_training_publishes_a_model_that_runs(corpus, tmp_path):
    folder = TrainingFolder(tmp_path / "training")
    landmarker.run(make_ctx(corpus), folder)
    finder = TrainedLandmarker.from_state(read_torch(tmp_path / "training" / "result" / "model.pt"), min_score=0.05)
    frames, _ = make_pictures(3, 64, 9)
    assert finder.detect(frames).landmarks_px.shape == (3, 68, 2)
    metrics = read_json(tmp_path / "training" / "result" / "metrics.json")
    assert metrics["n_frames"] == 8 and 0 <= metrics["recall_pct"] <= 100
    history = (tmp_path / "training" / "result" / "history.csv").read_text()
    assert "points_error" in history and "finder_presence" in history and ",val," in history


def test_interrupted_training_ends_with_the_same_weights(corpus, tmp_path, monkeypatch):
    whole = TrainingFolder(tmp_path / "whole")
    landmarker.run(make_ctx(corpus), whole)

    class Interrupting(TrainingFolder):
        """Ctrl-C right after the first checkpoint of the second network."""

        def save_checkpoint(self, name, state):
            super().save_checkpoint(name, state)
            if name == "finder":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        landmarker.run(make_ctx(corpus), Interrupting(tmp_path / "cut"))
    landmarker.run(make_ctx(corpus), TrainingFolder(tmp_path / "cut"))
    one, two = (read_torch(tmp_path / name / "result" / "model.pt") for name in ("whole", "cut"))
    for part in ("finder", "points"):
        for key, value in one[part].items():
            np.testing.assert_array_equal(value.numpy(), two[part][key].numpy(), err_msg=f"{part}.{key}")


def test_another_back_end_costs_nothing_and_says_so(tmp_path):
    folder = TrainingFolder(tmp_path / "training")
    landmarker.run(make_ctx(tmp_path / "no corpus", "mediapipe"), folder)
    assert read_json(tmp_path / "training" / "result" / "metrics.json") == {"skipped": 1}
    with pytest.raises(ValueError, match="another one"):
        TrainedLandmarker.from_state(read_torch(tmp_path / "training" / "result" / "model.pt"))


def test_a_corpus_without_truth_is_an_error_with_a_cure(tmp_path):
    rows = [{"clip": "a", "status": "ok", "reason": "", "kind": "video", "split": "train", "uses": "flow", "file": "clips:a.mp4"}]
    write_index(tmp_path / "index.csv", rows, "corpus")
    with pytest.raises(PipelineError, match="no clip of split 'train'") as caught:
        landmarker.run(make_ctx(tmp_path), TrainingFolder(tmp_path / "training"))
    assert "mediapipe" in caught.value.hint
