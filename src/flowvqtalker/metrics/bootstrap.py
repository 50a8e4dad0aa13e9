"""Intervals for numbers from few identities: bootstrap that resamples whole identities, never single clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flowvqtalker.checks import ShapeError

#: Below this many clusters an interval would promise more than the data can hold.
MIN_CLUSTERS = 8
TOO_FEW = "n too small"


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: Point estimate on all data; NaN without data.
        ci: (low, high) percentile interval, or None when there are fewer than 8 clusters or the value is not finite.
        n: Number of items (clips) behind it.
        n_clusters: Number of identities behind it.
        reason: Why there is no interval or no value, else "".
    """

    value: float
    ci: tuple[float, float] | None
    n: int
    n_clusters: int
    reason: str = ""


def draw_counts(n_clusters: int, n_resamples: int, generator: np.random.Generator) -> np.ndarray:
    """(n_resamples, n_clusters) how often each cluster is drawn when n_clusters are drawn with replacement."""
    return generator.multinomial(n_clusters, np.full(n_clusters, 1.0 / n_clusters), size=n_resamples)


def cluster_bootstrap(
    values: np.ndarray,
    clusters: Sequence[object],
    generator: np.random.Generator,
    weights: np.ndarray | None = None,
    n_resamples: int = 1000,
    level: float = 0.95,
) -> Estimate:
    """Weighted mean with a percentile interval from resampled clusters: ``sum w x / sum w``.

    Args:
        values: (N,) one value an item (clip); NaN items are left out.
        clusters: (N,) cluster of each item (identity).
        generator: Source of the draws.
        weights: (N,) non-negative weights such as frames or seconds; ones by default. For a rate pass events / seconds with seconds as weights.
        n_resamples: Number of resamples.
        level: Coverage.

    Returns:
        Estimate.

    Source: Efron and Tibshirani 1993, cluster version. Pitfalls: with about 8 clusters percentile intervals are somewhat narrow; a paired difference
    (pass differences clip by clip) is far sharper than two separate intervals.
    """
    values = np.asarray(values, dtype=np.float64)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)
    known = ~np.isnan(values) & (weights > 0)
    if not known.any():
        return Estimate(float("nan"), None, 0, 0, "no data")
    names, index = np.unique(np.asarray([str(name) for name in clusters])[known], return_inverse=True)
    tops = np.bincount(index, weights=values[known] * weights[known], minlength=len(names))
    bottoms = np.bincount(index, weights=weights[known], minlength=len(names))
    return bootstrap_statistic(
        lambda counts: (counts @ tops) / np.maximum(counts @ bottoms, 1e-300), len(names), int(known.sum()), generator, n_resamples, level
    )


def bootstrap_statistic(
    statistic: Callable[[np.ndarray], np.ndarray],
    n_clusters: int,
    n_items: int,
    generator: np.random.Generator,
    n_resamples: int = 1000,
    level: float = 0.95,
) -> Estimate:
    """Interval of any statistic of cluster counts.

    Args:
        statistic: Maps (R, n_clusters) counts to (R,) values; must work row by row.
        n_clusters: Number of clusters.
        n_items: Number of items, for the record.
        generator: Source of the draws.
        n_resamples: Number of resamples.
        level: Coverage.

    Returns:
        Estimate whose value is the statistic with every cluster once.
    """
    value = float(statistic(np.ones((1, n_clusters)))[0])
    if not np.isfinite(value):
        return Estimate(value, None, n_items, n_clusters, "not finite")
    if n_clusters < MIN_CLUSTERS:
        return Estimate(value, None, n_items, n_clusters, TOO_FEW)
    draws = np.asarray(statistic(draw_counts(n_clusters, n_resamples, generator)), dtype=np.float64)
    low, high = np.nanquantile(draws, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Estimate(value, (float(low), float(high)), n_items, n_clusters)


def paired_difference(
    values: np.ndarray,
    baseline: np.ndarray,
    clusters: Sequence[object],
    generator: np.random.Generator,
    n_resamples: int = 1000,
    level: float = 0.95,
) -> Estimate:
    """Mean over clips of ``value - baseline``, the same clips on both sides, clustered by identity.

    Args:
        values: (N,) one value a clip of one method.
        baseline: (N,) the same clips of the baseline; a clip that is NaN on either side is left out, and ``n`` says how many are left.
        clusters: (N,) identity of each clip.
        generator: Source of the draws.
        n_resamples: Number of resamples.
        level: Coverage.

    Returns:
        Estimate; an interval without 0 is a difference that the data can show, an interval around 0 is "undecided", not "equal".

    Source: paired bootstrap (Efron and Tibshirani 1993, chapter 8). Pitfalls: two overlapping intervals of two methods say nothing about their
    difference, this one does; it does not correct for looking at many columns.
    """
    a, b = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) != len(clusters):
        raise ShapeError(f"paired: expected three lists of one length, got {a.shape}, {b.shape} and {len(clusters)}")
    with np.errstate(invalid="ignore"):  # two infinite decibels have no difference
        return cluster_bootstrap(a - b, clusters, generator, None, n_resamples, level)


def verdict(difference: Estimate, higher_is_better: bool = True) -> str:
    """``better``, ``worse`` or ``undecided``, and ``n too small`` without an interval."""
    if difference.ci is None:
        return difference.reason or TOO_FEW
    low, high = difference.ci
    if low > 0 or high < 0:
        return "better" if (low > 0) == higher_is_better else "worse"
    return "undecided"


def over_seeds(values: np.ndarray, items: Sequence[object], seeds: Sequence[object]) -> tuple[np.ndarray, list[str], float]:
    """Several seeds of a method: mean over the seeds of each clip, and how far whole runs lie apart.

    Args:
        values: (N,) one value for a clip and a seed; NaN is left out.
        items: (N,) clip.
        seeds: (N,) seed (or name of the run).

    Returns:
        Means (M,), their M clips in order of name, and the standard deviation over seeds of the mean over clips (unbiased; NaN with fewer than
        two seeds). The clips' means go into :func:`cluster_bootstrap`: more seeds make a clip's value surer, they never add clips.
    """
    values = np.asarray(values, np.float64)
    names, clip = np.unique([str(item) for item in items], return_inverse=True)
    runs, run = np.unique([str(seed) for seed in seeds], return_inverse=True)
    known = ~np.isnan(values)

    def means(index: np.ndarray, size: int) -> np.ndarray:
        count = np.bincount(index[known], minlength=size)
        total = np.bincount(index[known], weights=values[known], minlength=size)
        return np.divide(total, count, out=np.full(size, np.nan), where=count > 0)

    of_runs = means(run, len(runs))
    of_runs = of_runs[~np.isnan(of_runs)]
    return means(clip, len(names)), [str(name) for name in names], float(np.std(of_runs, ddof=1)) if len(of_runs) > 1 else float("nan")
