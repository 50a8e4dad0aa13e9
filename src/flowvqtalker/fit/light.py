"""Nine-band spherical-harmonic light from pixel colours and normals, by linear least squares.

Ramamoorthi and Hanrahan 2001 (https://graphics.stanford.edu/papers/envmap/): the irradiance of a matt surface is within 1 % a quadratic
polynomial of its normal. Without a known albedo the light absorbs the mean skin colour, so gamma is light times mean albedo.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

N_BANDS = 9


def sh_basis(normals: Tensor) -> Tensor:
    """Real spherical harmonics up to degree 2 of unit normals.

    Args:
        normals: (..., 3) unit vectors, world axes of docs/conventions.md.

    Returns:
        (..., 9) with the usual constants, order 1, y, z, x, xy, yz, 3z^2-1, xz, x^2-y^2.
    """
    x, y, z = normals.unbind(-1)
    one = torch.ones_like(x)
    return torch.stack(
        [
            0.282095 * one, 0.488603 * y, 0.488603 * z, 0.488603 * x, 1.092548 * x * y, 1.092548 * y * z,
            0.315392 * (3 * z * z - 1), 1.092548 * x * z, 0.546274 * (x * x - y * y),
        ],
        -1,
    )  # fmt: skip


def sample_bilinear(image: Tensor, uv: Tensor) -> Tensor:
    """Colours at sub-pixel places.

    Args:
        image: (T, 3, H, W).
        uv: (T, N, 2) px, integer values are pixel centres; outside is clamped to the border.

    Returns:
        (T, N, 3).
    """
    height, width = image.shape[-2:]
    grid = torch.stack([2 * uv[..., 0] / (width - 1) - 1, 2 * uv[..., 1] / (height - 1) - 1], -1)
    sampled = torch.nn.functional.grid_sample(image, grid[:, None], mode="bilinear", padding_mode="border", align_corners=True)
    return sampled[:, :, 0].transpose(1, 2)


def fit_light(colours: Tensor, normals: Tensor, weights: Tensor, ridge: float = 1e-2) -> Tensor:
    """Light of each frame from points of one material.

    Args:
        colours: (T, N, 3) RGB in [0, 1].
        normals: (T, N, 3) unit, world axes.
        weights: (T, N) in [0, 1], zero where the point is hidden.
        ridge: regulariser relative to the number of points: bands that the visible normals do not tell apart stay small.

    Returns:
        (T, 27) channel-major: nine bands of red, then green, then blue.
    """
    basis = sh_basis(normals)
    weighted = basis * weights[..., None]
    damping = torch.eye(N_BANDS, dtype=basis.dtype, device=basis.device)
    damping[0, 0] = 1e-6  # the mean colour is not shrunk
    gram = weighted.transpose(1, 2) @ basis + ridge * weights.sum(1).clamp_min(1.0)[:, None, None] * damping
    gamma = torch.linalg.solve(gram, weighted.transpose(1, 2) @ colours)
    return gamma.transpose(1, 2).flatten(1)


def vertex_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Area-weighted unit normals: vertices (T, V, 3), triangles (F, 3) counter-clockwise seen from outside -> (T, V, 3)."""
    a, b, c = (vertices[:, triangles[:, k]] for k in range(3))
    face = torch.linalg.cross(b - a, c - a)
    normals = torch.zeros_like(vertices)
    for k in range(3):
        normals.index_add_(1, triangles[:, k], face)
    return torch.nn.functional.normalize(normals, dim=-1, eps=1e-12)


def subset_triangles(triangles: np.ndarray, keep: np.ndarray, count: int) -> np.ndarray:
    """Indices of at most ``count`` triangles spread evenly over those with ``keep`` true."""
    candidates = np.flatnonzero(keep)
    if len(candidates) == 0:
        raise ValueError("no triangle belongs to the skin: the face model's part labels are wrong")
    return candidates[np.unique(np.linspace(0, len(candidates) - 1, min(count, len(candidates))).round().astype(int))]
