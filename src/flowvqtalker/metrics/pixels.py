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
_BLOCK_PX = 16


def _check_pair(generated: np.ndarray, real: np.ndarray) -> None:
    if generated.shape != real.shape:
        raise ShapeError(f"generated {tuple(generated.shape)} and real {tuple(real.shape)} must have the same shape")
    if generated.ndim != 4 or generated.shape[-1] != 3:
        raise ShapeError(f"frames: expected shape (T, H, W, 3), got {tuple(generated.shape)}")


def _unit_float(frame: np.ndarray) -> np.ndarray:
    """uint8 [0, 255] or float [0, 1] -> float32 [0, 1], of one frame: what is in work stays in the processor's cache."""
    return frame * np.float32(1 / 255) if frame.dtype == np.uint8 else frame.astype(np.float32)


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

    Unit: dB.
    Source: definition; frame-wise with a mean over frames as in the ViCo evaluation scripts.
    Pitfalls: the background counts as much as the face (see ``psnr_face_db``); a mean over frames of decibels differs from the
    decibels of a mean error; one identical frame makes a mean infinite.
    """
    _check_pair(generated, real)
    error = np.full(len(generated), np.nan)
    for index, (a, b) in enumerate(zip(generated, real, strict=True)):
        difference = _unit_float(a) - _unit_float(b)
        rows = difference.reshape(len(difference), -1) if mask is None else difference[mask[index]]
        if rows.size:  # each row is summed in float32, the rows in float64
            error[index] = np.einsum("ij,ij->i", rows, rows).sum(dtype=np.float64) / rows.size
    with np.errstate(divide="ignore"):
        return -10.0 * np.log10(error)


@functools.cache
def _window_matrix() -> np.ndarray:
    """(_BLOCK_PX + 10, _BLOCK_PX) float32: column k is the Gaussian window that begins at pixel k.

    A product with it filters one axis, far faster than a convolution with few channels; a matrix of the whole side would multiply mostly zeros.
    """
    taps = np.exp(-0.5 * (np.arange(-_WINDOW_RADIUS_PX, _WINDOW_RADIUS_PX + 1) / _WINDOW_SIGMA_PX) ** 2)
    matrix = np.zeros((_BLOCK_PX + 2 * _WINDOW_RADIUS_PX, _BLOCK_PX), dtype=np.float32)
    for start in range(_BLOCK_PX):
        matrix[start : start + len(taps), start] = taps / taps.sum()
    return matrix


def _local_means(maps: np.ndarray) -> np.ndarray:
    """(H, N, W) float32 of N maps -> (H - 10, N, W - 10): mean under the window at every place where it lies wholly inside."""
    window, reach = _window_matrix(), 2 * _WINDOW_RADIUS_PX
    height, number, width = maps.shape
    # The maps lie side by side, so that each block is one product of plain matrices.
    rows, upright = maps.reshape(height, -1), np.empty((height - reach, number * width), dtype=np.float32)
    for start in range(0, height - reach, _BLOCK_PX):
        size = min(_BLOCK_PX, height - reach - start)
        np.matmul(window[: size + reach, :size].T, rows[start : start + size + reach], out=upright[start : start + size])
    columns, result = upright.reshape(-1, width), np.empty(((height - reach) * number, width - reach), dtype=np.float32)
    for start in range(0, width - reach, _BLOCK_PX):
        size = min(_BLOCK_PX, width - reach - start)
        np.matmul(columns[:, start : start + size + reach], window[: size + reach, :size], out=result[:, start : start + size])
    return result.reshape(height - reach, number, width - reach)


def ssim(generated: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Structural similarity of each frame: Gaussian window (11 px, sigma 1.5), per colour channel, mean over channels and window places.

    ``SSIM = (2 mx my + c1)(2 sxy + c2) / ((mx^2 + my^2 + c1)(sx^2 + sy^2 + c2))``, c1 = 0.01^2, c2 = 0.03^2 at a data range of 1;
    only windows that lie wholly inside the picture count. Higher is better, 1 for identical frames.

    Args:
        generated: (T, H, W, 3) uint8 or float [0, 1] RGB, H and W at least 11.
        real: Same shape.

    Returns:
        (T,) float64 in [-1, 1].

    Unit: none.
    Source: Wang et al., IEEE TIP 2004; equal to scikit-image with ``gaussian_weights`` and ``use_sample_covariance=False`` and to TorchMetrics' map
    without its border (checked by tests).
    Pitfalls: libraries differ in border, window, colour and down-sampling (piq shrinks pictures above 256 px first).
    """
    _check_pair(generated, real)
    c1, c2 = 0.01**2, 0.03**2
    _, height, width, _ = generated.shape
    if min(height, width) <= 2 * _WINDOW_RADIUS_PX:
        raise ShapeError(f"frames: both sides need at least {2 * _WINDOW_RADIUS_PX + 1} px, got {height} x {width}")
    maps = np.empty((height, 4, width), dtype=np.float32)
    x, y, squares, product = (maps[:, number] for number in range(4))
    result = np.zeros(len(generated))
    for index, pair in enumerate(zip(generated, real, strict=True)):
        for channel in range(3):
            x[:], y[:] = (_unit_float(side[..., channel]) for side in pair)
            # Only the sum of the two variances is needed, so the squares are filtered as one map.
            np.add(x * x, y * y, out=squares)
            np.multiply(x, y, out=product)
            means = _local_means(maps)
            both = means[:, 0] * means[:, 1]
            own = np.square(means[:, 0]) + np.square(means[:, 1])
            values = (2 * both + c1) * (2 * (means[:, 3] - both) + c2)
            values /= (own + c1) * (means[:, 2] - own + c2)
            result[index] += values.mean(dtype=np.float64) / 3
    return result


class PSNR(MeanAccumulator):
    """Mean of :func:`psnr_db` over all frames seen [dB]."""

    def update(self, generated: np.ndarray, real: np.ndarray, mask: np.ndarray | None = None) -> None:
        self.add(psnr_db(generated, real, mask))


class SSIM(MeanAccumulator):
    """Mean of :func:`ssim` over all frames seen."""

    def update(self, generated: np.ndarray, real: np.ndarray) -> None:
        self.add(ssim(generated, real))
