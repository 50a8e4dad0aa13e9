"""Vectorised z-buffer in torch with differentiable barycentric weights: the same code on CPU and GPU.

Visibility carries no gradient and is found by a scatter-minimum over all (triangle, pixel) candidates; weights and depth are then computed
again from the vertices of the visible triangles, which is where the gradient flows. This is the split that photometric fitting needs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowvqtalker.face.camera import Camera
from flowvqtalker.face.pose import transform
from flowvqtalker.render.interface import Fragments

#: Candidates (triangle, pixel) tested at once; bounds the memory to about 100 MB.
_CHUNK = 1 << 21


def to_screen(vertices: Tensor, pose: Tensor, camera: Camera) -> Tensor:
    """Head-frame vertices (B, V, 3) [cm] under poses (B, 6) -> (B, V, 3) u [px], v [px], depth [cm]."""
    world = transform(vertices, pose)
    depth = camera.distance_cm - world[..., 2]
    scale = camera.focal_px / depth
    return torch.stack([camera.cx + scale * world[..., 0], camera.cy - scale * world[..., 1], depth], -1)


def _edge(a: Tensor, b: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Twice the signed area of (a, b, pixel); a, b (..., >= 2), u, v broadcast."""
    return (b[..., 0] - a[..., 0]) * (v - a[..., 1]) - (b[..., 1] - a[..., 1]) * (u - a[..., 0])


def _perspective_weights(corners: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (N, 3) and depth (N,) of triangles (N, 3, 3) at pixels (N,), (N,)."""
    a, b, c = corners.unbind(-2)
    flat = torch.stack([_edge(b, c, u, v), _edge(c, a, u, v), _edge(a, b, u, v)], -1)
    area = flat.sum(-1, keepdim=True)
    flat = flat / torch.where(area.abs() < 1e-12, torch.full_like(area, 1e-12), area)
    over_depth = flat / corners[..., 2]
    inverse = over_depth.sum(-1)
    return over_depth / inverse[..., None], 1 / inverse


class TorchRasterizer:
    """Implements ``Rasterizer`` without any extension; see docs/conventions.md for pixels."""

    def __call__(self, screen: Tensor, triangles: Tensor, size: tuple[int, int]) -> Fragments:
        faces = torch.stack([self._visible(one, triangles, size) for one in screen.detach()])
        return interpolate_fragments(screen, triangles, faces)

    def _visible(self, screen: Tensor, triangles: Tensor, size: tuple[int, int]) -> Tensor:
        """(V, 3) -> (H, W) int64 index of the nearest triangle or -1."""
        height, width = size
        corners = screen[triangles]
        low = corners[..., :2].amin(1).ceil().clamp_min(0).long()
        high = torch.minimum(corners[..., :2].amax(1).floor().long(), torch.tensor([width - 1, height - 1], device=screen.device))
        extent = (high - low + 1).clamp_min(0)
        drawable = (extent > 0).all(1) & (corners[..., 2] > 0).all(1)
        # Depth in the upper half of an int64 and the face in the lower make one minimum decide both; equal depths go to the lower face.
        nearest = torch.full((height * width,), torch.iinfo(torch.int64).max, dtype=torch.int64, device=screen.device)
        side = extent.amax(1)
        bucket = torch.where(drawable, torch.ceil(torch.log2(side.clamp_min(1).double())).long(), torch.full_like(side, -1))
        for power in bucket.unique().tolist():
            if power < 0:
                continue
            box = 1 << power
            members = (bucket == power).nonzero()[:, 0]
            offset = torch.arange(box * box, device=screen.device)
            for part in members.split(max(1, _CHUNK // (box * box))):
                u = low[part, 0, None] + offset % box
                v = low[part, 1, None] + offset // box
                inside = (u <= high[part, 0, None]) & (v <= high[part, 1, None])
                tri, k = inside.nonzero(as_tuple=True)
                u, v, face = u[tri, k], v[tri, k], part[tri]
                weights, depth = _perspective_weights(corners[face].double(), u.double(), v.double())
                hit = (weights >= 0).all(1)
                key = (depth[hit].float().view(torch.int32).long() << 32) | face[hit]
                nearest.scatter_reduce_(0, (v * width + u)[hit], key, reduce="amin")
        empty = nearest == torch.iinfo(torch.int64).max
        return torch.where(empty, torch.full_like(nearest, -1), nearest & 0xFFFFFFFF).reshape(height, width)


def interpolate_fragments(screen: Tensor, triangles: Tensor, pix_to_face: Tensor) -> Fragments:
    """Fragments with differentiable weights for a known visibility: screen (B, V, 3), pix_to_face (B, H, W)."""
    picture, v, u = (pix_to_face >= 0).nonzero(as_tuple=True)
    corners = screen[picture[:, None], triangles[pix_to_face[picture, v, u]]]
    weights, depth = _perspective_weights(corners, u.to(screen.dtype), v.to(screen.dtype))
    bary = screen.new_zeros(*pix_to_face.shape, 3).index_put((picture, v, u), weights)
    zbuf = screen.new_full(pix_to_face.shape, -1.0).index_put((picture, v, u), depth)
    return Fragments(pix_to_face, bary, zbuf)


def interpolate_attributes(fragments: Fragments, triangles: Tensor, attributes: Tensor) -> Tensor:
    """Vertex attributes at every pixel: (B, V, C) -> (B, H, W, C), zero on the background."""
    visible = fragments.pix_to_face.clamp_min(0)
    corner = triangles[visible]  # (B, H, W, 3)
    batch = torch.arange(len(attributes), device=attributes.device)[:, None, None, None]
    mixed = (attributes[batch, corner] * fragments.bary[..., None]).sum(-2)
    return mixed * (fragments.pix_to_face >= 0)[..., None]
