"""Regions of a crop from its 68 landmarks: face mask, mouth and eye boxes, and the weight maps of the losses."""

from __future__ import annotations

import torch
from torch import Tensor

MOUTH = slice(48, 68)
RIGHT_EYE = slice(36, 42)
LEFT_EYE = slice(42, 48)
BROWS = slice(17, 28)


def box_mask(points: Tensor, size_px: int, grow: float, least_px: float) -> Tensor:
    """Boxes around points as masks.

    Args:
        points: (B, P, 2) px, u right, v down.
        size_px: side of the picture.
        grow: the box is enlarged by this share of its longer side on each side.
        least_px: the smallest half side.

    Returns:
        (B, 1, size_px, size_px) float32, 1 inside; all 0 where a point is NaN.
    """
    low, high = points.amin(1), points.amax(1)
    half = (high - low) / 2
    half = (half + grow * 2 * half.amax(1, keepdim=True)).clamp_min(least_px)
    centre = (low + high) / 2
    axis = torch.arange(size_px, device=points.device, dtype=points.dtype)
    inside = (axis[None, None, :] - centre[:, :, None]).abs() <= half[:, :, None]
    return (inside[:, 1, :, None] & inside[:, 0, None, :])[:, None].float()


def mouth_mask(landmarks: Tensor, size_px: int) -> Tensor:
    """Box of the mouth (B, 1, S, S) of landmarks (B, 68, 2) px, with room for an opening jaw."""
    return box_mask(landmarks[:, MOUTH], size_px, 0.15, size_px / 12)


def eyes_mask(landmarks: Tensor, size_px: int) -> Tensor:
    """Boxes of both eyes (B, 1, S, S) of landmarks (B, 68, 2) px."""
    boxes = [box_mask(landmarks[:, eye], size_px, 0.25, size_px / 20) for eye in (RIGHT_EYE, LEFT_EYE)]
    return torch.maximum(*boxes)


def brows_mask(landmarks: Tensor, size_px: int) -> Tensor:
    """Box of both brows and the skin between and above them (B, 1, S, S) of landmarks (B, 68, 2) px: where frowns and raised brows show."""
    return box_mask(landmarks[:, BROWS], size_px, 0.08, size_px / 20)


def face_mask(landmarks: Tensor, size_px: int) -> Tensor:
    """Convex hull of the face, its brow line raised to take in the forehead.

    Args:
        landmarks: (B, 68, 2) px.
        size_px: side of the picture.

    Returns:
        (B, 1, S, S) float32 in {0, 1}; all 0 where a landmark is NaN.
    """
    jaw, brows = landmarks[:, :17], landmarks[:, 17:27]
    chin, root = landmarks[:, 8:9], landmarks[:, 27:28]
    raised = brows + 0.35 * (root - chin) / 1.0
    points = torch.cat([jaw, brows, raised], 1)
    axis = torch.arange(size_px, device=landmarks.device, dtype=landmarks.dtype)
    # A convex region is the intersection of its supporting half-planes; 48 directions describe the hull to well under a pixel.
    angle = torch.arange(48, device=landmarks.device, dtype=landmarks.dtype) * (2 * torch.pi / 48)
    normals = torch.stack([angle.cos(), angle.sin()], -1)
    reach = (points @ normals.t()).amax(1)
    # In one row each half-plane is a bound on u: an interval a row costs far less than 48 comparisons a pixel.
    bound = (reach[:, None] - axis[:, None] * normals[:, 1]) / normals[:, 0]
    to_right = normals[:, 0] > 0
    low, high = bound[..., ~to_right].amax(-1, keepdim=True), bound[..., to_right].amin(-1, keepdim=True)
    inside = (axis >= low) & (axis <= high)
    return inside[:, None].float()


def loss_weight(landmarks: Tensor, size_px: int, mouth: float, eyes: float, brows: float = 0.0, face: float = 0.0) -> Tensor:
    """Weight of each pixel in the losses: 1 plus what the regions that hold it add, with mean 1 per picture.

    Args:
        landmarks: (B, 68, 2) px; a picture with NaN gets weight 1 everywhere.
        size_px: side of the picture.
        mouth: extra weight of the mouth's box.
        eyes: extra weight of the eyes' boxes.
        brows: extra weight of the brows' box.
        face: extra weight of the face.

    Returns:
        (B, 1, S, S) float32.
    """
    weight = 1 + mouth * mouth_mask(landmarks, size_px) + eyes * eyes_mask(landmarks, size_px)
    if brows:
        weight = weight + brows * brows_mask(landmarks, size_px)
    if face:
        weight = weight + face * face_mask(landmarks, size_px)
    return weight / weight.mean((1, 2, 3), keepdim=True)
