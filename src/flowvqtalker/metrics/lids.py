"""Are eyes closed where they should be: a look at the picture itself, a threshold from labelled frames, and the share of closed frames that are found."""

from __future__ import annotations

import numpy as np

from flowvqtalker.metrics.base import Accumulator
from flowvqtalker.metrics.sharpness import luminance

#: Corners of the two eyes among the 68 landmarks.
_CORNERS = ((36, 39), (42, 45))
#: Half axes of the region of an eye in lengths of the eye: wide enough for an open eye, without brow and cheek.
_HALF_LENGTH, _HALF_HEIGHT = 0.5, 0.22


def eye_contrast(frames: np.ndarray, landmarks_px: np.ndarray, grey: np.ndarray | None = None) -> np.ndarray:
    """Standard deviation of the grey picture between the corners of an eye, mean of both eyes. High where white and iris are seen, low on a closed lid.

    The region is an ellipse on the line of the corners. Only the corners' places enter, not those of the lids, so that landmarks which are
    wrong about the lids do not matter.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        landmarks_px: (T, 68, 2) px; those of the real frame will do for a generated one that shows the same motion.
        grey: :func:`~flowvqtalker.metrics.sharpness.luminance` of the frames where it is known already.

    Returns:
        (T,) grey levels; NaN without landmarks or with an eye outside the picture.

    Unit: grey levels [0, 255].
    Source: ours.
    Pitfalls: it depends on the light and on the person, so divide by the person's open eyes; lashes and shadows leave a rest on closed lids; blur
    lowers it like a lid does, so read it beside the same measure of a picture with the same blur.
    """
    grey = luminance(frames) if grey is None else grey
    height, width = grey.shape[1:]
    v, u = np.mgrid[:height, :width].astype(np.float64)
    result = np.full(len(grey), np.nan)
    for index, points in enumerate(np.asarray(landmarks_px, np.float64)):
        if np.isnan(points).any():
            continue
        found = []
        for a, b in _CORNERS:
            middle, along = (points[a] + points[b]) / 2, points[b] - points[a]
            length = float(np.hypot(*along))
            if length <= 0:
                continue
            cos, sin = along / length
            x, y = u - middle[0], v - middle[1]
            inside = ((x * cos + y * sin) / (_HALF_LENGTH * length)) ** 2 + ((y * cos - x * sin) / (_HALF_HEIGHT * length)) ** 2 <= 1
            if inside.sum() >= 4:
                found.append(grey[index][inside].std())
        if len(found) == len(_CORNERS):
            result[index] = np.mean(found)
    return result


def balanced_accuracy(values: np.ndarray, closed: np.ndarray, threshold: float) -> float:
    """Mean of the shares of closed frames below the threshold and of other frames at or above it; in [0, 1], higher is better.

    Args:
        values: (N,) a measure that is low for closed eyes; NaN is left out.
        closed: (N,) bool.
        threshold: below it a frame is called closed.
    """
    values, closed = np.asarray(values, np.float64), np.asarray(closed, bool)
    known = ~np.isnan(values)
    found, true = values[known] < threshold, closed[known]
    if not true.any() or true.all():
        return float("nan")
    return float((found[true].mean() + (~found[~true]).mean()) / 2)


def closed_threshold(values: np.ndarray, closed: np.ndarray) -> float:
    """Threshold below which frames are best called closed: the one of greatest :func:`balanced_accuracy` (of several the middle one).

    Args:
        values: (N,) a measure that is low for closed eyes, e.g. eye aspect ratio over that of open eyes; NaN is left out.
        closed: (N,) bool truth, with frames of both kinds.

    Raises:
        ValueError: all frames are closed, or none is.
    """
    values, closed = np.asarray(values, np.float64), np.asarray(closed, bool)
    known = ~np.isnan(values)
    values, closed = values[known], closed[known]
    if not closed.any() or closed.all():
        raise ValueError(f"closed: a threshold needs frames of both kinds, got {int(closed.sum())} closed of {len(closed)}")
    order = np.argsort(values, kind="stable")
    sorted_values, sorted_closed = values[order], closed[order]
    # Cutting after the first k sorted values calls k frames closed.
    below = np.concatenate([[0], np.cumsum(sorted_closed)]) / closed.sum()
    above = 1.0 - np.concatenate([[0], np.cumsum(~sorted_closed)]) / (~closed).sum()
    padded = np.concatenate([[sorted_values[0] - 1.0], sorted_values, [sorted_values[-1] + 1.0]])
    cuts = (padded[:-1] + padded[1:]) / 2
    score = np.where(np.diff(padded) > 0, below + above, -np.inf)  # no cut lies between equal values
    best = np.flatnonzero(score >= score.max() - 1e-12)
    return float(cuts[best[len(best) // 2]])


class ClosedLids(Accumulator):
    """Share of the frames with closed eyes in truth that are found closed (``compute``), and share of the open ones that are wrongly found closed.

    Frames that are neither (lids half way) count for neither share.

    Unit: share of frames.
    Source: recall and false positive rate.
    Pitfalls: whatever finds closed eyes makes errors of its own: print the same of the real frames beside it.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.closed = self.closed_found = self.open = self.open_found = 0

    def update(self, values: np.ndarray, true_closure: np.ndarray, threshold: float, closed_at: float, open_at: float) -> None:
        """Add one clip.

        Args:
            values: (T,) a measure that is low for closed eyes; a NaN frame is not closed, since nobody could see it.
            true_closure: (T,) closure of the eyes in truth, 0 open to 1 closed.
            threshold: below it a frame is found closed.
            closed_at: closure from which eyes count as closed in truth.
            open_at: closure up to which they count as open.
        """
        found = np.nan_to_num(np.asarray(values, np.float64), nan=np.inf) < threshold
        closed, is_open = np.asarray(true_closure) >= closed_at, np.asarray(true_closure) <= open_at
        self.closed += int(closed.sum())
        self.closed_found += int((found & closed).sum())
        self.open += int(is_open.sum())
        self.open_found += int((found & is_open).sum())

    def merge(self, other: ClosedLids) -> None:
        self.closed += other.closed
        self.closed_found += other.closed_found
        self.open += other.open
        self.open_found += other.open_found

    def compute(self) -> float:
        return self.closed_found / self.closed if self.closed else float("nan")

    def false_closures(self) -> float:
        """Share of frames with open eyes that are found closed; NaN without such frames."""
        return self.open_found / self.open if self.open else float("nan")
