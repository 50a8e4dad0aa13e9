"""How far two landmark back ends agree on the same frames, and how much each of them shakes."""

from __future__ import annotations

import numpy as np

from flowvqtalker.landmarks.schema import GROUPS, Detections, outer_eye_distance


def agreement(first: Detections, second: Detections) -> dict[str, float]:
    """Agreement over a run of frames; lengths in per cent of the outer-eye distance (mean of both back ends), frame by frame.

    Args:
        first: T frames.
        second: the same frames.

    Returns:
        ``both``, ``only_first``, ``only_second``, ``neither``: shares of the frames by who finds a face;
        ``distance_pct``, ``distance_p95_pct``: median and 95th percentile over frames of the mean distance of the 68 points;
        ``<group>_pct``: median over frames for each group of points;
        ``habit_pct``: mean length of the points' constant offset: the two mean different places of the face;
        ``rest_pct``: median distance when that offset is taken off: what is left is error;
        ``shake_first_pct``, ``shake_second_pct``: root mean square of the points' second difference over time.
        NaN where no frame has both.

    Raises:
        ValueError: different numbers of frames.
    """
    if len(first.score) != len(second.score):
        raise ValueError(f"first and second: expected equally many frames, got {len(first.score)} and {len(second.score)}")
    one, two = first.present, second.present
    both = one & two
    count = max(1, len(both))
    result = {
        "both": both.sum() / count,
        "only_first": (one & ~two).sum() / count,
        "only_second": (two & ~one).sum() / count,
        "neither": (~one & ~two).sum() / count,
    }
    names = ("distance_pct", "distance_p95_pct", *(f"{name}_pct" for name in GROUPS), "habit_pct", "rest_pct")
    result |= dict.fromkeys(names, float("nan"))
    if both.any():
        a, b = first.landmarks_px[both].astype(np.float64), second.landmarks_px[both].astype(np.float64)
        unit = np.maximum((outer_eye_distance(a) + outer_eye_distance(b)) / 2, 1e-6)
        apart = (b - a) / unit[:, None, None] * 100
        distance = np.linalg.norm(apart, axis=-1)
        result["distance_pct"] = np.median(distance.mean(axis=1))
        result["distance_p95_pct"] = np.percentile(distance.mean(axis=1), 95)
        for name, points in GROUPS.items():
            result[f"{name}_pct"] = np.median(distance[:, points].mean(axis=1))
        habit = apart.mean(axis=0)
        result["habit_pct"] = np.linalg.norm(habit, axis=-1).mean()
        result["rest_pct"] = np.median(np.linalg.norm(apart - habit, axis=-1).mean(axis=1))
    result["shake_first_pct"], result["shake_second_pct"] = shake_pct(first.landmarks_px), shake_pct(second.landmarks_px)
    return {name: float(value) for name, value in result.items()}


def shake_pct(landmarks_px: np.ndarray) -> float:
    """Root mean square second difference over time of (T, 68, 2) points [% of the outer-eye distance]; NaN below three frames in a row."""
    unit = outer_eye_distance(landmarks_px)
    if not np.isfinite(unit).any():
        return float("nan")
    second = np.diff(landmarks_px.astype(np.float64), n=2, axis=0) / np.nanmedian(unit) * 100
    seen = second[np.isfinite(second).all(axis=(1, 2))]
    return float(np.sqrt((seen**2).sum(axis=-1).mean())) if len(seen) else float("nan")
