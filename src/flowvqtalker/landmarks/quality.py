"""Cheap signs of a usable crop: sharpness, head turn, size of the face. They are columns, not filters; thresholds belong to the user."""

from __future__ import annotations

import numpy as np

from flowvqtalker.landmarks.boxes import extent_of

#: Outer-eye distance over the distance from the eye corners' plane to the tip of the nose, both about 9 and 4.5 cm in an adult.
_EYES_OVER_NOSE = 2.0


def sharpness(frames: np.ndarray) -> np.ndarray:
    """Standard deviation of the Laplacian of the luminance: low means blurred.

    Args:
        frames: (T, H, W, 3) uint8 RGB.

    Returns:
        (T,) float32 in grey levels; it depends on the size, so compare crops of one size only.
    """
    grey = frames.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    laplacian = grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] + grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] - 4 * grey[:, 1:-1, 1:-1]
    return laplacian.std(axis=(1, 2))


def yaw_deg(points: np.ndarray) -> np.ndarray:
    """Rough head turn from the tip of the nose between the outer eye corners.

    With eyes 2a apart and the nose b in front of them, a turn by y shifts the tip by b sin(y) and leaves 2a cos(y) between the corners.

    Args:
        points: (..., 68, 2) px.

    Returns:
        (...,) degrees, positive towards the subject's left (the picture's right); trustworthy to about 10 degrees.
    """
    right, left, tip = points[..., 36, :], points[..., 45, :], points[..., 30, :]
    across = left - right
    length = np.maximum(np.linalg.norm(across, axis=-1), 1e-6)
    shift = ((tip - (left + right) / 2) * across).sum(axis=-1) / length
    return np.degrees(np.arctan(_EYES_OVER_NOSE * shift / length))


def face_share(points: np.ndarray, side_px: float) -> np.ndarray:
    """Size of the face (larger side of the landmarks' box) over the side of the crop; (...,) in [0, about 1]."""
    return extent_of(points)[1] / side_px
