"""Pinhole camera on the +z axis looking along -z, as docs/conventions.md settles it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowvqtalker.constants import CROP_DISTANCE_CM, CROP_FOCAL_PER_SIZE


@dataclass(frozen=True)
class Camera:
    """Camera at (0, 0, distance_cm).

    Attributes:
        focal_px: focal length [px], > 0.
        cx: column of the optical axis [px], integers are pixel centres.
        cy: row of the optical axis [px].
        distance_cm: distance from the world's origin [cm], > 0.
    """

    focal_px: float
    cx: float
    cy: float
    distance_cm: float

    def __post_init__(self) -> None:
        if not (self.focal_px > 0 and self.distance_cm > 0):
            raise ValueError(f"camera: focal_px and distance_cm must be positive, got {self.focal_px} and {self.distance_cm}")


def crop_camera(size: int) -> Camera:
    """The camera of every square crop of side ``size`` [px]."""
    centre = (size - 1) / 2
    return Camera(focal_px=CROP_FOCAL_PER_SIZE * size, cx=centre, cy=centre, distance_cm=CROP_DISTANCE_CM)


def project(points_world: Tensor, camera: Camera) -> Tensor:
    """Pixel coordinates of world points.

    Args:
        points_world: (..., 3) points [cm]; the image is only meaningful where z < camera.distance_cm.
        camera: the camera.

    Returns:
        (..., 2) u (right), v (down) [px].
    """
    scale = camera.focal_px / (camera.distance_cm - points_world[..., 2])
    return torch.stack([camera.cx + scale * points_world[..., 0], camera.cy - scale * points_world[..., 1]], dim=-1)
