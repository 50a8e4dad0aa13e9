"""Scores of someone else's videos pooled: values with intervals and coverage, paired differences against a baseline, the page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from flowvqtalker.constants import EMOTIONS, FPS_HZ
from flowvqtalker.metrics.blinks import BlinkStatistics, closure_from_landmarks
from flowvqtalker.metrics.bootstrap import Estimate, bootstrap_statistic, cluster_bootstrap, over_seeds, paired_difference, verdict
from flowvqtalker.metrics.distribution import ClusteredDistances, half_split_fid
from flowvqtalker.metrics.emotion import EmotionAccuracy, per_class_accuracy_pct
from flowvqtalker.metrics.identity import identity_similarity, pairwise_auc
from flowvqtalker.metrics.registry import BY_NAME, METRICS
from flowvqtalker.seeding import numpy_generator
from pipeline.evaluation.videos import OK, VideoScorer
from pipeline.reporting.judges import own_accuracy

#: Columns of the per-clip table that are pooled as means over clips, with what they need.
SYNC = ("lse_d", "lse_c", "av_offset_frames", "av_within_1_pct")
LANDMARKS = (
    "psnr_face_db", "m_lmd_centred_px", "m_lmd_raw_px", "f_lmd_centred_px", "f_lmd_raw_px", "lip_correlation", "mouth_sharpness", "identity_similarity",
    "blinks_per_s", "blink_duration_s", "blink_interval_s", "blink_interval_distance_s", "pose_over_time_deg", "beat_alignment", "faces_found_pct",
)  # fmt: skip
EMOTION = ("emotion_acc_pct", "emotion_macro_pct", "emotion_level_1_pct", "emotion_level_2_pct", "emotion_level_3_pct")
#: Never asked of videos alone: they need coefficients or several samples.
NOT_ASKED = ("pose_over_seeds_deg", "expression_over_seeds", "expression_over_time", "blink_complete_pct", "n_scored", "n_expected")
#: A scored clip may have no such number by nature: still lips correlate with nothing, speech may have no beat. Told, but no fault of coverage.
MAY_LACK = ("lip_correlation", "beat_alignment")
#: Needs the pair, so the real row has none.
AGAINST_REAL = (
    "psnr_db", "psnr_face_db", "ssim", "fid_expert", "kid_expert", "m_lmd_centred_px", "m_lmd_raw_px", "f_lmd_centred_px", "f_lmd_raw_px",
    "lip_correlation", "identity_similarity", "blink_interval_distance_s",
)  # fmt: skip
_POOLED_OTHERWISE = (
    "fid_expert", "kid_expert", "emotion_acc_pct", "emotion_macro_pct", "emotion_level_1_pct", "emotion_level_2_pct", "emotion_level_3_pct",
    "blinks_per_s", "blink_duration_s", "blink_interval_s", "blink_interval_distance_s", "av_offset_frames", "av_within_1_pct", "identity_similarity",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One number of the result.

    Attributes:
        value: None when there is none.
        ci: 95 % interval clustered by identity, or None.
        n: clips behind it.
        n_expected: clips that should be behind it; 0 when the number was not asked for.
        reason: why it is empty, incomplete or without an interval; "" when nothing is amiss.
    """

    value: float | None
    ci: tuple[float, float] | None
    n: int
    n_expected: int
    reason: str = ""

    @property
    def complete(self) -> bool:
        """Whether all clips that were asked for are behind the number."""
        return self.n >= self.n_expected


def reasons_of(rows: pd.DataFrame, column: str = "reason") -> str:
    """``2 x missing; 1 x short`` over rows that are not scored."""
    values = list(rows[column]) if column in rows.columns else []
    words = [str(value).split(":")[0] for value in values if value and value == value]
    counts = Counter(word for word in words if word)
    return "; ".join(f"{count} x {word}" for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


class Summary:
    """Pools the rows of all pairs.

    Args:
        scorer: gives arrays and judges.
        generated: one row a pair (clip and seed).
        real: one row a real clip.
        resamples: bootstrap resamples; a fifth of them for distances.
        level: coverage of the intervals.
    """

    def __init__(
        self, scorer: VideoScorer, generated: pd.DataFrame, real: pd.DataFrame, resamples: int = 1000, level: float = 0.95
    ) -> None:
        self.scorer, self.generated, self.real, self.resamples, self.level = scorer, generated, real, resamples, level
        self.pairs = {(pair.clip, pair.seed): pair for pair in scorer.pairs}

    def _generator(self, *parts: str) -> np.random.Generator:
        return numpy_generator("evaluate", *parts)

    def row(self, which: str) -> dict[str, Cell]:
        """All cells of ``generated`` or ``real``."""
        table = self.generated if which == "generated" else self.real
        scored = scored_rows(table)
        cells = {
            metric.name: self._mean(scored, table, metric.name) for metric in METRICS if metric.name not in (*NOT_ASKED, *_POOLED_OTHERWISE)
        }
        for name in self.outside_columns:
            cells[name] = self._mean(scored, table, name)
        cells |= self._sync(scored, table) | self._emotion(scored, table) | self._blinks(scored, table, which)
        if which == "generated":
            cells |= self._distances(scored, table) | self._identity(scored, table)
        absent = self._absent(which)
        order = {metric.name: index for index, metric in enumerate(METRICS)}
        ordered = sorted(cells.items(), key=lambda item: (order.get(item[0], len(order)), item[0]))
        return {name: self._without(absent[name]) if name in absent else cell for name, cell in ordered}

    @property
    def outside_columns(self) -> list[str]:
        """Columns that outside networks add to the per-clip table."""
        networks = self.scorer.tools.outside.items()
        lips = (
            ["lse_d_syncnet", "lse_c_syncnet", "av_offset_syncnet_frames"]
            if any(hasattr(network, "sync") for _, network in networks)
            else []
        )
        return sorted([name for name, network in networks if hasattr(network, "distance")] + lips)

    @staticmethod
    def _without(reason: str) -> Cell:
        return Cell(None, None, 0, 0, reason)

    def _absent(self, which: str) -> dict[str, str]:
        reasons = self.scorer.tools.reasons
        absent: dict[str, str] = {}
        for kind, columns in (
            ("landmarks", (*LANDMARKS, *SYNC, *EMOTION)),
            ("syncnet", SYNC),
            ("emotion", EMOTION),
            ("features", ("fid_expert", "kid_expert")),
        ):
            if kind in reasons:
                absent |= dict.fromkeys(columns, reasons[kind])
        if which == "real":
            alone = [name for name in self.outside_columns if not name.endswith(("_syncnet", "_syncnet_frames"))]
            absent |= dict.fromkeys((*AGAINST_REAL, *alone), "the real clips are what is compared with")
        return absent

    def _seeds(self, table: pd.DataFrame, values: np.ndarray) -> tuple[np.ndarray, list[str], float]:
        """Mean over the seeds of each clip, its person, and the spread of whole seeds."""
        means, clips, spread = over_seeds(values, list(table["clip"]), list(table["seed"]))
        people = dict(zip(table["clip"].astype(str), table["identity"].astype(str), strict=True))
        return means, [people[clip] for clip in clips], spread

    def _cell(self, estimate: Estimate, table: pd.DataFrame, n: int, why: str = "", expected: int | None = None) -> Cell:
        expected = len(table) if expected is None else expected
        reason = estimate.reason
        if n < expected:
            failed = reasons_of(rows_where(table, table["status"] != OK), "status")
            # What a scored clip lacks is told by the column; without one the clip's own row says why it has no number.
            lost = "; ".join(part for part in (failed, why) if part) or "no face, or too short for this number"
            reason = f"{reason}; {lost}" if reason and reason != "no data" else lost
        if not math.isfinite(estimate.value):
            if estimate.value == math.inf:
                reason = "; ".join(
                    part
                    for part in ("a clip is identical to the real one, which makes the mean infinite", reason if n < expected else "")
                    if part
                )
            return Cell(None, None, n, expected, reason or "no data")
        return Cell(estimate.value, estimate.ci, n, expected, reason)

    def _bootstrap(self, table: pd.DataFrame, values: np.ndarray, *names: str, weights: np.ndarray | None = None) -> tuple[Estimate, int]:
        """Estimate over clips, several seeds of a clip averaged first, and how many pairs are behind it."""
        known = int((~np.isnan(values)).sum())
        if not len(table):
            return Estimate(float("nan"), None, 0, 0, "no data"), 0
        if weights is not None:
            return cluster_bootstrap(values, list(table["identity"]), self._generator(*names), weights, self.resamples, self.level), known
        means, people, spread = self._seeds(table, values)
        estimate = cluster_bootstrap(means, people, self._generator(*names), None, self.resamples, self.level)
        if math.isfinite(spread):
            note = f"spread of whole seeds {spread:.3g}"
            estimate = Estimate(
                estimate.value, estimate.ci, estimate.n, estimate.n_clusters, "; ".join(part for part in (estimate.reason, note) if part)
            )
        return estimate, known

    def _mean(self, scored: pd.DataFrame, table: pd.DataFrame, column: str) -> Cell:
        values = numbers(scored, column)
        estimate, known = self._bootstrap(scored, values, column)
        return self._cell(
            estimate, table, known, reasons_of(scored, "sync_reason") if column in (*SYNC, "beat_alignment") or "syncnet" in column else ""
        )

    def _sync(self, scored: pd.DataFrame, table: pd.DataFrame) -> dict[str, Cell]:
        why = reasons_of(scored, "sync_reason") if "sync_reason" in scored else ""
        offsets = numbers(scored, "av_offset_frames")
        known = ~np.isnan(offsets)
        estimate = Estimate(float("nan"), None, 0, 0, "no data")
        if known.any():
            groups = [
                offsets[known][np.array(scored["identity"])[known] == name] for name in sorted(set(np.array(scored["identity"])[known]))
            ]

            def statistic(counts: np.ndarray) -> np.ndarray:
                return np.array(
                    [np.median(np.concatenate([np.tile(g, int(k)) for g, k in zip(groups, row, strict=True) if k])) for row in counts]
                )

            estimate = bootstrap_statistic(statistic, len(groups), int(known.sum()), self._generator("offset"), self.resamples, self.level)
        windows = numbers(scored, "av_windows")
        share = np.where(windows > 0, 100.0 * numbers(scored, "av_windows_within_1") / np.where(windows > 0, windows, 1), np.nan)
        within, n_within = self._bootstrap(scored, share, "within", weights=np.nan_to_num(windows))
        return {
            "av_offset_frames": self._cell(estimate, table, int(known.sum()), why),
            "av_within_1_pct": self._cell(
                within, table, n_within, "; ".join(part for part in (why, "shorter than 1 s" if (windows == 0).any() else "") if part)
            ),
        }

    def emotions(self, scored: pd.DataFrame) -> EmotionAccuracy:
        """Verdicts on the labelled clips."""
        result = EmotionAccuracy(len(EMOTIONS))
        if "emotion_verdict" in scored:
            known = scored[scored["emotion_verdict"].fillna("") != ""]
            if len(known):
                truth, said = (np.array([EMOTIONS.index(str(name)) for name in known[column]]) for column in ("emotion", "emotion_verdict"))
                result.update(truth, said, np.array([int(level) for level in known["level"]]))
        return result

    def _emotion(self, scored: pd.DataFrame, table: pd.DataFrame) -> dict[str, Cell]:
        labelled_rows = rows_where(table, table["emotion"] != "") if len(table) else table
        labelled = len(labelled_rows)
        if not labelled:
            return dict.fromkeys(EMOTION, self._without("no clip has an emotion label; give --index with a column emotion"))
        values = 100.0 * numbers(scored, "emotion_right")
        estimate, known = self._bootstrap(scored, values, "emotion")
        accuracy = self.emotions(scored)
        macro = Estimate(accuracy.macro_pct(), None, known, 0, "no interval is computed" if known else "no data")
        cells = {
            "emotion_acc_pct": self._cell(estimate, labelled_rows, known, expected=labelled),
            "emotion_macro_pct": self._cell(macro, labelled_rows, known, expected=labelled),
        }
        for level in (1, 2, 3):
            asked = rows_where(labelled_rows, labelled_rows["level"] == level)
            mask = np.array([value == level for value in scored["level"]], dtype=bool)
            part, n = self._bootstrap(rows_where(scored, mask), values[mask], "emotion", str(level))
            cells[f"emotion_level_{level}_pct"] = self._cell(part, asked, n) if len(asked) else self._without(f"no clip of level {level}")
        return cells

    def _closures(self, scored: pd.DataFrame, which: str) -> list[tuple[str, np.ndarray]]:
        found = []
        for row in records(scored):
            points = self.arrays(row, which)["landmarks_px"]
            if not np.isnan(points).all():
                found.append((row["identity"], closure_from_landmarks(points)))
        return found

    def _blinks(self, scored: pd.DataFrame, table: pd.DataFrame, which: str) -> dict[str, Cell]:
        if "landmarks" in self.scorer.tools.reasons:
            return {name: self._without("") for name in LANDMARKS if name.startswith("blink")}
        closures = self._closures(scored, which)
        pooled = BlinkStatistics(FPS_HZ)
        for _, closure in closures:
            pooled.update(closure)
        each = [BlinkStatistics(FPS_HZ) for _ in closures]
        for one, (_, closure) in zip(each, closures, strict=True):
            one.update(closure)
        people = [name for name, _ in closures]
        n_people = len(set(people))
        rate = cluster_bootstrap(
            np.array([one.compute() for one in each]), people, self._generator("blinks"), np.array([one.seconds for one in each]), self.resamples, self.level
        ) if closures else Estimate(float("nan"), None, 0, 0, "no data")  # fmt: skip
        few = "" if pooled.count else "no blink"
        gaps = "" if pooled.intervals_s else "no two blinks in one clip"
        cells = {
            "blinks_per_s": rate,
            "blink_duration_s": Estimate(pooled.mean_duration_s(), None, pooled.count, n_people, few),
            "blink_interval_s": Estimate(pooled.median_interval_s(), None, len(pooled.intervals_s), n_people, gaps),
        }
        if which == "generated":
            truth = BlinkStatistics(FPS_HZ)
            for _, closure in self._closures(scored_rows(self.real), "real"):
                truth.update(closure)
            cells["blink_interval_distance_s"] = Estimate(pooled.interval_distance_s(truth), None, len(pooled.intervals_s), n_people, gaps)
        return {name: self._cell(estimate, table, len(closures)) for name, estimate in cells.items()}

    def arrays(self, row: Mapping[str, Any], which: str) -> dict[str, np.ndarray]:
        """Arrays of a scored row."""
        if which == "real":
            return self.scorer.real_arrays(self.pairs[row["clip"], row["seed"]])
        return self.scorer.pair_arrays(str(row["arrays"]))

    def _features(self, scored: pd.DataFrame, name: str) -> tuple[list[np.ndarray], list[np.ndarray], list[str]]:
        """Features of generated and real frames in equal number, clip by clip, and the persons."""
        left, right, people = [], [], []
        for row in records(scored):
            mine, truth = self.arrays(row, "generated").get(name), self.arrays(row, "real").get(name)
            if mine is not None and truth is not None:
                count = min(len(mine), len(truth))
                left.append(mine[:count])
                right.append(truth[:count])
                people.append(str(row["identity"]))
        return left, right, people

    def _distances(self, scored: pd.DataFrame, table: pd.DataFrame) -> dict[str, Cell]:
        cells: dict[str, Cell] = {}
        for source, name in (
            ("features", "expert"),
            *((f"outside_{key}", key) for key, net in self.scorer.tools.outside.items() if hasattr(net, "features")),
        ):
            if source == "features" and "features" not in self.scorer.tools.networks:
                continue
            left, right, people = self._features(scored, source)
            if not left:
                cells |= {f"{kind}_{name}": self._cell(Estimate(float("nan"), None, 0, 0, "no data"), table, 0) for kind in ("fid", "kid")}
                continue
            names = sorted(set(people))
            sides = [
                [np.concatenate([part for part, who in zip(side, people, strict=True) if who == person]) for person in names]
                for side in (left, right)
            ]
            clusters = ClusteredDistances(*sides)
            for kind, function in (("fid", clusters.fid), ("kid", clusters.kid)):
                estimate = bootstrap_statistic(
                    lambda counts, function=function: np.array([function(row) for row in counts]), len(names), len(left),
                    self._generator(kind), max(20, self.resamples // 5), self.level,
                )  # fmt: skip
                cells[f"{kind}_{name}"] = self._cell(estimate, table, len(left))
        return cells

    def fid_noise(self, own: Cell | None = None) -> dict[str, Any]:
        """FID of two halves of the real clips of the same people against each other, and half the width of this method's own interval.

        Args:
            own: the method's FID; the half width is None without an interval.
        """
        if "features" not in self.scorer.tools.networks or not len(self.real):
            return {}
        rows = [(row, self.arrays(row, "real")) for row in records(scored_rows(self.real))]
        units = [(arrays["features"], row["identity"]) for row, arrays in rows if "features" in arrays]
        if len(units) < 2:
            return {}
        halves = half_split_fid([features for features, _ in units], [person for _, person in units], self._generator("halves"))
        low, high = np.quantile(halves, [0.025, 0.975])
        return {
            "clips": len(units), "halves_mean": float(halves.mean()), "halves_low": float(low), "halves_high": float(high),
            "own_half_width": None if own is None or own.ci is None else (own.ci[1] - own.ci[0]) / 2,
        }  # fmt: skip

    def _identity(self, scored: pd.DataFrame, table: pd.DataFrame) -> dict[str, Cell]:
        faces = self._real_faces()
        if not faces:
            return {"identity_similarity": self._cell(Estimate(float("nan"), None, 0, 0, "no data"), table, 0)}
        if len(faces) < 2:
            return {"identity_similarity": self._without("one real clip alone has no mean to differ from")}
        centre = np.mean(list(faces.values()), axis=0)
        values = np.full(len(scored), np.nan)
        for index, row in enumerate(records(scored)):
            face = self.arrays(row, "generated").get("face")
            if face is not None and row["clip"] in faces:
                values[index] = identity_similarity(face, faces[row["clip"]], centre)
        estimate, known = self._bootstrap(scored, values, "identity")
        return {"identity_similarity": self._cell(estimate, table, known)}

    def _real_faces(self) -> dict[str, np.ndarray]:
        rows = records(scored_rows(self.real)) if len(self.real) else []
        return {row["clip"]: arrays["face"] for row in rows if "face" in (arrays := self.arrays(row, "real"))}

    def judges(self) -> dict[str, Any]:
        """Hashes of the judges, what they reached on their own test, why others are absent, and what they reach on the real clips of this very set."""
        faces = self._real_faces()
        people = {row["clip"]: row["identity"] for row in records(self.real)} if len(self.real) else {}
        auc = float("nan")
        if len(faces) > 1:
            auc = pairwise_auc(
                np.stack(list(faces.values())), np.array([people[clip] for clip in faces]), np.mean(list(faces.values()), axis=0)
            )
        real = self.emotions(scored_rows(self.real)) if len(self.real) else EmotionAccuracy(len(EMOTIONS))
        generated = self.emotions(scored_rows(self.generated))
        tools = self.scorer.tools
        return {
            "sha256": dict(tools.hashes),
            "own_test": dict(tools.own_test),
            "own_accuracy": {kind: own_accuracy(kind, tools.own_test) for kind in tools.hashes if kind != "landmarks"},
            "absent": dict(tools.reasons),
            "warnings": list(tools.warnings),
            "identity_auc_on_real": auc if math.isfinite(auc) else None,
            "emotion_labels": list(EMOTIONS),
            "emotion_confusion_real": real.confusion(),
            "emotion_confusion_generated": generated.confusion(),
            "emotion_per_class_pct": [None if math.isnan(value) else value for value in per_class_accuracy_pct(generated.confusion())],
        }

    def against(self, baseline: pd.DataFrame, hashes: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Paired differences, this method minus a baseline that was scored against the same real files.

        Args:
            baseline: the other run's per-clip table.
            hashes: the other run's judges; a column whose judge differs is left out with the reason.
        """
        mine = scored_rows(self.generated)
        other = scored_rows(baseline)
        # Several seeds of a clip are averaged on each side before they are paired.
        keys = ["clip", "real_sha256"]
        result: dict[str, dict[str, Any]] = {}
        for metric in METRICS:
            name, source = metric.name, {"emotion_acc_pct": "emotion_right", "av_within_1_pct": ""}.get(metric.name, metric.name)
            if source not in mine or source not in other:
                continue
            judge = "syncnet" if name in SYNC else "emotion" if name in EMOTION else ""
            if judge and hashes.get(judge) != self.scorer.tools.hashes.get(judge):
                result[name] = {"value": None, "ci": None, "n": 0, "verdict": f"scored by another {judge} judge"}
                continue
            scale = 100.0 if name == "emotion_acc_pct" else 1.0
            left, right = (
                side.assign(v=scale * numbers(side, source))
                .groupby(keys, as_index=False)
                .agg(v=("v", "mean"), identity=("identity", "first"))
                for side in (mine, other)
            )
            both = left.merge(right, on=keys, suffixes=("", "_other"))
            if both.empty:
                result[name] = {"value": None, "ci": None, "n": 0, "verdict": "no clip was scored in both against the same real file"}
                continue
            estimate = paired_difference(
                both["v"].to_numpy(float),
                both["v_other"].to_numpy(float),
                list(both["identity"]),
                self._generator("difference", name),
                self.resamples,
                self.level,
            )
            word = (
                verdict(estimate, BY_NAME[name].direction == "higher")
                if BY_NAME[name].direction in ("higher", "lower")
                else "no better or worse"
            )
            finite = math.isfinite(estimate.value)
            result[name] = {
                "value": estimate.value if finite else None, "ci": list(estimate.ci) if estimate.ci else None, "n": estimate.n,
                "verdict": word if finite else "no data",
            }  # fmt: skip
        return result


def rows_where(table: pd.DataFrame, mask: Any) -> pd.DataFrame:
    """Rows of a table by a mask, also of a table without rows."""
    return cast(pd.DataFrame, table[np.asarray(mask, dtype=bool)]) if len(table) else table


def scored_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows that were scored."""
    return rows_where(table, table["status"] == OK) if len(table) else table


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dicts."""
    return [dict(zip(table.columns, row, strict=True)) for row in table.itertuples(index=False, name=None)]


def numbers(table: pd.DataFrame, column: str) -> np.ndarray:
    """A column as float64; NaN where there is no number (and everywhere when there is no such column)."""
    if column not in table:
        return np.full(len(table), np.nan)
    return np.asarray(pd.to_numeric(table[column], errors="coerce"), dtype=np.float64)


def document(summary: Summary, extra: list[str], notes: list[str], method: str) -> dict[str, Any]:
    """The pooled result as one JSON document."""
    table = summary.generated
    scored = scored_rows(table)
    rows = {"real": summary.row("real"), method: summary.row("generated")}
    missing = [
        {"clip": row["clip"], "status": row["status"], "reason": row["reason"]} for row in records(rows_where(table, table["status"] != OK))
    ]
    incomplete = {
        name: f"{cell.n} of {cell.n_expected}: {cell.reason}"
        for name, cell in rows[method].items()
        if not cell.complete and name not in MAY_LACK
    }
    return {
        "methods": {name: {column: asdict(cell) for column, cell in row.items()} for name, row in rows.items()},
        "coverage": {
            "n_expected": len(table), "n_scored": len(scored), "complete": not missing and not incomplete, "not_scored": missing,
            "incomplete_columns": incomplete, "extra_files": extra,
        },
        "policy": [*notes, *summary.scorer.policy.sentences()],
        "judges": summary.judges(),
        "fid_noise": summary.fid_noise(rows[method].get("fid_expert")),
    }  # fmt: skip


def write_clip_table(rows: list[dict[str, Any]]) -> str:
    """Per-clip rows as csv: known columns first, the others by name; byte-stable."""
    first = [
        "clip",
        "seed",
        "identity",
        "emotion",
        "level",
        "status",
        "reason",
        "notes",
        "n_frames_real",
        "n_frames_generated",
        "n_compared",
    ]
    table = pd.DataFrame(rows)
    columns = [name for name in first if name in table] + sorted(set(table) - {*first, "arrays"})
    return table.sort_values(["clip", "seed"], kind="stable").to_csv(columns=columns, index=False, lineterminator="\n", float_format="%.6g")


def read_clip_table(path: Path) -> pd.DataFrame:
    """A per-clip table that this command wrote."""
    table = pd.read_csv(path, dtype={"clip": str})
    for name in ("seed", "identity", "emotion", "reason", "notes", "sync_reason"):
        if name in table:
            table[name] = ["" if value != value else str(value) for value in table[name]]
    return table


__all__ = ["Cell", "Summary", "document", "numbers", "read_clip_table", "reasons_of", "records", "write_clip_table"]
