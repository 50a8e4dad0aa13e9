"""Nine-band spherical-harmonic light from pixel colours and normals, by linear least squares.

Ramamoorthi and Hanrahan 2001 (https://graphics.stanford.edu/papers/envmap/): the irradiance of a matt surface is within 1 % a quadratic
polynomial of its normal. Without a known albedo the light absorbs the mean skin colour, so gamma is light times mean albedo.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowvqtalker.face.camera import Camera, project
from flowvqtalker.face.model import FaceModel
from flowvqtalker.face.pose import transform

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


def fit_light(colours: Tensor, normals: Tensor, weights: Tensor, ridge: float = 1e-3) -> Tensor:
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


@dataclass(frozen=True)
class SkinPatches:
    """Some triangles of the skin as functions of the coefficients: where light is read. The contacts of lips and lids are left out.

    Attributes:
        mean: (N, 3, 3) corners of N triangles [cm, head frame].
        identity: (A, N, 3, 3).
        expression: (E, N, 3, 3).
    """

    mean: Tensor
    identity: Tensor
    expression: Tensor

    @classmethod
    def of(cls, model: FaceModel, part: str = "skin", count: int = 200) -> SkinPatches:
        """At most ``count`` triangles spread over the face's part of that name (over all triangles when the model has no such part)."""
        keep = model.triangle_part == model.part(part) if part in model.part_names else np.ones(len(model.triangles), dtype=bool)
        # Between brows and chin, in front of the ears: hair covers the rest of the skin.
        centres, landmarks = model.mean[model.triangles].mean(1), model.mean[model.landmarks68]
        low, high = landmarks[8, 1], landmarks[17:27, 1].max() + 1.0
        face = keep & (centres[:, 1] > low) & (centres[:, 1] < high) & (centres[:, 2] > landmarks[[0, 16], 2].max())
        candidates = np.flatnonzero(face if face.any() else keep)
        picked = candidates[np.unique(np.linspace(0, len(candidates) - 1, min(count, len(candidates))).round().astype(int))]
        corners = model.triangles[picked]
        arrays = (model.mean[corners], model.identity[:, corners], model.expression[:, corners])
        return cls(*(torch.as_tensor(np.ascontiguousarray(array, dtype=np.float32)) for array in arrays))

    def corners(self, alpha: Tensor, beta: Tensor) -> Tensor:
        """Corners (T, N, 3, 3) [cm] for alpha (A,) and beta (T, E)."""
        rest = self.mean + torch.tensordot(alpha, self.identity, dims=1)
        return rest + torch.tensordot(beta, self.expression, dims=1)


def estimate_light(frames: Tensor, patches: SkinPatches, alpha: Tensor, beta: Tensor, pose: Tensor, camera: Camera) -> Tensor:
    """Light of each frame from the colours of the skin.

    Args:
        frames: (T, 3, H, W) RGB in [0, 1].
        patches: skin of the face model.
        alpha: (A,).
        beta: (T, E).
        pose: (T, 6).
        camera: camera of the frames.

    Returns:
        (T, 27), see ``fit_light``.
    """
    corners = transform(patches.corners(alpha, beta).flatten(1, 2), pose).unflatten(1, (-1, 3))
    normals = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    normals, centres = torch.nn.functional.normalize(normals, dim=-1, eps=1e-12), corners.mean(2)
    to_camera = torch.nn.functional.normalize(centres.new_tensor([0.0, 0.0, camera.distance_cm]) - centres, dim=-1)
    # Patches that look away from the camera are hidden or too slanted to read a colour from.
    facing = ((normals * to_camera).sum(-1) - 0.2).clamp_min(0)
    uv = project(centres, camera)
    limit = uv.new_tensor([frames.shape[-1] - 1, frames.shape[-2] - 1])
    inside = ((uv >= 0) & (uv <= limit)).all(-1)
    return fit_light(sample_bilinear(frames, uv), normals, facing * inside)
