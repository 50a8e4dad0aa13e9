"""K flow steps over shared conditions, with their prior: the invertible core of ExpFlow and PoseFlow."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from flowvqtalker.flow.coupling import ConditionBank, LstmCoupling, TransformerCoupling
from flowvqtalker.flow.mixture import ConditionalMixture
from flowvqtalker.flow.priors import Prior, PriorKind
from flowvqtalker.flow.transforms import AffineCoupling, InvertibleLinear, MultiActNorm


@dataclass(frozen=True)
class StackConfig:
    """Shape of a flow.

    Attributes:
        features: D.
        labels: E, number of emotions.
        steps: K, number of flow steps.
        width: Width of tokens and couplings.
        heads: Attention heads; divides ``width``.
        coupling: ``transformer`` or ``lstm``.
        coupling_layers: Layers of each coupling network.
        scale_bound: Largest absolute log-scale of a coupling.
        actnorm: ``multi`` (scale and bias per emotion) or ``shared``.
        prior: ``smm``, ``gmm`` or ``gaussian``.
        nu: Degrees of freedom of the Student's t.
        separation: Distance between component means, in component scales.
        mixture_dims: Features that a conditional mixture of normals models instead of the steps (the lids).
        mixture: Its components; 0 leaves these features to the steps.
        mixture_dropout: Dropout of what the mixture sees of the encoded conditions.
    """

    features: int
    labels: int
    steps: int
    width: int
    heads: int
    coupling: Literal["transformer", "lstm"]
    coupling_layers: int
    scale_bound: float
    actnorm: Literal["multi", "shared"]
    prior: PriorKind
    nu: float
    separation: float
    mixture_dims: tuple[int, ...] = ()
    mixture: int = 0
    mixture_dropout: float = 0.0

    @property
    def apart(self) -> tuple[int, ...]:
        """Features that the mixture models; the steps do not see them as features."""
        return self.mixture_dims if self.mixture else ()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StackConfig:
        """Inverse of ``dataclasses.asdict``, behind a round through a file."""
        return cls(**(values | {"mixture_dims": tuple(values.get("mixture_dims", ()))}))


class _Step(nn.Module):
    """Multi-actnorm, invertible 1x1 convolution, affine coupling."""

    def __init__(self, config: StackConfig, generator: torch.Generator) -> None:
        super().__init__()
        kept, moved = config.features // 2, config.features - config.features // 2
        if config.coupling == "transformer":
            net: nn.Module = TransformerCoupling(kept, moved, config.width, config.heads, config.coupling_layers)
        elif config.coupling == "lstm":
            net = LstmCoupling(kept, moved, config.width, config.coupling_layers)
        else:
            raise ValueError(f"coupling: expected transformer or lstm, got {config.coupling!r}")
        self.actnorm = MultiActNorm(config.features, config.labels, shared=config.actnorm == "shared")
        self.linear = InvertibleLinear(config.features, generator)
        self.coupling = AffineCoupling(config.features, net, config.scale_bound)


def _inverse_order(order: list[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


@dataclass
class StackState:
    """What a rollout carries from frame to frame: the couplings' states, and the inverse matrices, computed once."""

    couplings: list[Any]
    inverses: list[Tensor] = field(default_factory=list)


class FlowStack(nn.Module):
    """Bijection between frames x and latents z given condition tokens and emotion weights.

    With a mixture the density is that of the features apart (the lids) by ``ConditionalMixture``, times that of all others by the steps, which
    see the lids of the same frame as one more condition token. The last condition token is then the mixture's own: it is not encoded. Latents
    of the features apart are normal scores.

    Args:
        config: Shape.
        seed: Seed of rotations and latent means; the weights of the networks come from the global generator.
    """

    apart: Tensor
    rest: Tensor
    order: Tensor

    def __init__(self, config: StackConfig, seed: int) -> None:
        super().__init__()
        rest = [d for d in range(config.features) if d not in config.apart]
        if len(rest) < 2:
            raise ValueError(f"features: a coupling needs at least 2, got {len(rest)}")
        if config.width % config.heads:
            raise ValueError(f"width {config.width} must be divisible by heads {config.heads}")
        generator = torch.Generator().manual_seed(seed)
        self.config = config
        self.prior = Prior(config.prior, config.features, config.labels, config.nu, config.separation, generator, config.apart)
        attention_layers = config.coupling_layers if config.coupling == "transformer" else 0
        self.bank = ConditionBank(config.steps, attention_layers, config.width, config.heads)
        inner = replace(config, features=len(rest))
        self.steps = nn.ModuleList(_Step(inner, generator) for _ in range(config.steps))
        self.mixture: ConditionalMixture | None = None
        if config.apart:
            self.mixture = ConditionalMixture(len(config.apart), config.width, config.heads, config.mixture, config.mixture_dropout)
            self.beside = nn.Linear(len(config.apart), config.width)
            for name, index in (("apart", list(config.apart)), ("rest", rest), ("order", _inverse_order(rest + list(config.apart)))):
                self.register_buffer(name, torch.tensor(index), persistent=False)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the steps and features apart of (B, T, D)."""
        return x[..., self.rest], x[..., self.apart]

    def _joined(self, rest: Tensor, apart: Tensor) -> Tensor:
        """Inverse of ``_split``."""
        return torch.cat([rest, apart], -1)[..., self.order]

    def _with_lids(self, tokens: Tensor, apart: Tensor) -> Tensor:
        """Condition tokens of the steps: the encoded ones and one of the features apart (B, T, L)."""
        return torch.cat([tokens[:, :, :-1], self.beside(apart).unsqueeze(2)], 2)

    @torch.no_grad()
    def initialise(self, x: Tensor, tokens: Tensor, weights: Tensor) -> None:
        """Data-dependent initialisation of every actnorm, step after step, on (B, T, D) frames."""
        if self.mixture is not None:
            x, apart = self._split(x)
            tokens = self._with_lids(tokens, apart)
        conditions = self.bank(tokens)
        spread = weights.expand(*x.shape[:-1], weights.shape[-1])
        for step, condition in zip(self.steps, conditions, strict=True):
            step.actnorm.initialise(x.reshape(-1, x.shape[-1]), spread.reshape(-1, spread.shape[-1]))
            x, _ = step.actnorm(x, weights)
            x, _ = step.linear(x)
            x, _, _ = step.coupling(x, condition)

    def forward(self, x: Tensor, tokens: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Data to latent.

        Args:
            x: (B, T, D) frames.
            tokens: (B, T, n, width) condition tokens, the summary first, with a mixture its own token last.
            weights: (B, 1 or T, E) emotion weights.

        Returns:
            z (B, T, D) and log|det dz/dx| (B, T).
        """
        total, scores = x.new_zeros(x.shape[:-1]), None
        if self.mixture is not None:
            x, apart = self._split(x)
            scores, total = self.mixture(apart, tokens)
            tokens = self._with_lids(tokens, apart)
        for step, condition in zip(self.steps, self.bank(tokens), strict=True):
            x, one = step.actnorm(x, weights)
            x, two = step.linear(x)
            x, three, _ = step.coupling(x, condition)
            total = total + one + two + three
        return (x if scores is None else self._joined(x, scores)), total

    def start(self) -> StackState:
        """State before the first frame of a rollout."""
        return StackState([None] * self.config.steps, [step.linear.inverse_matrix() for step in self.steps])

    def inverse(self, z: Tensor, tokens: Tensor, weights: Tensor, state: StackState | None = None) -> tuple[Tensor, StackState]:
        """Latent to data, with the state behind the last frame."""
        state = self.start() if state is None else state
        couplings: list[Any] = [None] * self.config.steps
        apart = None
        if self.mixture is not None:
            z, scores = self._split(z)
            apart = self.mixture.inverse(scores, tokens)
            tokens = self._with_lids(tokens, apart)
        conditions = self.bank(tokens)
        for k in range(self.config.steps - 1, -1, -1):
            step = self.steps[k]
            z, couplings[k] = step.coupling.inverse(z, conditions[k], state.couplings[k])
            z = step.linear.inverse(z, state.inverses[k])
            z = step.actnorm.inverse(z, weights)
        return (z if apart is None else self._joined(z, apart)), StackState(couplings, state.inverses)

    def log_prob(self, x: Tensor, tokens: Tensor, weights: Tensor) -> Tensor:
        """Log-density (B, T) of frames given the emotion."""
        z, log_det = self(x, tokens, weights)
        return self.prior.log_prob(z, weights) + log_det

    def log_prob_unlabelled(self, x: Tensor, tokens_of: list[Tensor]) -> Tensor:
        """Log-density (B,) of whole windows whose emotion is unknown: the exact mixture over emotions.

        log p(x) = logsumexp over e of [log(1/E) + sum over t of (log p(f_e(x_t) | e) + log-det_e)]. Every emotion has its own
        map, so the flow runs once per emotion; the label belongs to the window, so frames are summed before the mixture.

        Args:
            x: (B, T, D).
            tokens_of: Condition tokens under each emotion, E entries of (B, T, n, width).
        """
        eye = torch.eye(self.config.labels, dtype=x.dtype, device=x.device)
        each = [self.log_prob(x, tokens, eye[e].view(1, 1, -1).expand(len(x), 1, -1)).sum(1) for e, tokens in enumerate(tokens_of)]
        return torch.logsumexp(torch.stack(each), 0) - torch.log(x.new_tensor(float(self.config.labels)))
