"""The command that trains both flows on coefficients of real recordings, on tiny synthetic ones: a generic face of 64 dimensions, clips without labels."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from flowvqtalker.audio import compute_mel, window_starts
from flowvqtalker.audio.mel import SILENCE
from flowvqtalker.constants import EMOTIONS, SAMPLES_PER_FRAME
from flowvqtalker.face.deep3d import Deep3DCoefficients, write_deep3d
from flowvqtalker.flow.windows import MotionClip
from flowvqtalker.train.flow import MotionData, MotionTask, make_flow, plans_of
from pipeline import flow
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.io import read_json, write_index, write_npz
from pipeline.params import read_config, validate_section
from pipeline.params.flow import FlowParams
from pipeline.tools import flow_real
from pipeline.training import TrainingFolder

E, FRAMES, SMOKE = 64, 24, "tests/smoke/config.yaml"


def tiny(steps: int = 2, **changes) -> FlowParams:
    """Section flow of the smoke test, whose flows take ``steps`` steps."""
    values = read_config("params.yaml", SMOKE)["flow"] | {"long_frames": 8, "long_stride": 4, "calibration_rounds": 1} | changes
    loop = {"steps": steps, "validate_every": max(1, steps // 3), "batch": 4}
    values["training"] |= loop
    values["pose"]["training"] |= loop
    return cast(FlowParams, validate_section("flow", values))


def make_clip(number: int, identity: str, emotion: int = -1, frames: int = FRAMES) -> MotionClip:
    """Smooth motion of a generic face, the same few factors in every clip: there is something to learn. Expressions are of both signs."""
    rng = torch.Generator().manual_seed(number)
    beta, pose = (
        torch.randn(frames, 3, generator=rng).cumsum(0) @ torch.randn(3, size, generator=torch.Generator().manual_seed(size))
        + 0.1 * torch.randn(frames, size, generator=rng).cumsum(0)
        for size in (E, 6)
    )
    mel = torch.rand(4 * frames, 80, generator=rng) * 8 - 4
    return MotionClip(f"c{number}", identity, mel, torch.from_numpy(window_starts(frames)), beta, pose, beta[0], pose[0], emotion, 1.0)


def test_unlabelled_clips_of_a_generic_face_train_sample_and_are_scored_before_and_after():
    clips = [make_clip(i, f"id{i % 3}", 5 if i == 0 else -1) for i in range(6)]
    material = flow_real.hold_out("deep3d", clips)
    assert {clip.identity for clip in material.val} == {"id2"} and {clip.identity for clip in material.train} == {"id0", "id1"}
    for kind, dims in (("expression", E), ("pose", 6)):
        one = flow_real.fit_part(material, tiny(18), kind, 1.0, 2, 1)
        assert one.dims == dims and one.bad_steps == 0 and one.finite and one.samples.finite and one.samples.within
        assert [step for step, _ in one.curve] == [6, 12, 18]
        # The weights that are kept are those of the best validation, and both are in the same unit.
        assert one.trained == pytest.approx(min(value for _, value in one.curve), abs=1e-4)
        assert one.trained < one.initial
        assert [clip["side"] for clip in one.clips] == ["val", "val"]
        assert np.mean([clip["initial"] for clip in one.clips]) == pytest.approx(one.initial, abs=0.02)  # other draws of the dequantisation
        assert one.samples.frames == 2 * 2 * FRAMES
        assert (one.samples.at_bound_pct is None) == (kind == "pose") == (one.samples.move_ratio is not None)
        assert len(one.conditioner) == (2 if kind == "expression" else 0)


def test_the_score_before_training_does_not_depend_on_the_training():
    material = flow_real.hold_out("deep3d", [make_clip(i, f"id{i}") for i in range(3)])
    short, long = (flow_real.fit_part(material, tiny(steps), "pose", 1.0, 1, 1) for steps in (1, 6))
    assert short.initial == long.initial and short.trained != long.trained


def test_one_clip_alone_is_enough():
    material = flow_real.hold_out("clips", [make_clip(0, "id0")])
    assert material.train == material.val == material.held_out == material.every and not material.test
    for kind in ("expression", "pose"):
        one = flow_real.fit_part(material, tiny(), kind, 1.0, 1, 1)
        assert one.finite and one.samples.finite and one.samples.within and math.isfinite(one.trained)


def test_a_window_without_a_label_gives_every_weight_a_finite_gradient():
    clips = [make_clip(i, f"id{i}") for i in range(3)]
    cfg = tiny(residual=False)
    settings = flow_real.flow_training(cfg, "expression")
    model = make_flow(flow.flow_config(cfg, "expression", E, 3), clips, settings.min_sd)
    assert model.config.long_dims == tuple(range(E))  # a model without named lids has all dimensions watched
    data = MotionData(model, clips, plans_of(model, clips))
    assert not data.known.any()
    torch.manual_seed(0)
    for parameter in model.core.parameters():  # couplings start at zero, where nothing behind them has a gradient
        parameter.data += 0.03 * torch.randn_like(parameter)
    task = MotionTask(model, data, data, settings, 1e-3)
    ((_, loss, _),) = task.losses(task.draw(0, torch.Generator().manual_seed(0)), 0)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(grad is not None and bool(torch.isfinite(grad).all()) for grad in gradients.values())
    actnorms = [grad for name, grad in gradients.items() if "actnorm" in name]
    # Every emotion's own scale and bias take part: the mixture is over all of them.
    assert actnorms and all(
        bool((grad.flatten(1).abs().sum(1) > 0).all()) for grad in actnorms if grad is not None and len(grad) == len(EMOTIONS)
    )


def test_identities_are_held_out_whole_and_alternate():
    clips = [make_clip(i, f"id{i % 7}") for i in range(14)]
    material = flow_real.hold_out("clips", clips)
    sides = [{clip.identity for clip in side} for side in (material.train, material.val, material.test)]
    assert sides == [{"id0", "id1", "id3", "id4", "id6"}, {"id2"}, {"id5"}]
    assert len(material.every) == 14
    two = flow_real.hold_out("clips", [make_clip(0, "a"), make_clip(1, "a"), make_clip(2, "b")])
    assert [clip.name for clip in two.val] == ["c2"] and [clip.name for clip in two.train] == ["c0", "c1"]


@pytest.mark.parametrize(
    ("name", "emotion", "intensity"),
    [("M030_front_angry_level3_001", "angry", 1.0), ("mead_av_m003_level_1_happy_024", "happy", 1 / 3), ("W015_level_1_neutral_030", "neutral", 0.0)],
)  # fmt: skip
def test_names_that_say_an_emotion_are_labels(name, emotion, intensity):
    assert flow_real.label_of(name) == (EMOTIONS.index(emotion), pytest.approx(intensity))


def test_other_names_are_no_labels():
    assert flow_real.label_of("Obama_clip1") == flow_real.label_of("happy_clip") == (-1, 1.0)


def test_another_rate_becomes_25_by_straight_lines():
    ramp = np.arange(60.0)[:, None] / 30  # seconds
    made = flow_real.at_rate(ramp, 30.0)
    assert made.shape == (50, 1)
    np.testing.assert_allclose(made[:, 0], np.arange(50) / 25, atol=1e-6)
    np.testing.assert_array_equal(flow_real.at_rate(ramp, 25.0), ramp.astype(np.float32))
    assert flow_real.at_rate(ramp[:1], 30.0).shape == (1, 1)


def write_mat(path: Path, frames: int, seed: int) -> np.ndarray:
    values = (np.random.default_rng(seed).normal(0, 0.05, (frames, 257)).cumsum(0)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        write_deep3d(file, Deep3DCoefficients.from_array(values))
    return values


def write_wav(path: Path, frames: int) -> None:
    import wave

    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((8000 * np.sin(0.2 * np.arange(frames * SAMPLES_PER_FRAME))).astype("<i2").tobytes())


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    """Three people: one with sound and without a label, one with neither, one with a label and without sound."""
    root = tmp_path_factory.mktemp("media")
    write_mat(root / "talks/3DMM/ada_clip1.mat", FRAMES, 1)
    write_wav(root / "talks/wav/ada_clip1.wav", FRAMES)
    write_mat(root / "talks/3DMM/bob_clip1.mat", FRAMES, 2)
    write_mat(root / "mead/M030_front_sad_level2_001.mat", FRAMES, 3)
    return root


def test_coefficient_files_become_clips_with_their_sound_or_silence(media):
    material = flow_real.deep3d_clips(media)
    clips = {clip.name: clip for clip in material.every}
    assert material.silent == 2 and [clip.name for clip in material.val] == ["bob_clip1"]
    ada, mead = clips["ada_clip1"], clips["M030_front_sad_level2_001"]
    assert (ada.identity, ada.emotion) == ("ada", -1) and (mead.identity, mead.emotion, mead.intensity) == ("M030", 6, pytest.approx(2 / 3))
    assert float(ada.mel.max()) > SILENCE + 1 and float(mead.mel.max()) == SILENCE
    values = np.random.default_rng(3).normal(0, 0.05, (FRAMES, 257)).cumsum(0).astype(np.float32)
    np.testing.assert_allclose(mead.beta.numpy(), values[:, 80:144], rtol=1e-6)
    np.testing.assert_allclose(mead.pose.numpy(), np.concatenate([values[:, 224:227], 10 * values[:, 254:]], 1), rtol=1e-6)


def test_files_that_are_absent_or_broken_are_named_with_a_cure(tmp_path):
    with pytest.raises(PipelineError, match="no such folder"):
        flow_real.deep3d_clips(tmp_path / "absent")
    with pytest.raises(PipelineError, match=r"holds no \.mat file"):
        flow_real.deep3d_clips(tmp_path)
    (tmp_path / "odd.mat").write_bytes(b"no matlab file" * 20)
    with pytest.raises(PipelineError, match=r"odd\.mat"):
        flow_real.deep3d_clips(tmp_path)
    (tmp_path / "none.yaml").write_text("name: flow_real_test_of_an_absent_run\n")
    with pytest.raises(PipelineError, match="make clips"):
        flow_real.fitted_clips(tmp_path / "none.yaml", tiny(), 1)


def test_a_run_is_read_as_the_stage_reads_it_but_for_labels_that_nobody_gave(tmp_path, monkeypatch):
    rng, rows = np.random.default_rng(0), {"crop": [], "fit3dmm": [], "audio": []}
    for clip, split in (("grid_a", "train"), ("m003_level_2_fear_024", "val"), ("voices_b", "test")):
        write_npz(
            tmp_path / f"data/fit3dmm/{clip}.npz",
            {"beta": rng.random((FRAMES, 53), np.float32), "pose": rng.random((FRAMES, 6), np.float32)},
        )
        sound = rng.normal(0, 0.1, FRAMES * SAMPLES_PER_FRAME).astype(np.float32)
        write_npz(tmp_path / f"data/audio/{clip}.npz", {"mel": compute_mel(sound), "start": window_starts(FRAMES)})
        labels = {"clip": clip, "status": "ok", "reason": "", "file": f"{clip}.npz", "n_frames": FRAMES, "sha256": clip}
        rows["fit3dmm"].append(labels)
        rows["audio"].append(labels)
        rows["crop"].append({
            **labels, "kind": "video", "identity": clip[:4], "role": "talk", "emotion": "neutral", "level": 0, "sentence": "", "take": 1, "split": split,
            "uses": "test" if split == "test" else "flow", "source": "clips", "video": "", "sound": "", "landmarks": "", "size_px": 64, "audio_status": "ok",
        })  # fmt: skip
    for stage, table in rows.items():
        write_index(tmp_path / f"data/{stage}/index.csv", table, stage)
    monkeypatch.setattr(flow_real, "run_root", lambda config: tmp_path)
    material = flow_real.fitted_clips(Path(SMOKE), tiny(), 1)
    assert {clip.name: clip.emotion for clip in material.every} == {
        "grid_a": -1,
        "m003_level_2_fear_024": EMOTIONS.index("fear"),
        "voices_b": -1,
    }
    assert [clip.name for clip in material.held_out] == ["voices_b"]


def test_the_settings_are_those_of_the_stage(tmp_path, monkeypatch):
    cfg, seen = tiny(), []
    clips = [make_clip(i, f"id{i}") for i in range(3)]
    monkeypatch.setenv("FVQT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(flow, "read_clips", lambda ctx: (clips[:2], clips[2:], []))
    monkeypatch.setattr(
        flow,
        "fit_motion",
        lambda config, train, val, settings, **rest: seen.append((config, settings, rest)) or SimpleNamespace(flow=None, metrics={}),
    )
    monkeypatch.setattr(flow, "rollout_metrics", lambda *_: {})
    monkeypatch.setattr(flow, "motion_state", lambda _: {})
    monkeypatch.setattr(TrainingFolder, "publish", lambda self, files: None)
    stamp = json.dumps({"seed": 1, "stage": "flow", "code": "abc", "params": {}})
    flow.run(Context("flow", "full", stamp, tmp_path, tmp_path / "index.json", {}, 1, {"flow": cfg}), TrainingFolder(tmp_path / "training"))
    assert [config.kind for config, _, _ in seen] == ["expression", "pose"]
    for config, settings, rest in seen:
        assert flow_real.flow_training(cfg, config.kind) == settings
        part = cfg.pose if config.kind == "pose" else cfg
        assert flow_real.shorter(flow_real.loop_config(part.training), 1.0) == rest["flow_loop"]


def test_a_share_of_a_loop_is_never_empty():
    loop = flow_real.loop_config(tiny(40).training)
    half, least = flow_real.shorter(loop, 0.5), flow_real.shorter(loop, 0.001)
    assert (half.steps, half.lr) == (20, loop.lr)
    assert least.steps == least.warmup_steps == least.validate_every == least.checkpoint_every == 1


def test_the_page_and_what_fails_on_it(media, tmp_path, monkeypatch):
    fit, merged = flow_real.fit_part, flow_real.read_config
    monkeypatch.setattr(flow_real, "read_config", lambda *paths: merged(*paths, SMOKE))
    kept = []
    monkeypatch.setattr(flow_real, "fit_part", lambda *args: kept.append(fit(*args)) or replace(kept[-1], initial=99.0))
    flow_real.run(["deep3d"], media, Path("unused"), 1.0, 1, tmp_path / "real")
    page, values = (tmp_path / "real.md").read_text(), read_json(tmp_path / "real.json")
    assert "| deep3d | ExpFlow | yes | yes | yes | yes |" in page and "NO" not in page.replace("No ", "")
    assert "2 of the files have no sound" in page and str(media) not in page and str(media) not in json.dumps(values)
    assert values["sets"]["deep3d"]["val"] == {"clips": 1, "frames": FRAMES, "identities": ["bob"], "unlabelled": 1}
    assert [one["kind"] for one in values["flows"]] == ["expression", "pose"] and all(
        all(one["checks"].values()) for one in values["flows"]
    )
    wrong = {"initial": -99.0, "bad_steps": 1, "samples": replace(kept[0].samples, finite=False, within=False)}
    monkeypatch.setattr(flow_real, "fit_part", lambda *args: replace(kept[0], **wrong))
    with pytest.raises(SystemExit, match=r"held-out likelihood falls; .*no skipped step; .*samples finite; .*within bounds"):
        flow_real.run(["deep3d"], media, Path("unused"), 1.0, 1, tmp_path / "fails")
    assert "| deep3d | ExpFlow | NO | NO | NO | NO |" in (tmp_path / "fails.md").read_text()
    assert read_json(tmp_path / "fails.json")["flows"][0]["initial"] == -99.0


@pytest.mark.shared
def test_the_sample_folder_holds_coefficient_files_of_three_people(shared_folder):
    if not any((shared_folder / "media").rglob("*.mat")):
        pytest.skip(f"no coefficient files below {shared_folder / 'media'}")
    material = flow_real.deep3d_clips(shared_folder / "media")
    clips = {clip.name: clip for clip in material.every}
    assert {clip.identity for clip in material.train} == {"M030", "Obama"} and {clip.identity for clip in material.val} == {"reagan"}
    assert material.silent == 8 and sum(clip.emotion >= 0 for clip in clips.values()) == 8
    assert len(clips["Obama_clip1"].beta) == 500 and len(clips["M030_front_angry_level3_001"].beta) == 98  # 600 frames at 30 Hz; 98 at 25
    assert all(
        bool(torch.isfinite(clip.beta).all() and torch.isfinite(clip.pose).all()) and clip.beta.shape[1] == E for clip in clips.values()
    )
