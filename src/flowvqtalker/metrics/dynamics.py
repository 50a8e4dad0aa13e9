"""How motion moves: spectra, velocities, accelerations, low-passed differences, and how far real motion lies from real motion.

Everything is computed clip by clip first and pooled afterwards, so that 200 random splits of the clips cost no more than sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.ndimage import gaussian_filter1d

from flowvqtalker.checks import ShapeError

Item = TypeVar("Item")

#: Frames of a segment of Welch's spectrum; the shortest test clip of the embedded corpus has 52.
SEGMENT_FRAMES = 32
#: Power below this share of the greatest is read as this share: a logarithm of nothing says nothing.
_FLOOR_SHARE = 1e-9
#: Coefficients whose real acceleration is smaller [1/s^2] do not move, and a ratio to them says nothing.
STILL_PER_S2 = 1e-3


@dataclass(frozen=True)
class Power:
    """Sum of periodograms of one or more clips; clips add up with ``+``.

    Attributes:
        total: (F, D) float64 sum over segments of the one-sided power density [unit^2/Hz].
        segments: number of segments.
    """

    total: np.ndarray
    segments: int

    def __add__(self, other: Power) -> Power:
        return Power(self.total + other.total, self.segments + other.segments)

    def density(self) -> np.ndarray:
        """(F, D) mean power density [unit^2/Hz]; NaN without a segment."""
        return self.total / self.segments if self.segments else np.full_like(self.total, np.nan)


def welch_power(values: np.ndarray, fps_hz: float, segment_frames: int = SEGMENT_FRAMES) -> Power:
    """Periodograms of one clip, summed over its segments: half overlapping, mean taken off, Hann window.

    ``P(f) = 2 |sum_t w_t (x_t - mean x) e^(-2 pi i f t)|^2 / (fps sum_t w_t^2)``, without the factor 2 at 0 Hz and at half the frame rate.

    Args:
        values: (T, D) any motion.
        fps_hz: frames a second.
        segment_frames: frames of a segment; a shorter clip has none.

    Returns:
        Power over ``frequencies_hz``.

    Unit: unit of the motion squared, per Hz.
    Source: Welch, IEEE Trans. Audio Electroacoustics 1967; equal to ``scipy.signal.welch`` (tested).
    Pitfalls: what is slower than a segment (1.3 s at the default) is taken off with the mean; the end of a clip that fills no segment is left out.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2:
        raise ShapeError(f"values: expected (T, D), got {values.shape}")
    hop = segment_frames // 2
    window = np.hanning(segment_frames + 1)[:-1]  # periodic, as scipy's
    starts = range(0, len(values) - segment_frames + 1, hop)
    pieces = np.stack([values[s : s + segment_frames] for s in starts]) if starts else np.zeros((0, segment_frames, values.shape[1]))
    pieces = (pieces - pieces.mean(1, keepdims=True)) * window[:, None]
    power = np.square(np.abs(np.fft.rfft(pieces, axis=1))).sum(0) / (fps_hz * np.square(window).sum())
    power[1 : len(power) - 1 + segment_frames % 2] *= 2.0
    return Power(power, len(starts))


def frequencies_hz(fps_hz: float, segment_frames: int = SEGMENT_FRAMES) -> np.ndarray:
    """(F,) frequencies of ``welch_power`` [Hz]."""
    return np.fft.rfftfreq(segment_frames, 1.0 / fps_hz)


def log_spectral_distance_db(first: np.ndarray, second: np.ndarray) -> float:
    """How far two spectra lie apart: ``sqrt(mean_f (10 log10(P / Q))^2)`` per column, mean over the columns. Lower is better, 0 when equal.

    Args:
        first: (F, D) power density, the first row 0 Hz.
        second: (F, D) the same of the other side.

    Returns:
        Distance; NaN when a side has no segment. 3 dB: powers differ by a factor of two everywhere.

    Unit: dB.
    Source: log spectral distance of speech coding (Gray and Markel, IEEE Trans. ASSP 1976).
    Pitfalls: all frequencies weigh the same, so noise where people hardly move counts as much as a missing nod; biased upwards for few
    segments, so compare sets of equal size and print what two sets of real clips give. 0 Hz is left out: the mean is taken off.
    """
    a, b = np.asarray(first, np.float64)[1:], np.asarray(second, np.float64)[1:]
    if a.shape != b.shape:
        raise ShapeError(f"spectra: expected equal shapes, got {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("nan")
    floor = _FLOOR_SHARE * np.maximum(a, b).max(0)
    ratio = np.log10(np.maximum(a, floor) + 1e-300) - np.log10(np.maximum(b, floor) + 1e-300)
    return float(np.sqrt(np.square(10.0 * ratio).mean(0)).mean())


def speed(values: np.ndarray, fps_hz: float) -> np.ndarray:
    """Size of the change from frame to frame: ``fps |x_t - x_(t-1)|`` (Euclidean over the columns). Compare with the real distribution.

    Args:
        values: (T, D) any motion.
        fps_hz: frames a second.

    Returns:
        (T - 1,) unit of the motion per second.

    Unit: unit of the motion per s.
    Source: velocity statistics of motion models (e.g. MoGlow, Henter et al., ACM TOG 2020), distributions instead of means.
    Pitfalls: noise of single frames counts as speed; the norm hides which column moves.
    """
    return fps_hz * np.linalg.norm(np.diff(np.asarray(values, np.float64), axis=0), axis=-1)


def head_speed_deg_per_s(pose: np.ndarray, fps_hz: float) -> np.ndarray:
    """``speed`` of the head's three angles [deg/s], (T - 1,) from (T, 6) poses (angles in rad first).

    Unit: deg/s.
    Source: as ``speed``.
    Pitfalls: differences of Euler angles, which near a frontal head equal the angle of the rotation between two frames.
    """
    return speed(np.degrees(np.asarray(pose, np.float64)[:, :3]), fps_hz)


def distribution_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Wasserstein-1 distance of two samples: the area between their cumulative shares. Lower is better, 0 when equal.

    Args:
        first: (N,) values.
        second: (M,) values.

    Returns:
        Distance in the unit of the values; NaN when a side is empty.

    Unit: unit of the values.
    Source: earth mover's distance in one dimension (``scipy.stats.wasserstein_distance``); for blink intervals and durations see ``blinks``.
    Pitfalls: biased upwards for few values, so compare sets of equal size; blind to order in time.
    """
    from scipy.stats import wasserstein_distance  # here: it takes a second to import

    a, b = np.asarray(first, np.float64).ravel(), np.asarray(second, np.float64).ravel()
    return float(wasserstein_distance(a, b)) if a.size and b.size else float("nan")


def acceleration(values: np.ndarray, fps_hz: float) -> np.ndarray:
    """Mean size of the second difference of every column of one clip: ``fps^2 mean_t |x_(t+1) - 2 x_t + x_(t-1)|``. Compare with real.

    Args:
        values: (T, D) any motion; fewer than 3 frames give NaN.
        fps_hz: frames a second.

    Returns:
        (D,) unit of the motion per second squared.

    Unit: unit of the motion per s^2.
    Source: jerk and acceleration statistics of motion models (e.g. Kucherenko et al., IVA 2019).
    Pitfalls: at 25 frames a second it is mostly noise of single frames; a blink is the largest acceleration that a face has.
    """
    values = np.asarray(values, np.float64)
    if len(values) < 3:
        return np.full(values.shape[1], np.nan)
    return fps_hz**2 * np.abs(np.diff(values, 2, axis=0)).mean(0)


def acceleration_ratio(made: np.ndarray, real: np.ndarray) -> float:
    """Generated over real acceleration, mean over the columns that move in reality. 1 is the aim; above it motion is shakier than people's.

    ``mean_d (mean_i made_id / mean_j real_jd)`` with i, j over clips.

    Args:
        made: (N, D) ``acceleration`` of generated clips, equal weights.
        real: (M, D) the same of real clips.

    Returns:
        Ratio; NaN when nothing moves.

    Unit: none.
    Source: issue D asks for at most 1.2.
    Pitfalls: every column weighs the same whatever it moves on the face; too smooth motion passes.
    """
    top, bottom = np.nanmean(made, axis=0), np.nanmean(real, axis=0)
    moving = bottom > STILL_PER_S2
    return float((top[moving] / bottom[moving]).mean()) if moving.any() else float("nan")


def low_pass(values: np.ndarray, fps_hz: float, cutoff_hz: float) -> np.ndarray:
    """Gaussian low pass over time with half the power left at ``cutoff_hz``; edges repeat. Without delay.

    The standard deviation of the kernel is ``fps sqrt(ln 2) / (2 pi cutoff)`` frames.

    Args:
        values: (T, D) any motion.
        fps_hz: frames a second.
        cutoff_hz: frequency whose power is halved [Hz].

    Returns:
        (T, D) float64, unit of the motion.
    """
    sigma = fps_hz * np.sqrt(np.log(2.0)) / (2.0 * np.pi * cutoff_hz)
    return gaussian_filter1d(np.asarray(values, np.float64), sigma, axis=0, mode="nearest")


def low_passed_distance(first: np.ndarray, second: np.ndarray, fps_hz: float, cutoff_hz: float) -> float:
    """How differently two performances of one sentence move apart from their jitter: mean over frames of ``|LP(a)_t - LP(b)_t|``.

    Between seeds: compare with the distance between two real takes, neither more nor less.

    Args:
        first: (T, D) coefficients.
        second: (T', D) of the other performance; the longer one is cut at the end of the shorter.
        fps_hz: frames a second.
        cutoff_hz: of ``low_pass`` [Hz].

    Returns:
        Distance; 0 for a deterministic method.

    Unit: unit of the coefficients.
    Source: ``diversity.expression_distance`` after a low pass, since jitter of single frames raises the plain distance as another performance does.
    Pitfalls: a constant difference (another strength of the same face) counts like other motion; grows with the number of columns; the real
    takes are fits, whose errors differ from take to take.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ShapeError(f"motion: expected (T, D) twice, got {tuple(first.shape)} and {tuple(second.shape)}")
    frames = min(len(first), len(second))
    if not frames:
        return float("nan")
    apart = low_pass(first[:frames], fps_hz, cutoff_hz) - low_pass(second[:frames], fps_hz, cutoff_hz)
    return float(np.linalg.norm(apart, axis=1).mean())


@dataclass(frozen=True)
class SplitDistances:
    """Distances over random splits of the clips into halves, see ``split_distances``.

    Attributes:
        real: (S,) from one half of the real clips to the other.
        made: (S,) from the same first half to generated clips in the place of the other.
    """

    real: np.ndarray
    made: np.ndarray

    def bound(self, level: float = 0.95) -> float:
        """Quantile of real against real: what is no farther cannot be told from real motion by this distance."""
        return float(np.nanquantile(self.real, level)) if np.isfinite(self.real).any() else float("nan")

    def value(self) -> float:
        """Median of generated against real."""
        return float(np.nanmedian(self.made)) if np.isfinite(self.made).any() else float("nan")


def split_distances(
    distance: Callable[[Sequence[Item], Sequence[Item]], float],
    real: Sequence[Item],
    made: Sequence[Sequence[Item]],
    generator: np.random.Generator,
    splits: int = 200,
    groups: Sequence[str] | None = None,
) -> SplitDistances:
    """How far generated motion lies from real, beside how far real lies from real, on sets of equal size.

    Each split draws half of the clips (A); the other half is B. ``real`` is distance(real A, real B), ``made`` is distance(real A, generated B),
    where one sample is drawn for each clip of B. A generator that is right gives two equal distributions.

    Args:
        distance: between two lists of what the clips were reduced to (powers, speeds, intervals).
        real: N items, one a clip.
        made: N lists of items, the samples of the same clips.
        generator: source of the splits.
        splits: number of splits.
        groups: whose each clip is; given, a split draws half of the people instead of half of the clips, and none of them lies on both sides.

    Returns:
        Distances.

    Source: issue D (real against real over 200 random splits of equal size).
    Pitfalls: without groups clips of one person lie on both sides, so the bound asks for these people's own habits; with them few people make
    few different splits. Both halves are small, so a distance within the bound shows no difference and proves no equality.
    """
    if len(real) != len(made) or len(real) < 2:
        raise ShapeError(f"clips: expected two lists of one length of at least 2, got {len(real)} and {len(made)}")
    if groups is not None and (len(groups) != len(real) or len(set(groups)) < 2):
        raise ShapeError(f"groups: expected a name for each of {len(real)} clips and two people at least, got {len(groups)} names")
    names = np.array(groups if groups is not None else range(len(real)))
    people = np.unique(names)
    half = len(people) // 2
    results = []
    for _ in range(splits):
        order = generator.permutation(len(people))
        first, second = (np.flatnonzero(np.isin(names, people[part])) for part in (order[:half], order[half : 2 * half]))
        first, second = generator.permutation(first), generator.permutation(second)
        side = [real[i] for i in first]
        drawn = [made[i][int(generator.integers(len(made[i])))] for i in second]
        results.append((distance(side, [real[i] for i in second]), distance(side, drawn)))
    values = np.array(results, np.float64).reshape(-1, 2)
    return SplitDistances(values[:, 0], values[:, 1])


def power_distance_db(first: Sequence[Power], second: Sequence[Power]) -> float:
    """``log_spectral_distance_db`` of the pooled spectra of two lists of clips [dB]."""
    return log_spectral_distance_db(sum(first[1:], first[0]).density(), sum(second[1:], second[0]).density())


def pooled_distance(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> float:
    """``distribution_distance`` of the pooled values of two lists of clips."""
    return distribution_distance(np.concatenate(list(first)), np.concatenate(list(second)))
