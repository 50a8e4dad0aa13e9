"""Per-clip scores pooled over the test clips: one estimate with interval, number and reason per column."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flowvqtalker.constants import EMOTIONS, FPS_HZ
from flowvqtalker.metrics.blinks import BlinkStatistics
from flowvqtalker.metrics.bootstrap import MIN_CLUSTERS, TOO_FEW, Estimate, bootstrap_statistic, cluster_bootstrap, draw_counts
from flowvqtalker.metrics.distribution import ClusteredDistances, half_split_fid, smallest_difference
from flowvqtalker.metrics.diversity import expression_distance, expression_over_time, pose_over_seeds_deg, pose_over_time_deg, seed_distance
from flowvqtalker.metrics.emotion import EmotionAccuracy, per_class_accuracy_pct
from flowvqtalker.metrics.identity import identity_similarity, pairwise_auc
from flowvqtalker.metrics.registry import METRICS
from flowvqtalker.seeding import numpy_generator
from pipeline.evaluation.clips import Scorer, blink_closure
from pipeline.io import ok_rows, read_index, read_npz
from pipeline.methods import split_row

#: Columns that are the plain mean over clips of a per-clip column of the same name.
_MEANS = (
    "psnr_db", "psnr_face_db", "ssim", "m_lmd_centred_px", "m_lmd_raw_px", "f_lmd_centred_px", "f_lmd_raw_px", "lse_d", "lse_c", "lip_correlation",
    "cpbd", "mouth_sharpness", "flicker", "flicker_compensated", "faces_found_pct", "beat_alignment", "expression_over_time",
)  # fmt: skip
_SYNC = ("lse_d", "lse_c", "av_offset_frames", "av_within_1_pct")
_EMOTION = ("emotion_acc_pct", "emotion_macro_pct", "emotion_level_1_pct", "emotion_level_2_pct", "emotion_level_3_pct")
_BLINKS = ("blink_duration_s", "blink_interval_s", "blink_complete_pct", "blink_interval_distance_s")
_MOTION = ("blinks_per_s", *_BLINKS, "pose_over_time_deg", "expression_over_time", "beat_alignment")
#: Methods that take over the real clip's coefficients: their motion is not theirs.
_BORROWED = {
    "codebook_ceiling": "the motion is that of the real clip",
    "vqig_on_fitted": "the motion is that fitted to the real clip",
    "clay_on_fitted": "the motion is that fitted to the real clip",
}
_PAIRED_POSE = ("flowvqtalker_paired", "regression", "shuffled_audio", "clay_paired", "clay_shuffled", "clay_regression")


def as_cell(estimate: Estimate) -> dict[str, Any]:
    """An estimate as metrics.json holds it: {value, ci, n, reason}; what is not finite becomes null with a reason."""
    if not math.isfinite(estimate.value):
        reason = "identical to the real clip" if estimate.value == math.inf else (estimate.reason or "no data")
        return {"value": None, "ci": None, "n": estimate.n, "reason": reason}
    return {"value": estimate.value, "ci": list(estimate.ci) if estimate.ci else None, "n": estimate.n, "reason": estimate.reason}


def empty_cell(reason: str) -> dict[str, Any]:
    """A cell without a value, with its reason."""
    return {"value": None, "ci": None, "n": 0, "reason": reason}


def windows_of(closure: np.ndarray, frames: int) -> list[np.ndarray]:
    """(T,) or (N, T) closures as pieces of ``frames`` frames; a rest shorter than that is left out, unless it is all there is."""
    rows = np.atleast_2d(closure)
    starts = range(0, rows.shape[1] - frames + 1, frames)
    return [rows[:, start : start + frames] for start in starts] or [rows]


class Pool:
    """Per-clip tables of all methods and what is computed from them.

    Args:
        scorer: Scorer of the run.
        tables: Per-clip table by method.
        long: Paths of long coefficient files by method.
    """

    def __init__(self, scorer: Scorer, tables: Mapping[str, pd.DataFrame], long: Mapping[str, Path], generated: pd.DataFrame) -> None:
        self.scorer, self.cfg, self.tables, self.long = scorer, scorer.cfg, dict(tables), dict(long)
        self.rows = {(row["method"], row["clip"]): row for row in generated.to_dict("records")}
        self.fits = {row["clip"]: row["file"] for row in ok_rows(read_index(scorer.ctx.reads["fit3dmm"], "fit3dmm")).to_dict("records")}
        self._clusters: dict[str, ClusteredDistances] = {}
        self.n_expected = len({row["clip"] for row in self.rows.values()})

    def generator(self, *parts: str) -> np.random.Generator:
        """Draws of one interval."""
        return numpy_generator(self.scorer.ctx.seed, "bootstrap", *parts)

    def ok(self, method: str) -> pd.DataFrame:
        """Scored clips of a method, by clip."""
        table = self.tables.get(method, pd.DataFrame(columns=["clip", "status"]))
        return table[table["status"] == "ok"].sort_values("clip").reset_index(drop=True)

    def mean(self, table: pd.DataFrame, column: str, *names: str, weights: str = "", scale: float = 1.0) -> Estimate:
        """Mean over clips of a per-clip column, clustered by identity."""
        if column not in table or table.empty:
            return Estimate(float("nan"), None, 0, 0, "no data")
        weight = pd.to_numeric(table[weights]).fillna(0).to_numpy() if weights else None
        values = scale * pd.to_numeric(table[column]).to_numpy(dtype=float)
        return cluster_bootstrap(
            values, list(table["identity"]), self.generator(column, *names), weight, self.cfg.bootstrap_resamples, self.cfg.interval
        )

    def median(self, table: pd.DataFrame, column: str, *names: str) -> Estimate:
        """Median over clips, clustered by identity."""
        table = table[pd.to_numeric(table[column]).notna()] if column in table else table.iloc[:0]
        if table.empty:
            return Estimate(float("nan"), None, 0, 0, "no data")
        groups = [group[column].to_numpy(dtype=float) for _, group in table.groupby("identity", sort=True)]

        def statistic(counts: np.ndarray) -> np.ndarray:
            return np.array(
                [np.median(np.concatenate([np.tile(group, int(k)) for group, k in zip(groups, row, strict=True) if k])) for row in counts]
            )

        return bootstrap_statistic(
            statistic, len(groups), len(table), self.generator(column, *names), self.cfg.bootstrap_resamples, self.cfg.interval
        )

    def row(self, method: str) -> dict[str, dict[str, Any]]:
        """All cells of one row of the result table."""
        table = self.ok(method)
        cells: dict[str, dict[str, Any]] = {name: as_cell(self.mean(table, name, method)) for name in _MEANS}
        cells |= {"av_offset_frames": as_cell(self.median(table, "av_offset_frames", method))}
        if "av_windows" in table:
            share = table.assign(share=100.0 * table["av_windows_within_1"] / table["av_windows"].where(table["av_windows"] > 0))
            cells["av_within_1_pct"] = as_cell(self.mean(share, "share", method, weights="av_windows"))
        cells |= self._emotion(method, table) | self._distances(method, table) | self._motion(method, table) | self._identity(method, table)
        cells["n_scored"] = {"value": len(table), "ci": None, "n": len(table), "reason": self._missing(method)}
        cells["n_expected"] = {"value": self.n_expected, "ci": None, "n": self.n_expected, "reason": ""}
        for name, reason in self._meaningless(method).items():
            cells[name] = empty_cell(reason)
        return {metric.name: cells.get(metric.name, empty_cell("no data")) for metric in METRICS}

    def _missing(self, method: str) -> str:
        table = self.tables.get(method, pd.DataFrame(columns=["clip", "status", "reason"]))
        reasons = table[table["status"] != "ok"]["reason"].value_counts()
        return "; ".join(f"{count} x {reason}" for reason, count in reasons.items())

    def _meaningless(self, row: str) -> dict[str, str]:
        method = split_row(row)[0]
        reasons = self.scorer.judges.reasons
        cells: dict[str, str] = {}
        if "syncnet" in reasons:
            cells |= dict.fromkeys(_SYNC, reasons["syncnet"])
        if "emotion" in reasons:
            cells |= dict.fromkeys(_EMOTION, reasons["emotion"])
        if "features" in reasons:
            cells |= dict.fromkeys(("fid_expert", "kid_expert"), reasons["features"])
        if method == "ground_truth":
            cells["blink_interval_distance_s"] = "these are the real clips themselves"
        if method == "copy_source":
            cells |= dict.fromkeys(("av_offset_frames", "av_within_1_pct", "lip_correlation"), "a still picture has no lip motion to time")
            cells |= dict.fromkeys(
                (*_BLINKS, "beat_alignment", "pose_over_seeds_deg", "expression_over_seeds"),
                "a still picture does not move",
            )
        if method in _BORROWED:
            cells |= dict.fromkeys((*_MOTION, "pose_over_seeds_deg", "expression_over_seeds"), _BORROWED[method])
        elif method in _PAIRED_POSE:
            cells["pose_over_seeds_deg"] = "the pose is that of the real clip, whatever the seed"
        return cells

    def _emotion(self, method: str, table: pd.DataFrame) -> dict[str, dict[str, Any]]:
        if "emotion_right" not in table:
            return {}
        known = table[table["emotion_right"].notna()]
        cells = {"emotion_acc_pct": as_cell(self.mean(known, "emotion_right", method, scale=100.0))}
        cells["emotion_macro_pct"] = as_cell(
            Estimate(self.emotions(method).macro_pct(), None, len(known), known["identity"].nunique(), "no interval for a macro mean")
        )
        for level in (1, 2, 3):
            part = known[pd.to_numeric(known["level"]) == level]
            cells[f"emotion_level_{level}_pct"] = as_cell(self.mean(part, "emotion_right", method, str(level), scale=100.0))
        return cells

    def emotions(self, method: str) -> EmotionAccuracy:
        """Verdicts on a method's clips."""
        result, table = EmotionAccuracy(len(EMOTIONS)), self.ok(method)
        known = table[table["emotion_right"].notna()] if "emotion_right" in table else table.iloc[:0]
        if len(known):
            truth, verdict = (np.array([EMOTIONS.index(str(name)) for name in known[column]]) for column in ("emotion", "emotion_verdict"))
            result.update(truth, verdict, pd.to_numeric(known["level"]).fillna(-1).astype(int).to_numpy())
        return result

    def _distances(self, method: str, table: pd.DataFrame) -> dict[str, dict[str, Any]]:
        if table.empty or "features" not in self.scorer.judges.networks:
            return {}
        pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for row in table.to_dict("records"):
            generated = self.scorer.generated(self.rows[method, row["clip"]])["features"]
            real = self.scorer.real(row["clip"])["features"]
            count = min(len(generated), len(real))
            pairs.setdefault(row["identity"], []).append((generated[:count], real[:count]))
        sides = [[np.concatenate([pair[side] for pair in pairs[name]]) for name in sorted(pairs)] for side in (0, 1)]
        clusters = self._clusters[method] = ClusteredDistances(*sides)
        cells = {}
        for name, function in (("fid_expert", clusters.fid), ("kid_expert", clusters.kid)):
            estimate = bootstrap_statistic(
                lambda counts, function=function: np.array([function(row) for row in counts]), len(pairs), len(table), self.generator(name, method),
                self.cfg.distance_resamples, self.cfg.interval,
            )  # fmt: skip
            cells[name] = as_cell(estimate)
        return cells

    @cached_property
    def faces(self) -> dict[str, np.ndarray]:
        """(192,) mean face of each real test clip in which one was found."""
        clips = sorted({row["clip"] for row in self.rows.values() if row["clip"] in self.scorer.crops})
        return {clip: real["face"] for clip in clips if "face" in (real := self.scorer.real(clip))}

    @property
    def face_centre(self) -> np.ndarray:
        """(192,) mean of :attr:`faces`."""
        return np.mean(list(self.faces.values()), axis=0)

    def _identity(self, method: str, table: pd.DataFrame) -> dict[str, dict[str, Any]]:
        if table.empty or not self.faces:
            return {}
        rows = []
        for row in table.to_dict("records"):
            face = self.scorer.generated(self.rows[method, row["clip"]]).get("face")
            if face is not None and row["clip"] in self.faces:
                rows.append({"identity": row["identity"], "v": identity_similarity(face, self.faces[row["clip"]], self.face_centre)})
        return {"identity_similarity": as_cell(self.mean(pd.DataFrame(rows, columns=["identity", "v"]), "v", method, "identity"))}

    def identity_auc(self) -> float | None:
        """How well mean faces tell the real test people apart; None when there are no pairs."""
        if len(self.faces) < 2:
            return None
        people = np.array([self.scorer.crops[clip]["identity"] for clip in self.faces])
        value = pairwise_auc(np.stack(list(self.faces.values())), people, self.face_centre)
        return value if math.isfinite(value) else None

    def fid_noise(self) -> dict[str, Any]:
        """What FID is between two halves of the real test clips of the same people, and the smallest difference that the table can tell."""
        if "features" not in self.scorer.judges.networks:
            return {"reason": self.scorer.judges.reasons.get("features", "no features")}
        clips = sorted({row["clip"] for row in self.rows.values() if row["clip"] in self.scorer.crops})
        units = [self.scorer.real(clip)["features"] for clip in clips]
        people: list[object] = [self.scorer.crops[clip]["identity"] for clip in clips]
        halves = half_split_fid(units, people, self.generator("fid halves"))
        complete = [clusters for clusters in self._clusters.values() if clusters.n_clusters == len(set(people))]
        told, reason = float("nan"), "fewer than two rows with every person"
        if len(set(people)) < MIN_CLUSTERS:
            reason = TOO_FEW
        elif len(complete) > 1:
            counts = draw_counts(len(set(people)), self.cfg.distance_resamples, self.generator("fid differences"))
            told, reason = smallest_difference(np.array([[one.fid(row) for row in counts] for one in complete]), self.cfg.interval), ""
        low, high = np.quantile(halves, [0.025, 0.975]) if halves.size else (float("nan"), float("nan"))
        values = {"halves_mean": float(halves.mean()) if halves.size else float("nan"), "halves_low": low, "halves_high": high}
        values["smallest_difference"] = told
        finite = {name: float(value) if math.isfinite(value) else None for name, value in values.items()}
        return {**finite, "clips": len(clips), "people": len(set(people)), "rows": len(complete), "reason": reason}

    def real_motion(self, clip: str) -> dict[str, np.ndarray]:
        """Coefficients (beta, pose) fitted to a real clip."""
        return read_npz(self.scorer.ctx.reads["fit3dmm"].parent / self.fits[clip])

    def motion(self, method: str, clip: str) -> dict[str, np.ndarray]:
        """Coefficients (beta, pose) of one generated clip."""
        return read_npz(self.scorer.ctx.reads["generate"].parent / self.rows[method, clip]["coefficients"])

    def _motion(self, method: str, table: pd.DataFrame) -> dict[str, dict[str, Any]]:
        cells: dict[str, dict[str, Any]] = {}
        if method in self.long:
            cells = self._long(method)
            if cells:
                return cells
        if method == "ground_truth":
            cells |= self._real_blinks()
        elif "blinks" in table and table["blinks"].notna().any():
            known = [(row["identity"], blink_closure(self.motion(method, row["clip"])["beta"])) for row in table.to_dict("records")]
            cells |= self._blinks(method, [name for name, _ in known], [closure for _, closure in known if closure is not None])
        cells["pose_over_time_deg"] = as_cell(self.mean(table, "pose_over_time_deg", method))
        if method == "other_take":
            pairs = [
                (row, self.motion(method, row["clip"]), self.real_motion(row["clip"]))
                for row in table.to_dict("records")
                if row["clip"] in self.fits
            ]
            cells["expression_over_seeds"] = as_cell(self.mean(pd.DataFrame(
                [{"identity": row["identity"], "d": expression_distance(a["beta"], b["beta"])} for row, a, b in pairs], columns=["identity", "d"]), "d", "takes"))  # fmt: skip
            spread = []
            for row, a, b in pairs:
                count = min(len(a["pose"]), len(b["pose"]))
                spread.append(
                    {"identity": row["identity"], "d": float(pose_over_seeds_deg(np.stack([a["pose"][:count], b["pose"][:count]])))}
                )
            cells["pose_over_seeds_deg"] = as_cell(self.mean(pd.DataFrame(spread, columns=["identity", "d"]), "d", "takes-pose"))
        else:
            for name in ("pose_over_seeds_deg", "expression_over_seeds"):
                cells[name] = empty_cell("one sample a clip; see the row with long samples")
        return cells

    def _blinks(self, method: str, clusters: list[str], closures: list[np.ndarray]) -> dict[str, dict[str, Any]]:
        """Blink statistics of items ((T,) or (N, T) closures each) that belong to clusters."""
        pooled, rows, intervals = BlinkStatistics(FPS_HZ, self.cfg.blink_on, self.cfg.blink_off), [], 0
        for name, closure in zip(clusters, closures, strict=True):
            one = BlinkStatistics(FPS_HZ, self.cfg.blink_on, self.cfg.blink_off)
            one.update(closure)
            pooled.merge(one)
            intervals += len(one.intervals_s)
            rows.append({"identity": name, "rate": one.compute(), "seconds": one.seconds})
        duration = Estimate(pooled.mean_duration_s(), None, pooled.count, len(set(clusters)), "" if pooled.count else "no blink")
        interval = Estimate(pooled.median_interval_s(), None, intervals, len(set(clusters)), "" if intervals else "no two blinks in a row")
        people, no_blink = len(set(clusters)), "" if pooled.count else "no blink"
        complete = Estimate(pooled.completeness_pct(), None, pooled.count, people, no_blink)
        cut = BlinkStatistics(FPS_HZ, self.cfg.blink_on, self.cfg.blink_off)
        for closure in closures:
            for part in windows_of(closure, self.real_blink_frames):
                cut.update(part)
        apart = Estimate(
            cut.interval_distance_s(self.real_blinks),
            None,
            len(cut.intervals_s),
            people,
            "" if cut.intervals_s else "no two blinks in a row",
        )
        return {
            "blinks_per_s": as_cell(self.mean(pd.DataFrame(rows), "rate", method, "blinks", weights="seconds")),
            "blink_duration_s": as_cell(duration),
            "blink_interval_s": as_cell(interval),
            "blink_complete_pct": as_cell(complete),
            "blink_interval_distance_s": as_cell(apart),
        }

    @cached_property
    def real_blinks(self) -> BlinkStatistics:
        """Blinks of all real talking clips."""
        pooled = BlinkStatistics(FPS_HZ, self.cfg.blink_on, self.cfg.blink_off)
        for _, closure in self._real_closures():
            pooled.update(closure)
        return pooled

    @cached_property
    def real_blink_frames(self) -> int:
        """Median length of the real talking clips [frames]: long samples are cut to it, since a clip can only hold intervals shorter than itself."""
        return int(np.median([closure.size for _, closure in self._real_closures()] or [1]))

    def _real_closures(self) -> list[tuple[str, np.ndarray]]:
        talking = [
            crop
            for crop in self.scorer.crops.values()
            if crop["kind"] == "video" and crop.get("role") == "talk" and crop["clip"] in self.fits
        ]
        closures = [(crop["identity"], blink_closure(self.real_motion(crop["clip"])["beta"])) for crop in talking]
        return [(name, closure) for name, closure in closures if closure is not None]

    def _real_blinks(self) -> dict[str, dict[str, Any]]:
        """Blinks of all real talking clips of every split: a few minutes of test clips alone hold too few."""
        known = self._real_closures()
        if not known:
            return {}
        cells = self._blinks("ground_truth", [name for name, _ in known], [closure for _, closure in known])
        minutes = sum(closure.size for _, closure in known) / FPS_HZ / 60.0
        return {name: self._noted(cell, f"on {minutes:.0f} min of fitted real clips of all splits") for name, cell in cells.items()}

    @staticmethod
    def _noted(cell: dict[str, Any], note: str) -> dict[str, Any]:
        return {**cell, "reason": f"{cell['reason']}; {note}" if cell["reason"] else note}

    def _long(self, method: str) -> dict[str, dict[str, Any]]:
        """Motion statistics of a sampled method on its long coefficients, clustered by the clip whose sound drives them."""
        arrays = read_npz(self.long[method])
        beta, pose = arrays["beta"].astype(np.float32), arrays["pose"].astype(np.float32)
        if not beta.size:
            return {}
        names = [str(name) for name in arrays["clip"]]
        clusters = [self.scorer.crops.get(name, {}).get("identity", name) for name in names]
        minutes = beta.shape[0] * beta.shape[1] * beta.shape[2] / FPS_HZ / 60.0
        table = pd.DataFrame({"identity": clusters, "seconds": beta.shape[1] * beta.shape[2] / FPS_HZ})
        closure = blink_closure(beta)
        cells = self._blinks(method, clusters, list(closure)) if closure is not None else {}
        cells["pose_over_time_deg"] = as_cell(self.mean(table.assign(v=pose_over_time_deg(pose).mean(axis=1)), "v", method, "time"))
        moved = expression_over_time(beta).mean(axis=1)
        cells["expression_over_time"] = as_cell(self.mean(table.assign(v=moved), "v", method, "expression time"))
        if beta.shape[1] > 1:
            cells["pose_over_seeds_deg"] = as_cell(self.mean(table.assign(v=pose_over_seeds_deg(pose)), "v", method, "seeds"))
            cells["expression_over_seeds"] = as_cell(
                self.mean(table.assign(v=[seed_distance(row) for row in beta]), "v", method, "expression")
            )
        return {name: self._noted(cell, f"on {minutes:.0f} min of coefficients") for name, cell in cells.items()}

    def judges(self) -> dict[str, Any]:
        """What the judges are and how good they are on real test clips."""
        judges = self.scorer.judges
        real = self.emotions("ground_truth")
        confusion = real.confusion()
        known = confusion.sum() > 0
        per_emotion = {
            name: None if math.isnan(value) else value for name, value in zip(EMOTIONS, per_class_accuracy_pct(confusion), strict=True)
        }
        return {
            "domain": judges.domain,
            "sha256": judges.hashes,
            "missing": judges.reasons,
            "own_test": judges.metrics,
            "identity_auc_on_ground_truth": self.identity_auc(),
            "emotion_on_ground_truth": {
                "micro_pct": real.compute() if known else None, "macro_pct": real.macro_pct() if known else None, "per_emotion_pct": per_emotion,
                "per_level_pct": {str(level): value for level, value in real.per_level_pct().items()}, "labels": list(EMOTIONS), "confusion": confusion,
            },
            "emotion_confusion": {method: self.emotions(method).confusion() for method in sorted(self.tables)} if "emotion" in judges.networks else {},
        }  # fmt: skip
