"""What a rasteriser promises, whichever computes it: the triangle, its barycentric weights and its depth at every pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Fragments:
    """Visible surface of a batch of pictures; the names are those of pytorch3d's ``Fragments`` with one face per pixel.

    Attributes:
        pix_to_face: (B, H, W) int64, index of the nearest triangle whose interior holds the pixel's centre; -1 for background.
        bary: (B, H, W, 3) perspective-correct weights of the triangle's vertices, summing to 1; 0 on the background.
        zbuf: (B, H, W) distance of the surface from the camera's plane along the optical axis [cm], > 0; -1 on the background.
    """

    pix_to_face: Tensor
    bary: Tensor
    zbuf: Tensor


class Rasterizer(Protocol):
    """Turns projected meshes into fragments. Implementations: ``torchraster.TorchRasterizer``, ``pytorch3d.PyTorch3DRasterizer``."""

    def __call__(self, screen: Tensor, triangles: Tensor, size: tuple[int, int]) -> Fragments:
        """Rasterise a batch of meshes that share their triangles.

        Args:
            screen: (B, V, 3) u [px], v [px], depth [cm] (distance from the camera's plane, > 0), as ``to_screen`` makes them.
            triangles: (F, 3) int64; both windings are drawn.
            size: height and width [px].

        Returns:
            Fragments; ``bary`` and ``zbuf`` are differentiable by ``screen``, ``pix_to_face`` is not.
        """
        ...
