"""What is seen between the lips: how far they are open, and light and dark (teeth and cavity) in the inner mouth."""

from __future__ import annotations

import numpy as np
from skimage.draw import polygon

from flowvqtalker.constants import LIP_PAIRS

_INNER = slice(60, 68)
#: Fewer pixels between the lips say nothing about teeth.
LEAST_PX = 8


def lip_gap(landmarks_px: np.ndarray) -> np.ndarray:
    """Distance of the inner lips, mean of three pairs, over that of the outer corners of the eyes; 0 with closed lips, 0.2 is wide open.

    Args:
        landmarks_px: (..., 68, 2) px.

    Returns:
        (...) share.
    """
    points = np.asarray(landmarks_px, np.float64)
    gaps = [np.linalg.norm(points[..., a, :] - points[..., b, :], axis=-1) for a, b in LIP_PAIRS]
    return np.mean(gaps, axis=0) / np.linalg.norm(points[..., 36, :] - points[..., 45, :], axis=-1)


def inner_mouth_pixels(grey: np.ndarray, landmarks_px: np.ndarray) -> list[np.ndarray]:
    """Grey values between the inner lips of each frame, in the order of rows: T arrays, empty where fewer than ``LEAST_PX`` pixels are seen.

    Args:
        grey: (T, H, W) grey levels [0, 255].
        landmarks_px: (T, 68, 2) px; pictures of the same motion share those of the real frames, so that their pixels can be paired.
    """
    result = []
    for picture, points in zip(grey, np.asarray(landmarks_px, np.float64)[:, _INNER], strict=True):
        if np.isnan(points).any():
            result.append(np.zeros(0))
            continue
        rows, columns = polygon(points[:, 1], points[:, 0], shape=picture.shape)
        order = np.lexsort((columns, rows))
        values = picture[rows[order], columns[order]]
        result.append(values if len(values) >= LEAST_PX else np.zeros(0))
    return result


def teeth_contrast(grey: np.ndarray, landmarks_px: np.ndarray) -> np.ndarray:
    """Difference between light and dark in the inner mouth: 90th minus 10th percentile of its grey values. Compare with the real video.

    Teeth are light and the cavity is dark; where both are seen the difference is large, and a mouth of one mean grey has none.

    Args:
        grey: (T, H, W) grey levels [0, 255].
        landmarks_px: (T, 68, 2) px.

    Returns:
        (T,) grey levels; NaN where the lips show too little.

    Unit: grey levels [0, 255].
    Source: ours.
    Pitfalls: a mouth that shows teeth only, or only the cavity, has little in the real video too; lips that do not follow the landmarks put
    themselves into the region; noise raises it.
    """
    return np.array([np.subtract(*np.percentile(one, [90, 10])) if one.size else np.nan for one in inner_mouth_pixels(grey, landmarks_px)])


def teeth_correlation(grey: np.ndarray, real: np.ndarray, landmarks_px: np.ndarray) -> np.ndarray:
    """Pearson correlation of the inner mouth's pixels with those of the real frame: 1 when teeth and cavity are where they should be. Higher is better.

    Args:
        grey: (T, H, W) grey levels.
        real: (T, H, W) of the real frames.
        landmarks_px: (T, 68, 2) px of the real frames.

    Returns:
        (T,) in [-1, 1]; NaN where the lips show too little or the real mouth is of one grey; 0 where only the generated one is.

    Unit: none.
    Source: Pearson correlation over pixels; the region is ours.
    Pitfalls: it does not see brightness and contrast: read it beside :func:`teeth_contrast`.
    """
    result = np.full(len(grey), np.nan)
    pairs = zip(inner_mouth_pixels(grey, landmarks_px), inner_mouth_pixels(real, landmarks_px), strict=True)
    for index, (a, b) in enumerate(pairs):
        if not b.size or b.std() < 1e-6:
            continue
        result[index] = np.corrcoef(a, b)[0, 1] if a.std() >= 1e-6 else 0.0
    return result
