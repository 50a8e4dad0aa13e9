"""Blinks as events: rate, duration and interval, from eyelid coefficients or from the eye's aspect ratio."""

from __future__ import annotations

import numpy as np

from flowvqtalker.metrics.base import Accumulator

#: Closure at which a blink starts and below which it ends, for eyelid coefficients in [0, 1].
ON_CLOSURE = 0.5
OFF_CLOSURE = 0.3


def eye_aspect_ratio(landmarks_px: np.ndarray) -> np.ndarray:
    """Eye aspect ratio, mean of both eyes: ``(|p2 - p6| + |p3 - p5|) / (2 |p1 - p4|)``; about 0.3 open, below 0.2 closed.

    Args:
        landmarks_px: (..., 68, 2) px.

    Returns:
        (...) ratio.

    Source: Soukupova and Cech, CVWW 2016.
    """
    points = np.asarray(landmarks_px, dtype=np.float64)
    ratios = []
    for first in (36, 42):
        p = [points[..., first + index, :] for index in range(6)]
        upright = np.linalg.norm(p[1] - p[5], axis=-1) + np.linalg.norm(p[2] - p[4], axis=-1)
        ratios.append(upright / (2.0 * np.linalg.norm(p[0] - p[3], axis=-1)))
    return np.mean(ratios, axis=0)


def closed_mask(closure: np.ndarray, on: float = ON_CLOSURE, off: float = OFF_CLOSURE) -> np.ndarray:
    """Hysteresis along the last axis: closed from the frame that reaches ``on`` until the first frame below ``off``; open at the start.

    Args:
        closure: (..., T) closure of the eyes, higher = more closed.
        on: Threshold to close.
        off: Threshold to open, at most ``on``.

    Returns:
        (..., T) bool.
    """
    if off > on:
        raise ValueError(f"off ({off}) must not exceed on ({on})")
    frames = np.arange(closure.shape[-1])
    decided = np.where(closure >= on, 1, np.where(closure < off, 0, -1))
    last = np.maximum.accumulate(np.where(decided >= 0, frames, -1), axis=-1)
    return (np.take_along_axis(decided, np.maximum(last, 0), axis=-1) == 1) & (last >= 0)


def blink_events(closure: np.ndarray, on: float = ON_CLOSURE, off: float = OFF_CLOSURE) -> np.ndarray:
    """Blinks of one clip.

    Args:
        closure: (T,) closure of the eyes.
        on: Threshold to close.
        off: Threshold to open.

    Returns:
        (n, 2) int: first closed frame and first open frame after it (T when the clip ends closed).

    Source: two-threshold counting as in ``paper-facts`` 6.7; thresholds 0.5 and 0.3 on eyelid coefficients.
    Pitfalls: a lowered lid (sad, squinting) above ``on`` counts once as a very long blink; rates of short clips are coarse, so pool events over time.
    """
    closed = closed_mask(np.asarray(closure, dtype=np.float64), on, off).astype(np.int8)
    steps = np.diff(closed, prepend=0, append=0)
    return np.stack([np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)], axis=1)


class BlinkStatistics(Accumulator):
    """Pooled blink rate [1/s] (``compute``), durations [s], intervals [s] and greatest closures over many clips.

    The rate is all blinks over all seconds, never a mean of clip rates. Intervals are start to start inside one clip. Direction: near the real value.
    """

    def __init__(self, fps_hz: float, on: float = ON_CLOSURE, off: float = OFF_CLOSURE) -> None:
        self.fps_hz, self.on, self.off = fps_hz, on, off
        self.reset()

    def reset(self) -> None:
        self.seconds = 0.0
        self.durations_s: list[float] = []
        self.intervals_s: list[float] = []
        self.closures: list[float] = []

    def update(self, closure: np.ndarray) -> None:
        """Add one clip, or (N, T) clips of equal length."""
        for row in np.atleast_2d(closure):
            events = blink_events(row, self.on, self.off)
            self.seconds += row.size / self.fps_hz
            self.durations_s += ((events[:, 1] - events[:, 0]) / self.fps_hz).tolist()
            self.intervals_s += (np.diff(events[:, 0]) / self.fps_hz).tolist()
            self.closures += [float(row[start:end].max()) for start, end in events]

    def merge(self, other: BlinkStatistics) -> None:
        self.seconds += other.seconds
        self.durations_s = self.durations_s + other.durations_s
        self.intervals_s = self.intervals_s + other.intervals_s
        self.closures = self.closures + other.closures

    @property
    def count(self) -> int:
        """Number of blinks."""
        return len(self.durations_s)

    def compute(self) -> float:
        return self.count / self.seconds if self.seconds else float("nan")

    def mean_duration_s(self) -> float:
        """Mean time from closing to opening [s]."""
        return float(np.mean(self.durations_s)) if self.durations_s else float("nan")

    def median_interval_s(self) -> float:
        """Median time between two starts [s]; biased low when clips are short."""
        return float(np.median(self.intervals_s)) if self.intervals_s else float("nan")
