"""A conditional mixture in front of the flow steps, for dimensions whose next value has two likely places: closed lids stay or open.

Affine couplings shift and scale; what is one hill in the latent stays close to one hill in the data. A lid that has just closed will be closed or on
its way up in the next frame and hardly ever between, and one that is open stays or falls. This step makes such a conditional distribution normal
before the affine steps see it (docs/decisions/0027-lids-in-rollouts.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

#: Largest absolute log of a component's scale: 0.22 to 4.5 standard deviations of a marginal.
_SCALE_BOUND = 1.5
#: Half the width of the interval that the inverse searches [marginal standard deviations]; how often, and in how many parts, it is divided.
_REACH, _ROUNDS, _PARTS = 12.0, 2, 64
#: Steps of Newton that end the search: three lead from the 6e-3 that are left to 1e-10, since no component is narrower than _SCALE_BOUND lets it be.
_NEWTON = 4
#: Density of a normal at its mean.
_NORMAL_PEAK = 1 / math.sqrt(2 * math.pi)
#: Weight and scale of a fixed wide component: without it, values far from all components would share one quantile and could not be told apart.
_WIDE_WEIGHT, _WIDE_SCALE = 2e-3, 3.0


class ConditionalMixture(nn.Module):
    """e_d = normal quantile of F_d(x_d), with F_d a mixture of normals whose parameters come from the condition tokens and the chosen dimensions before d.

    The other dimensions pass unchanged. Source: mixture-CDF couplings (Flow++, Ho et al., arXiv 1902.00275), with normal components, on few dimensions.

    Args:
        dims: Dimensions that are mapped, in the order in which they condition each other.
        width: Width of the condition tokens.
        heads: Weighted means of the tokens that a dimension sees.
        components: Components of each mixture, at least 2.
    """

    def __init__(self, dims: Sequence[int], width: int, heads: int, components: int) -> None:
        super().__init__()
        if components < 2:
            raise ValueError(f"components: a mixture needs at least 2, got {components}")
        self.dims, self.components = list(dims), components
        self.norm = nn.LayerNorm(width)
        self.scores = nn.Linear(width, heads)
        self.hidden = nn.ModuleList(nn.Linear(heads * width + before, width) for before in range(len(self.dims)))
        layers = [nn.Linear(width, 3 * components) for _ in self.dims]
        self.out = nn.ModuleList(layers)
        for layer in layers:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
            with torch.no_grad():  # components that start alike would stay alike
                layer.bias[:components] = torch.linspace(-0.5, 0.5, components)

    def _seen(self, tokens: Tensor) -> Tensor:
        """(B, T, heads * width) weighted means of (B, T, n, width) tokens."""
        tokens = self.norm(tokens)
        return (torch.softmax(self.scores(tokens), -2).transpose(-1, -2) @ tokens).flatten(-2)

    def _parameters_of(self, place: int, seen: Tensor, before: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Means, log-scales and log-weights (B, T, K + 1) float64 of one dimension."""
        parts = [seen, *(value.unsqueeze(-1).to(seen).clamp(-6, 6) for value in before)]
        raw = self.out[place](nn.functional.silu(self.hidden[place](torch.cat(parts, -1)))).double()
        means, scales, weights = raw.split(self.components, -1)
        zero = means.new_zeros(*means.shape[:-1], 1)
        return (
            torch.cat([means, zero], -1),
            torch.cat([_SCALE_BOUND * torch.tanh(scales / _SCALE_BOUND), zero + math.log(_WIDE_SCALE)], -1),
            torch.cat([torch.log_softmax(weights, -1) + math.log1p(-_WIDE_WEIGHT), zero + math.log(_WIDE_WEIGHT)], -1),
        )

    @staticmethod
    def _quantile(x: Tensor, means: Tensor, scales: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Normal quantile e (B, T) of the share below x, and log de/dx."""
        a = (x.unsqueeze(-1) - means) * (-scales).exp()
        below, above = ((weights.exp() * torch.special.ndtr(side)).sum(-1) for side in (a, -a))
        # The smaller tail is the exact one.
        low = below < above
        e = torch.special.ndtri(torch.where(low, below, above).clamp_max(0.5))
        e = torch.where(low, e, -e)
        return e, torch.logsumexp(weights - 0.5 * a.square() - scales, -1) + 0.5 * e.square()

    def forward(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Map the chosen dimensions of x (B, T, D) given tokens (B, T, n, width); also log|det| (B, T)."""
        seen, before, columns = self._seen(tokens), [], list(x.unbind(-1))
        total = x.new_zeros(x.shape[:-1])
        for place, dim in enumerate(self.dims):
            value = columns[dim]
            e, log_det = self._quantile(value.double(), *self._parameters_of(place, seen, before))
            before.append(value)
            columns[dim] = e.to(x)
            total = total + log_det.to(x)
        return torch.stack(columns, -1), total

    def inverse(self, y: Tensor, tokens: Tensor) -> Tensor:
        """Inverse of ``forward``: an interval is divided into many parts twice (few calls, whatever they hold), then steps of Newton.

        A wanted quantile above zero is looked for in the mirror image: there its tail is the small one, whose share is exact.
        """
        seen, before, columns = self._seen(tokens), [], list(y.unbind(-1))
        parts = torch.arange(_PARTS + 1, dtype=torch.float64, device=y.device) / _PARTS
        for place, dim in enumerate(self.dims):
            means, scales, weights = self._parameters_of(place, seen, before)
            wanted = columns[dim].double()
            side = torch.where(wanted > 0, -1.0, 1.0).to(wanted)
            share = torch.special.ndtr(-wanted.abs())
            rate = (-scales).exp()
            middle, weights = side.unsqueeze(-1) * means * rate, weights.exp()
            low, width = torch.full_like(wanted, -_REACH), 2 * _REACH
            many = tuple(value.unsqueeze(-2) for value in (rate, middle, weights))
            for _ in range(_ROUNDS):
                points = low.unsqueeze(-1) + width * parts
                below = (torch.special.ndtr(points.unsqueeze(-1) * many[0] - many[1]) * many[2]).sum(-1)
                width /= _PARTS
                low = low + width * ((below < share.unsqueeze(-1)).sum(-1) - 1).clamp(0, _PARTS - 1)
            x = low + 0.5 * width
            slopes = weights * rate * _NORMAL_PEAK
            for _ in range(_NEWTON):  # on the logarithm of the share, which is nearly straight in a tail
                a = x.unsqueeze(-1) * rate - middle
                below = (torch.special.ndtr(a) * weights).sum(-1)
                slope = ((-0.5 * a * a).exp() * slopes).sum(-1)
                x = torch.minimum(torch.maximum(x + (share / below).log() * below / slope, low), low + width)
            columns[dim] = (side * x).to(y)
            before.append(columns[dim])
        return torch.stack(columns, -1)
