"""Photometric refinement: move pose and expression so that the shaded head agrees with the clip's own colours.

Without an albedo model the face's colours come from the clip: every vertex gets the mean colour that it shows over the frames, divided by the
fitted light. What moves off its place then disagrees with itself over time. Optional and off by default: landmarks alone reach the targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowvqtalker.face.camera import Camera, project
from flowvqtalker.face.model import FaceModel
from flowvqtalker.face.pose import transform
from flowvqtalker.fit.basis import expression_bounds
from flowvqtalker.fit.light import sample_bilinear, sh_basis, vertex_normals
from flowvqtalker.fit.solver import Fit
from flowvqtalker.render.interface import Rasterizer
from flowvqtalker.render.torchraster import interpolate_attributes, to_screen


@dataclass(frozen=True)
class PhotometricConfig:
    """Refinement settings.

    Attributes:
        steps: Adam steps for each batch of frames.
        lr: step size [coefficient, rad, 0.1 cm].
        landmark_weight: weight of staying at the landmark fit's points [per px^2] relative to the colour error.
        batch: frames refined together.
    """

    steps: int
    lr: float
    landmark_weight: float
    batch: int


def _shading(vertices: Tensor, pose: Tensor, triangles: Tensor, light: Tensor) -> Tensor:
    """(B, V, 3) colour of the light on each vertex."""
    normals = vertex_normals(transform(vertices, pose), triangles)
    return torch.einsum("bvk,bck->bvc", sh_basis(normals), light.reshape(len(light), 3, 9))


def render_sh(
    vertices: Tensor, pose: Tensor, triangles: Tensor, albedo: Tensor, light: Tensor, camera: Camera, size: int, rasterizer: Rasterizer
) -> tuple[Tensor, Tensor]:
    """Matt head under nine-band light.

    Args:
        vertices: (B, V, 3) cm, head frame.
        pose: (B, 6).
        triangles: (F, 3) int64.
        albedo: (V, 3) RGB.
        light: (B, 27) channel-major.
        camera: the camera.
        size: side of the picture [px].
        rasterizer: visibility.

    Returns:
        Picture (B, 3, H, W), not clipped, and mask (B, 1, H, W) of the head; the picture is differentiable by all but visibility.
    """
    screen = to_screen(vertices, pose, camera)
    fragments = rasterizer(screen, triangles, (size, size))
    image = interpolate_attributes(fragments, triangles, albedo[None] * _shading(vertices, pose, triangles, light))
    return image.permute(0, 3, 1, 2), (fragments.pix_to_face >= 0)[:, None].to(image.dtype)


def estimate_albedo(
    frames: Tensor, vertices: Tensor, pose: Tensor, triangles: Tensor, light: Tensor, camera: Camera, rasterizer: Rasterizer
) -> Tensor:
    """(V, 3) mean colour of each vertex over the frames where it is seen, divided by the light; vertices never seen get the mean of all."""
    screen = to_screen(vertices, pose, camera)
    size = frames.shape[-1]
    fragments = rasterizer(screen, triangles, (size, size))
    seen = torch.zeros(vertices.shape[:2], dtype=vertices.dtype)
    for index, faces in enumerate(fragments.pix_to_face):
        seen[index, triangles[faces[faces >= 0].unique()].flatten()] = 1
    colour = sample_bilinear(frames, screen[..., :2]) / _shading(vertices, pose, triangles, light).clamp_min(0.05)
    total = (colour * seen[..., None]).sum(0)
    count = seen.sum(0)[:, None]
    mean = total.sum(0) / count.sum().clamp_min(1)
    return torch.where(count > 0, total / count.clamp_min(1), mean)


def refine_photometric(
    model: FaceModel, fit: Fit, frames: np.ndarray, light: np.ndarray, camera: Camera, config: PhotometricConfig, rasterizer: Rasterizer
) -> Fit:
    """Refine beta and pose of a fitted clip by its pixels.

    Args:
        model: the face model of the fit.
        fit: landmark fit.
        frames: (T, H, W, 3) uint8 RGB.
        light: (T, 27) fitted light.
        camera: camera of the frames.
        config: settings.
        rasterizer: visibility.

    Returns:
        A fit with the same alpha and errors, refined beta (within its bounds) and pose.
    """
    triangles = torch.as_tensor(model.triangles, dtype=torch.int64)
    alpha = torch.as_tensor(fit.alpha)
    beta, pose = torch.as_tensor(fit.beta).clone(), torch.as_tensor(fit.pose).clone()
    gamma = torch.as_tensor(light)

    def images(index: slice | np.ndarray) -> Tensor:
        return torch.as_tensor(frames[index]).permute(0, 3, 1, 2).float() / 255

    picked = np.unique(np.linspace(0, len(frames) - 1, min(12, len(frames))).round().astype(int))
    albedo = estimate_albedo(
        images(picked), model.vertices(alpha, beta[picked]), pose[picked], triangles, gamma[picked], camera, rasterizer
    )
    scale = torch.tensor([1.0, 1, 1, 10, 10, 10])
    low, high = expression_bounds(model.expression_names)
    may_move = (beta != 0).any(0)  # shapes that the landmark fit left at rest for the whole clip stay there
    for start in range(0, len(frames), config.batch):
        part = slice(start, min(start + config.batch, len(frames)))
        target = images(part)
        first_beta, first_pose = beta[part].clone(), pose[part].clone()
        anchor = project(transform(model.landmarks(alpha, first_beta), first_pose), camera)
        d_beta = torch.zeros_like(first_beta, requires_grad=True)
        d_pose = torch.zeros_like(first_pose, requires_grad=True)
        optimizer = torch.optim.Adam([d_beta, d_pose], lr=config.lr)
        for _ in range(config.steps):
            b, q = (first_beta + d_beta * may_move).clamp(low, high), first_pose + d_pose * scale
            image, mask = render_sh(model.vertices(alpha, b), q, triangles, albedo, gamma[part], camera, target.shape[-1], rasterizer)
            colour = ((image - target) ** 2 * mask).sum() / mask.sum().clamp_min(1)
            moved = (project(transform(model.landmarks(alpha, b), q), camera) - anchor).square().mean()
            optimizer.zero_grad()
            (colour + config.landmark_weight * moved).backward()
            optimizer.step()
        beta[part] = (first_beta + d_beta.detach() * may_move).clamp(low, high)
        pose[part] = first_pose + d_pose.detach() * scale
    return Fit(fit.alpha, beta.numpy(), pose.numpy(), fit.error_px, fit.at_bound_share)
