"""The two steps on a small folder of crops made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from flowvqtalker.image.codebook import load_codebook
from flowvqtalker.image.vqig import load_vqig
from pipeline import codebook as codebook_step
from pipeline import imagegen as imagegen_step
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.frames import load_frames
from pipeline.io import read_torch, write_index, write_npz
from pipeline.media import write_video
from pipeline.params import read_config, resolve_variant, validate_section
from pipeline.training import TrainingFolder

SIZE, E, T = 32, 4, 10
REPOSITORY = Path(__file__).parents[3]


def section(name: str) -> dict:
    values = (
        resolve_variant(read_config(REPOSITORY / "params.yaml")[name], name, "full")
        if name == "imagegen"
        else read_config(REPOSITORY / "params.yaml")[name]
    )
    training = values["training"] | {"steps": 4, "batch": 2, "warmup_steps": 1, "validate_every": 2, "checkpoint_every": 2}
    values |= {"training": training, "max_frames": 30, "validation_frames": 4, "test_frames": 6, "precision": "fp32"}
    if name == "codebook":
        values["model"] = values["model"] | {"width": 16, "codes": 16, "dim": 8}
        values["perceptual"] = values["perceptual"] | {"width": 4, "steps": 2, "batch": 2}
    else:
        values["model"] = values["model"] | {"width": 32, "heads": 2, "layers": 1, "descriptor_dim": 16, "warp_width": 16}
        values |= {"validation_pairs": 4, "warp_training": training}
    return values


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    rows, fits = [], []
    plan = [("a1", "a", "train", "talk"), ("a0", "a", "train", "enrol"), ("s1", "s", "train", "stills"), ("b1", "b", "val", "talk"), ("c0", "c", "test", "enrol"),
            ("c1", "c", "test", "talk")]  # fmt: skip
    for clip, identity, split, role in plan:
        frames = generator.integers(0, 255, (T, SIZE // 8, SIZE // 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
        landmarks = generator.uniform(4, 28, (T, 68, 2)).astype(np.float32)
        landmarks[3] = np.nan
        arrays = {"landmarks_px": landmarks, "box": np.array([0, 0, SIZE, SIZE]), "present": np.isfinite(landmarks).all((1, 2))}
        stills = role == "stills"
        if stills:
            arrays["frames"] = frames
        else:
            write_video(tmp_path / f"crop/clips/{clip}.mp4", frames)
        write_npz(tmp_path / f"crop/clips/{clip}.npz", arrays)
        write_npz(tmp_path / f"fit3dmm/clips/{clip}.npz", {"beta": generator.random((T, E)), "pose": generator.normal(size=(T, 6))})
        rows.append(
            {"clip": clip, "status": "ok", "kind": "stills" if stills else "video", "identity": identity, "split": split, "role": role,
             "uses": "codebook imagegen" if split != "test" else "test", "video": "" if stills else f"clips/{clip}.mp4", "landmarks": f"clips/{clip}.npz",
             "n_frames": T, "reason": "", "emotion": "neutral"}
        )  # fmt: skip
        fits.append({"clip": clip, "status": "ok", "reason": "", "file": f"clips/{clip}.npz", "n_frames": T})
    write_index(tmp_path / "crop/index.csv", rows, "crop")
    write_index(tmp_path / "fit3dmm/index.csv", fits, "fit3dmm")
    return tmp_path


def make_context(root: Path, stage: str, values: dict | None = None) -> Context:
    reads = {"crop": root / "crop/index.csv"}
    if stage == "imagegen":
        reads |= {"fit3dmm": root / "fit3dmm/index.csv", "codebook": root / "codebook/result/index.json"}
    stamp = json.dumps({"stage": stage, "variant": "", "seed": 1, "params": {}, "name": "t"})
    return Context(
        stage, "full", stamp, root, root / f"{stage}/index.json", reads, 1, {stage: validate_section(stage, values or section(stage))}
    )


def test_frames_skip_faceless_ones_and_keep_windows_inside_their_clip(crops):
    frames = load_frames(make_context(crops, "imagegen"), "train", "imagegen", 1000)
    assert len(frames) == 3 * (T - 1)
    assert int(frames.is_still.sum()) == T - 1 and int(frames.is_enrolment.sum()) == T - 1
    assert frames.coefficients.shape == (3 * T, E + 6)
    assert torch.equal((frames.last - frames.first)[~frames.is_still].unique(), torch.tensor([T - 1]))
    assert torch.equal(frames.first[frames.is_still], frames.row[frames.is_still])
    assert load_frames(make_context(crops, "imagegen"), "train", "codebook", 12).images.shape == (12, 3, SIZE, SIZE)


def test_both_steps_train_publish_and_load(crops):
    folder = TrainingFolder(crops / "codebook")
    codebook_step.run(make_context(crops, "codebook"), folder)
    result = crops / "codebook/result"
    assert {path.name for path in result.iterdir()} >= {"model.pt", "perceptual.pt", "metrics.json", "grid.png", "history.csv"}
    metrics = json.loads((result / "metrics.json").read_text())
    assert metrics["psnr_db"] > 0 and 0 < metrics["usage"] <= 1 and metrics["is_test_split"] == 1
    imagegen_step.run(make_context(crops, "imagegen"), TrainingFolder(crops / "imagegen"))
    payload = read_torch(crops / "imagegen/result/model.pt")
    codebook = load_codebook(read_torch(result / "model.pt"))
    model = load_vqig(payload, codebook)
    source = model.prepare_source(torch.rand(3, SIZE, SIZE), torch.rand(E), torch.rand(6), SIZE * torch.rand(68, 2))
    assert model.render_clip(source, torch.rand(5, E), torch.rand(5, 6)).shape == (5, SIZE, SIZE, 3)
    metrics = json.loads((crops / "imagegen/result/metrics.json").read_text())
    assert f"{metrics['codebook_sha256_48bit']:012x}" == read_torch(result / "model.pt")["sha256"][:12]


def test_an_interrupted_training_goes_on_to_the_same_model(crops, monkeypatch):
    codebook_step.run(make_context(crops, "codebook"), TrainingFolder(crops / "codebook"))
    whole = read_torch(crops / "codebook/result/model.pt")["sha256"]
    folder = TrainingFolder(crops / "again")
    save = folder.save_checkpoint

    def stop_after_first(name, state):
        save(name, state)
        if name == "codebook":
            raise KeyboardInterrupt

    monkeypatch.setattr(folder, "save_checkpoint", stop_after_first)
    with pytest.raises(KeyboardInterrupt):
        codebook_step.run(make_context(crops, "codebook"), folder)
    again = TrainingFolder(crops / "again")
    assert again.load_checkpoint("codebook")["step"] == 2
    codebook_step.run(make_context(crops, "codebook"), again)
    assert read_torch(crops / "again/result/model.pt")["sha256"] == whole


@pytest.mark.parametrize("stop", ["warp", "codes"])
def test_an_interrupted_generator_goes_on_to_the_same_model(crops, monkeypatch, stop):
    """Its two trainings, warp and codes, each resume; a finished warp is not trained again."""
    codebook_step.run(make_context(crops, "codebook"), TrainingFolder(crops / "codebook"))
    imagegen_step.run(make_context(crops, "imagegen"), TrainingFolder(crops / "whole"))
    folder = TrainingFolder(crops / "again")
    save = folder.save_checkpoint

    def stop_after_first(name, state):
        save(name, state)
        if name == stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(folder, "save_checkpoint", stop_after_first)
    with pytest.raises(KeyboardInterrupt):
        imagegen_step.run(make_context(crops, "imagegen"), folder)
    again = TrainingFolder(crops / "again")
    imagegen_step.run(make_context(crops, "imagegen"), again)
    whole, resumed = (read_torch(crops / name / "result/model.pt")["state"] for name in ("whole", "again"))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    splits = {line.split(",")[1] for line in (crops / "again/result/history.csv").read_text().splitlines()[1:]}
    assert splits == {"warp_train", "warp_val", "codes_train", "codes_val"}


def test_no_training_frames_is_said_with_a_cure(crops):
    rows = [{"clip": "x", "status": "rejected", "reason": "no face", "split": "train", "uses": "codebook"}]
    write_index(crops / "crop/index.csv", rows, "crop")
    with pytest.raises(PipelineError, match="no training frame"):
        codebook_step.run(make_context(crops, "codebook"), TrainingFolder(crops / "codebook"))


def test_parameters_refuse_nonsense():
    values = section("imagegen")
    with pytest.raises(PipelineError, match="multiple of 4 x heads"):
        validate_section("imagegen", values | {"model": values["model"] | {"width": 30}})
    with pytest.raises(PipelineError, match="must hold"):
        validate_section("imagegen", values | {"image_from_share": 0.9, "gan_from_share": 0.5})
    values = section("codebook")
    with pytest.raises(PipelineError, match="empty string for own"):
        validate_section("codebook", values | {"perceptual": values["perceptual"] | {"weights": "x.pt"}})
