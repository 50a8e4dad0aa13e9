"""Fixed monotone maps that make every dimension's own distribution normal before the flow sees it.

Expressions are far from normal: lids rest at open and jump now and then, fitted coefficients lie at their bound of zero in
half of the frames. Affine couplings need long trainings to bend a bell into such shapes; matching the quantiles of the
training frames does it at once, exactly and invertibly, and leaves to the flow what the conditions and the other dimensions
tell. The maps are piecewise linear, so the change of variables stays exact.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowvqtalker.checks import check_shape

#: Frames that the quantiles are taken from at most; more would not move them, and the sort has a limit.
MOST_FRAMES = 100_000


class MarginalMap(nn.Module):
    """u = q_d(g) for every dimension d, with q piecewise linear through quantiles of the training data.

    Args:
        features: D.
        knots: Number of knots, at equal distances in normal scores from -reach to reach; straight lines beyond.
        reach: Outermost knot [standard deviations].
        straight: Share of a plain straight line (the standard deviation) in the map, which bounds its slope from below.
    """

    knots: Tensor
    values: Tensor

    def __init__(self, features: int, knots: int = 41, reach: float = 3.2, straight: float = 0.1) -> None:
        super().__init__()
        self.straight = straight
        self.register_buffer("knots", torch.linspace(-reach, reach, knots))
        self.register_buffer("values", self.knots.repeat(features, 1))

    @torch.no_grad()
    def fit(self, u: Tensor) -> None:
        """Set the maps from training frames (N, D)."""
        check_shape("u", u, (None, len(self.values)))
        u = u[:: -(-len(u) // MOST_FRAMES)]
        probabilities = torch.special.ndtr(self.knots.double())
        quantiles = torch.quantile(u.double(), probabilities, dim=0).T
        line = u.double().mean(0).unsqueeze(1) + self.knots.double() * u.double().std(0, unbiased=False).clamp_min(1e-6).unsqueeze(1)
        self.values.copy_((1 - self.straight) * quantiles + self.straight * line)

    def _segments(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Start in g, start in u and slope of the segments (.., D) of each dimension."""
        spacing = self.knots[1] - self.knots[0]
        dims = torch.arange(len(self.values), device=index.device).expand(index.shape)
        start, end = self.values[dims, index], self.values[dims, index + 1]
        return self.knots[index], start, (end - start) / spacing

    def to_normal(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """(.., D) -> g (.., D) and log |dg / du| summed over dimensions (..)."""
        flat = u.reshape(-1, u.shape[-1]).T.contiguous()
        index = torch.searchsorted(self.values, flat, right=True).T.reshape(u.shape) - 1
        g0, u0, slope = self._segments(index.clamp(0, len(self.knots) - 2))
        return g0 + (u - u0) / slope, -slope.log().sum(-1)

    def from_normal(self, g: Tensor) -> Tensor:
        """Inverse of ``to_normal``."""
        spacing = self.knots[1] - self.knots[0]
        index = ((g - self.knots[0]) / spacing).floor().long().clamp(0, len(self.knots) - 2)
        g0, u0, slope = self._segments(index)
        return u0 + (g - g0) * slope
