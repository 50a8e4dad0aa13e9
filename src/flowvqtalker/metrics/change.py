"""What a label changes in the picture: the mean aligned face of a clip, and the map of its difference to the same person's neutral one."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from flowvqtalker.checks import ShapeError
from flowvqtalker.landmarks.align import look, similarity
from flowvqtalker.landmarks.schema import N_LANDMARKS, has_face
from flowvqtalker.metrics.sharpness import luminance

#: Corners of the eyes and the bridge of the nose: they keep their place on the head whatever the face does.
STILL_WEIGHTS = torch.zeros(N_LANDMARKS)
STILL_WEIGHTS[[27, 28, 29, 30, 36, 39, 42, 45]] = 1.0


def to_unit(points_px: np.ndarray, size_px: int) -> np.ndarray:
    """Pixel coordinates of a square picture in half sides, [-1, 1] from edge to edge."""
    return (2.0 * np.asarray(points_px, np.float64) + 1.0) / size_px - 1.0


def aligned_mean(frames: np.ndarray, landmarks_px: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Mean grey picture of a clip's face after each frame is laid over a template by rotation, scale and shift of the points that do not move with expression.

    Args:
        frames: (T, S, S, 3) uint8 RGB.
        landmarks_px: (T, 68, 2) px; frames with NaN are left out.
        template: (68, 2) where the points of the result shall lie, in half sides of the picture.

    Returns:
        (S, S) float64 grey levels [0, 255]; NaN everywhere when no frame has landmarks.

    Raises:
        ShapeError: pictures that are not square, or another number of frames than landmarks.
    """
    if frames.ndim != 4 or frames.shape[1] != frames.shape[2] or len(frames) != len(landmarks_px):
        raise ShapeError(f"frames: expected (T, S, S, 3) with T = {len(landmarks_px)}, got {tuple(frames.shape)}")
    size = frames.shape[1]
    seen = np.flatnonzero(has_face(landmarks_px))
    if not seen.size:
        return np.full((size, size), np.nan)
    points = torch.from_numpy(to_unit(landmarks_px[seen], size)).float()
    goal = torch.from_numpy(np.asarray(template, np.float64)).float()[None].expand(len(points), -1, -1)
    pictures = look(torch.from_numpy(np.ascontiguousarray(frames[seen])), similarity(goal, points, STILL_WEIGHTS), size)
    return luminance(255.0 * pictures.mean(0).permute(1, 2, 0).double().numpy())


def fine_change(change: np.ndarray, sd_px: float) -> np.ndarray:
    """What of a change is finer than a Gaussian of ``sd_px``: creases and edges, without light and shade that vary slowly over the face.

    Args:
        change: (H, W) difference of two aligned mean pictures.
        sd_px: standard deviation of the Gaussian [px], > 0.

    Returns:
        (H, W) ``change`` minus its smoothed self.
    """
    return change - gaussian_filter(change, sd_px, mode="nearest")


def change_energy(change: np.ndarray, mask: np.ndarray) -> float:
    """Mean absolute change inside a region: ``mean |d|``. Compare with the real video's.

    Args:
        change: (H, W) difference of two aligned mean pictures [grey levels].
        mask: (H, W) bool.

    Returns:
        Grey levels; NaN when the region is empty.

    Unit: grey levels [0, 255].
    Source: ours.
    Pitfalls: two takes of one performance differ too: print their change as the floor; what moves counts like what changes its shade.
    """
    return float(np.abs(change[mask]).mean()) if mask.any() else float("nan")


def change_correlation(change: np.ndarray, real: np.ndarray, mask: np.ndarray) -> float:
    """Pearson correlation of a change with the real one over the pixels of a region, signs included. Higher is better.

    Args:
        change: (H, W) difference of two aligned mean pictures.
        real: (H, W) the same of the real video.
        mask: (H, W) bool.

    Returns:
        In [-1, 1]; NaN when the real change is the same everywhere, 0 when only the other one is.

    Unit: none.
    Source: Pearson correlation.
    Pitfalls: it does not see how strong a change is: read it beside :func:`change_energy`.
    """
    a, b = change[mask], real[mask]
    if a.size < 2 or not b.std() > 1e-9:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-9 else 0.0
