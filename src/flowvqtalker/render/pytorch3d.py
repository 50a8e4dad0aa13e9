"""pytorch3d's MeshRasterizer behind the ``Rasterizer`` interface, for whoever has it installed (on CUDA it is the fast one).

pytorch3d's screen has +x to the *left*, +y up, and pixel centres at half-integers of a grid that ends at -1 and 1; ours has u right, v down
and integer pixel centres. The adapter converts, so that both implementations answer alike. On CPU pytorch3d rasterises about 0.5 frames
per second at 20k triangles and is worth it only for comparison.
"""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from flowvqtalker.render.interface import Fragments, Rasterizer
from flowvqtalker.render.torchraster import TorchRasterizer


def is_available() -> bool:
    """Whether pytorch3d with its compiled renderer can be imported."""
    if importlib.util.find_spec("pytorch3d") is None:
        return False
    try:
        import pytorch3d.renderer  # noqa: F401  (an installation without the extension imports only transforms)
    except ImportError:
        return False
    return True


class PyTorch3DRasterizer:
    """MeshRasterizer with one face per pixel and perspective-correct weights.

    Raises:
        ImportError: pytorch3d or its compiled part is missing; the message says what to use instead.
    """

    def __init__(self) -> None:
        if not is_available():
            raise ImportError(
                "pytorch3d with its compiled renderer is not installed; use the torch rasteriser, or build it with `make pytorch3d` "
                "(https://github.com/facebookresearch/pytorch3d/blob/main/INSTALL.md)"
            )

    def __call__(self, screen: Tensor, triangles: Tensor, size: tuple[int, int]) -> Fragments:
        from pytorch3d.renderer.mesh import rasterize_meshes
        from pytorch3d.structures import Meshes

        height, width = size
        # NDC of a rectangular picture: the shorter side spans [-1, 1].
        half = min(height, width) / 2
        x = (width / 2 - 0.5 - screen[..., 0]) / half
        y = (height / 2 - 0.5 - screen[..., 1]) / half
        # Its kernels know float32 only; the answer comes back in the precision of the question.
        vertices = torch.stack([x, y, screen[..., 2]], -1).float()
        meshes = Meshes(verts=vertices, faces=triangles[None].expand(len(screen), -1, -1))
        face, depth, bary, _ = rasterize_meshes(
            meshes, image_size=(height, width), blur_radius=0.0, faces_per_pixel=1, perspective_correct=True
        )
        face, depth, bary = face[..., 0], depth[..., 0].to(screen.dtype), bary[..., 0, :].to(screen.dtype)
        # pytorch3d numbers the faces of the whole batch.
        start = torch.arange(len(screen), device=face.device)[:, None, None] * len(triangles)
        hidden = face < 0
        return Fragments(torch.where(hidden, face, face - start), bary.masked_fill(hidden[..., None], 0.0), depth.masked_fill(hidden, -1.0))


def make_rasterizer(backend: str, device: torch.device | str = "cpu") -> Rasterizer:
    """Rasteriser by name: "torch", "pytorch3d", or "auto" (pytorch3d when it is installed and the device is CUDA)."""
    if backend == "auto":
        backend = "pytorch3d" if torch.device(device).type == "cuda" and is_available() else "torch"
    if backend == "pytorch3d":
        return PyTorch3DRasterizer()
    if backend == "torch":
        return TorchRasterizer()
    raise ValueError(f"rasteriser: expected torch, pytorch3d or auto, got {backend!r}")
