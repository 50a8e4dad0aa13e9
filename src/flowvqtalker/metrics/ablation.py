"""Comparison of variants with several trainings each: pooled values, paired differences, verdicts on claims.

A difference between two variants may come from the people who are tested or from the seeds of the trainings. Both are resampled: whole
identities, and whole trainings (replicates) inside each resample, the same ones on both sides of a difference. With one training a variant
the interval holds what is chance in the people alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from flowvqtalker.checks import ShapeError
from flowvqtalker.metrics.bootstrap import MIN_CLUSTERS, TOO_FEW, Estimate, draw_counts, verdict

Verdict = Literal["confirmed", "refuted", "undecided", "n too small"]


@dataclass(frozen=True)
class Scores:
    """One number of one variant, by training and clip.

    Attributes:
        values: (R, N) value of each of N clips for each of R trainings; NaN where it is not known.
        weights: (R, N) non-negative weights such as seconds; for a rate the values are events / seconds. None counts every clip once.
    """

    values: np.ndarray
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or (self.weights is not None and self.weights.shape != self.values.shape):
            raise ShapeError(f"scores: expected (R, N) values and weights of one shape, got {self.values.shape}")

    @property
    def known(self) -> np.ndarray:
        """(R, N) which values are known and count."""
        known = np.isfinite(self.values)
        return known if self.weights is None else known & (np.nan_to_num(self.weights) > 0)

    def sums(self, known: np.ndarray, index: np.ndarray, n_clusters: int) -> tuple[np.ndarray, np.ndarray]:
        """(R, C) sums of w x and of w over the known clips of each cluster; ``index`` (N,) is the cluster of each clip."""
        weights = np.where(known, 1.0 if self.weights is None else self.weights, 0.0)
        products = np.where(known, weights * np.where(known, self.values, 0.0), 0.0)
        member = (index[:, None] == np.arange(n_clusters)).astype(np.float64)
        return products @ member, weights @ member


def _mean(sums: tuple[np.ndarray, np.ndarray], trainings: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """(B,) weighted means under (B, R) counts of trainings and (B, C) counts of clusters."""
    top, bottom = (((trainings @ part) * clusters).sum(1) for part in sums)
    return np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0)


def _bootstrap(
    statistic: Callable[[np.ndarray, np.ndarray], np.ndarray],
    n_replicates: int,
    n_clusters: int,
    n_items: int,
    generator: np.random.Generator,
    n_resamples: int,
    level: float,
) -> Estimate:
    if not n_items:
        return Estimate(float("nan"), None, 0, 0, "no data")
    value = float(statistic(np.ones((1, n_replicates)), np.ones((1, n_clusters)))[0])
    if not np.isfinite(value):
        return Estimate(value, None, n_items, n_clusters, "not finite")
    if n_clusters < MIN_CLUSTERS:
        return Estimate(value, None, n_items, n_clusters, TOO_FEW)
    clusters = draw_counts(n_clusters, n_resamples, generator)
    trainings = draw_counts(n_replicates, n_resamples, generator)
    low, high = np.nanquantile(statistic(trainings, clusters), [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Estimate(value, (float(low), float(high)), n_items, n_clusters)


def _index(clusters: Sequence[object], known: np.ndarray) -> tuple[np.ndarray, int]:
    """(N,) cluster number of each clip among the clusters of clips with anything known (-1 for others), and their count."""
    names = np.asarray([str(name) for name in clusters])
    kept = known.any(0)
    found = np.unique(names[kept])
    index = np.full(len(names), -1)
    index[kept] = np.searchsorted(found, names[kept])
    return index, len(found)


def pooled(
    scores: Scores, clusters: Sequence[object], generator: np.random.Generator, n_resamples: int = 1000, level: float = 0.95
) -> Estimate:
    """Weighted mean over all trainings and clips of a variant, with an interval from resampled identities and trainings.

    Args:
        scores: of the variant.
        clusters: (N,) identity of each clip.
        generator: Source of the draws.
        n_resamples: Number of resamples.
        level: Coverage.

    Returns:
        Estimate; ``n`` counts the clips that are known in any training: more trainings never add clips.

    Source: bootstrap of crossed random factors (Owen, Annals of Applied Statistics 2007). Pitfalls: three trainings tell their own spread
    roughly, and resampling them shows about two thirds of its square.
    """
    known = scores.known
    index, count = _index(clusters, known)
    sums = scores.sums(known, index, count)
    return _bootstrap(
        lambda trainings, people: _mean(sums, trainings, people), len(known), count, int(known.any(0).sum()), generator, n_resamples, level
    )


def contrast(
    terms: Sequence[tuple[float, Scores]],
    clusters: Sequence[object],
    generator: np.random.Generator,
    n_resamples: int = 1000,
    level: float = 0.95,
    real: Scores | None = None,
) -> Estimate:
    """Weighted sum of the pooled values of variants, on the same clips and trainings of the same numbers.

    With weights (1, -1) it is a difference. With (1, -1, -1, 1) it is a difference of differences: of variants A and B under conditions 0 and 1,
    ``(A1 - A0) - (B1 - B0)`` says how much more A changes from 0 to 1 than B does.

    Args:
        terms: (weight, (R, N) scores) of each variant: the same clips, training by training; a shift of a condition that is common to all its
            variants cancels where the condition's weights add up to 0.
        clusters: (N,) identity of each clip.
        generator: Source of the draws.
        n_resamples: Number of resamples.
        level: Coverage.
        real: (1, N) of real clips, for a number that is best where it is real: each value is then its distance ``|value - real|``.

    Returns:
        Estimate; a clip that is unknown on any side is left out of all.

    Source: paired bootstrap of crossed random factors, as `pooled`.
    """
    if not terms:
        raise ShapeError("contrast: expected at least one term")
    weights, sides = [weight for weight, _ in terms], [scores for _, scores in terms]
    shapes = {scores.values.shape for scores in sides}
    if len(shapes) > 1:
        raise ShapeError(f"contrast: expected scores of one shape, got {sorted(shapes)}")
    if real is not None:
        rows, count = sides[0].values.shape
        if real.values.shape != (1, count):
            raise ShapeError(f"real: expected (1, {count}), got {real.values.shape}")
        sides.append(Scores(np.repeat(real.values, rows, 0), None if real.weights is None else np.repeat(real.weights, rows, 0)))
    known = np.logical_and.reduce([side.known for side in sides])
    index, n_clusters = _index(clusters, known)
    sums = [side.sums(known, index, n_clusters) for side in sides]

    def statistic(trainings: np.ndarray, people: np.ndarray) -> np.ndarray:
        means = [_mean(part, trainings, people) for part in sums]
        if real is not None:
            target = means.pop()
            means = [np.abs(mean - target) for mean in means]
        return np.sum([weight * mean for weight, mean in zip(weights, means, strict=True)], axis=0)

    return _bootstrap(statistic, len(known), n_clusters, int(known.any(0).sum()), generator, n_resamples, level)


def paired(
    scores: Scores,
    baseline: Scores,
    clusters: Sequence[object],
    generator: np.random.Generator,
    n_resamples: int = 1000,
    level: float = 0.95,
    real: Scores | None = None,
) -> Estimate:
    """Pooled value of a variant minus that of a baseline: the `contrast` with weights 1 and -1.

    Args:
        scores: (R, N) of the variant.
        baseline: (R, N) of the baseline: the same clips, training by training.
        clusters: (N,) identity of each clip.
        generator: Source of the draws.
        n_resamples: Number of resamples.
        level: Coverage.
        real: (1, N) of real clips, for a number that is best where it is real: the result is then ``|variant - real| - |baseline - real|``.

    Returns:
        Estimate; a clip that is unknown on any side is left out of all.
    """
    return contrast([(1.0, scores), (-1.0, baseline)], clusters, generator, n_resamples, level, real)


def spread(scores: Scores) -> float:
    """Standard deviation over trainings of each training's weighted mean (unbiased); NaN with fewer than two."""
    known = scores.known
    top, bottom = scores.sums(known, np.zeros(known.shape[1], np.int64), 1)
    means = top[bottom > 0] / bottom[bottom > 0]
    return float(np.std(means, ddof=1)) if len(means) > 1 else float("nan")


def claim_verdict(without_minus_with: Estimate, higher_is_better: bool) -> Verdict:
    """Whether a part helps, from the paired difference of the variant without it minus the variant with it, or from any `contrast` of that sense.

    ``confirmed``: the interval excludes 0 and the variant without is worse. ``refuted``: it excludes 0 and the variant without is better.
    ``undecided``: it holds 0, which is not "equal". ``n too small``: no interval.
    """
    word = verdict(without_minus_with, higher_is_better)
    known: dict[str, Verdict] = {"worse": "confirmed", "better": "refuted", "undecided": "undecided"}
    return known.get(word, "n too small")


def all_hold(verdicts: Iterable[Verdict]) -> Verdict:
    """Verdict on a claim that needs every one of several: one refuted refutes it, and only all confirmed confirm it."""
    found = list(verdicts)
    if "refuted" in found:
        return "refuted"
    if found and all(one == "confirmed" for one in found):
        return "confirmed"
    return "n too small" if found and all(one == "n too small" for one in found) else "undecided"
