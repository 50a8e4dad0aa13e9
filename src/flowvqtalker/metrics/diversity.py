"""How much motion varies: over time, over seeds, and beat alignment of head motion with speech."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from flowvqtalker.checks import ShapeError
from flowvqtalker.metrics.base import MeanAccumulator


def pose_over_time_deg(pose: np.ndarray) -> np.ndarray:
    """Standard deviation over time of the head's angles, mean over the three angles [deg]. Compare with the real value.

    Args:
        pose: (..., T, 6) poses, the first three are angles [rad].

    Returns:
        (...) deg; 0 for a still head.

    Unit: deg.
    Source: SadTalker's diversity (standard deviation of head-motion features), taken on angles instead of Hopenet's features.
    Pitfalls: jitter raises it as much as expressive motion, so look at ``flicker`` too; a slow drift counts like nodding.
    """
    return np.degrees(np.std(np.asarray(pose, np.float64)[..., :3], axis=-2).mean(axis=-1))


def pose_over_seeds_deg(pose: np.ndarray) -> np.ndarray:
    """Standard deviation over samples of the same sound, mean over frames and the three angles [deg]. 0 for a deterministic method.

    Args:
        pose: (..., S, T, 6) poses of S at least 2 samples.

    Returns:
        (...) deg, with the unbiased (S - 1) variance. Neither more nor less is better.

    Unit: deg.
    Source: the one-to-many claim of the paper (arXiv 2403.06375); the number is ours.
    Pitfalls: white noise scores high; with few samples the standard deviation is biased low (by a fifth for two).
    """
    if pose.shape[-3] < 2:
        raise ShapeError(f"pose: needs at least 2 samples on axis -3, got {tuple(pose.shape)}")
    return np.degrees(np.std(np.asarray(pose, np.float64)[..., :3], axis=-3, ddof=1).mean(axis=(-1, -2)))


def expression_over_time(beta: np.ndarray) -> np.ndarray:
    """How much a face moves along a clip: root of the summed variances over time of the expression coefficients. Compare with the real value.

    Args:
        beta: (..., T, E) expression coefficients.

    Returns:
        (...) coefficient units; 0 for a still face.

    Unit: units of the coefficients.
    Source: SadTalker's diversity over time, on expression coefficients.
    Pitfalls: jitter raises it; fitted coefficients are smoother than true ones.
    """
    return np.sqrt(np.var(np.asarray(beta, np.float64), axis=-2).sum(axis=-1))


def expression_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over frames of the Euclidean distance between two expression sequences of the same sentence.

    Args:
        a: (T, E) expression coefficients.
        b: (T', E); the longer one is cut at the end of the shorter.

    Returns:
        Distance in units of the coefficients. Between seeds: compare with the distance between two real takes.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ShapeError(f"expression: expected (T, E) twice, got {tuple(a.shape)} and {tuple(b.shape)}")
    frames = min(len(a), len(b))
    return float(np.linalg.norm(a[:frames].astype(np.float64) - b[:frames], axis=1).mean()) if frames else float("nan")


def seed_distance(samples: np.ndarray) -> float:
    """How far samples for one sound lie apart: mean of :func:`expression_distance` over all pairs. Compare with the real value: that of two takes.

    Args:
        samples: (S, T, E) expression coefficients of S at least 2 samples.

    Returns:
        Euclidean distance per frame, not below 0; 0 for a deterministic method.

    Unit: units of the coefficients.
    Source: ours, after the diversity over samples of stochastic motion models (mean pairwise distance).
    Pitfalls: jitter of single frames raises it like another performance would; it grows with the number of coefficients, so compare one face
    model only.
    """
    if samples.ndim != 3 or len(samples) < 2:
        raise ShapeError(f"samples: expected (S, T, E) with S at least 2, got {tuple(samples.shape)}")
    rows = samples.astype(np.float64)
    pairs = [(i, j) for i in range(len(rows)) for j in range(i)]
    return float(np.mean([np.linalg.norm(rows[i] - rows[j], axis=1).mean() for i, j in pairs]))


def motion_beats(pose: np.ndarray, sigma_frames: float = 5.0) -> np.ndarray:
    """Frames at which the smoothed angular speed of the head has a local minimum: (n,) int from (T, 6) poses."""
    speed = np.linalg.norm(np.diff(np.asarray(pose, np.float64)[:, :3], axis=0), axis=1)
    smooth = gaussian_filter1d(speed, sigma_frames, mode="nearest") if speed.size else speed
    inner = smooth[1:-1]
    return np.flatnonzero((inner < smooth[:-2]) & (inner <= smooth[2:])) + 1 if smooth.size > 2 else np.zeros(0, dtype=np.int64)


def audio_beats(loudness: np.ndarray, threshold: float = 0.3) -> np.ndarray:
    """Frames of strong rises in loudness: local maxima of the positive first difference above ``threshold`` of its greatest value.

    Args:
        loudness: (T,) any loudness per frame, e.g. mean mel level.
        threshold: Share of the clip's greatest rise.

    Returns:
        (n,) int frames.
    """
    rise = np.maximum(np.diff(np.asarray(loudness, np.float64), prepend=loudness[:1]), 0.0)
    if rise.size < 3 or rise.max() <= 0:
        return np.zeros(0, dtype=np.int64)
    inner = rise[1:-1]
    return np.flatnonzero((inner > rise[:-2]) & (inner >= rise[2:]) & (inner >= threshold * rise.max())) + 1


def beat_alignment(motion: np.ndarray, audio: np.ndarray, sigma_frames: float = 3.0) -> float:
    """Mean over **audio** beats of ``exp(-d^2 / (2 sigma^2))``, d = frames to the nearest motion beat. Higher = closer, in [0, 1].

    Args:
        motion: (n,) frames of motion beats.
        audio: (m,) frames of audio beats.
        sigma_frames: Width [frames].

    Returns:
        Score; 0 without motion beats, NaN without audio beats.

    Unit: none.
    Source: Bailando (Siyao et al., CVPR 2022).
    Pitfalls: the direction audio to motion matters (many motion beats raise it); compare with the real value.
    """
    if not len(audio):
        return float("nan")
    if not len(motion):
        return 0.0
    nearest = np.abs(np.asarray(audio)[:, None] - np.asarray(motion)[None]).min(axis=1)
    return float(np.exp(-np.square(nearest) / (2.0 * sigma_frames**2)).mean())


class PoseOverTime(MeanAccumulator):
    """Mean of :func:`pose_over_time_deg` over clips."""

    def update(self, pose: np.ndarray) -> None:
        self.add(pose_over_time_deg(pose))


class ExpressionOverTime(MeanAccumulator):
    """Mean of :func:`expression_over_time` over clips."""

    def update(self, beta: np.ndarray) -> None:
        self.add(expression_over_time(beta))


class ExpressionOverSeeds(MeanAccumulator):
    """Mean of :func:`seed_distance` over clips."""

    def update(self, samples: np.ndarray) -> None:
        self.add(seed_distance(samples))


class PoseOverSeeds(MeanAccumulator):
    """Mean of :func:`pose_over_seeds_deg` over clips."""

    def update(self, pose: np.ndarray) -> None:
        self.add(pose_over_seeds_deg(pose))


class BeatAlignment(MeanAccumulator):
    """Mean of :func:`beat_alignment` over clips that have audio beats."""

    def update(self, pose: np.ndarray, loudness: np.ndarray) -> None:
        self.add(beat_alignment(motion_beats(pose), audio_beats(loudness)))
