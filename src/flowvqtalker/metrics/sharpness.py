"""Sharpness without a reference (CPBD), mouth sharpness and flicker."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import convolve1d
from skimage.feature import canny

from flowvqtalker.checks import ShapeError
from flowvqtalker.metrics.base import MeanAccumulator

_BLOCK_PX = 64
_EDGE_SHARE = 0.002
_BETA = 3.6
_MAX_RUN_PX = 100


def luminance(frames: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 RGB -> (...) float64 grey [0, 255] with the weights of ITU-R BT.601."""
    return frames.astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def _runs(steps: np.ndarray) -> np.ndarray:
    """Length of the run of True that ends at each column, counted from the left: (H, W) bool -> (H, W) int."""
    result = np.zeros(steps.shape, dtype=np.int64)
    result[:, 0] = steps[:, 0]
    for column in range(1, steps.shape[1]):
        result[:, column] = np.where(steps[:, column], result[:, column - 1] + 1, 0)
    return result


def _edge_widths(grey: np.ndarray) -> np.ndarray:
    """Marziliano's edge widths [px] at thinned horizontal-gradient edges, 0 elsewhere."""
    strength = np.square(convolve1d(convolve1d(grey, [1.0, 2.0, 1.0], axis=0), [1.0, 0.0, -1.0], axis=1) / 8.0)
    # The threshold mixes a squared strength with a root, as the public implementations do; parity matters more than beauty here.
    strength = np.where(strength <= 2.0 * np.sqrt(strength.mean()), 0.0, strength)
    padded = np.pad(strength, 1)
    peaks = ((strength > padded[1:-1, :-2]) & (strength > padded[1:-1, 2:])) | (
        (strength > padded[:-2, 1:-1]) & (strength > padded[2:, 1:-1])
    )
    peaks[[0, -1]] = False
    peaks[:, [0, -1]] = False

    gradient_y, gradient_x = np.gradient(grey)
    angle = np.where(gradient_x != 0, np.degrees(np.arctan2(gradient_y, gradient_x)), 0.0)
    widths = np.zeros(grey.shape)
    if not angle.any():
        return widths
    quantised = np.abs(45.0 * np.round(angle / 45.0))
    difference = np.diff(grey, axis=1)
    for wanted, sign in ((180.0, 1.0), (0.0, -1.0)):
        # Towards the left the grey value must keep rising (falling for angle 0); towards the right the opposite. Runs are strict.
        falls_right = sign * difference < 0
        left_runs = np.zeros(grey.shape, dtype=np.int64)
        left_runs[:, 2:] = _runs(falls_right)[:, :-1]
        right_runs = np.zeros(grey.shape, dtype=np.int64)
        right_runs[:, :-2] = _runs(falls_right[:, ::-1])[:, ::-1][:, 1:]
        total = np.minimum(left_runs, _MAX_RUN_PX) + np.minimum(right_runs, _MAX_RUN_PX) + 2.0
        chosen = peaks & (quantised == wanted)
        widths[chosen] = total[chosen]
    return widths


def cpbd(grey: np.ndarray) -> float:
    """Cumulative probability of blur detection of one picture. Higher is sharper, in [0, 1]; compare with the real value.

    An edge of width w in a 64 px block with just-noticeable width w_j (5 px up to a contrast of 50 grey levels, else 3 px) is seen as blurred with
    ``P = 1 - exp(-(w / w_j)^3.6)``; CPBD is the share of edges with P at most 0.63. Blocks with at most 0.2 % edge pixels are left out.

    Args:
        grey: (H, W) grey values [0, 255], any real type; both sides at least 64 px.

    Returns:
        Share of sharp edges; 0 when the picture has no edges (as in the reference).

    Unit: share of edges.
    Source: Narvekar and Karam, IEEE TIP 2011; equal to the ``cpbd`` package 1.0.7 (checked by a test).
    Pitfalls: depends strongly on resolution and background; compare at one size and print the real video's value beside it; noise raises it.
    """
    if grey.ndim != 2 or min(grey.shape) < _BLOCK_PX:
        raise ShapeError(f"grey: expected (H, W) with both at least {_BLOCK_PX}, got {tuple(grey.shape)}")
    image = grey.astype(np.float64)
    edges = canny(image)
    widths = _edge_widths(image)
    sharp = total = 0
    for row in range(0, image.shape[0] - _BLOCK_PX + 1, _BLOCK_PX):
        for column in range(0, image.shape[1] - _BLOCK_PX + 1, _BLOCK_PX):
            block = slice(row, row + _BLOCK_PX), slice(column, column + _BLOCK_PX)
            if np.count_nonzero(edges[block]) <= _EDGE_SHARE * _BLOCK_PX**2:
                continue
            found = widths[block][widths[block] > 0]
            contrast = int(image[block].max() - image[block].min())
            probability = 1.0 - np.exp(-((found / (5.0 if contrast <= 50 else 3.0)) ** _BETA))
            sharp += int((np.rint(100.0 * probability) <= 63).sum())
            total += found.size
    return sharp / total if total else 0.0


class CPBD(MeanAccumulator):
    """Mean of :func:`cpbd` over every ``every``-th frame."""

    def __init__(self, every: int = 1) -> None:
        self.every = every
        super().__init__()

    def update(self, frames: np.ndarray) -> None:
        self.add([cpbd(np.rint(luminance(frame))) for frame in frames[:: self.every]])


def mouth_sharpness(frames: np.ndarray, landmarks_px: np.ndarray, grey: np.ndarray | None = None) -> np.ndarray:
    """Standard deviation of the Laplacian of the grey picture in the box of the mouth. Compare with the real video: blur lowers it, noise raises it.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        landmarks_px: (T, 68, 2) px; the box of points 48-67, 25 % wider on each side.
        grey: :func:`luminance` of the frames where it is known already.

    Returns:
        (T,) grey levels; NaN without a face or with a mouth outside the picture.

    Unit: grey levels [0, 255].
    Source: variance of the Laplacian as a focus measure (Pech-Pacheco et al., ICPR 2000), its root taken to have grey levels.
    Pitfalls: noise and block artefacts raise it like teeth do; it depends on the picture's size.
    """
    grey = luminance(frames) if grey is None else grey
    height, width = grey.shape[1:]
    result = np.full(len(frames), np.nan)
    for index, points in enumerate(landmarks_px[:, 48:68]):
        if np.isnan(points).any():
            continue
        low, high = points.min(axis=0), points.max(axis=0)
        margin = 0.25 * (high - low)
        left, top = np.maximum(np.floor(low - margin), 0).astype(int)
        right, bottom = np.minimum(np.ceil(high + margin) + 1, (width, height)).astype(int)
        box = grey[index, top:bottom, left:right]
        if min(box.shape) < 3:
            continue
        laplacian = box[:-2, 1:-1] + box[2:, 1:-1] + box[1:-1, :-2] + box[1:-1, 2:] - 4.0 * box[1:-1, 1:-1]
        result[index] = laplacian.std()
    return result


def flicker(frames: np.ndarray, grey: np.ndarray | None = None) -> np.ndarray:
    """Mean absolute second difference in time of the grey picture: ``mean |x[t+1] - 2 x[t] + x[t-1]|``. Compare with the real video; lower is steadier.

    Steady motion of a smooth texture cancels to first order, a picture that jumps to and fro does not.

    Args:
        frames: (T, H, W, 3) uint8 RGB, T at least 3.
        grey: :func:`luminance` of the frames where it is known already.

    Returns:
        (T - 2,) grey levels.

    Unit: grey levels [0, 255].
    Source: ours (second temporal difference).
    Pitfalls: real blinks and fast speech have some too, so 0 (a still) is not the aim.
    """
    grey = (luminance(frames) if grey is None else grey).astype(np.float32)
    return np.abs(grey[2:] - 2.0 * grey[1:-1] + grey[:-2]).mean(axis=(1, 2), dtype=np.float64)


class MouthSharpness(MeanAccumulator):
    """Mean of :func:`mouth_sharpness` over all frames seen."""

    def update(self, frames: np.ndarray, landmarks_px: np.ndarray) -> None:
        self.add(mouth_sharpness(frames, landmarks_px))


class Flicker(MeanAccumulator):
    """Mean of :func:`flicker` over all inner frames seen."""

    def update(self, frames: np.ndarray) -> None:
        self.add(flicker(frames))
