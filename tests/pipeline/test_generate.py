"""Step generate with untrained models on a small run: every method, its table, what it is keyed by, and the long motion."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny_models import SIZE, E, write_models

from flowvqtalker.audio import compute_mel, window_starts
from flowvqtalker.constants import EMOTIONS
from pipeline import generate, methods
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.io import read_index, read_npz, read_torch, text_sha256, write_index, write_json, write_npz, write_torch
from pipeline.media import probe, read_sound, read_video, write_sound, write_video
from pipeline.params import validate_section
from pipeline.scoredclips import ScoredClip, scored_clips

METHODS = sorted(methods.METHODS)
#: clip: (identity, role, emotion, level, sentence, take, frames)
CLIPS = {
    "p1_enrol": ("p1", "enrol", "neutral", 0, "e", 1, 14), "p1_a_t1": ("p1", "talk", "happy", 2, "a", 1, 20), "p1_a_t2": ("p1", "talk", "happy", 2, "a", 2, 21),
    "p1_b_t1": ("p1", "talk", "sad", 1, "b", 1, 24), "p1_b_t2": ("p1", "talk", "sad", 1, "b", 2, 24), "p2_c": ("p2", "talk", "", "", "", 1, 16),
    "p2_mute": ("p2", "talk", "", "", "", 1, 12), "p3_train": ("p3", "talk", "happy", 2, "a", 1, 12),
}  # fmt: skip


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> dict[str, Path]:
    """Hand-over files of a run with two test people."""
    root, rng = tmp_path_factory.mktemp("generate"), np.random.default_rng(0)
    crops, fits, sounds = [], [], []
    for clip, (identity, role, emotion, level, sentence, take, n) in CLIPS.items():
        sound = np.sin(np.arange(n * 640) * rng.uniform(0.1, 0.4)).astype(np.float32) * 0.3
        frames = rng.integers(0, 255, (1, 8, 8, 3)).repeat(8, 1).repeat(8, 2).repeat(n, 0).astype(np.uint8)
        frames[:, :16, :16] = np.arange(n, dtype=np.uint8)[:, None, None, None] * 10  # tells the frames apart
        write_video(root / f"data/crop/clips/{clip}.mp4", frames, crf=5)
        has_sound = clip != "p2_mute"
        if has_sound:
            write_sound(root / f"data/crop/clips/{clip}.wav", sound)
            write_npz(root / f"data/audio/clips/{clip}.npz", {"mel": compute_mel(sound), "start": window_starts(n)})
        sounds.append(
            {
                "clip": clip,
                "status": "ok" if has_sound else "rejected",
                "reason": "",
                "file": f"clips/{clip}.npz" if has_sound else "",
                "n_frames": n,
                "sha256": clip,
            }
        )
        beta = rng.uniform(0.1, 0.3, (n, E)).astype(np.float32)
        if role == "enrol":
            beta[7] = 0.01
        pose, error = rng.normal(0, 0.05, (n, 6)).astype(np.float32), np.ones(n, np.float32)
        error[0] = np.nan if role == "enrol" else 1.0
        write_npz(root / f"data/crop/clips/{clip}.npz", {"landmarks_px": rng.uniform(0, SIZE, (n, 68, 2)).astype(np.float32)})
        write_npz(root / f"data/fit3dmm/clips/{clip}.npz", {"alpha": np.zeros(3), "beta": beta, "pose": pose, "error_px": error})
        fits.append({"clip": clip, "status": "ok", "reason": "", "file": f"clips/{clip}.npz", "n_frames": n, "sha256": clip})
        crops.append({
            "clip": clip, "status": "ok", "reason": "", "kind": "video", "identity": identity, "role": role, "emotion": emotion, "level": level,
            "sentence": sentence, "take": take, "split": "train" if identity == "p3" else "test", "source": "toy", "video": f"clips/{clip}.mp4",
            "sound": f"clips/{clip}.wav" if has_sound else "", "landmarks": f"clips/{clip}.npz", "n_frames": n, "size_px": SIZE,
            "audio_status": "ok" if has_sound else "none", "sha256": text_sha256(clip),
        })  # fmt: skip
    reads = {stage: root / f"data/{stage}/index.csv" for stage in ("crop", "fit3dmm", "audio")}
    for stage, rows in (("crop", crops), ("fit3dmm", fits), ("audio", sounds)):
        write_index(reads[stage], rows, stage)
    return reads | write_models(root / "models")


@pytest.fixture
def make_context(run_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FVQT_CACHE", str(tmp_path / "cache"))

    def make(out: str, **changes) -> Context:
        values = yaml.safe_load(Path("params.yaml").read_text())["generate"]
        values |= {"methods": METHODS, "precision": "fp32", "long_minutes": 0.2, "long_row_s": 1.6, "long_seeds": 2} | changes
        stamp = json.dumps({"seed": 1, "stage": "generate", "params": values})
        return Context(
            "generate",
            "",
            stamp,
            tmp_path,
            tmp_path / "data/generate" / out,
            dict(run_folder),
            1,
            {"generate": validate_section("generate", values)},
        )

    return make


def test_scored_clips_are_first_takes_with_the_right_companions(make_context):
    clips = {clip.clip: clip for clip in scored_clips(make_context("x.csv"))}
    assert sorted(clips) == ["p1_a_t1", "p1_b_t1", "p2_c", "p2_mute"]
    happy, lonely = clips["p1_a_t1"], clips["p2_c"]
    assert happy.other["clip"] == "p1_a_t2" and happy.source_row["clip"] == "p1_enrol" and happy.source_kind == "enrolment"
    assert happy.label == (5, pytest.approx(2 / 3)) and lonely.label == (-1, 1.0)
    assert happy.foreign["clip"] == "p1_b_t1"  # the only other sentence that is as long, and the same voice
    assert lonely.other is None and lonely.source_kind == "other_clip" and lonely.source_row["clip"] == "p2_mute"
    assert len({clip.seed for clip in clips.values()}) == 4


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_its_clips(make_context, method):
    ctx = make_context(f"{method}/index.csv")
    generate.run_method(ctx, method)
    table = read_index(ctx.out, "generate").set_index("clip")
    assert sorted(table.index) == ["p1_a_t1", "p1_b_t1", "p2_c", "p2_mute"] and (table["method"] == method).all()
    ok = table[table["status"] == "ok"]
    expected = (
        {"p1_a_t1", "p1_b_t1"}
        if method == "other_take"
        else set(table.index) - ({"p2_mute"} if methods.METHODS[method][2] == "own" else set())
    )
    assert set(ok.index) == expected
    for clip, row in ok.iterrows():
        video = ctx.out.parent / row["video"]
        info, frames = probe(video), read_video(video)[0]
        n = CLIPS["p1_a_t2"][-1] if (method, clip) == ("other_take", "p1_a_t1") else CLIPS[clip][-1]
        assert frames.shape == (n, SIZE, SIZE, 3) and row["n_frames"] == n
        arrays = read_npz(ctx.out.parent / row["coefficients"])
        assert arrays["beta"].shape == (n, E) and arrays["pose"].shape == (n, 6)
        assert info.has_sound == (clip != "p2_mute")
        assert ("synthetic" in info.metadata.get("comment", "").lower()) == (method not in ("ground_truth", "other_take"))
        if info.has_sound and method != "other_take":
            real = read_sound(video, n_frames=n)
            own = read_sound(ctx.reads["crop"].parent / f"clips/{clip}.wav", n_frames=n)
            assert np.corrcoef(real[640:-640], own[640:-640])[0, 1] > 0.95  # the original sound, whatever drove the model
    mute = table.loc["p2_mute"]
    if methods.METHODS[method][2] == "own":
        assert mute["status"] == "rejected" and mute["reason"] == "no sound"


def test_source_is_the_calmest_enrolment_frame_and_the_still_repeats_it(make_context):
    ctx = make_context("copy_source/index.csv")
    generate.run_method(ctx, "copy_source")
    row = read_index(ctx.out, "generate").set_index("clip").loc["p1_a_t1"]
    assert "source=enrolment:p1_enrol:7" in row["protocol"]
    frames = read_video(ctx.out.parent / row["video"])[0]
    assert np.abs(frames[:, 2:14, 2:14].astype(int) - 70).max() <= 6
    beta = read_npz(ctx.out.parent / row["coefficients"])["beta"]
    np.testing.assert_allclose(beta, 0.01)


def test_paired_motion_takes_the_fitted_pose_and_shuffled_sound_moves_the_mouth_otherwise(make_context, run_folder):
    motion = {}
    for method in ("flowvqtalker_paired", "shuffled_audio", "flowvqtalker_free"):
        ctx = make_context(f"{method}/index.csv")
        generate.run_method(ctx, method)
        motion[method] = read_npz(ctx.out.parent / "clips/p1_a_t1.npz")
    real = read_npz(run_folder["fit3dmm"].parent / "clips/p1_a_t1.npz")
    np.testing.assert_array_equal(motion["flowvqtalker_paired"]["pose"], real["pose"])
    assert not np.array_equal(motion["flowvqtalker_free"]["pose"], real["pose"])
    np.testing.assert_array_equal(motion["flowvqtalker_free"]["beta"], motion["flowvqtalker_paired"]["beta"])  # same seed, same sound
    assert not np.array_equal(motion["shuffled_audio"]["beta"], motion["flowvqtalker_paired"]["beta"])


CLAY = ("clay_on_fitted", "clay_paired", "clay_shuffled", "clay_regression")


def test_clay_rows_show_the_same_person_and_differ_by_motion_alone(make_context, run_folder):
    frames, motion = {}, {}
    for method in CLAY:
        ctx = make_context(f"{method}/index.csv")
        generate.run_method(ctx, method)
        table = read_index(ctx.out, "generate").set_index("clip")
        assert "drawn=clay" in table.loc["p1_b_t1", "protocol"]
        frames[method] = read_video(ctx.out.parent / table.loc["p1_b_t1", "video"])[0].astype(int)
        motion[method] = read_npz(ctx.out.parent / table.loc["p1_b_t1", "coefficients"])
    real = read_npz(run_folder["fit3dmm"].parent / "clips/p1_b_t1.npz")
    for method in CLAY:
        np.testing.assert_array_equal(motion[method]["pose"], real["pose"])
        corner = np.abs(frames[method][:, :8, :8] - frames["clay_on_fitted"][:, :8, :8])
        assert np.median(corner) <= 4  # background and hair, as far as the codec keeps them
    np.testing.assert_array_equal(motion["clay_on_fitted"]["beta"], real["beta"])
    assert not np.array_equal(motion["clay_shuffled"]["beta"], motion["clay_paired"]["beta"])
    for other in ("clay_on_fitted", "clay_regression"):
        assert np.abs(frames["clay_paired"] - frames[other]).mean() > 0.5
    drawn = frames["clay_on_fitted"]
    assert drawn.std(axis=(1, 2)).mean() > 20  # a face, not a grey plane


def test_clay_rows_of_a_flow_carry_samples_for_statistics(make_context):
    for method in CLAY:
        ctx = make_context(f"{method}/index.csv", long_seeds=3)
        generate.run_method(ctx, method)
        motion = read_npz(ctx.out.parent / "clips/p1_a_t1.npz")
        assert ("beta_samples" in motion) == (method in ("clay_paired", "clay_shuffled"))
        if "beta_samples" in motion:
            assert motion["beta_samples"].shape == (3, 20, E) and motion["pose_samples"].shape == (3, 20, 6)
            np.testing.assert_array_equal(motion["beta_samples"][0], motion["beta"])
            assert not np.array_equal(motion["beta_samples"][1], motion["beta_samples"][2])
            assert not np.array_equal(motion["pose_samples"][0], motion["pose_samples"][1])


def test_a_row_with_a_variant_is_its_method_with_that_model(make_context, run_folder, tmp_path):
    for name, kind, file in (("flow_gmm", "flow", "expflow.pt"), ("imagegen_no_warp", "imagegen", "model.pt")):
        original = run_folder[f"{kind}_full"].parent
        state = read_torch(original / file)
        folder = tmp_path / "models" / kind / name.removeprefix(f"{kind}_")
        for other in original.glob("*.pt"):
            write_torch(folder / other.name, read_torch(other))
        write_torch(folder / file, disturbed(state))
        write_json(folder / "index.json", {"files": {"other": name}})
        motion = {}
        for row in {"flow": ("flowvqtalker_paired", "flowvqtalker_paired__gmm"), "imagegen": ("vqig_on_fitted", "vqig_on_fitted__no_warp")}[
            kind
        ]:
            ctx = make_context(f"{row}/index.csv", methods=[row])
            ctx.reads[name] = folder / "index.json"
            generate.run_method(ctx, row)
            table = read_index(ctx.out, "generate").set_index("clip")
            assert set(table["method"]) == {row}
            motion[row] = read_npz(ctx.out.parent / "clips/p1_a_t1.npz")["beta"], read_video(ctx.out.parent / "clips/p1_a_t1.mp4")[0]
        (base, frames), (other, moved) = motion.values()
        assert np.array_equal(base, other) == (kind == "imagegen") and not np.array_equal(frames, moved)


def disturbed(state):
    """A model's state with other numbers in its floating point tensors."""
    if isinstance(state, dict):
        return {name: disturbed(value) for name, value in state.items()}
    return state + 0.05 * torch.randn_like(state) if isinstance(state, torch.Tensor) and state.is_floating_point() else state


def test_finished_clips_survive_an_interrupt(make_context, monkeypatch):
    ctx, make, made = make_context("vqig_on_fitted/index.csv"), generate.make_clip, []

    def counted(item, *rest):
        made.append(item.clip)
        return make(item, *rest)

    def interrupted(item, *rest):
        if len(made) == 2:
            raise KeyboardInterrupt
        return counted(item, *rest)

    monkeypatch.setattr(generate, "make_clip", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate.run_method(ctx, "vqig_on_fitted")
    assert not ctx.out.exists()
    monkeypatch.setattr(generate, "make_clip", counted)
    generate.run_method(ctx, "vqig_on_fitted")
    assert sorted(made) == ["p1_a_t1", "p1_b_t1", "p2_c", "p2_mute"]  # each was made once
    assert (read_index(ctx.out, "generate")["status"] == "ok").all()


def test_long_motion_has_the_promised_amount_and_other_seeds_differ(make_context):
    ctx = make_context("long/flowvqtalker_free.npz")
    generate.run_long(ctx)
    arrays = read_npz(ctx.out)
    n, s, t, e = arrays["beta"].shape
    assert (s, t, e) == (2, 40, E) and n * s * t / 25 / 60 >= 0.2 and arrays["pose"].shape == (n, s, t, 6)
    assert (
        arrays["beta"].dtype == np.float16
        and set(arrays["emotion"]) == {-1, 5, 6}
        and set(arrays["clip"]) == {"p2_c", "p1_a_t1", "p1_b_t1"}
    )
    assert not np.array_equal(arrays["beta"][:, 0], arrays["beta"][:, 1])


def spoken(identity: str, emotion: str, level: int, sentence: str = "a", mel: str = "m") -> ScoredClip:
    row = {
        "clip": f"{identity}_{emotion}_l{level}_{sentence}",
        "source": "toy",
        "identity": identity,
        "emotion": emotion,
        "level": level,
        "mel": mel,
    }
    return ScoredClip(row, row, "own_first_frame", None, None, 0)


def test_long_rows_take_every_person_as_soon_as_there_are_rows_enough():
    # As in the embedded corpus: eight people, eight emotions, each person speaks six of them, at levels that differ.
    names = sorted(EMOTIONS)
    clips = [spoken(f"te{p:02d}", names[(p + e) % 8], (p + e) % 3 + 1) for p in range(8) for e in range(6)]
    rows = generate.long_rows(clips, 16)
    assert [row[0].row["emotion"] for row in rows] == names * 2
    people = [row[0].row["identity"] for row in rows]
    assert len(set(people[:8])) == 8, "eight rows are enough for eight people"
    assert {people.count(person) for person in people} == {2}
    assert len({(row[0].row["emotion"], row[0].row["identity"]) for row in rows}) == 16
    shuffled = [clips[index] for index in np.random.default_rng(0).permutation(len(clips))]
    assert generate.long_rows(shuffled, 16) == rows


def test_long_rows_join_sentences_skip_silence_and_come_round():
    clips = [
        spoken("a", "happy", 1, "s1"),
        spoken("a", "happy", 1, "s0"),
        spoken("a", "happy", 2),
        spoken("b", "sad", 3),
        spoken("c", "sad", 3, mel=""),
    ]
    rows = generate.long_rows(clips, 5)
    assert [[clip.clip for clip in row] for row in rows] == [
        ["a_happy_l1_s0", "a_happy_l1_s1"], ["b_sad_l3_a"], ["a_happy_l2_a"], ["b_sad_l3_a"], ["a_happy_l1_s0", "a_happy_l1_s1"],
    ]  # fmt: skip
    assert generate.long_rows([spoken("c", "sad", 3, mel="")], 5) == []
    assert generate.long_rows(clips, 0) == []


def test_merge_joins_tables_and_drops_folders_of_removed_methods(make_context):
    tables = []
    for method in ("ground_truth", "copy_source"):
        ctx = make_context(f"{method}/index.csv")
        generate.run_method(ctx, method)
        tables.append(ctx.out)
    stale = tables[0].parent.parent / "removed_method/clips/x.mp4"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"old")
    ctx = make_context("index.csv")
    generate.run_merge(ctx, tables)
    table = read_index(ctx.out, "generate")
    assert len(table) == 8 and not stale.exists()
    assert all((ctx.out.parent / video).exists() for video in table["video"] if video)


def test_a_method_without_its_model_names_the_cure(make_context):
    ctx = make_context("regression/index.csv", regression_variant="")
    with pytest.raises(PipelineError, match=r"generate\.regression_variant"):
        generate.run_method(ctx, "regression")


def test_too_many_failures_stop_the_step(make_context, monkeypatch, caplog):
    ctx = make_context("codebook_ceiling/index.csv")
    monkeypatch.setattr(generate, "through_codebook", lambda *args, **kwargs: (_ for _ in ()).throw(RuntimeError("boom")))
    with caplog.at_level(logging.CRITICAL), pytest.raises(PipelineError, match=r"failed on 4 of 4 clips; first: p1_a_t1: .*boom"):
        generate.run_method(ctx, "codebook_ceiling")
    assert not ctx.out.exists()
