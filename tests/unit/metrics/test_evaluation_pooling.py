"""Pooling of per-clip scores and the checks: cells, reasons, ratios, moved frames, on hand-made tables."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from flowvqtalker.constants import EMOTIONS
from flowvqtalker.face.expressions import EXPRESSION_INDEX, EXPRESSIONS
from flowvqtalker.metrics.bootstrap import Estimate
from flowvqtalker.metrics.registry import METRICS
from flowvqtalker.motion.distributions import DECLARED
from pipeline.evaluation.checks import declared_blinks_per_s, emotion_ratio, moved_frames, record
from pipeline.evaluation.clips import Scorer, blink_closure
from pipeline.evaluation.pooled import Pool, as_cell, windows_of
from pipeline.io import write_index, write_npz

PEOPLE = [f"te{number:02d}" for number in range(9)]


def table(right: float = 1.0, **columns) -> pd.DataFrame:
    """Two clips for each of nine people."""
    names = [(person, number) for person in PEOPLE for number in (0, 1)]
    rows = [
        {"clip": f"{p}_{k}", "status": "ok", "reason": "", "identity": p, "emotion": "happy", "level": 1 + 2 * k, "emotion_right": right}
        for p, k in names
    ]
    rows = [{**row, "emotion_verdict": "happy" if right else "sad", **columns} for row in rows]
    return pd.DataFrame(rows)


@pytest.fixture
def make_pool(tmp_path):
    """A pool over hand-made tables: no video, no judge of features."""

    def make(tables: dict[str, pd.DataFrame], long=None, reasons=None, beta=None) -> Pool:
        beta = np.zeros((50, len(EXPRESSIONS)), np.float32) if beta is None else beta
        clips = sorted({clip for part in tables.values() for clip in part["clip"]})
        write_npz(tmp_path / "one.npz", {"beta": beta, "pose": np.zeros((50, 6), np.float32)})
        write_index(
            tmp_path / "fit3dmm.csv", [{"clip": clip, "status": "ok", "reason": "", "file": "one.npz"} for clip in clips], "fit3dmm"
        )
        reads = {"fit3dmm": tmp_path / "fit3dmm.csv", "generate": tmp_path / "generate.csv"}
        crops = {clip: {"clip": clip, "kind": "video", "role": "talk", "identity": clip.split("_")[0]} for clip in clips}
        cfg = SimpleNamespace(bootstrap_resamples=200, distance_resamples=50, interval=0.95, blink_on=0.5, blink_off=0.3)
        judges = SimpleNamespace(
            networks={}, reasons={"features": "no features judge", **(reasons or {})}, hashes={}, domain="clay", metrics={}
        )
        scorer = SimpleNamespace(
            ctx=SimpleNamespace(seed=0, reads=reads), cfg=cfg, judges=judges, crops=crops, real=lambda clip: {}, generated=lambda row: {}
        )
        generated = pd.DataFrame(
            [{"method": method, "clip": clip, "coefficients": "one.npz"} for method, part in tables.items() for clip in part["clip"]]
        )
        return Pool(scorer, tables, long or {}, generated)

    return make


def test_every_cell_has_a_value_or_a_reason(make_pool):
    pool = make_pool({"ground_truth": table(psnr_db=40.0, lse_d=0.5, av_offset_frames=0, av_windows=8, av_windows_within_1=6)})
    row = pool.row("ground_truth")
    assert list(row) == [metric.name for metric in METRICS]
    assert all(cell["value"] is not None or cell["reason"] for cell in row.values())
    assert row["psnr_db"]["value"] == 40.0 and row["psnr_db"]["ci"] == [40.0, 40.0] and row["psnr_db"]["n"] == 18
    assert row["av_within_1_pct"]["value"] == pytest.approx(75.0) and row["av_offset_frames"]["value"] == 0.0
    assert row["fid_expert"] == {"value": None, "ci": None, "n": 0, "reason": "no features judge"}
    assert row["emotion_level_1_pct"]["n"] == 9 and row["emotion_acc_pct"]["value"] == 100.0
    assert row["n_scored"]["value"] == 18 and row["n_expected"]["value"] == 18


def test_failed_clips_are_counted_with_their_reasons(make_pool):
    part = table(ssim=0.9)
    part.loc[:2, ["status", "reason"]] = ["failed", "no sound"]
    row = make_pool({"regression": part}).row("regression")
    assert row["n_scored"] == {"value": 15, "ci": None, "n": 15, "reason": "3 x no sound"}
    assert row["n_expected"]["value"] == 18 and row["ssim"]["n"] == 15


def test_a_corpus_of_one_emotion_leaves_emotion_cells_empty_with_the_reason(make_pool):
    row = make_pool(
        {"ground_truth": table().drop(columns=["emotion_right", "emotion_verdict"])}, reasons={"emotion": "one emotion only"}
    ).row("ground_truth")
    assert row["emotion_acc_pct"] == {"value": None, "ci": None, "n": 0, "reason": "one emotion only"}


def test_a_still_has_no_lips_to_time_and_borrowed_motion_is_not_scored(make_pool):
    pool = make_pool({"copy_source": table(av_offset_frames=3, psnr_db=20.0), "vqig_on_fitted": table(pose_over_time_deg=1.0)})
    assert pool.row("copy_source")["av_offset_frames"]["value"] is None
    assert "fitted" in pool.row("vqig_on_fitted")["pose_over_time_deg"]["reason"]


def test_long_coefficients_decide_blinks_and_diversity(make_pool, tmp_path):
    beta = np.zeros((9, 2, 100, len(EXPRESSIONS)), np.float16)
    lids = [EXPRESSION_INDEX["eyeBlink_L"], EXPRESSION_INDEX["eyeBlink_R"]]
    beta[:, :, 20:24, lids] = 0.9
    beta[:, 1, :, 0] = 0.5
    pose = np.zeros((9, 2, 100, 6), np.float16)
    write_npz(tmp_path / "long.npz", {"beta": beta, "pose": pose, "emotion": np.zeros(9), "clip": np.array([f"{p}_0" for p in PEOPLE])})
    row = make_pool({"flowvqtalker_free": table()}, long={"flowvqtalker_free": tmp_path / "long.npz"}).row("flowvqtalker_free")
    assert row["blinks_per_s"]["value"] == pytest.approx(0.25) and row["blink_duration_s"]["value"] == pytest.approx(0.16)
    assert row["expression_over_seeds"]["value"] == pytest.approx(0.5) and row["pose_over_seeds_deg"]["value"] == 0.0
    assert "min of coefficients" in row["blinks_per_s"]["reason"]


def test_an_empty_long_file_falls_back_to_the_clips(make_pool, tmp_path):
    write_npz(
        tmp_path / "long.npz",
        {"beta": np.zeros((0, 4, 0, 0)), "pose": np.zeros((0, 4, 0, 6)), "emotion": np.zeros(0), "clip": np.zeros(0, "U1")},
    )
    row = make_pool({"flowvqtalker_free": table(blinks=0)}, long={"flowvqtalker_free": tmp_path / "long.npz"}).row("flowvqtalker_free")
    assert row["blinks_per_s"]["value"] == 0.0


def test_emotion_ratio_and_confusion(make_pool):
    pool = make_pool({"ground_truth": table(1.0), "flowvqtalker_paired": pd.concat([table(1.0)[::2], table(0.0)[1::2]])})
    estimate = emotion_ratio(pool, "flowvqtalker_paired")
    assert estimate.value == pytest.approx(0.5) and estimate.n == 18 and estimate.ci == pytest.approx((0.5, 0.5))
    happy, sad = EMOTIONS.index("happy"), EMOTIONS.index("sad")
    confusion = pool.emotions("flowvqtalker_paired").confusion()
    assert confusion[happy, happy] == 9 and confusion[happy, sad] == 9
    assert pool.judges()["emotion_on_ground_truth"]["micro_pct"] == 100.0


def test_moved_frames_are_the_half_that_differs_most(make_pool):
    pool = make_pool({"copy_source": table()})
    still = np.zeros((1, 68, 2), np.float32)

    pool.scorer.generated = lambda row: {"landmarks_px": still}
    pool.scorer.real = lambda clip: {"landmarks_px": still + np.arange(10, dtype=np.float32)[:, None, None]}
    moved = moved_frames(pool)
    assert len(moved) == 18 and all(mask.tolist() == [False] * 5 + [True] * 5 for mask in moved.values())


def test_records_pass_fail_and_skip():
    estimate = Estimate(3.0, (2.0, 4.0), 12, 8)
    assert record("a", estimate, "<= 4", lambda v: v <= 4) == {
        "name": "a",
        "value": 3.0,
        "ci": [2.0, 4.0],
        "n": 12,
        "target": "<= 4",
        "pass": True,
        "reason": "",
    }
    assert record("a", estimate, "<= 2", lambda v: v <= 2)["pass"] is False
    skipped = record("a", None, "<= 4", lambda v: v <= 4, "no truth")
    assert skipped["pass"] is None and skipped["value"] is None and skipped["reason"] == "no truth"


def test_identical_frames_are_named_in_the_cell():
    assert as_cell(Estimate(float("inf"), None, 5, 1, "not finite")) == {
        "value": None,
        "ci": None,
        "n": 5,
        "reason": "identical to the real clip",
    }


def test_declared_blinks_and_lids():
    assert declared_blinks_per_s(["neutral", "fear", ""]) == pytest.approx(
        (2 * DECLARED.blink_rate_hz["neutral"] + DECLARED.blink_rate_hz["fear"]) / 3
    )
    beta = np.zeros((4, len(EXPRESSIONS)))
    beta[:, EXPRESSION_INDEX["eyeBlink_L"]] = 1.0
    np.testing.assert_allclose(blink_closure(beta), 0.5)
    assert blink_closure(np.zeros((4, 64))) is None


def test_fid_noise_names_halves_and_the_smallest_difference(make_pool):
    generator = np.random.default_rng(0)
    pool = make_pool({"ground_truth": table(), "regression": table(), "copy_source": table()})
    assert pool.fid_noise() == {"reason": "no features judge"}
    pool.scorer.judges.networks["features"] = pool.scorer.judges.reasons.pop("features")
    real = {clip: generator.normal(size=(30, 6)) for clip in pool.scorer.crops}
    shift = {"ground_truth": 0.0, "regression": 0.2, "copy_source": 1.5}
    pool.scorer.real = lambda clip: {"features": real[clip]}
    pool.scorer.generated = lambda row: {"features": real[row["clip"]] + shift[row["method"]] + 0.1 * generator.normal(size=(30, 6))}
    rows = {method: pool.row(method) for method in shift}
    noise = pool.fid_noise()
    assert noise["clips"] == 18 and noise["people"] == 9 and noise["rows"] == 3 and noise["reason"] == ""
    assert noise["halves_low"] <= noise["halves_mean"] <= noise["halves_high"]
    gap = rows["copy_source"]["fid_expert"]["value"] - rows["ground_truth"]["fid_expert"]["value"]
    assert 0 < noise["smallest_difference"] < gap


def test_the_judges_own_tests_are_checks_beside_those_on_scored_clips(make_pool, monkeypatch):
    from pipeline.evaluation import checks

    monkeypatch.setattr(checks, "truth_checks", lambda pool: [])
    monkeypatch.setattr(checks, "against_source", lambda pool: None)
    pool = make_pool({"ground_truth": table(), "flowvqtalker_paired": table()})
    pool.scorer.ctx.params = {"corpus": SimpleNamespace(sources=[])}
    pool.scorer.judges.metrics |= {
        "test_emotion_clip_acc_pct": 84.9,
        "test_emotion_clips": 96.0,
        "test_sync_exact_pct": 90.0,
        "test_sync_windows": 766.0,
    }
    found = {check["name"]: check for check in checks.all_checks(pool, {method: pool.row(method) for method in pool.tables})}
    names = list(found)
    assert names.index("emotion_judge_on_all_test_clips_pct") == names.index("emotion_judge_on_truth_pct") + 1
    assert names.index("sync_judge_exact_pct") == names.index("sync_judge_on_truth_within_1_pct") + 1
    assert found["emotion_judge_on_truth_pct"]["target"] == ">= 70" and found["emotion_judge_on_truth_pct"]["pass"]
    assert found["emotion_judge_on_all_test_clips_pct"]["pass"] is False and found["emotion_judge_on_all_test_clips_pct"]["n"] == 96
    assert found["sync_judge_exact_pct"]["pass"] is True


def test_identity_similarity_and_its_own_accuracy(make_pool):
    generator = np.random.default_rng(0)
    pool = make_pool({"ground_truth": table(), "copy_source": table()})
    people = {person: generator.uniform(size=192) for person in PEOPLE}
    faces = {clip: people[clip.split("_")[0]] + 0.01 * generator.normal(size=192) for clip in pool.scorer.crops}
    pool.scorer.real = lambda clip: {"face": faces[clip]}
    other = dict(zip(sorted(faces), sorted(faces)[2:] + sorted(faces)[:2], strict=True))
    pool.scorer.generated = lambda row: {"face": faces[row["clip"] if row["method"] == "ground_truth" else other[row["clip"]]]}
    assert pool.row("ground_truth")["identity_similarity"]["value"] == pytest.approx(1.0)
    swapped = pool.row("copy_source")["identity_similarity"]
    assert swapped["value"] < 0.2 and swapped["n"] == 18 and swapped["ci"] is not None
    assert pool.judges()["identity_auc_on_ground_truth"] == 1.0


def test_long_samples_are_cut_to_the_length_of_real_clips_before_their_intervals_are_compared():
    closure = np.arange(25).reshape(1, 25) / 25
    assert [part.shape[1] for part in windows_of(closure, 10)] == [10, 10]
    assert windows_of(closure[0], 40)[0].shape == (1, 25)


def test_rows_with_a_variant_are_read_like_their_method(make_pool):
    tables = {"ground_truth": table(ssim=1.0), "vqig_on_fitted__no_warp": table(ssim=0.9), "clay_paired__gmm_r1": table(ssim=0.8)}
    pool = make_pool(tables)
    drawn, sampled = pool.row("vqig_on_fitted__no_warp"), pool.row("clay_paired__gmm_r1")
    assert drawn["ssim"]["value"] == pytest.approx(0.9) and drawn["blinks_per_s"]["reason"] == "the motion is that fitted to the real clip"
    assert sampled["pose_over_seeds_deg"]["reason"] == "the pose is that of the real clip, whatever the seed"


def test_samples_are_counted_and_compared_with_the_real_lips(tmp_path):
    rng, jaw = np.random.default_rng(0), EXPRESSION_INDEX["jawOpen"]
    real = np.zeros((50, len(EXPRESSIONS)), np.float32)
    real[:, jaw] = 0.3 + 0.2 * np.sin(np.arange(50) / 3)
    write_npz(tmp_path / "real.npz", {"beta": real})
    beta = np.stack([real, real])
    beta[1, :, jaw] = 0.6 - real[:, jaw]  # opens when the real mouth closes
    for name in ("eyeBlink_L", "eyeBlink_R"):
        beta[0, 10:14, EXPRESSION_INDEX[name]] = beta[0, 30:34, EXPRESSION_INDEX[name]] = beta[1, 20:24, EXPRESSION_INDEX[name]] = 0.9
    pose = rng.normal(0, 0.1, (2, 50, 6)).astype(np.float32)
    scorer = SimpleNamespace(
        cfg=SimpleNamespace(blink_on=0.5, blink_off=0.3),
        ctx=SimpleNamespace(reads={"fit3dmm": tmp_path / "index.csv"}),
        fits={"c": "real.npz"},
    )
    numbers = Scorer.sample_numbers(scorer, beta, pose, "c")
    assert numbers["sampled_blinks"] == 3 and numbers["sampled_seconds"] == 4.0
    assert numbers["sampled_lip_correlation"] == pytest.approx(0.0, abs=1e-4)  # the mean of 1 and -1
    assert numbers["sampled_expression_over_seeds"] > 0.1 and numbers["sampled_pose_over_time_deg"] > 3
    still = Scorer.sample_numbers(scorer, np.stack([real, real]), np.zeros((2, 50, 6), np.float32), "c")
    assert still["sampled_lip_correlation"] == pytest.approx(1.0) and still["sampled_expression_over_seeds"] == 0
    assert still["sampled_pose_over_time_deg"] == still["sampled_pose_over_seeds_deg"] == 0
    other_model = Scorer.sample_numbers(scorer, beta[..., :20], pose, "c")
    assert "sampled_blinks" not in other_model and other_model["sampled_expression_over_time"] > 0
