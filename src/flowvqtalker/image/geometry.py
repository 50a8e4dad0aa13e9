"""Places in pictures, moved landmarks, and the fields that they ask for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Reaches of a moved landmark in half sides of the picture: 20, 6 and 3 px of 128; two lids are about 4 px apart.
POINT_RADII = (20 / 64, 6 / 64, 3 / 64)


def identity_grid(height: int, width: int, device: torch.device) -> Tensor:
    """Sampling grid (1, H, W, 2) of ``grid_sample`` (align_corners=False) that leaves a picture as it is."""
    y = (torch.arange(height, device=device, dtype=torch.float32) * 2 + 1) / height - 1
    x = (torch.arange(width, device=device, dtype=torch.float32) * 2 + 1) / width - 1
    return torch.stack([x[None, :].expand(height, -1), y[:, None].expand(-1, width)], -1)[None]


def warp_image(image: Tensor, flow: Tensor) -> Tensor:
    """Backward warp: output(p) = image(p + flow(p)), bilinear, border repeated.

    Args:
        image: (B, 3, H, W).
        flow: (B, 2, h, w) displacement (u, v) in half sides of the picture; enlarged bilinearly to (H, W).

    Returns:
        (B, 3, H, W).
    """
    if flow.shape[-2:] != image.shape[-2:]:
        flow = F.interpolate(flow, size=image.shape[-2:], mode="bilinear", align_corners=False)
    grid = identity_grid(image.shape[-2], image.shape[-1], image.device) + flow.permute(0, 2, 3, 1)
    return F.grid_sample(image, grid.to(image.dtype), mode="bilinear", padding_mode="border", align_corners=False)


def unit_points(landmarks_px: Tensor, size_px: int) -> Tensor:
    """Landmarks (..., 2) in px (integer = pixel centre) as (u, v) from -1 to 1 between the picture's edges."""
    return (landmarks_px + 0.5) * (2 / size_px) - 1


def gaussian_sides(places: Tensor, height: int, width: int, radius: float) -> tuple[Tensor, Tensor]:
    """The two factors of Gaussians around places: the value at cell (y, x) is ``rows[:, l, y] * columns[:, l, x]``.

    Args:
        places: (B, L, 2) as (u, v) from -1 to 1 between the picture's edges.
        height: cells along v.
        width: cells along u.
        radius: standard deviation in half sides of the picture.

    Returns:
        rows (B, L, H) and columns (B, L, W), from 0 to 1.
    """
    grid = identity_grid(height, width, places.device)[0]
    rows = torch.exp(-(grid[:, 0, 1] - places[..., 1:]).square() / (2 * radius**2))
    return rows, torch.exp(-(grid[0, :, 0] - places[..., :1]).square() / (2 * radius**2))


def spread_shift(
    height: int, width: int, places: Tensor, shifts: Tensor, radii: tuple[float, ...], background: float = 0.05, ridge: float = 0.02
) -> Tensor:
    """Shifts known at some places, spread over a grid, fading to zero far from all of them.

    Each radius but the last in turn adds a mean, weighted by Gaussians around the places, of what the radii before it left over: they carry
    cheeks and forehead along. Means fall short where neighbours move apart, and lips and lids are neighbours that do: what is left over is
    interpolated by Gaussians of the last radius, whose weights solve a small linear system, so that the field meets the shifts.

    Args:
        height: cells along v.
        width: cells along u.
        places: (B, L, 2) as (u, v) from -1 to 1 between the picture's edges.
        shifts: (B, L, 2).
        radii: standard deviations of the Gaussians, in half sides of the picture, wide ones first.
        background: weight of no shift in the means.
        ridge: added to the system's diagonal; two places that coincide share their shifts' mean.

    Returns:
        (B, 2, H, W).

    Source: radial basis functions, Buhmann 2003; ridge against near-coinciding places.
    """
    apart = (places[:, :, None] - places[:, None]).square().sum(-1)
    field, left = shifts.new_zeros(()), shifts
    for radius in radii[:-1]:
        # A Gaussian is a product of one along u and one along v, so that the sum over places is a product of two small matrices.
        rows, columns = gaussian_sides(places, height, width, radius)
        values = torch.cat([left, torch.ones_like(left[..., :1])], -1).transpose(1, 2)[:, :, None]
        total = (values * rows.transpose(1, 2)[:, None]) @ columns[:, None]
        field = field + total[:, :2] / (total[:, 2:] + background)
        weight = torch.exp(-apart / (2 * radius**2))
        left = left - weight @ left / (weight.sum(-1, keepdim=True) + background)
    rows, columns = gaussian_sides(places, height, width, radii[-1])
    among = torch.exp(-apart / (2 * radii[-1] ** 2)) + ridge * torch.eye(places.shape[1], device=places.device, dtype=places.dtype)
    values = torch.linalg.solve(among, left).transpose(1, 2)[:, :, None]
    return field + (values * rows.transpose(1, 2)[:, None]) @ columns[:, None]
