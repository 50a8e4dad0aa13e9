"""The clay head's underlying form: a loft of closed rings from crown to neck, without any feature yet.

A point of the loft has chart coordinates ``theta`` (turn about the vertical axis, 0 = front, positive to the subject's left, [rad]) and
``level`` (0 at the crown, 13 at the foot of the neck). Features, shapes and textures are placed by the *frontal* coordinates (x, y) [cm]
of the loft, which is what one sees in a portrait.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

Array = NDArray[np.float64]

#: One ring a row: height at front, side, back; depth (z) at front, side, back; half width. All cm in the head frame.
#: Rows run from the crown over the brow (4), eyes (5), nose (6), mouth (7), chin (8, 9), under the chin (10, 11) to the neck (12, 13).
RINGS = np.array([
    # y_front, y_side, y_back, z_front, z_side, z_back, half width
    [11.9, 11.9, 11.9, 0.2, 0.2, 0.2, 0.0],
    [11.0, 11.3, 11.2, 4.2, 0.2, -3.9, 3.7],
    [9.1, 9.4, 9.4, 7.0, 0.2, -6.7, 6.0],
    [6.2, 6.4, 6.5, 8.5, 0.2, -8.5, 7.1],
    [3.1, 3.2, 3.2, 9.0, 0.2, -9.1, 7.45],
    [0.0, 0.0, 0.0, 9.0, 0.3, -8.9, 7.3],
    [-3.0, -2.8, -2.6, 9.0, 0.5, -8.1, 6.95],
    [-6.0, -5.2, -4.8, 9.1, 1.0, -7.1, 6.55],
    [-9.0, -7.2, -6.4, 8.8, 1.3, -6.3, 5.95],
    [-11.0, -8.4, -7.6, 7.9, 0.9, -5.9, 5.35],
    [-11.6, -9.4, -8.8, 5.6, 0.0, -5.7, 5.1],
    [-12.0, -10.7, -10.4, 3.5, -0.9, -5.8, 4.95],
    [-14.4, -13.6, -13.4, 2.6, -1.8, -6.3, 4.95],
    [-18.5, -17.6, -17.4, 2.4, -2.2, -7.2, 5.4],
])  # fmt: skip
LAST_LEVEL = float(len(RINGS) - 1)
_CURVES = PchipInterpolator(np.arange(len(RINGS)), RINGS, axis=0)


def loft(theta: Array, level: Array) -> Array:
    """Points (..., 3) [cm] of the bare loft at chart coordinates of equal shape."""
    y_front, y_side, y_back, z_front, z_side, z_back, width = np.moveaxis(_CURVES(np.clip(level, 0.0, LAST_LEVEL)), -1, 0)
    cosine, sine = np.cos(theta), np.sin(theta)
    front, back = np.maximum(cosine, 0.0), np.maximum(-cosine, 0.0)
    y = y_side + (y_front - y_side) * front**2 + (y_back - y_side) * back**2
    z = z_side + (z_front - z_side) * front + (z_back - z_side) * back
    return np.stack([width * sine, y, z], axis=-1)


def chart_to_direction(theta: Array, level: Array) -> Array:
    """Unit vectors (..., 3) on the sphere on which the skin is triangulated (level runs from pole to near the other pole)."""
    latitude = np.pi / 2 - level / (LAST_LEVEL + 0.6) * np.pi
    return np.stack([np.cos(latitude) * np.sin(theta), np.sin(latitude), np.cos(latitude) * np.cos(theta)], axis=-1)


def direction_to_chart(direction: Array) -> tuple[Array, Array]:
    """Inverse of :func:`chart_to_direction`."""
    latitude = np.arcsin(np.clip(direction[..., 1], -1.0, 1.0))
    return np.arctan2(direction[..., 0], direction[..., 2]), (np.pi / 2 - latitude) / np.pi * (LAST_LEVEL + 0.6)


def frontal_to_chart(x: Array, y: Array, iterations: int = 40) -> tuple[Array, Array]:
    """Chart coordinates of the point on the front of the loft that a portrait shows at (x, y) [cm].

    Points wider than the head land on its silhouette (theta = +-pi/2).
    """
    levels = np.linspace(0.0, LAST_LEVEL, 1301)
    curves = _CURVES(levels)
    side, rise = curves[:, 1], curves[:, 0] - curves[:, 1]
    theta, level = np.zeros_like(x), np.zeros_like(x)
    for _ in range(iterations):
        front = np.cos(theta) ** 2
        # Heights fall with the level, so the crossing is found by halving the range.
        above, at = np.zeros(len(x), np.int64), np.full(len(x), len(levels) - 1)
        for _ in range(11):
            middle = (above + at) // 2
            higher = side[middle] + rise[middle] * front > y
            above, at = np.where(higher, middle, above), np.where(higher, at, middle)
        at = np.maximum(at, above + 1).clip(1, len(levels) - 1)
        high, low = side[at - 1] + rise[at - 1] * front, side[at] + rise[at] * front
        level = levels[at - 1] + (levels[1] - levels[0]) * np.clip((high - y) / np.maximum(high - low, 1e-9), 0.0, 1.0)
        width = np.interp(level, levels, curves[:, 6])
        theta = np.arcsin(np.clip(x / np.maximum(width, 1e-6), -1.0, 1.0))
    return theta, level
