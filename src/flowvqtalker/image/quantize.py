"""Vector quantiser with codes learned by exponential moving averages, straight-through gradients and revival of dead codes.

Own and small because it stands in the innermost loop: on one CPU core it needs about a seventh of the time of
``vector-quantize-pytorch`` (docs/decisions/0011), and every draw comes from torch's global generator, which the
trainer seeds per step, so that a resumed training repeats bit for bit.
Source: VQ-VAE, appendix A.1 of arXiv 1711.00937; restart of dead codes as in Jukebox, arXiv 2005.00341.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Vectors compared with the codes at a time: the distances of so many stay in a core's cache.
LOOKUP_ROWS = 256


class Quantised(NamedTuple):
    """Result of a quantisation.

    Attributes:
        values: (B, D, H, W) codes; in training the gradient passes straight through to the input.
        indices: (B, H, W) int64 in [0, K).
        commitment: scalar, mean squared distance of the input to its (constant) code.
    """

    values: Tensor
    indices: Tensor
    commitment: Tensor


class VectorQuantizer(nn.Module):
    """K codes of D dimensions; nearest code by Euclidean distance.

    Args:
        codes: K.
        dim: D.
        decay: decay of the moving averages per step, in [0, 1).
        dead_below: a code whose moving average count falls below this is replaced by a random input vector of the step.
    """

    embedding: Tensor
    count: Tensor
    total: Tensor
    is_initialised: Tensor

    def __init__(self, codes: int, dim: int, decay: float, dead_below: float) -> None:
        super().__init__()
        self.codes, self.dim, self.decay, self.dead_below = codes, dim, decay, dead_below
        self.register_buffer("embedding", torch.randn(codes, dim))
        self.register_buffer("count", torch.zeros(codes))
        self.register_buffer("total", torch.zeros(codes, dim))
        self.register_buffer("is_initialised", torch.zeros((), dtype=torch.bool))

    def nearest(self, x: Tensor) -> Tensor:
        """Indices (...,) int64 of the codes nearest to x (..., D)."""
        flat = x.detach().reshape(-1, self.dim).float()
        with torch.autocast(x.device.type, enabled=False):
            norm, codes = self.embedding.square().sum(1), self.embedding.t()
            nearest = [torch.addmm(norm, part, codes, alpha=-2).argmin(1) for part in flat.split(LOOKUP_ROWS)]
        return torch.cat(nearest).reshape(x.shape[:-1])

    def lookup(self, indices: Tensor) -> Tensor:
        """Codes (B, D, H, W) float32 of indices (B, H, W)."""
        return F.embedding(indices, self.embedding).permute(0, 3, 1, 2)

    def forward(self, x: Tensor) -> Quantised:
        """Quantise x (B, D, H, W); in training mode also move the codes (unless they are frozen by ``eval``)."""
        x = x.float()
        flat = x.permute(0, 2, 3, 1)
        if self.training and not self.is_initialised:
            self._initialise(flat.detach().reshape(-1, self.dim))
        indices = self.nearest(flat)
        values = self.lookup(indices)
        commitment = F.mse_loss(x, values)
        if self.training:
            self._learn(flat.detach().reshape(-1, self.dim), indices.reshape(-1))
            values = x + (values - x).detach()
        return Quantised(values, indices, commitment)

    @torch.no_grad()
    def _initialise(self, flat: Tensor) -> None:
        """Start from random input vectors, slightly moved so that two codes are never the same."""
        pick = torch.randint(len(flat), (self.codes,), device=flat.device)
        self.embedding.copy_(flat[pick] + 1e-3 * flat.std() * torch.randn_like(self.embedding))
        self.count.fill_(max(len(flat) / self.codes, 2 * self.dead_below))
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.broadcast(self.embedding, 0)
        self.total.copy_(self.embedding * self.count[:, None])
        self.is_initialised.fill_(True)

    @torch.no_grad()
    def _learn(self, flat: Tensor, indices: Tensor) -> None:
        counts = torch.bincount(indices, minlength=self.codes).to(flat.dtype)
        sums = torch.zeros_like(self.total).index_add_(0, indices, flat)
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        if several:
            torch.distributed.all_reduce(counts)
            torch.distributed.all_reduce(sums)
        self.count.lerp_(counts, 1 - self.decay)
        self.total.lerp_(sums, 1 - self.decay)
        dead = (self.count < self.dead_below).nonzero().squeeze(1)
        if len(dead):
            # A revived code starts with the count that keeps it alive for one mean life of the average.
            fresh = flat[torch.randint(len(flat), (len(dead),), device=flat.device)]
            start = max(2 * self.dead_below, 1e-3)
            self.count[dead] = start
            self.total[dead] = fresh * start
        if several:
            torch.distributed.broadcast(self.total, 0)
        self.embedding.copy_(self.total / self.count[:, None].clamp_min(1e-6))


def usage(counts: Tensor) -> tuple[int, float]:
    """Codes used at least once, and perplexity exp(entropy), of code counts (K,)."""
    share = counts.double() / counts.sum().clamp_min(1)
    entropy = -(share * share.clamp_min(1e-12).log()).sum()
    return int((counts > 0).sum()), float(entropy.exp())
