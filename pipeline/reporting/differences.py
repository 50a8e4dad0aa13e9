"""Paired differences of every row of the result table to `flowvqtalker_paired`, from the per-clip tables.

Two intervals side by side say little about a difference: most of their width is that some clips are harder than others, for every method.
Clip by clip that cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd

from flowvqtalker.metrics.ablation import Scores, paired
from flowvqtalker.metrics.bootstrap import Estimate, over_seeds, paired_difference, verdict
from flowvqtalker.seeding import numpy_generator
from pipeline.methods import METHODS, split_row
from pipeline.reporting.columns import BASELINE, COLUMNS, Direction
from pipeline.reporting.results import Results

__all__ = ["Difference", "design_sentence", "paired_differences"]

_REAL = "ground_truth"
#: Columns of the per-clip tables that stand behind a column of the main table of another name, and their scale.
_SOURCES = {"emotion_acc_pct": ("emotion_right", 100.0)}
#: Columns that are events over seconds: pooled so, and differed so.
_RATES = {"blinks_per_s": ("blinks", "seconds")}
#: Columns about the head's motion: the baseline's is that of the real clip, so there is nothing to compare.
_POSE = ("pose_over_time_deg", "pose_over_seeds_deg")


@dataclass(frozen=True)
class Difference:
    """One row of the result table minus `flowvqtalker_paired` in one column.

    Attributes:
        method: the row.
        column: of the main table.
        estimate: the difference in the column's unit, with interval, clips and identities. Of a column whose best value is 0 it is the
            difference of absolute values; of one whose best value is the real one, that of distances to the real value of the same clips.
        word: what it means for the row: `better`, `worse`, `undecided` (the interval holds 0), `equal` (no clip differs), or why there is no verdict.
    """

    method: str
    column: str
    estimate: Estimate
    word: str


def paired_differences(results: Results, *, seed: int, resamples: int = 1000, level: float = 0.95) -> list[Difference]:
    """All differences that can be paired, row by row in the order of the table.

    Args:
        results: scores and per-clip tables.
        seed: of the run; each difference draws from a generator of its own.
        resamples: bootstrap resamples of identities.
        level: coverage of the intervals.
    """
    base = _scored(results.per_clip.get(BASELINE))
    found = []
    for method in results.scores:
        table = _scored(results.per_clip.get(method))
        if method == BASELINE or base.empty or table.empty:
            continue
        for column in COLUMNS:
            if column.name in _POSE or column.direction is Direction.NONE or not _both_measured(results, method, column.name):
                continue
            generator = numpy_generator(seed, "difference", method, column.name)
            real = _scored(results.per_clip.get(_REAL))
            estimate = _estimate(table, base, real, column.name, column.direction, generator, resamples, level)
            if estimate is not None:
                found.append(Difference(method, column.name, estimate, _word(estimate, column.direction)))
    return found


def design_sentence(results: Results) -> str:
    """What chance the intervals hold: how many trainings and samples stand behind a row."""
    tables = [table for table in map(_scored, results.per_clip.values()) if not table.empty]
    sampled = [table for method, table in results.per_clip.items() if _is_sampled(method) and not table.empty]
    samples = {int(count) for table in (sampled or tables) for count in _scored(table).groupby("clip").size()} if tables else set()
    variants = any(split_row(method)[1] for method in results.scores)
    trainings = "One training stands behind each row" if variants else "One training per model"
    if samples == {1}:
        return (
            f"{trainings}, one sample per clip: the intervals hold the chance of which people are tested, not that of another training "
            "or another sample."
        )
    return f"{trainings}; several samples of a clip are averaged before they are paired: the intervals do not hold the chance of another training."


def _is_sampled(method: str) -> bool:
    made = METHODS.get(split_row(method)[0])
    return made is not None and made.expression == "expflow"


def _scored(table: pd.DataFrame | None) -> pd.DataFrame:
    """Scored rows of a per-clip table; nothing of one that does not say whose clips they are."""
    if table is None or not {"clip", "identity"} <= set(table.columns):
        return pd.DataFrame()
    return cast(pd.DataFrame, table[table["status"] == "ok"]) if "status" in table else table


def _both_measured(results: Results, *cells: str) -> bool:
    """Whether the main table has a number for the row and for the baseline: where it says that a number has no meaning, so has a difference."""
    method, column = cells
    return all((score := results.scores[row].get(column)) is not None and score.value is not None for row in (method, BASELINE))


def _by_clip(table: pd.DataFrame, column: str, scale: float = 1.0) -> pd.Series | None:
    """Value of each clip, several samples averaged; None when the table has no such column."""
    if column not in table:
        return None
    values = scale * np.asarray(pd.to_numeric(table[column], errors="coerce"), np.float64)
    means, clips, _ = over_seeds(values, list(table["clip"]), list(table.groupby("clip").cumcount()))
    return pd.Series(means, index=clips)


def _estimate(
    table: pd.DataFrame,
    base: pd.DataFrame,
    real: pd.DataFrame,
    column: str,
    direction: Direction,
    generator: np.random.Generator,
    resamples: int,
    level: float,
) -> Estimate | None:
    if direction is Direction.REAL:
        return _to_real(table, base, real, column, generator, resamples, level)
    source, scale = _SOURCES.get(column, (column, 1.0))
    sides = [_by_clip(side, source, scale) for side in (table, base)]
    if sides[0] is None or sides[1] is None:
        return None
    clips = sorted(set(sides[0].index) & set(sides[1].index))
    left, right = (side.reindex(clips).to_numpy(np.float64) for side in (sides[0], sides[1]))
    if direction is Direction.ZERO:
        left, right = np.abs(left), np.abs(right)
    return paired_difference(left, right, _people(base, clips), generator, resamples, level)


def _to_real(
    table: pd.DataFrame, base: pd.DataFrame, real: pd.DataFrame, column: str, generator: np.random.Generator, resamples: int, level: float
) -> Estimate | None:
    """Distance of pooled values to the real one: clip by clip, a method that always gives the mean would come closest."""
    source, seconds = _RATES.get(column, (column, ""))
    sides = [(_by_clip(side, source), _by_clip(side, seconds) if seconds else None) for side in (table, base, real)]
    if any(values is None for values, _ in sides) or (seconds and any(weights is None for _, weights in sides)):
        return None
    clips = sorted(set.intersection(*(set(values.index) for values, _ in sides if values is not None)))
    scores = []
    for values, weights in sides:
        assert values is not None
        amounts = values.reindex(clips).to_numpy(np.float64)
        if weights is None:
            scores.append(Scores(amounts[None]))
            continue
        spans = weights.reindex(clips).to_numpy(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            scores.append(Scores((amounts / spans)[None], spans[None]))
    return paired(scores[0], scores[1], _people(base, clips), generator, resamples, level, scores[2])


def _people(table: pd.DataFrame, clips: Sequence[str]) -> list[str]:
    people = dict(zip(table["clip"].astype(str), table["identity"].astype(str), strict=True))
    return [people[clip] for clip in clips]


def _word(estimate: Estimate, direction: Direction) -> str:
    if not np.isfinite(estimate.value):
        return estimate.reason or "no data"
    if estimate.value == 0 and estimate.ci == (0.0, 0.0):
        return "equal"  # two rows that share their expression blink alike
    return verdict(estimate, direction is Direction.HIGHER)
