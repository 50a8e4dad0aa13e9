"""Targets that this implementation sets itself, each measured on the test identities: value, interval, number, target, pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from flowvqtalker.constants import EMOTIONS, FPS_HZ
from flowvqtalker.face.expressions import EXPRESSION_INDEX
from flowvqtalker.fit.agreement import correlation, rotation_error_deg
from flowvqtalker.fit.solver import fit_pose
from flowvqtalker.landmarks.boxes import to_crop
from flowvqtalker.metrics.bootstrap import Estimate, bootstrap_statistic
from flowvqtalker.motion.distributions import DECLARED
from pipeline.evaluation.aims import AIMS, Aim
from pipeline.evaluation.pooled import Pool
from pipeline.io import ok_rows, read_index, read_npz

NO_TRUTH = "the corpus has no truth beside its clips"


def record(name: str, estimate: Estimate | None, target: str, passed: Callable[[float], bool] | None, reason: str = "") -> dict[str, Any]:
    """One check. Without an estimate it is skipped: value and pass are null and the reason says why."""
    if estimate is None or not np.isfinite(estimate.value):
        return {
            "name": name,
            "value": None,
            "ci": None,
            "n": 0,
            "target": target,
            "pass": None,
            "reason": reason or (estimate.reason if estimate else "no data"),
        }
    verdict = None if passed is None else bool(passed(estimate.value))
    ci = list(estimate.ci) if estimate.ci else None
    return {
        "name": name,
        "value": estimate.value,
        "ci": ci,
        "n": estimate.n,
        "target": target,
        "pass": verdict,
        "reason": reason or estimate.reason,
    }


def cell_estimate(cell: dict[str, Any]) -> Estimate | None:
    """A cell of the result table as an estimate; None when it is empty."""
    return (
        None if cell["value"] is None else Estimate(cell["value"], tuple(cell["ci"]) if cell["ci"] else None, cell["n"], 0, cell["reason"])
    )


def aim_check(aim: Aim, own_test: Mapping[str, float], missing: Mapping[str, str]) -> dict[str, Any]:
    """A judge's own test, which the stage `experts` made on all real test clips, against what it should reach.

    Args:
        aim: number and target.
        own_test: the experts' metrics.json.
        missing: why a kind of judge is absent.
    """
    value, target = own_test.get(aim.value), f">= {aim.least:g}"
    if aim.kind in missing or value is None:
        return record(aim.check, None, target, None, missing.get(aim.kind, f"the judges' own test has no '{aim.value}'"))
    estimate = Estimate(
        float(value), None, int(own_test.get(aim.count, 0)), 0, f"the judge's own test, n counts {aim.of}; it keeps no interval"
    )
    return record(aim.check, estimate, target, lambda reached: reached >= aim.least)


class Truth:
    """Truth of the test crops, where the corpus knows it, in the crops' own frame.

    Args:
        pool: Pooled scores.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool, ctx = pool, pool.scorer.ctx
        self.folder = ctx.reads["corpus"].parent
        self.files = {
            row["clip"]: row["truth"] for row in ok_rows(read_index(ctx.reads["corpus"], "corpus")).to_dict("records") if row["truth"]
        }
        self.fits = {row["clip"]: row["file"] for row in ok_rows(read_index(ctx.reads["fit3dmm"], "fit3dmm")).to_dict("records")}
        self.clips = [crop for crop in pool.scorer.crops.values() if self._is_test(crop)]

    def _is_test(self, crop: dict[str, Any]) -> bool:
        return crop["split"] == "test" and crop["kind"] == "video" and crop["source_clip"] in self.files and crop["clip"] in self.fits

    def __bool__(self) -> bool:
        return bool(self.clips)

    def clip(self, crop: dict[str, Any]) -> dict[str, np.ndarray]:
        """Detected and true landmarks (crop px), fitted and true beta and pose (crop camera) of one crop, cut to the common length."""
        ctx = self.pool.scorer.ctx
        truth = read_npz(self.folder / self.files[crop["source_clip"]])
        found = read_npz(ctx.reads["crop"].parent / crop["landmarks"])
        fitted = read_npz(ctx.reads["fit3dmm"].parent / self.fits[crop["clip"]])
        first = int(crop["start_frame"]) if crop["start_frame"] == crop["start_frame"] else 0
        count = min(len(found["landmarks_px"]), len(truth["landmarks_px"]) - first, len(fitted["beta"]))
        part = slice(first, first + count)
        points = to_crop(truth["landmarks_px"][part], found["box"], int(crop["size_px"]))
        return {
            "found_px": found["landmarks_px"][:count], "true_px": points, "fitted_beta": fitted["beta"][:count], "true_beta": truth["beta"][part],
            "fitted_pose": fitted["pose"][:count], "true_alpha": truth["alpha"],
        }  # fmt: skip


def truth_checks(pool: Pool) -> list[dict[str, Any]]:
    """Landmarks, expression and pose against the corpus' truth."""
    truth = Truth(pool)
    targets = {
        "landmark_error_pct": ("<= 4", lambda v: v <= 4), "fitted_jaw_open_correlation": (">= 0.90", lambda v: v >= 0.9),
        "fitted_blink_correlation": (">= 0.80", lambda v: v >= 0.8), "fitted_head_rotation_error_deg": ("<= 3", lambda v: v <= 3),
    }  # fmt: skip
    if not truth:
        return [record(name, None, target, None, NO_TRUTH) for name, (target, _) in targets.items()]
    from flowvqtalker.face.camera import crop_camera
    from flowvqtalker.fit.basis import basis_of
    from pipeline.facemodel import load_face_model

    fit = pool.scorer.ctx.params["fit3dmm"]
    same_model = fit.model == "clay"  # the embedded corpus is rendered with clay
    basis = basis_of(load_face_model(fit.model, fit.asset)) if same_model else None
    errors, turns, jaws, blinks = [], [], {}, {}
    for crop in truth.clips:
        data = truth.clip(crop)
        outer = np.linalg.norm(data["true_px"][:, 36] - data["true_px"][:, 45], axis=1)
        error = 100.0 * np.linalg.norm(data["found_px"] - data["true_px"], axis=2).mean(axis=1) / outer
        errors.append({"identity": crop["identity"], "v": float(np.nanmean(error)) if not np.isnan(error).all() else float("nan")})
        if basis is None:
            continue
        for store, names in ((jaws, ("jawOpen",)), (blinks, ("eyeBlink_L", "eyeBlink_R"))):
            columns = [EXPRESSION_INDEX[name] for name in names]
            store.setdefault(crop["identity"], []).append(
                (data["fitted_beta"][:, columns].mean(axis=1), data["true_beta"][:, columns].mean(axis=1))
            )
        head = true_pose(basis, data, crop_camera(int(crop["size_px"])))
        turns.append({"identity": crop["identity"], "v": float(np.nanmean(rotation_error_deg(data["fitted_pose"], head)))})
    results = {"landmark_error_pct": pool.mean(pd.DataFrame(errors), "v", "landmark error")}
    if basis is not None:
        results["fitted_head_rotation_error_deg"] = pool.mean(pd.DataFrame(turns), "v", "rotation")
        for name, store in (("fitted_jaw_open_correlation", jaws), ("fitted_blink_correlation", blinks)):
            # Clips of a person are joined: a clip without a blink has no correlation of its own.
            rows = [
                {"identity": person, "v": correlation(*(np.concatenate(side) for side in zip(*pairs, strict=True)))}
                for person, pairs in store.items()
            ]
            results[name] = pool.mean(pd.DataFrame(rows), "v", name)
    note = "" if same_model else f"the fitted model '{fit.model}' is not the one that rendered the corpus"
    return [record(name, results.get(name), target, passed, "" if name in results else note) for name, (target, passed) in targets.items()]


def true_pose(basis: Any, data: dict[str, np.ndarray], camera: Any) -> np.ndarray:
    """(T, 6) true pose expressed in the crop camera: the pose that projects the true points of the head to their true places in the crop."""
    import torch

    alpha, beta = torch.as_tensor(data["true_alpha"], dtype=torch.float64), torch.as_tensor(data["true_beta"], dtype=torch.float64)
    # Points that lie on the bone only by name: the jaw line (0-16) slides along the cheek, so it is left out.
    points = basis.points(alpha, beta)[:, 17:].numpy()
    return fit_pose(points, data["true_px"][:, 17:].astype(np.float64), camera)


def moved_frames(pool: Pool) -> dict[str, np.ndarray]:
    """Frames whose true face differs from the source picture: the half of all test frames with the largest landmark distance to the still of ``copy_source``."""
    distances = {}
    for clip in pool.ok("copy_source")["clip"]:
        still = pool.scorer.generated(pool.rows["copy_source", clip])["landmarks_px"][:1]
        real = pool.scorer.real(clip)["landmarks_px"]
        distances[clip] = np.linalg.norm(real - still, axis=2).mean(axis=1)
    every = np.concatenate(list(distances.values())) if distances else np.zeros(0)
    if not every.size or np.isnan(every).all():
        return {}
    middle = np.nanmedian(every)
    return {clip: values > middle for clip, values in distances.items()}


def against_source(pool: Pool) -> Estimate | None:
    """PSNR of ``vqig_on_fitted`` minus that of ``copy_source`` on the frames of :func:`moved_frames` [dB], clip by clip."""
    moved, rows = moved_frames(pool), []
    for row in pool.ok("vqig_on_fitted").to_dict("records"):
        if row["clip"] not in moved:
            continue
        sides = [pool.scorer.compare(pool.rows[method, row["clip"]])["psnr_db"] for method in ("vqig_on_fitted", "copy_source")]
        count = min(len(sides[0]), len(sides[1]), len(moved[row["clip"]]))
        chosen = moved[row["clip"]][:count]
        if chosen.any():
            rows.append(
                {"identity": row["identity"], "v": float((sides[0][:count] - sides[1][:count])[chosen].mean()), "w": int(chosen.sum())}
            )
    return pool.mean(pd.DataFrame(rows), "v", "moved", weights="w") if rows else None


def emotion_ratio(pool: Pool, method: str) -> Estimate | None:
    """The judge's accuracy on a method over its accuracy on real clips."""
    sides = []
    for name in (method, "ground_truth"):
        table = pool.ok(name)
        if "emotion_right" not in table or table["emotion_right"].notna().sum() == 0:
            return None
        sides.append(table[table["emotion_right"].notna()])
    names = sorted(set(sides[0]["identity"]) & set(sides[1]["identity"]))
    sums = [[side[side["identity"] == name]["emotion_right"] for name in names] for side in sides]
    top, bottom = (np.array([part.sum() for part in side]) for side in sums)
    n_top, n_bottom = (np.array([len(part) for part in side]) for side in sums)

    def statistic(counts: np.ndarray) -> np.ndarray:
        real = (counts @ bottom) / (counts @ n_bottom)
        return (counts @ top) / (counts @ n_top) / np.where(real > 0, real, np.nan)

    return bootstrap_statistic(
        statistic, len(names), int(n_top.sum()), pool.generator("emotion ratio", method), pool.cfg.bootstrap_resamples, pool.cfg.interval
    )


def declared_blinks_per_s(emotions: list[str]) -> float:
    """Rate that the corpus declares for a mixture of emotions [1/s]; unlabelled counts as neutral."""
    return float(np.mean([DECLARED.blink_rate_hz[emotion or "neutral"] for emotion in emotions]))


def _emotions_of_long(pool: Pool) -> list[str]:
    arrays = read_npz(pool.long["flowvqtalker_free"])
    return [EMOTIONS[int(label)] if int(label) >= 0 else "" for label in np.atleast_1d(arrays["emotion"])]


def all_checks(pool: Pool, methods: dict[str, dict[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Every check, in the order of the issue."""
    synthetic = any(source.adapter == "synthetic" for source in pool.scorer.ctx.params["corpus"].sources)
    checks = truth_checks(pool)

    def cell(method: str, column: str) -> Estimate | None:
        return cell_estimate(methods[method][column]) if method in methods else None

    def why(method: str, column: str) -> str:
        return methods[method][column]["reason"] if method in methods else f"no row {method}"

    def simple(name: str, method: str, column: str, target: str, passed: Callable[[float], bool] | None) -> None:
        estimate = cell(method, column)
        checks.append(record(name, estimate, target, passed, "" if estimate else why(method, column)))

    simple("codebook_ceiling_psnr_db", "codebook_ceiling", "psnr_db", ">= 25", lambda v: v >= 25)
    simple("codebook_ceiling_psnr_face_db", "codebook_ceiling", "psnr_face_db", "printed", None)
    checks.append(record("vqig_above_copy_source_on_moved_frames_db", against_source(pool), "> 0", lambda v: v > 0))
    simple("emotion_judge_on_truth_pct", "ground_truth", "emotion_acc_pct", ">= 70", lambda v: v >= 70)
    own_tests = {aim.kind: aim_check(aim, pool.scorer.judges.metrics, pool.scorer.judges.reasons) for aim in AIMS}
    checks.append(own_tests["emotion"])
    levels = [cell("ground_truth", f"emotion_level_{level}_pct") for level in (1, 3)]
    harder = Estimate(levels[1].value - levels[0].value, None, levels[0].n + levels[1].n, 0) if levels[0] and levels[1] else None
    checks.append(
        record(
            "emotion_level_3_minus_level_1_pct",
            harder,
            "> 0",
            lambda v: v > 0,
            "" if harder else why("ground_truth", "emotion_level_1_pct"),
        )
    )
    ratio = emotion_ratio(pool, "flowvqtalker_paired")
    checks.append(
        record(
            "emotion_flowvqtalker_over_judge",
            ratio,
            ">= 0.7",
            lambda v: v >= 0.7,
            "" if ratio else why("flowvqtalker_paired", "emotion_acc_pct"),
        )
    )
    simple("sync_judge_on_truth_within_1_pct", "ground_truth", "av_within_1_pct", ">= 97", lambda v: v >= 97)
    checks.append(own_tests["syncnet"])
    ours, other = cell("flowvqtalker_paired", "lse_d"), cell("shuffled_audio", "lse_d")
    limit = other.ci[0] if other and other.ci else None
    separate = bool(ours and ours.ci and limit is not None and ours.ci[1] < limit)
    target = (
        f"interval below that of shuffled_audio ({limit:.3g} to {other.ci[1]:.3g})"
        if other and other.ci and limit is not None
        else "interval below that of shuffled_audio"
    )
    both = ours is not None and other is not None
    checks.append(
        record(
            "lse_d_flowvqtalker_below_shuffled_audio",
            ours if both else None,
            target,
            lambda _: separate,
            "" if both else why("flowvqtalker_paired", "lse_d"),
        )
    )
    simple("av_offset_flowvqtalker_frames", "flowvqtalker_paired", "av_offset_frames", "within 1 of 0", lambda v: abs(v) <= 1)
    blinks = cell("flowvqtalker_free", "blinks_per_s")
    if blinks and synthetic and "flowvqtalker_free" in pool.long:
        declared = declared_blinks_per_s(_emotions_of_long(pool))
        ci = (blinks.ci[0] / declared, blinks.ci[1] / declared) if blinks.ci else None
        share = Estimate(
            blinks.value / declared, ci, blinks.n, 0, f"{blinks.value:.3g}/s generated, {declared:.3g}/s declared; {blinks.reason}"
        )
        checks.append(record("blinks_generated_over_declared", share, "0.6 to 1.4", lambda v: 0.6 <= v <= 1.4))
    else:
        reason = "no rate is declared for real video" if not synthetic else why("flowvqtalker_free", "blinks_per_s")
        checks.append(record("blinks_generated_over_declared", None, "0.6 to 1.4", None, reason))
    seeds, takes = cell("flowvqtalker_free", "expression_over_seeds"), cell("other_take", "expression_over_seeds")
    if seeds and takes:
        distance = Estimate(
            seeds.value / takes.value, None, seeds.n, 0, f"{seeds.value:.3g} between seeds, {takes.value:.3g} between takes"
        )
        checks.append(record("seed_distance_over_take_distance", distance, ">= 0.5", lambda v: v >= 0.5))
    else:
        checks.append(
            record(
                "seed_distance_over_take_distance",
                None,
                ">= 0.5",
                None,
                why("other_take", "expression_over_seeds") if seeds else why("flowvqtalker_free", "expression_over_seeds"),
            )
        )
    return checks


def seconds_of(arrays: dict[str, np.ndarray]) -> float:
    """Seconds of motion in a long file."""
    return float(np.prod(arrays["beta"].shape[:3])) / FPS_HZ
