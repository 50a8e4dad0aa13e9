"""Pixel fidelity against the real frame: PSNR and SSIM, on the whole frame and inside the face."""

from __future__ import annotations

import functools

import numpy as np
from scipy.spatial import ConvexHull, QhullError
from skimage.draw import polygon

from flowvqtalker.checks import ShapeError
from flowvqtalker.metrics.base import MeanAccumulator

_WINDOW_SIGMA_PX = 1.5
_WINDOW_RADIUS_PX = 5


def _as_unit_float(name: str, frames: np.ndarray) -> np.ndarray:
    """(T, H, W, 3) uint8 [0, 255] or float [0, 1] -> float32 [0, 1]."""
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise ShapeError(f"{name}: expected shape (T, H, W, 3), got {tuple(frames.shape)}")
    return frames.astype(np.float32) / 255.0 if frames.dtype == np.uint8 else frames.astype(np.float32)


def _pair(generated: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if generated.shape != real.shape:
        raise ShapeError(f"generated {tuple(generated.shape)} and real {tuple(real.shape)} must have the same shape")
    return _as_unit_float("generated", generated), _as_unit_float("real", real)


def face_mask(landmarks_px: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels inside the convex hull of a frame's 68 landmarks (jaw to brows; forehead and hair lie outside).

    Args:
        landmarks_px: (T, 68, 2) landmarks in px (u, v), integer values are pixel centres.
        height: Rows of the frame [px].
        width: Columns of the frame [px].

    Returns:
        (T, height, width) bool; all False where the landmarks are NaN (no face) or degenerate.
    """
    masks = np.zeros((len(landmarks_px), height, width), dtype=bool)
    for mask, points in zip(masks, landmarks_px, strict=True):
        if np.isnan(points).any():
            continue
        try:
            corners = points[ConvexHull(points).vertices]
        except QhullError:
            continue
        rows, columns = polygon(corners[:, 1], corners[:, 0], shape=(height, width))
        mask[rows, columns] = True
    return masks


def psnr_db(generated: np.ndarray, real: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Peak signal-to-noise ratio of each frame: ``10 log10(1 / MSE)`` over all pixels and colours. Higher is better.

    Args:
        generated: (T, H, W, 3) uint8 [0, 255] or float [0, 1] RGB.
        real: Same shape, the target.
        mask: Optional (T, H, W) bool; only these pixels count.

    Returns:
        (T,) float64 [dB]; infinite for identical frames, NaN where the mask is empty.

    Source: definition; frame-wise with a mean over frames as in the ViCo evaluation scripts.
    Pitfalls: the background counts as much as the face (see ``psnr_face_db``); a mean over frames of decibels differs from the
    decibels of a mean error; one identical frame makes a mean infinite.
    """
    left, right = _pair(generated, real)
    if mask is None:
        error = np.array([np.square(a - b).mean(dtype=np.float64) for a, b in zip(left, right, strict=True)])
    else:
        # Frame by frame: what is in work stays in the processor's cache.
        error = np.array(
            [np.square(a[m] - b[m]).mean(dtype=np.float64) if m.any() else np.nan for a, b, m in zip(left, right, mask, strict=True)]
        )
    with np.errstate(divide="ignore"):
        return -10.0 * np.log10(error)


@functools.cache
def _window_matrix(side: int) -> np.ndarray:
    """(side, side - 10) float32: column k is the Gaussian window that begins at pixel k. A product with it filters one axis, far faster than a 1-channel convolution."""
    taps = np.exp(-0.5 * (np.arange(-_WINDOW_RADIUS_PX, _WINDOW_RADIUS_PX + 1) / _WINDOW_SIGMA_PX) ** 2)
    matrix = np.zeros((side, side - 2 * _WINDOW_RADIUS_PX), dtype=np.float32)
    for start in range(matrix.shape[1]):
        matrix[start : start + len(taps), start] = taps / taps.sum()
    return matrix


def ssim(generated: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Structural similarity of each frame: Gaussian window (11 px, sigma 1.5), per colour channel, mean over channels and window places.

    ``SSIM = (2 mx my + c1)(2 sxy + c2) / ((mx^2 + my^2 + c1)(sx^2 + sy^2 + c2))``, c1 = 0.01^2, c2 = 0.03^2 at a data range of 1;
    only windows that lie wholly inside the picture count. Higher is better, 1 for identical frames.

    Args:
        generated: (T, H, W, 3) uint8 or float [0, 1] RGB, H and W at least 11.
        real: Same shape.

    Returns:
        (T,) float64 in [-1, 1].

    Source: Wang et al., IEEE TIP 2004; equal to scikit-image with ``gaussian_weights`` and ``use_sample_covariance=False`` and to TorchMetrics' map
    without its border (checked by tests). Pitfalls: libraries differ in border, window, colour and down-sampling (piq shrinks pictures above 256 px first).
    """
    left, right = _pair(generated, real)
    rows, columns = _window_matrix(left.shape[1]), _window_matrix(left.shape[2])
    c1, c2 = 0.01**2, 0.03**2
    result = np.empty(len(left))
    # Frame by frame: what is in work stays in the processor's cache.
    for index, pair in enumerate(zip(left, right, strict=True)):
        x, y = (np.ascontiguousarray(side.transpose(2, 0, 1)) for side in pair)
        mean_x, mean_y, square_x, square_y, product = (rows.T @ picture @ columns for picture in (x, y, x * x, y * y, x * y))
        both, own_x, own_y = mean_x * mean_y, mean_x**2, mean_y**2
        variances = square_x - own_x + square_y - own_y
        values = (2 * both + c1) * (2 * (product - both) + c2) / ((own_x + own_y + c1) * (variances + c2))
        result[index] = values.mean(axis=(1, 2), dtype=np.float64).mean()
    return result


class PSNR(MeanAccumulator):
    """Mean of :func:`psnr_db` over all frames seen [dB]."""

    def update(self, generated: np.ndarray, real: np.ndarray, mask: np.ndarray | None = None) -> None:
        self.add(psnr_db(generated, real, mask))


class SSIM(MeanAccumulator):
    """Mean of :func:`ssim` over all frames seen."""

    def update(self, generated: np.ndarray, real: np.ndarray) -> None:
        self.add(ssim(generated, real))
