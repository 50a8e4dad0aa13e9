"""Alignment of a face to a template: rotation, scale and place taken away, so that what is left of 68 points is person and expression.

Coordinates run from -1 to 1 between the edges of a square picture. Matrices are (B, 2, 3): output = matrix @ (u, v, 1).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from flowvqtalker.landmarks import schema
from flowvqtalker.resample import affine_grid

#: A patch around a face is this much wider than what PointNet sees, so that shifted, turned and aligned views still find pixels.
PATCH_MARGIN = 1.3
PATCH_PX = 184

#: Weight of each point in an alignment: nose and eyes keep still while a face speaks, brows and lips little, the jaw line hardly.
RIGID_WEIGHTS = torch.zeros(schema.N_LANDMARKS)
RIGID_WEIGHTS[list(schema.NOSE + schema.EYES)] = 1.0
RIGID_WEIGHTS[list(schema.RIGHT_BROW + schema.LEFT_BROW + schema.OUTER_LIPS)] = 0.3
RIGID_WEIGHTS[list(schema.JAW)] = 0.1

#: The template's larger side and how far its box lies above the middle; leaves room for an open jaw and raised brows.
_TEMPLATE_SPAN, _TEMPLATE_UP = 1.3, 0.02


def similarity(source: Tensor, target: Tensor, weights: Tensor = RIGID_WEIGHTS) -> Tensor:
    """Weighted least-squares similarities (rotation, scale, shift) from ``source`` to ``target``.

    Source: Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns"; in the plane in closed form.

    Args:
        source: (B, L, 2).
        target: (B, L, 2).
        weights: (L,).

    Returns:
        (B, 2, 3).
    """
    share = (weights / weights.sum())[None, :, None].to(source)
    middle, goal = (source * share).sum(1, keepdim=True), (target * share).sum(1, keepdim=True)
    a, b = source - middle, target - goal
    spread = (share * a.square()).sum((1, 2)).clamp_min(1e-12)
    cos = (share * a * b).sum((1, 2)) / spread
    sin = (share[..., 0] * (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])).sum(1) / spread
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    return torch.cat([turn, (goal - middle @ turn.transpose(1, 2)).transpose(1, 2)], 2)


def apply(matrix: Tensor, points: Tensor) -> Tensor:
    """Matrix (B, 2, 3) @ points (B, L, 2) -> (B, L, 2)."""
    return points @ matrix[:, :, :2].transpose(1, 2) + matrix[:, None, :, 2]


def apply_inverse(matrix: Tensor, points: Tensor) -> Tensor:
    """Inverse of ``apply``."""
    return (points - matrix[:, None, :, 2]) @ torch.linalg.inv(matrix[:, :, :2]).transpose(1, 2)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """Matrix (B, 2, 3) of outer(inner(x))."""
    turn = outer[:, :, :2] @ inner[:, :, :2]
    return torch.cat([turn, outer[:, :, :2] @ inner[:, :, 2:] + outer[:, :, 2:]], 2)


def mirror_points(points: Tensor) -> Tensor:
    """Points (B, 68, 2) of the mirrored picture in the usual order."""
    return (points * points.new_tensor([-1.0, 1.0]))[:, list(schema.FLIP)]


def mean_shape(points: Tensor, rounds: int = 3) -> Tensor:
    """Symmetric mean of faces aligned to each other (generalised Procrustes analysis), as the template.

    Args:
        points: (N, 68, 2) in any similar frames.
        rounds: alignments to the mean so far.

    Returns:
        (68, 2) centred in [-1, 1].
    """
    both = torch.cat([points, mirror_points(points)])
    mean = both.mean(0)
    for _ in range(rounds):
        mean = apply(similarity(both, mean[None].expand(len(both), -1, -1)), both).mean(0)
        mean = mean - mean.mean(0)
    low, high = mean.amin(0), mean.amax(0)
    return (mean - (low + high) / 2) * (_TEMPLATE_SPAN / (high - low).amax()) - mean.new_tensor([0.0, _TEMPLATE_UP])


def look(pictures: Tensor, matrix: Tensor, size_px: int) -> Tensor:
    """Resample (B, S, S, 3) uint8 so that output position q shows input position matrix @ (q, 1); (B, 3, size_px, size_px) in [0, 1]."""
    image = pictures.permute(0, 3, 1, 2).float().div_(255.0)
    return functional.grid_sample(image, affine_grid(matrix, size_px, size_px), mode="bilinear", padding_mode="border", align_corners=False)
