"""Cuts that judges look at: the face, and the mouth, upright and of one size, found from landmarks.

The cut follows the rigid parts of the face only (eye corners and nose), so that an opening jaw moves inside the picture instead of moving the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import uniform_filter1d

from flowvqtalker.checks import ShapeError

#: Rigid points and their place in the face's own frame: u to the image's right, v down, unit = outer-eye distance, origin between the eyes.
#: Rounded proportions of a frontal adult face; a judge needs the same place every time, not the right one.
_RIGID_POINTS = (36, 39, 42, 45, 30, 33)
_TEMPLATE = np.array([(-0.5, 0.0), (-0.19, 0.0), (0.19, 0.0), (0.5, 0.0), (0.0, 0.42), (0.0, 0.55)])


@dataclass(frozen=True)
class Region:
    """A square of the face's own frame.

    Attributes:
        centre_v: Distance of the centre below the eye line, in outer-eye distances.
        half: Half of the side, in outer-eye distances.
    """

    centre_v: float
    half: float


MOUTH = Region(centre_v=0.82, half=0.44)
FACE = Region(centre_v=0.42, half=0.82)


def face_frames(landmarks_px: np.ndarray, smooth_frames: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Similarity transform from the face's own frame to pixels, frame by frame, smoothed over time.

    Args:
        landmarks_px: (T, 68, 2) px; frames without a face (NaN) take the nearest frame with one.
        smooth_frames: Length of the moving average [frames], against landmark jitter.

    Returns:
        (a, b), (T,) complex each: a point w = u + iv of the face's frame lies at pixel ``a w + b``.

    Raises:
        ShapeError: other shape. ValueError: no frame has a face.
    """
    if landmarks_px.ndim != 3 or landmarks_px.shape[1:] != (68, 2):
        raise ShapeError(f"landmarks: expected shape (T, 68, 2), got {tuple(landmarks_px.shape)}")
    rigid = landmarks_px[:, _RIGID_POINTS].astype(np.float64)
    known = np.flatnonzero(~np.isnan(rigid).any(axis=(1, 2)))
    if not known.size:
        raise ValueError("landmarks: no frame has a face")
    nearest = known[np.abs(np.arange(len(rigid))[:, None] - known[None]).argmin(axis=1)]
    points = rigid[nearest, :, 0] + 1j * rigid[nearest, :, 1]
    template = _TEMPLATE[:, 0] + 1j * _TEMPLATE[:, 1]
    centred = template - template.mean()
    a = ((points - points.mean(axis=1, keepdims=True)) * centred.conj()).sum(axis=1) / np.square(np.abs(centred)).sum()
    b = points.mean(axis=1) - a * template.mean()

    def smooth(series: np.ndarray) -> np.ndarray:
        return uniform_filter1d(series.real, smooth_frames, mode="nearest") + 1j * uniform_filter1d(
            series.imag, smooth_frames, mode="nearest"
        )

    return smooth(a), smooth(b)


def face_points(landmarks_px: np.ndarray) -> np.ndarray:
    """Landmarks in the face's own frame: what a face does, whatever its place, size and turn in the picture.

    Args:
        landmarks_px: (T, 68, 2) px; frames without a face (NaN) take the nearest frame with one.

    Returns:
        (T, 68, 2) float32 (u, v) in outer-eye distances, u to the image's right, v down, origin between the eyes.

    Raises:
        ShapeError, ValueError: as :func:`face_frames`.
    """
    a, b = face_frames(landmarks_px)
    known = np.flatnonzero(~np.isnan(landmarks_px).any(axis=(1, 2)))
    if not known.size:
        raise ValueError("landmarks: no frame has a face")
    nearest = known[np.abs(np.arange(len(landmarks_px))[:, None] - known[None]).argmin(axis=1)]
    w = (landmarks_px[nearest, :, 0] + 1j * landmarks_px[nearest, :, 1] - b[:, None]) / a[:, None]
    return np.stack([w.real, w.imag], axis=-1).astype(np.float32)


def cut(frames: np.ndarray, landmarks_px: np.ndarray, region: Region, size_px: int) -> np.ndarray:
    """Upright square cuts of one region of the face.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        landmarks_px: (T, 68, 2) px of these frames, NaN without a face.
        region: What to cut.
        size_px: Side of the result.

    Returns:
        (T, 3, size_px, size_px) uint8; outside the picture the border repeats.
    """
    if len(frames) != len(landmarks_px):
        raise ShapeError(f"cut: {len(frames)} frames but {len(landmarks_px)} sets of landmarks")
    a, b = face_frames(landmarks_px)
    steps = ((np.arange(size_px) + 0.5) / size_px * 2.0 - 1.0) * region.half
    grid = steps[None, :] + 1j * (steps[:, None] + region.centre_v)
    result = np.empty((len(frames), 3, size_px, size_px), dtype=np.uint8)
    for start in range(0, len(frames), 64):
        block = slice(start, start + 64)
        pixels = a[block, None, None] * grid + b[block, None, None]
        pictures = torch.from_numpy(np.ascontiguousarray(frames[block])).permute(0, 3, 1, 2).float()
        # Average before sampling when the picture is much finer than the cut, so that detail does not alias.
        factor = max(1, int(np.abs(a[block]).mean() * 2.0 * region.half / size_px))
        if factor > 1:
            pictures = F.avg_pool2d(pictures, factor, ceil_mode=True)
        # After pooling with a ragged end the picture reaches a little beyond the frame.
        reach = pictures.shape[3] * factor, pictures.shape[2] * factor
        where = np.stack([(pixels.real + 0.5) / reach[0] * 2.0 - 1.0, (pixels.imag + 0.5) / reach[1] * 2.0 - 1.0], axis=-1).astype(
            np.float32
        )
        cuts = F.grid_sample(pictures, torch.from_numpy(where), mode="bilinear", padding_mode="border", align_corners=False)
        result[block] = cuts.round().clamp(0, 255).byte().numpy()
    return result
