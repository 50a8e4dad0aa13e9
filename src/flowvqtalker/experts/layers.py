"""Small parts that the judges share, and the augmentations that keep them from judging the renderer instead of the face."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowvqtalker.resample import affine_grid


def conv_block(channels_in: int, channels_out: int, stride: int | tuple[int, int] = 2) -> nn.Sequential:
    """3x3 convolution, group norm, SiLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(min(8, channels_out // 4), channels_out),
        nn.SiLU(),
    )


def to_float(pictures: Tensor) -> Tensor:
    """uint8 [0, 255] -> float [-1, 1]; floats pass."""
    return pictures.float().div_(127.5).sub_(1.0) if pictures.dtype == torch.uint8 else pictures


#: Directions and cell size of the edge maps.
N_ORIENTATIONS, CELL_PX = 8, 4


def edge_energy(pictures: Tensor, cell_px: int = CELL_PX) -> Tensor:
    """Strength of the grey picture's edges by direction and cell, divided by the strength around: what a face is doing, whatever its skin and light.

    A smooth relative of histograms of oriented gradients (Dalal and Triggs, CVPR 2005).

    Args:
        pictures: (N, 3, H, W) float [-1, 1].
        cell_px: Side of a cell.

    Returns:
        (N, 8, H / cell_px, W / cell_px) float, not negative.
    """
    grey = 127.5 * pictures.mean(dim=1, keepdim=True)
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    across, down = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2], padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    strength = (across.square() + down.square() + 1e-6).sqrt()
    angle = torch.arange(N_ORIENTATIONS, device=pictures.device) * (2.0 * math.pi / N_ORIENTATIONS)
    along = (across * angle.cos().view(1, -1, 1, 1) + down * angle.sin().view(1, -1, 1, 1)).clamp(min=0) / strength
    energy = F.avg_pool2d(along.square().square() * strength, cell_px)
    around = F.avg_pool2d(energy.square().sum(dim=1, keepdim=True), 3, 1, 1, count_include_pad=False).sqrt()
    return 4.0 * energy / (around + 4.0)


def mirrored_edges(maps: Tensor) -> Tensor:
    """Edge maps (..., 8, H, W) of the mirrored picture: columns turn around, and so do directions (k -> 4 - k)."""
    order = [(N_ORIENTATIONS // 2 - k) % N_ORIENTATIONS for k in range(N_ORIENTATIONS)]
    return maps[..., order, :, :].flip(-1)


def _uniform(generator: torch.Generator, n: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator)


def augment(pictures: Tensor, generator: torch.Generator, *, shift_px: float, zoom: float, turn_rad: float, soften: float) -> Tensor:
    """Random light, place, size, turn, softness and noise, one draw an item and equal over its frames.

    Args:
        pictures: (N, T, 3, H, W) float [-1, 1].
        generator: Source of all draws.
        shift_px: Largest shift.
        zoom: Largest relative change of size.
        turn_rad: Largest turn.
        soften: Probability of a blurred or coarse picture, as codecs and codebooks make them.

    Returns:
        Same shape.
    """
    n, frames, _, height, width = pictures.shape
    angle, scale = _uniform(generator, n, -turn_rad, turn_rad), 1.0 + _uniform(generator, n, -zoom, zoom)
    move = (torch.rand(n, 2, generator=generator) * 2.0 - 1.0) * shift_px * 2.0 / width
    theta = torch.stack(
        [
            torch.stack([scale * torch.cos(angle), -scale * torch.sin(angle), move[:, 0]], dim=1),
            torch.stack([scale * torch.sin(angle), scale * torch.cos(angle), move[:, 1]], dim=1),
        ],
        dim=1,
    ).repeat_interleave(frames, dim=0)
    flat = pictures.reshape(n * frames, 3, height, width)
    flat = F.grid_sample(flat, affine_grid(theta, height, width), padding_mode="border", align_corners=False)
    result = flat.view(n, frames, 3, height, width)
    gain = torch.exp(_uniform(generator, n, -0.25, 0.25)).view(n, 1, 1, 1, 1) * torch.exp(
        0.06 * torch.randn(n, 1, 3, 1, 1, generator=generator)
    )
    offset = _uniform(generator, n, -0.2, 0.2).view(n, 1, 1, 1, 1)
    result = result * gain + offset
    soft = torch.rand(n, generator=generator) < soften
    if soft.any():
        chosen = result[soft].reshape(-1, 3, height, width)
        small = F.avg_pool2d(chosen, 2)
        mix = _uniform(generator, len(chosen) // frames, 0.3, 1.0).repeat_interleave(frames).view(-1, 1, 1, 1)
        blurred = F.interpolate(small, size=(height, width), mode="bilinear", align_corners=False)
        result[soft] = torch.lerp(chosen, blurred, mix).view(-1, frames, 3, height, width)
    sigma = 0.04 * torch.rand(n, 1, 1, 1, 1, generator=generator)
    return result + sigma * torch.randn(result.shape, generator=generator)
