"""K flow steps over shared conditions, with their prior: the invertible core of ExpFlow and PoseFlow."""

from __future__ import annotations

from dataclasses import dataclass, field
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
        mixture_dims: Features that a conditional mixture of normals maps in front of the steps (the lids).
        mixture: Its components; 0 for no such map.
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


@dataclass
class StackState:
    """What a rollout carries from frame to frame: the couplings' states, and the inverse matrices, computed once."""

    couplings: list[Any]
    inverses: list[Tensor] = field(default_factory=list)


class FlowStack(nn.Module):
    """Bijection between frames x and latents z given condition tokens and emotion weights.

    Args:
        config: Shape.
        seed: Seed of rotations and latent means; the weights of the networks come from the global generator.
    """

    def __init__(self, config: StackConfig, seed: int) -> None:
        super().__init__()
        if config.features < 2:
            raise ValueError(f"features: a coupling needs at least 2, got {config.features}")
        if config.width % config.heads:
            raise ValueError(f"width {config.width} must be divisible by heads {config.heads}")
        generator = torch.Generator().manual_seed(seed)
        self.config = config
        self.prior = Prior(config.prior, config.features, config.labels, config.nu, config.separation, generator)
        attention_layers = config.coupling_layers if config.coupling == "transformer" else 0
        self.bank = ConditionBank(config.steps, attention_layers, config.width, config.heads)
        self.steps = nn.ModuleList(_Step(config, generator) for _ in range(config.steps))
        self.mixture = (
            ConditionalMixture(config.mixture_dims, config.width, config.heads, config.mixture)
            if config.mixture and config.mixture_dims
            else None
        )

    @torch.no_grad()
    def initialise(self, x: Tensor, tokens: Tensor, weights: Tensor) -> None:
        """Data-dependent initialisation of every actnorm, step after step, on (B, T, D) frames."""
        if self.mixture is not None:
            x, _ = self.mixture(x, tokens)
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
            tokens: (B, T, n, width) condition tokens, the summary first.
            weights: (B, 1 or T, E) emotion weights.

        Returns:
            z (B, T, D) and log|det dz/dx| (B, T).
        """
        total = x.new_zeros(x.shape[:-1])
        if self.mixture is not None:
            x, total = self.mixture(x, tokens)
        for step, condition in zip(self.steps, self.bank(tokens), strict=True):
            x, one = step.actnorm(x, weights)
            x, two = step.linear(x)
            x, three, _ = step.coupling(x, condition)
            total = total + one + two + three
        return x, total

    def start(self) -> StackState:
        """State before the first frame of a rollout."""
        return StackState([None] * self.config.steps, [step.linear.inverse_matrix() for step in self.steps])

    def inverse(self, z: Tensor, tokens: Tensor, weights: Tensor, state: StackState | None = None) -> tuple[Tensor, StackState]:
        """Latent to data, with the state behind the last frame."""
        state = self.start() if state is None else state
        couplings: list[Any] = [None] * self.config.steps
        conditions = self.bank(tokens)
        for k in range(self.config.steps - 1, -1, -1):
            step = self.steps[k]
            z, couplings[k] = step.coupling.inverse(z, conditions[k], state.couplings[k])
            z = step.linear.inverse(z, state.inverses[k])
            z = step.actnorm.inverse(z, weights)
        if self.mixture is not None:
            z = self.mixture.inverse(z, tokens)
        return z, StackState(couplings, state.inverses)

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
