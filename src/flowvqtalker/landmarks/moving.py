"""Square crops that follow a face which wanders through the picture: one side, a slow path, cut out at fractions of a pixel."""

from __future__ import annotations

import numpy as np
from PIL import Image

from flowvqtalker.landmarks.boxes import extent_of
from flowvqtalker.landmarks.schema import has_face


def moving_boxes(landmarks_px: np.ndarray, *, scale: float, shift_up_share: float, sd_frames: float) -> np.ndarray:
    """Square boxes of one side along a smoothed path.

    The path is the face's centre, interpolated where there is none, smoothed by a Gaussian of ``sd_frames``. Head motion faster than that stays in
    the crop, where the fitted pose needs it; where the face outruns the path the side grows, so that it never leaves (98 % of the frames).

    Args:
        landmarks_px: (T, 68, 2) px, NaN without a face; at least one frame is finite.
        scale: side over face size.
        shift_up_share: the boxes move up by this share of their side.
        sd_frames: standard deviation of the smoothing [frames], > 0.

    Returns:
        (T, 4) float64 boxes (x0, y0, x1, y1) in pixel edges.
    """
    seen = np.flatnonzero(has_face(landmarks_px))
    if len(seen) == 0:
        raise ValueError("landmarks_px: no frame has a face")
    centres, sizes = extent_of(landmarks_px[seen].astype(np.float64))
    frames = np.arange(len(landmarks_px))
    path = np.stack([np.interp(frames, seen, centres[:, axis]) for axis in range(2)], axis=-1)
    path = _smooth(path, sd_frames)
    side = scale * float(np.percentile(sizes, 95))
    path[:, 1] -= shift_up_share * side
    points = landmarks_px[seen].astype(np.float64)
    reach = np.abs(points - path[seen][:, None]).max(axis=(1, 2))
    side = max(side, 2.0 * float(np.percentile(reach, 98)))
    corner = path + 0.5 - side / 2
    return np.concatenate([corner, corner + side], axis=-1)


def _smooth(path: np.ndarray, sd: float) -> np.ndarray:
    """Gaussian smoothing of (T, 2) along time; the ends are mirrored about their last point, so that a steady motion stays one."""
    reach = min(int(np.ceil(3 * sd)), len(path) - 1)
    if reach < 1:
        return path
    head = 2 * path[0] - path[reach:0:-1]
    tail = 2 * path[-1] - path[-2 : -reach - 2 : -1]
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sd) ** 2)
    kernel /= kernel.sum()
    long = np.concatenate([head, path, tail])
    return np.stack([np.convolve(long[:, axis], kernel, mode="valid") for axis in range(2)], axis=-1)


def to_moving_crop(points: np.ndarray, boxes: np.ndarray, size_px: int) -> np.ndarray:
    """Points (T, L, 2) of the picture in their frame's crop: u_crop = (u + 0.5 - x0) * S / (x1 - x0) - 0.5."""
    scale = size_px / (boxes[:, 2] - boxes[:, 0])
    return ((points + 0.5 - boxes[:, None, :2]) * scale[:, None, None] - 0.5).astype(points.dtype)


def crop_moving(frames: np.ndarray, boxes: np.ndarray, size_px: int) -> np.ndarray:
    """Cut each frame's own box out and resize it; beyond the picture its border pixels are repeated.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        boxes: (T, 4) float boxes of one size, square.
        size_px: side of the result.

    Returns:
        (T, size_px, size_px, 3) uint8 RGB, antialiased bicubic.
    """
    height, width = frames.shape[1:3]
    cut = np.empty((len(frames), size_px, size_px, 3), np.uint8)
    for index, (frame, box) in enumerate(zip(frames, boxes, strict=True)):
        low, high = np.floor(box[:2]).astype(int) - 4, np.ceil(box[2:]).astype(int) + 4  # room for the filter
        rows, columns = np.clip(np.arange(low[1], high[1]), 0, height - 1), np.clip(np.arange(low[0], high[0]), 0, width - 1)
        part = Image.fromarray(np.ascontiguousarray(frame[rows[:, None], columns[None, :]]))
        inner = (box[0] - low[0], box[1] - low[1], box[2] - low[0], box[3] - low[1])
        cut[index] = np.asarray(part.resize((size_px, size_px), Image.Resampling.BICUBIC, box=inner))
    return cut
