"""Building blocks shared by the codebook and the image generator.

All maps are (B, C, H, W) float. The blocks keep whatever memory format they get; on a CPU ``channels_last`` is the fast one.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def channels_last(module: Module) -> Module:
    """Lay the weights of convolutions out for channels-last maps; returns the module itself."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with groups of about 8 channels."""
    groups = max(1, channels // 8)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


def conv3(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution that keeps the size (or halves it with stride 2)."""
    return nn.Conv2d(channels_in, channels_out, 3, stride, 1)


def zero_init(module: Module) -> Module:
    """Set weights and bias to zero: a residual branch that starts as nothing."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class ResBlock(nn.Module):
    """Residual block: GroupNorm, SiLU, 3x3, SiLU, 3x3; the last convolution starts at zero.

    One normalisation and not two: on a CPU it costs a fifth of the block's time and the second one bought nothing.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.conv1 = group_norm(channels), conv3(channels, channels)
        self.conv2 = zero_init(conv3(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same shape."""
        return x + self.conv2(F.silu(self.conv1(F.silu(self.norm(x)))))


class AdaIN(nn.Module):
    """Adaptive instance normalisation by a descriptor: InstanceNorm(x) * (1 + gamma) + beta.

    ``gamma`` and ``beta`` come from an MLP on the descriptor; its last layer starts at zero, so that the layer starts as
    plain instance normalisation. Source: Huang and Belongie 2017 (arXiv 1703.06868); with a motion descriptor, PIRenderer
    (arXiv 2109.08379).
    """

    def __init__(self, channels: int, descriptor_dim: int, hidden: int = 128) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(descriptor_dim, hidden), nn.SiLU(), zero_init(nn.Linear(hidden, 2 * channels)))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Normalise and modulate.

        Args:
            x: (B, C, H, W).
            sigma: (B, descriptor_dim).

        Returns:
            (B, C, H, W): per sample and channel, mean ``beta`` and standard deviation ``|1 + gamma|``.
        """
        gamma, beta = self.mlp(sigma).to(x.dtype)[:, :, None, None].chunk(2, dim=1)
        return F.instance_norm(x, eps=1e-5) * (1 + gamma) + beta


class AdaINBlock(nn.Module):
    """Residual block whose normalisations are AdaIN; the last convolution starts at zero, so the block starts as identity."""

    def __init__(self, channels: int, descriptor_dim: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = AdaIN(channels, descriptor_dim), conv3(channels, channels)
        self.norm2, self.conv2 = AdaIN(channels, descriptor_dim), zero_init(conv3(channels, channels))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Map x (B, C, H, W), sigma (B, descriptor_dim) -> (B, C, H, W)."""
        h = self.conv1(F.silu(self.norm1(x, sigma)))
        return x + self.conv2(F.silu(self.norm2(h, sigma)))


class ModulatedBlock(nn.Module):
    """Residual block on maps that a descriptor scales and shifts per channel, without instance normalisation.

    Instance normalisation takes away how strong a map is in this picture, which the finest maps need (docs/decisions/0018).
    """

    def __init__(self, channels: int, descriptor_dim: int) -> None:
        super().__init__()
        self.modulate = nn.Linear(descriptor_dim, 2 * channels)
        nn.init.normal_(self.modulate.weight, std=0.01)
        nn.init.zeros_(self.modulate.bias)
        self.block = ResBlock(channels)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Map x (B, C, H, W), sigma (B, descriptor_dim) -> (B, C, H, W)."""
        scale, shift = self.modulate(sigma).to(x.dtype)[:, :, None, None].chunk(2, dim=1)
        return self.block(x * (1 + scale) + shift)


class SpatialModulation(nn.Module):
    """Spatial feature transform: x * (1 + scale) + shift, with maps computed from x and a condition of the same size.

    The convolution that makes scale and shift starts at zero, so the layer starts as identity.
    Source: SFT (arXiv 1804.02815), used for fusion by CodeFormer (arXiv 2206.11253).
    """

    def __init__(self, channels: int, condition_channels: int, hidden: int) -> None:
        super().__init__()
        self.enter = conv3(channels + condition_channels, hidden)
        self.block = ResBlock(hidden)
        self.leave = zero_init(conv3(hidden, 2 * channels))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map x (B, C, H, W), condition (B, D, H, W) -> (B, C, H, W)."""
        scale, shift = self.leave(F.silu(self.block(self.enter(torch.cat([x, condition], 1))))).chunk(2, dim=1)
        return x * (1 + scale) + shift


class Attention(nn.Module):
    """Multi-head attention with pre-normalised queries and a residual; the output projection starts at zero.

    Args:
        width: channels of the queries.
        heads: number of heads; must divide ``width``.
        context_dim: channels of keys and values for cross-attention, or None for self-attention.
    """

    def __init__(self, width: int, heads: int, context_dim: int | None = None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads ({heads}) must divide width ({width})")
        self.heads, self.is_cross = heads, context_dim is not None
        self.norm = nn.LayerNorm(width)
        self.context_norm = nn.LayerNorm(context_dim) if context_dim is not None else None
        self.to_q = nn.Linear(width, width)
        self.to_kv = nn.Linear(context_dim or width, 2 * width)
        self.out = zero_init(nn.Linear(width, width))

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, N, width / heads) of a context (B, N, context_dim); may be kept for many queries."""
        if self.context_norm is not None:
            context = self.context_norm(context)
        k, v = self.to_kv(context).unflatten(-1, (2, self.heads, -1)).unbind(2)
        return k.transpose(1, 2), v.transpose(1, 2)

    def forward(self, x: Tensor, context: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Vectors x (B, M, width) attends to ``keys_values(...)`` of a context, or to itself when None -> (B, M, width)."""
        h = self.norm(x)
        k, v = self.keys_values(h) if context is None else context
        q = self.to_q(h).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = k.to(q.dtype), v.to(q.dtype)
        if q.device.type == "cpu" and q.requires_grad:
            # The fused kernel's backward pass on a CPU takes twice as long as plain products (measured at 256 tokens).
            attended = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1).to(v.dtype) @ v
        else:
            attended = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(attended.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and MLP, both residual and starting at zero."""

    def __init__(self, width: int, heads: int, mlp_ratio: float = 2.0) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.attention = Attention(width, heads)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), zero_init(nn.Linear(hidden, width)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        x = self.attention(x)
        return x + self.mlp(self.norm(x))
