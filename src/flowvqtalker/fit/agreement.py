"""How well fitted coefficients agree with the truth of a rendered clip."""

from __future__ import annotations

import numpy as np
import torch

from flowvqtalker.face.pose import euler_to_matrix, rotation_angle


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
    first, second = (euler_to_matrix(torch.as_tensor(np.asarray(x, dtype=np.float64)[:, :3])) for x in (fitted, truth))
    return torch.rad2deg(rotation_angle(first.transpose(1, 2) @ second)).numpy()
