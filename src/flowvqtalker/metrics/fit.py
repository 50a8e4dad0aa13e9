"""How well a fitted head explains points that the fit has not seen, and how calmly and how fully it moves.

The fit sees 68 landmarks. A dense back end knows hundreds of other points of the same face; where they lie on the model's surface is
learnt from other people's clips (``match_surface``), so that a point's error on a clip is one of the fit and not of a table somebody drew.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from flowvqtalker.landmarks.schema import eye_openness, outer_eye_distance
from flowvqtalker.metrics.blinks import blink_events, closure_from_landmarks

#: Points of a triangle that are tried as a place: barycentric coordinates in steps of 1 / STEPS.
STEPS = 6
#: Standard deviation [frames] of the low pass that tells motion from noise, and frames around that must be still as well.
STILL_SD, STILL_REACH = 3.0, 9
#: Share of the landmarks that rest where a face is called still.
STILL_SHARE = 0.9
#: Frames around a blink in which its deepest moment is looked for.
BLINK_REACH = 3


class SurfacePoints(NamedTuple):
    """Places on a triangle mesh.

    Attributes:
        corners: (P, 3) vertices of the triangle each point lies in.
        weights: (P, 3) barycentric coordinates, each row sums to 1.
    """

    corners: np.ndarray
    weights: np.ndarray

    def of(self, vertices: np.ndarray) -> np.ndarray:
        """Values (..., V, C) at the vertices -> (..., P, C) at the places."""
        return np.einsum("...pkc,pk->...pc", vertices[..., self.corners, :], self.weights)


def _lattice() -> np.ndarray:
    """(n, 3) barycentric coordinates in steps of 1 / STEPS."""
    steps = [(i, j, STEPS - i - j) for i in range(STEPS + 1) for j in range(STEPS + 1 - i)]
    return np.array(steps, np.float64) / STEPS


def match_surface(vertices: np.ndarray, points: np.ndarray, triangles: np.ndarray) -> SurfacePoints:
    """Where on a surface points lie that were seen together with it: least mean squared distance in the picture.

    The nearest vertex first, then the triangles around it.

    Args:
        vertices: (F, V, 2) projected vertices of F frames, any unit.
        points: (F, P, 2) the points in the same frames and unit, finite.
        triangles: (T, 3) those of the part of the surface that can be seen; other vertices are not considered.

    Returns:
        One place for each of the P points.
    """
    used = np.unique(triangles)
    seen = vertices[:, used].astype(np.float64)
    # |p - v|^2 summed over frames, without an (F, P, V) array.
    cross = np.einsum("fpc,fvc->pv", points, seen, optimize=True)
    nearest = used[((seen**2).sum((0, 2)) - 2 * cross).argmin(1)]
    lattice = _lattice()
    corners, weights = np.zeros((points.shape[1], 3), np.int64), np.zeros((points.shape[1], 3))
    for index, vertex in enumerate(nearest):
        around = triangles[(triangles == vertex).any(1)]
        places = np.einsum("ftkc,nk->ftnc", vertices[:, around].astype(np.float64), lattice)
        cost = ((places - points[:, None, None, index]) ** 2).sum((0, 3))
        triangle, place = np.unravel_index(cost.argmin(), cost.shape)
        corners[index], weights[index] = around[triangle], lattice[place]
    return SurfacePoints(corners, weights)


def point_errors_pct(found: np.ndarray, points: np.ndarray, landmarks_px: np.ndarray) -> np.ndarray:
    """Distance of every point [% of the frame's outer-eye distance, landmarks 36 to 45]: (F, P, 2), (F, P, 2), (F, 68, 2) px -> (F, P)."""
    return 100 * np.linalg.norm(found - points, axis=-1) / outer_eye_distance(landmarks_px)[:, None]


def still_points(landmarks_px: np.ndarray, speed_pct: float) -> np.ndarray:
    """Where points rest: their low-passed speed stays below a bound for some frames around.

    Args:
        landmarks_px: (F, L, 2) px of neighbouring frames, finite; the first 68 are the landmarks.
        speed_pct: the bound [% of the outer-eye distance per frame].

    Returns:
        (F - 2, L) bool, for each second difference over time.
    """
    unit = np.median(outer_eye_distance(landmarks_px))
    slow = gaussian_filter1d(landmarks_px.astype(np.float64), STILL_SD, axis=0, mode="nearest")
    speed = 100 * np.linalg.norm(np.diff(slow, axis=0), axis=-1) / unit
    return maximum_filter1d(speed, STILL_REACH, axis=0, mode="nearest")[:-1] < speed_pct


def still_frames(landmarks_px: np.ndarray, speed_pct: float) -> np.ndarray:
    """Where the whole face rests: STILL_SHARE of the landmarks are slow for some frames around.

    Args:
        landmarks_px: (F, L, 2) px of neighbouring frames, finite; the first 68 are the landmarks.
        speed_pct: bound of the low-passed speed [% of the outer-eye distance per frame].

    Returns:
        (F - 2,) bool, for each second difference over time.
    """
    return still_points(landmarks_px, speed_pct).mean(1) >= STILL_SHARE


def acceleration_pct(landmarks_px: np.ndarray, where: np.ndarray) -> float:
    """Root mean square second difference over time [% of the outer-eye distance] of (F, L, 2) px where (F - 2, L) is true; NaN for nowhere."""
    second = 100 * np.diff(landmarks_px.astype(np.float64), n=2, axis=0) / np.median(outer_eye_distance(landmarks_px))
    return float(np.sqrt((second[where] ** 2).sum(-1).mean())) if where.any() else float("nan")


def blink_heights(raw_px: np.ndarray, fitted_px: np.ndarray) -> np.ndarray:
    """How much of each blink of the raw landmarks is left in the fitted head's.

    Args:
        raw_px: (F, 68, 2) px landmarks as they were detected, finite.
        fitted_px: (F, 68, 2) px landmarks of the fitted head.

    Returns:
        (n,) fall of the eye aspect ratio from its median open state to its least, fitted over raw, for each blink.
    """
    raw, fitted = eye_openness(raw_px).mean(-1), eye_openness(fitted_px).mean(-1)
    shares = []
    for start, stop in blink_events(closure_from_landmarks(raw_px)):
        around = slice(max(0, start - BLINK_REACH), stop + BLINK_REACH)
        fall = np.median(raw) - raw[around].min()
        shares.append((np.median(fitted) - fitted[around].min()) / fall)
    return np.array(shares)


def above_neutral(values: np.ndarray, neutral: np.ndarray) -> float:
    """Mean of a coefficient over a clip, in standard deviations of a neutral clip above that clip's mean: (F,), (G,) -> number."""
    return float((values.mean() - neutral.mean()) / max(neutral.std(), 1e-6))
