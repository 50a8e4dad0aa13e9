"""Blinks as events: rate, duration and interval, from eyelid coefficients or from the eye's aspect ratio."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowvqtalker.metrics.base import Accumulator

#: Closure at which a blink starts and below which it ends, for eyelid coefficients in [0, 1].
ON_CLOSURE = 0.5
OFF_CLOSURE = 0.3
#: A blink whose lids get at least this far counts as complete.
COMPLETE_CLOSURE = 0.8
#: Eye aspect ratio of closed eyes over that of the same person's open eyes.
CLOSED_EAR_SHARE = 0.3
#: Times of events are stored in float32; a frame on the edge of an event belongs to it [s].
_EDGE_S = 1e-4


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


def shown_events(events_s: np.ndarray, closure: np.ndarray, fps_hz: float, on: float = ON_CLOSURE) -> np.ndarray:
    """Which true blinks a clip shows: those whose lids reach ``on`` in at least one of its frames. A clip's end may cut off the rest of a blink.

    Args:
        events_s: (n, 2) start and end [s] from the clip's first frame.
        closure: (T,) true closure of the eyes, 0 open to 1 closed.
        fps_hz: Frames a second.
        on: Threshold to close.

    Returns:
        (n,) bool.
    """
    times = np.arange(len(closure)) / fps_hz
    events = np.asarray(events_s, np.float64).reshape(-1, 2)
    inside = (times >= events[:, :1] - _EDGE_S) & (times <= events[:, 1:] + _EDGE_S)
    return np.any(inside & (np.asarray(closure) >= on), axis=1)


def closure_from_landmarks(landmarks_px: np.ndarray, open_quantile: float = 0.9, closed_share: float = CLOSED_EAR_SHARE) -> np.ndarray:
    """Closure of the eyes from landmarks alone: 0 at the person's own open eyes, 1 at closed ones.

    ``closure = (1 - ear / ear_open) / (1 - closed_share)``, ear_open the ``open_quantile`` of the clip's eye aspect ratios, clipped to [0, 1.5].

    Args:
        landmarks_px: (T, 68, 2) px of one clip, NaN without a face.
        open_quantile: Which of the clip's ratios counts as open; people blink in less than a tenth of the frames.
        closed_share: Ratio of closed eyes over open ones; landmarks of closed lids never coincide.

    Returns:
        (T,) float64; frames without a face take the last seen value (0 at the start).

    Source: adaptive eye-aspect-ratio threshold; see :func:`eye_aspect_ratio`.
    Pitfalls: a clip that is closed most of the time looks open; looking down lowers the lids and the ratio.
    """
    ratio = eye_aspect_ratio(landmarks_px)
    known = np.flatnonzero(np.isfinite(ratio))
    if not known.size:
        return np.zeros(len(ratio))
    closure = np.clip((1.0 - ratio / np.quantile(ratio[known], open_quantile)) / (1.0 - closed_share), 0.0, 1.5)
    last = np.maximum.accumulate(np.where(np.isfinite(ratio), np.arange(len(ratio)), -1))
    return np.where(last >= 0, closure[np.maximum(last, 0)], 0.0)


@dataclass(frozen=True)
class EventMatch:
    """Found events against true ones.

    Attributes:
        hits: Pairs that overlap, one to one.
        misses: True events without a partner.
        false_alarms: Found events without a partner.
    """

    hits: int
    misses: int
    false_alarms: int

    @property
    def f1(self) -> float:
        """``2 hits / (2 hits + misses + false alarms)``; NaN without any event."""
        total = 2 * self.hits + self.misses + self.false_alarms
        return 2.0 * self.hits / total if total else float("nan")


def match_events(found: np.ndarray, truth: np.ndarray, slack: float = 0.0) -> EventMatch:
    """Pair found events with true ones: each with at most one, in order of time, when they overlap or lie within ``slack``. Higher F1 is better.

    Args:
        found: (n, 2) start and end of each event, any unit of time, sorted.
        truth: (m, 2) the same for the true events.
        slack: Largest gap between two events that still count as one.

    Returns:
        Counts.

    Source: event-based precision and recall of blink detection (e.g. Drutarovsky and Fogelton, ECCV-W 2014), matching by overlap.
    Pitfalls: an event that spans two true ones is one hit and one miss.
    """
    used, hits = 0, 0
    for start, end in np.asarray(found, dtype=np.float64).reshape(-1, 2):
        while used < len(truth) and truth[used][1] + slack < start:
            used += 1
        if used < len(truth) and truth[used][0] - slack <= end:
            hits += 1
            used += 1
    return EventMatch(hits, len(truth) - hits, len(found) - hits)


def interval_distance_s(a_s: np.ndarray, b_s: np.ndarray) -> float:
    """Distance between two distributions of blink intervals (or durations) [s]: Wasserstein-1, the area between their cumulative shares. Lower is better.

    Args:
        a_s: (N,) values [s].
        b_s: (M,) values [s].

    Returns:
        Seconds by which intervals have to be moved on average; NaN when either side is empty. 0 for equal distributions.

    Unit: s.
    Source: earth mover's distance in one dimension (scipy.stats.wasserstein_distance).
    Pitfalls: intervals inside short clips are short (compare clips of equal length); few blinks make it large by chance: print the value of two
    halves of the real data beside it.
    """
    from scipy.stats import wasserstein_distance  # here: it takes a second to import, and scoring a clip does not need it

    a, b = np.asarray(a_s, np.float64).ravel(), np.asarray(b_s, np.float64).ravel()
    return float(wasserstein_distance(a, b)) if a.size and b.size else float("nan")


class BlinkF1(Accumulator):
    """Event F1 (``compute``) of blinks over many clips: hits, misses and false alarms are summed, never F1 values averaged. Higher is better, in [0, 1].

    ``unjudged`` counts true events that the clips do not show (see ``update``).
    """

    def __init__(self, slack: float = 0.0) -> None:
        self.slack = slack
        self.reset()

    def reset(self) -> None:
        self.match = EventMatch(0, 0, 0)
        self.unjudged = 0

    def update(self, found: np.ndarray, truth: np.ndarray, shown: np.ndarray | None = None) -> None:
        """Add one clip: (n, 2) found and (m, 2) true events in the same unit.

        ``shown`` (m,) bool says which true events the clip shows (all by default, see :func:`shown_events`). The others may be found or not:
        they are no misses, and what is found there and nowhere else is no false alarm.
        """
        found, truth = np.asarray(found, np.float64).reshape(-1, 2), np.asarray(truth, np.float64).reshape(-1, 2)
        if shown is not None:
            hidden, truth = truth[~shown], truth[shown]
            self.unjudged += len(hidden)
            near = [[match_events(event[None], side, self.slack).hits for side in (truth, hidden)] for event in found]
            found = found[[bool(on_shown or not on_hidden) for on_shown, on_hidden in near]] if near else found
        self._add(match_events(found, truth, self.slack))

    def merge(self, other: BlinkF1) -> None:
        self.unjudged += other.unjudged
        self._add(other.match)

    def _add(self, more: EventMatch) -> None:
        mine = self.match
        self.match = EventMatch(mine.hits + more.hits, mine.misses + more.misses, mine.false_alarms + more.false_alarms)

    def compute(self) -> float:
        return self.match.f1


class BlinkStatistics(Accumulator):
    """Pooled blink rate [1/s] (``compute``), durations [s], intervals [s] and greatest closures over many clips.

    The rate is all blinks over all seconds, never a mean of clip rates. Intervals are start to start inside one clip. Near the real value is better.

    Unit: 1/s (rate), s (durations and intervals), % of blinks (completeness).
    Source: Vougioukas et al., IJCV 2020 (blinks per second); the hysteresis of :func:`blink_events` is ours.
    Pitfalls: few blinks make a coarse rate, so pool many clips; a lowered lid counts as one very long blink; short clips hold short intervals
    only; a blink that an end of the clip cuts off counts where its lids reach the threshold in a frame that is shown.
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

    def completeness_pct(self, complete: float = COMPLETE_CLOSURE) -> float:
        """Share of blinks whose greatest closure is at least ``complete`` [%]: people close their eyes wholly in most blinks, smoothed motion does not."""
        return 100.0 * float(np.mean(np.array(self.closures) >= complete)) if self.closures else float("nan")

    def interval_distance_s(self, real: BlinkStatistics) -> float:
        """:func:`interval_distance_s` to the intervals of ``real``."""
        return interval_distance_s(np.array(self.intervals_s), np.array(real.intervals_s))

    def median_interval_s(self) -> float:
        """Median time between two starts [s]; biased low when clips are short."""
        return float(np.median(self.intervals_s)) if self.intervals_s else float("nan")
