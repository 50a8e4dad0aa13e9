"""A conditional mixture for features whose next value has two likely places: closed lids stay or open.

Affine couplings shift and scale; what is one hill in the latent stays close to one hill in the data. A lid that has just closed will be closed or on
its way up in the next frame and hardly ever between, and one that is open stays or falls (docs/decisions/0027-lids-in-rollouts.md).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

#: Middle and half range of the log of a component's scale: 0.05 to 2.7 standard deviations of a marginal. Both lids move as one to a few hundredths.
_SCALE_MIDDLE, _SCALE_RANGE = -1.0, 2.0
#: Largest absolute mean of a component.
_MEAN_BOUND = 6.0
#: Half the width of the interval that the inverse searches [marginal standard deviations]; how often, and in how many parts, it is divided.
_REACH, _ROUNDS, _PARTS = 24.0, 2, 64
#: Steps of Newton that end the search: three lead from the 1e-2 that are left to 1e-10, since no component is much narrower.
_NEWTON = 4
#: Where the map goes on as a straight line of slope one: farther out all components' shares vanish, and with them their quantiles.
_EDGE = 12.0
#: Density of a normal at its mean.
_NORMAL_PEAK = 1 / math.sqrt(2 * math.pi)
#: Weight and scale of a fixed wide component: without it, values far from all components would share one quantile and could not be told apart.
_WIDE_WEIGHT, _WIDE_SCALE = 2e-3, 3.0


class ConditionalMixture(nn.Module):
    """e_d = normal quantile of F_d(x_d), with F_d a mixture of normals whose parameters come from the condition tokens and the features before d.

    The last condition token enters as it is, the others by weighted means of them. Source: mixture-CDF couplings (Flow++, Ho et al., arXiv
    1902.00275), with normal components, on few features.

    Args:
        features: L; each is conditioned on those before it.
        width: Width of the condition tokens.
        heads: Weighted means of the tokens that a feature sees.
        components: Components of each mixture, at least 2.
        dropout: Dropout of the weighted means; the last token is never dropped.
    """

    def __init__(self, features: int, width: int, heads: int, components: int, dropout: float = 0.0) -> None:
        super().__init__()
        if components < 2:
            raise ValueError(f"components: a mixture needs at least 2, got {components}")
        self.features, self.components = features, components
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.scores = nn.Linear(width, heads)
        self.hidden = nn.ModuleList(nn.Linear((heads + 1) * width + before, width) for before in range(features))
        layers = [nn.Linear(width, 3 * components) for _ in range(features)]
        self.out = nn.ModuleList(layers)
        # One lid is as far as the other one: without a straight way a small network learns that only roughly.
        self.link = nn.Parameter(torch.zeros(features, features))
        for layer in layers:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
            with torch.no_grad():  # components that start alike would stay alike
                layer.bias[:components] = torch.linspace(-0.5, 0.5, components)

    def _seen(self, tokens: Tensor) -> Tensor:
        """(B, T, (heads + 1) * width) weighted means of (B, T, n, width) tokens but the last one, and that one."""
        encoded, own = self.norm(tokens[:, :, :-1]), tokens[:, :, -1]
        means = (torch.softmax(self.scores(encoded), -2).transpose(-1, -2) @ encoded).flatten(-2)
        return torch.cat([self.dropout(means), own], -1)

    def _parameters_of(self, place: int, seen: Tensor, before: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Means, log-scales and log-weights (B, T, K + 1) float64 of one feature."""
        known = torch.stack(before, -1).to(seen).clamp(-6, 6) if before else seen[..., :0]
        raw = self.out[place](nn.functional.silu(self.hidden[place](torch.cat([seen, known], -1))))
        means, scales, weights = raw.double().split(self.components, -1)
        if before:
            means = means + (known @ self.link[place, : len(before)]).double().unsqueeze(-1)
        zero = means.new_zeros(*means.shape[:-1], 1)
        return (
            torch.cat([_MEAN_BOUND * torch.tanh(means / _MEAN_BOUND), zero], -1),
            torch.cat(
                [_SCALE_MIDDLE + _SCALE_RANGE * torch.tanh((scales - _SCALE_MIDDLE) / _SCALE_RANGE), zero + math.log(_WIDE_SCALE)], -1
            ),
            torch.cat([torch.log_softmax(weights, -1) + math.log1p(-_WIDE_WEIGHT), zero + math.log(_WIDE_WEIGHT)], -1),
        )

    @staticmethod
    def _quantile(x: Tensor, means: Tensor, scales: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Normal quantile e (B, T) of the share below x, and log de/dx; beyond the edges a straight line."""
        inside = x.clamp(-_EDGE, _EDGE)
        over = x - inside
        a = (inside.unsqueeze(-1) - means) * (-scales).exp()
        below, above = ((weights.exp() * torch.special.ndtr(side)).sum(-1) for side in (a, -a))
        # The smaller tail is the exact one.
        low = below < above
        e = torch.special.ndtri(torch.where(low, below, above).clamp_max(0.5))
        e = torch.where(low, e, -e)
        log_slope = torch.logsumexp(weights - 0.5 * a.square() - scales, -1) + 0.5 * e.square()
        return e + over, torch.where(over == 0, log_slope, torch.zeros_like(log_slope))

    def forward(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Normal scores e (B, T, L) of x (B, T, L) given tokens (B, T, n, width); also log|det de/dx| (B, T)."""
        seen, before, scores = self._seen(tokens), [], []
        total = x.new_zeros(x.shape[:-1])
        for place, value in enumerate(x.unbind(-1)):
            e, log_det = self._quantile(value.double(), *self._parameters_of(place, seen, before))
            before.append(value)
            scores.append(e.to(x))
            total = total + log_det.to(x)
        return torch.stack(scores, -1), total

    def inverse(self, scores: Tensor, tokens: Tensor) -> Tensor:
        """Inverse of ``forward``: an interval is divided into many parts twice (few calls, whatever they hold), then steps of Newton.

        A wanted score above zero is looked for in the mirror image: there its tail is the small one, whose share is exact.
        """
        seen, before = self._seen(tokens), []
        parts = torch.arange(_PARTS + 1, dtype=torch.float64, device=scores.device) / _PARTS
        for place, score in enumerate(scores.unbind(-1)):
            means, scales, weights = self._parameters_of(place, seen, before)
            wanted = score.double()
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
            edge = (torch.special.ndtr(-_EDGE * rate - middle) * weights).sum(-1)
            x = torch.where(share < edge, -_EDGE - wanted.abs() - torch.special.ndtri(edge), x)
            before.append((side * x).to(scores))
        return torch.stack(before, -1)
