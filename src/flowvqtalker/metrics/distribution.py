"""Distances between sets of picture features: FID and KID, both named by the network that made the features."""

from __future__ import annotations

import numpy as np

from flowvqtalker.checks import ShapeError
from flowvqtalker.metrics.base import Accumulator

#: Frames a side of a block of KID's kernel.
_BLOCK_ROWS = 1024


def frechet_distance(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    """Squared Frechet distance of two Gaussians: ``|mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))``. Lower is better, 0 when equal.

    The trace of the root is computed from the symmetric matrix ``L^T C_b L`` with ``C_a = L L^T``, whose eigenvalues are those of the product,
    so nothing complex appears and singular covariances (fewer frames than dimensions) are allowed.

    Args:
        mean_a: (D,) mean.
        cov_a: (D, D) covariance.
        mean_b: (D,) mean.
        cov_b: (D, D) covariance.

    Returns:
        Distance in squared feature units, not below 0.

    Source: Heusel et al., NeurIPS 2017 (arXiv 1706.08500).
    """
    try:
        root = np.linalg.cholesky(cov_a)
    except np.linalg.LinAlgError:  # singular: a few times slower
        values, vectors = np.linalg.eigh(cov_a)
        root = vectors * np.sqrt(np.clip(values, 0.0, None))
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root.T @ cov_b @ root), 0.0, None)).sum()
    return max(0.0, float(np.square(mean_a - mean_b).sum() + np.trace(cov_a) + np.trace(cov_b) - 2.0 * cross))


class Moments:
    """Number, sum and sum of outer products of feature vectors: all that FID needs, and it adds up over clips and clusters."""

    def __init__(self, dim: int) -> None:
        self.n = 0.0
        self.total = np.zeros(dim)
        self.outer = np.zeros((dim, dim))

    def add(self, features: np.ndarray) -> Moments:
        """Add (N, D) feature vectors; returns itself."""
        rows = np.asarray(features, dtype=np.float64)
        self.n += len(rows)
        self.total += rows.sum(axis=0)
        self.outer += rows.T @ rows
        return self

    @staticmethod
    def weighted(parts: list[Moments], weights: np.ndarray) -> Moments:
        """Sum of ``parts`` with (len(parts),) weights, e.g. how often a cluster was drawn."""
        result = Moments(len(parts[0].total))
        for part, weight in zip(parts, weights, strict=True):
            result.n += weight * part.n
            result.total += weight * part.total
            result.outer += weight * part.outer
        return result

    def mean_cov(self) -> tuple[np.ndarray, np.ndarray]:
        """(D,) mean and (D, D) unbiased covariance."""
        mean = self.total / self.n
        return mean, (self.outer - self.n * np.outer(mean, mean)) / max(self.n - 1.0, 1.0)


def fid(generated: np.ndarray, real: np.ndarray) -> float:
    """Squared Frechet distance between Gaussians fitted to two sets of features (see :func:`frechet_distance`). Lower is better.

    Args:
        generated: (N, D) features of generated frames, any real type.
        real: (M, D) features of real frames by the same network.

    Returns:
        Distance, not below 0; 0 for equal sets.

    Unit: squared feature units of the network.
    Source: Heusel et al., NeurIPS 2017 (arXiv 1706.08500).
    Pitfalls: biased upwards for few frames (use equal counts, D well below N); the value means nothing without the network's name;
    frames of one clip are not independent, so resample whole identities for an interval.
    """
    dim = np.shape(real)[1]
    return frechet_distance(*Moments(dim).add(generated).mean_cov(), *Moments(dim).add(real).mean_cov())


def polynomial_kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """KID's kernel ``(a . b / D + 1)^3`` between (N, D) and (M, D) features: (N, M)."""
    product = np.asarray(a, np.float64) @ np.asarray(b, np.float64).T / np.shape(a)[1] + 1.0
    return product * product * product  # NumPy's power of 3 takes four times as long


def _kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
    """Sum of :func:`polynomial_kernel` over all pairs, block by block: memory does not grow with the number of pairs."""
    starts = range(0, len(a), _BLOCK_ROWS), range(0, len(b), _BLOCK_ROWS)
    return float(sum(polynomial_kernel(a[i : i + _BLOCK_ROWS], b[j : j + _BLOCK_ROWS]).sum() for i in starts[0] for j in starts[1]))


def _within(features: np.ndarray) -> float:
    """Mean of :func:`polynomial_kernel` over the pairs of different rows of (N, D) features."""
    n = len(features)
    selves = np.square(features).sum(axis=1) / features.shape[1] + 1.0
    return (_kernel_sum(features, features) - float((selves**3).sum())) / (n * (n - 1))


def kid(generated: np.ndarray, real: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy: ``mean k(x, x') + mean k(y, y') - 2 mean k(x, y)``, k = ``(a . b / D + 1)^3``. Lower is better.

    Means over pairs of different frames, all frames at once.

    Args:
        generated: (N, D) features of generated frames, any real type.
        real: (M, D) features of real frames by the same network.

    Returns:
        Distance; NaN with fewer than 2 frames on a side. About 0 for equal distributions, and as often below as above it.

    Unit: kernel units (none) of the network that made the features.
    Source: Binkowski et al., ICLR 2018 (arXiv 1801.01401); they average over blocks of 1000, we use everything at once: the same expectation.
    Equal to TorchMetrics' KernelInceptionDistance with one subset of all frames (checked by a test).
    Pitfalls: may be negative; the value means nothing without the network's name; frames of one clip are not independent, so resample whole
    identities for an interval.
    """
    x, y = np.asarray(generated, np.float64), np.asarray(real, np.float64)
    if len(x) < 2 or len(y) < 2:
        return float("nan")
    return _within(x) + _within(y) - 2.0 * _kernel_sum(x, y) / (len(x) * len(y))


class FID(Accumulator):
    """Streaming :func:`fid`; keeps only moments. ``network`` names the features and takes part in no computation but in every report."""

    def __init__(self, dim: int, network: str) -> None:
        self.dim, self.network = dim, network
        self.reset()

    def reset(self) -> None:
        self.generated, self.real = Moments(self.dim), Moments(self.dim)

    def update(self, generated: np.ndarray, real: np.ndarray) -> None:
        self.generated.add(generated)
        self.real.add(real)

    def merge(self, other: FID) -> None:
        if other.network != self.network:
            raise ValueError(f"features of {self.network} and {other.network} cannot be mixed")
        self.generated = Moments.weighted([self.generated, other.generated], np.ones(2))
        self.real = Moments.weighted([self.real, other.real], np.ones(2))

    def compute(self) -> float:
        if min(self.generated.n, self.real.n) < 2:
            return float("nan")
        return frechet_distance(*self.generated.mean_cov(), *self.real.mean_cov())


class KID(Accumulator):
    """Streaming :func:`kid`, dimensionless, lower is better; equal to the batch however the clips are spread over processes.

    It keeps the features (8 D bytes a frame) and no sums: the kernel compares every frame with every other one. ``network`` names the features
    and takes part in no computation but in every report.
    """

    def __init__(self, dim: int, network: str) -> None:
        self.dim, self.network = dim, network
        self.reset()

    def reset(self) -> None:
        self.generated: list[np.ndarray] = []
        self.real: list[np.ndarray] = []

    def update(self, generated: np.ndarray, real: np.ndarray) -> None:
        """Add (N, D) features of generated and (M, D) of real frames."""
        for name, store, features in (("generated", self.generated, generated), ("real", self.real, real)):
            if np.ndim(features) != 2 or np.shape(features)[1] != self.dim:
                raise ShapeError(f"{name}: expected (N, {self.dim}) features, got {tuple(np.shape(features))}")
            store.append(np.array(features, dtype=np.float64))

    def merge(self, other: KID) -> None:
        if other.network != self.network:
            raise ValueError(f"features of {self.network} and {other.network} cannot be mixed")
        self.generated = self.generated + other.generated
        self.real = self.real + other.real

    def compute(self) -> float:
        if not self.generated:
            return float("nan")
        return kid(np.concatenate(self.generated), np.concatenate(self.real))


class ClusteredDistances:
    """FID and KID over clusters (identities), for a point value and for any resampling of the clusters.

    Args:
        generated: One (N_c, D) array of features a cluster.
        real: One (M_c, D) array a cluster, same order.
    """

    def __init__(self, generated: list[np.ndarray], real: list[np.ndarray]) -> None:
        if len(generated) != len(real) or not generated:
            raise ValueError("generated and real need the same clusters, at least one")
        dim = generated[0].shape[1]
        self.moments = [Moments(dim).add(part) for part in generated], [Moments(dim).add(part) for part in real]
        self.sizes = np.array([len(part) for part in generated]), np.array([len(part) for part in real])
        all_generated, all_real = np.concatenate(generated), np.concatenate(real)
        edges = [np.concatenate([[0], np.cumsum(sizes)])[:-1] for sizes in self.sizes]

        def blocks(kernel: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
            return np.add.reduceat(np.add.reduceat(kernel, rows, axis=0), columns, axis=1)

        own_generated, own_real = polynomial_kernel(all_generated, all_generated), polynomial_kernel(all_real, all_real)
        self.within = blocks(own_generated, edges[0], edges[0]), blocks(own_real, edges[1], edges[1])
        self.selves = np.add.reduceat(np.diag(own_generated), edges[0]), np.add.reduceat(np.diag(own_real), edges[1])
        self.between = blocks(polynomial_kernel(all_generated, all_real), edges[0], edges[1])

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(self.sizes[0])

    def fid(self, counts: np.ndarray | None = None) -> float:
        """FID with cluster c taken ``counts[c]`` times (once each by default)."""
        weights = np.ones(len(self.sizes[0])) if counts is None else np.asarray(counts, dtype=np.float64)
        generated, real = (Moments.weighted(part, weights) for part in self.moments)
        return frechet_distance(*generated.mean_cov(), *real.mean_cov())

    def kid(self, counts: np.ndarray | None = None) -> float:
        """KID with cluster c taken ``counts[c]`` times; a frame is never compared with itself or its own copies."""
        weights = np.ones(len(self.sizes[0])) if counts is None else np.asarray(counts, dtype=np.float64)
        value = 0.0
        for within, selves, sizes in zip(self.within, self.selves, self.sizes, strict=True):
            pairs = (weights @ sizes) ** 2 - np.square(weights) @ sizes
            value += (weights @ within @ weights - np.square(weights) @ selves) / pairs
        return float(value - 2.0 * (weights @ self.between @ weights) / ((weights @ self.sizes[0]) * (weights @ self.sizes[1])))


def half_split_fid(units: list[np.ndarray], groups: list[object], generator: np.random.Generator, halves: int = 100) -> np.ndarray:
    """FID of two random halves of real clips against each other: what the distance is when nothing is wrong.

    Args:
        units: One (N_c, D) array of features a clip.
        groups: Person of each clip. Each person's clips are divided as evenly as they can be, so that both halves show the same people, as
            two rows of a table do. A person with a single clip goes to either half by chance.
        generator: Source of the divisions.
        halves: Number of divisions.

    Returns:
        (halves,) distances; empty with fewer than 2 clips.

    Source: ours, after the advice to print FID of real against real. Pitfalls: a half has half the frames, so its FID lies above that of a whole
    set that is as good as real.
    """
    if len(units) < 2:
        return np.zeros(0)
    moments = [Moments(unit.shape[1]).add(unit) for unit in units]
    names = [str(group) for group in groups]
    members = [np.flatnonzero([name == wanted for name in names]) for wanted in sorted(set(names))]
    values = np.empty(halves)
    for index in range(halves):
        first = np.zeros(len(units))
        for clips in members:
            chosen = generator.permutation(clips)
            extra = int(generator.integers(2)) if len(clips) % 2 else 0
            first[chosen[: len(clips) // 2 + extra]] = 1.0
        if first.sum() in (0, len(units)):  # everybody has one clip and chance put them all on one side
            first[generator.integers(len(units))] = 1.0 - first[0]
        sides = [Moments.weighted(moments, side).mean_cov() for side in (first, 1.0 - first)]
        values[index] = frechet_distance(*sides[0], *sides[1])
    return values


def smallest_difference(rows: np.ndarray, level: float = 0.95) -> float:
    """Smallest difference that a table can tell: the median over pairs of rows of half the width of the interval of their difference.

    Args:
        rows: (M, R) one statistic of M rows under the same R resamples of the identities.
        level: Coverage of the intervals.

    Returns:
        Unit of the statistic; two rows that lie closer than this cannot be told apart. NaN with fewer than two rows.
    """
    rows = np.asarray(rows, np.float64)
    if rows.ndim != 2 or len(rows) < 2:
        return float("nan")
    first, second = np.triu_indices(len(rows), 1)
    low, high = np.nanquantile(rows[first] - rows[second], [(1.0 - level) / 2.0, (1.0 + level) / 2.0], axis=1)
    return float(np.median((high - low) / 2.0))
