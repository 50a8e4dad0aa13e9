"""How well fitted coefficients agree with the truth of a rendered clip."""

from __future__ import annotations

import numpy as np
import torch

from flowvqtalker.fit.projection import rotation_with_derivatives


def correlation(fitted: np.ndarray, truth: np.ndarray) -> float:
    """Pearson correlation of two (T,) series over frames where both are finite; NaN when one of them does not move."""
    keep = np.isfinite(fitted) & np.isfinite(truth)
    a, b = fitted[keep].astype(np.float64), truth[keep].astype(np.float64)
    if len(a) < 2 or a.std() < 1e-6 or b.std() < 1e-6:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def rotation_error_deg(fitted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Geodesic angle between rotations.

    Args:
        fitted: (T, 3) or (T, 6) poses whose first three columns are rx, ry, rz [rad].
        truth: the same in the same camera.

    Returns:
        (T,) degrees.
    """
    first, second = (rotation_with_derivatives(torch.as_tensor(np.asarray(x, dtype=np.float64)[:, :3]))[0] for x in (fitted, truth))
    # The chord is exact for small angles, where the trace's arc cosine is not.
    chord = (first - second).flatten(1).norm(dim=1) / (2 * np.sqrt(2))
    return torch.rad2deg(2 * torch.asin(chord.clamp(max=1.0))).numpy()
