"""One autoregressive conditional flow over frames of coefficients; ExpFlow and PoseFlow are its two configurations.

From coefficients to what the flow models, all per dimension and fixed after fitting on the training clips:

1. x = (c - mean) / sd, near-constant dimensions dropped (they are filled with their mean);
2. r = (x - plan) / sd_r, where the plan is what the audio conditioner expects, or the source's x0 without one;
3. u = (r_t - sum_j phi_j r_(t-j)) / sd_u: what a stable linear prediction leaves over;
4. g, where u = q(g) with a fixed monotone map per dimension that makes the marginals normal (``marginals``).

The flow gives the density of g_t given audio, source, emotion and past; every step is invertible with a known derivative, so the
density of x is exact.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowvqtalker.flow.conditioner import AudioEncoder, ConditionEncoder, Conditioner
from flowvqtalker.flow.marginals import MarginalMap
from flowvqtalker.flow.regression import RegressionCore
from flowvqtalker.flow.stack import FlowStack, StackConfig
from flowvqtalker.flow.windows import history_of, long_history_of

#: Frames, relative to the present one, at which a flow sees the conditioner's plan.
PLAN_OFFSETS = (-2, 0, 2, 4)


@dataclass(frozen=True)
class FlowConfig:
    """Everything that shapes a motion flow; saved with its weights.

    Attributes:
        kind: ``expression`` or ``pose``; pose sees no emotion and its history also holds velocities.
        model: ``flow``, or ``regression``: the deterministic model of equal size and conditions.
        coefficients: Size of a frame before near-constant dimensions are dropped.
        stack: Shape of the flow; ``features`` counts the kept dimensions.
        tau: Frames of recent history.
        frames_per_token: History frames that one token embeds; divides ``tau``.
        long_frames: Frames of strided long history; 0 for none.
        long_stride: Frames per bin of the long history.
        long_dims: Kept dimensions that the long history watches (the lids).
        audio_width: Width of the flow's own audio encoder.
        conditioner_width: Width of the audio conditioner.
        conditioner_dropout: Dropout in the audio conditioner.
        conditioners: Number of cross-fitted conditioners, whose mean is the plan; 0 without ``residual``.
        encoder_layers: Self-attention layers over the condition tokens.
        dropout: Dropout in the encoders.
        order: Order of the linear prediction.
        marginals: Whether step 4 is on.
        latent_rho: Correlation of the latent noise of neighbouring frames in a rollout.
        clamp: Largest absolute innovation g in a rollout.
        seed: Seed of rotations and latent means.
    """

    kind: Literal["expression", "pose"]
    model: Literal["flow", "regression"]
    coefficients: int
    stack: StackConfig
    tau: int
    frames_per_token: int
    long_frames: int
    long_stride: int
    long_dims: tuple[int, ...]
    audio_width: int
    conditioner_width: int
    conditioner_dropout: float
    conditioners: int
    encoder_layers: int
    dropout: float
    order: int
    marginals: bool
    latent_rho: float
    clamp: float
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FlowConfig:
        """Inverse of ``to_dict``."""
        values = dict(values)
        return cls(**(values | {"stack": StackConfig.from_dict(values["stack"]), "long_dims": tuple(values["long_dims"])}))


@dataclass
class Window:
    """A batch of teacher-forced windows, ready for ``MotionFlow.tokens``.

    Attributes:
        past: (B, lead + T, D) residuals r, zero before a clip's first frame.
        plan: (B, T, len(PLAN_OFFSETS) * D) plan around each frame, empty without conditioners.
        x0: (B, D) source, standardised.
        weights: (B, E) emotion weights, zero where the label is unknown.
        known: (B,) bool, whether the label is known.
        audio: (B, T + 2 * context, 16, 80) mel windows.
    """

    past: Tensor
    plan: Tensor
    x0: Tensor
    weights: Tensor
    known: Tensor
    audio: Tensor

    def to(self, device: torch.device | str) -> Window:
        """The same batch on another device."""
        return Window(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


@dataclass
class HistoryNoise:
    """Disturbances of the history during training; drawn by the caller so that a step's draws belong to the step.

    Attributes:
        noise: (B, lead + T, F) added to the history features.
        kept: (B, T, tau) 0 or 1, whole frames; the strided long history is not dropped.
    """

    noise: Tensor
    kept: Tensor


class MotionFlow(nn.Module):
    """Flow (or regression) over frames with its conditions and its standardisation.

    Args:
        config: Shape.
    """

    mean: Tensor
    sd: Tensor
    kept: Tensor
    low: Tensor
    high: Tensor
    r_sd: Tensor
    phi: Tensor
    u_sd: Tensor
    v_sd: Tensor
    gain: Tensor

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        if config.tau % config.frames_per_token:
            raise ValueError(f"tau {config.tau} must be a multiple of frames_per_token {config.frames_per_token}")
        if config.long_frames % max(config.long_stride, 1):
            raise ValueError(f"long_frames {config.long_frames} must be a multiple of long_stride {config.long_stride}")
        self.config = config
        features, labels, width = config.stack.features, config.stack.labels, config.stack.width
        c = config.coefficients
        for name, value in {
            "mean": torch.zeros(c),
            "sd": torch.ones(c),
            "kept": torch.arange(features),
            "low": torch.full((c,), -math.inf),
            "high": torch.full((c,), math.inf),
            "r_sd": torch.ones(features),
            "phi": torch.zeros(config.order, features),
            "u_sd": torch.ones(features),
            "v_sd": torch.ones(features),
            "gain": torch.ones(features),
        }.items():
            self.register_buffer(name, value)
        self.conditioners = nn.ModuleList(
            Conditioner(features, labels, config.conditioner_width, config.conditioner_dropout) for _ in range(config.conditioners)
        ).requires_grad_(False)
        self.marginals = MarginalMap(features) if config.marginals else None
        self.audio = AudioEncoder(config.audio_width, (1, 2, 4), 0, config.dropout)
        static = [features, config.audio_width]
        if config.kind == "expression":
            static.append(labels)
        if config.conditioners:
            static.append(features * len(PLAN_OFFSETS))
        self.encoder = ConditionEncoder(
            static,
            self.history_features * config.frames_per_token,
            config.tau // config.frames_per_token,
            len(config.long_dims) * config.long_frames // config.long_stride if config.long_frames else 0,
            width,
            config.stack.heads,
            config.encoder_layers,
            config.dropout,
        )
        self.core: FlowStack | RegressionCore
        self.core = FlowStack(config.stack, config.seed) if config.model == "flow" else RegressionCore(config.stack)

    @property
    def history_features(self) -> int:
        """Size F of a history frame: residuals and velocities."""
        return self.config.stack.features * 2

    @property
    def lead(self) -> int:
        """Frames in front of a window that its histories and predictions reach into."""
        return max(self.config.tau, self.config.long_frames, self.config.order) + 1

    @property
    def context(self) -> int:
        """Frames of audio in front of and behind a window."""
        return self.audio.context

    # Coefficients and what the flow models.

    def standardise(self, coefficients: Tensor) -> Tensor:
        """Coefficients (.., C) -> x (.., D)."""
        return ((coefficients - self.mean) / self.sd)[..., self.kept]

    def coefficients(self, x: Tensor) -> Tensor:
        """Coefficients (.., C) of x (.., D); dropped dimensions have their mean, all lie within the bounds seen in training."""
        full = self.mean.expand(*x.shape[:-1], -1).clone()
        full[..., self.kept] = x * self.sd[self.kept] + self.mean[self.kept]
        return torch.minimum(torch.maximum(full, self.low), self.high)

    def plan(self, audio: Tensor, x0: Tensor, weights: Tensor) -> Tensor:
        """What is expected (B, T, D): the mean of the conditioners, or the source throughout.

        Args:
            audio: (B, T + 2 * context, 16, 80) mel windows.
            x0: (B, D).
            weights: (B, E).
        """
        if not self.config.conditioners:
            return x0.unsqueeze(1).expand(-1, audio.shape[1] - 2 * self.context, -1)
        return torch.stack([conditioner(audio, x0, weights) for conditioner in self.conditioners]).mean(0)

    def predicted(self, past: Tensor) -> Tensor:
        """Linear prediction (B, T, D) of the residual from the frames before; ``past`` is (B, lead + T, D)."""
        frames = past.shape[1] - self.lead
        total = past.new_zeros(past.shape[0], frames, past.shape[2])
        for j in range(self.config.order):
            total = total + self.phi[j] * past[:, self.lead - j - 1 : self.lead - j - 1 + frames]
        return total

    def innovations(self, past: Tensor) -> Tensor:
        """Innovations u (B, T, D) of residuals (B, lead + T, D)."""
        return (past[:, self.lead :] - self.predicted(past)) / self.u_sd

    def to_normal(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Innovations g (B, T, D) and log |dg / du| (B, T)."""
        if self.marginals is None:
            return u, u.new_zeros(u.shape[:-1])
        return self.marginals.to_normal(u)

    def from_normal(self, g: Tensor, gain: Tensor | None = None) -> Tensor:
        """Innovations u of clamped g, for rollouts: times the gain, which is the one that the calibration found unless another is given."""
        g = g.clamp(-self.config.clamp, self.config.clamp)
        u = g if self.marginals is None else self.marginals.from_normal(g)
        return u * (self.gain if gain is None else gain)

    def log_scale(self) -> float:
        """Sum over dimensions of log |dx / du|: turns a log-density of u into one of x."""
        return float((self.r_sd.log() + self.u_sd.log()).sum())

    # Conditions.

    def static_tokens(self, audio_features: Tensor, plan_around: Tensor, x0: Tensor, weights: Tensor) -> Tensor:
        """Tokens (B, T, m, width) that do not depend on the past.

        Args:
            audio_features: (B, T, audio_width).
            plan_around: (B, T, len(PLAN_OFFSETS) * D).
            x0: (B, D).
            weights: (B, E).
        """
        frames = audio_features.shape[1]
        parts = [x0.unsqueeze(1).expand(-1, frames, -1), audio_features]
        if self.config.kind == "expression":
            parts.append(weights.unsqueeze(1).expand(-1, frames, -1))
        if self.config.conditioners:
            parts.append(plan_around)
        return self.encoder.embed_static(parts)

    def history_frames(self, past: Tensor) -> Tensor:
        """Features (B, lead + T, F) of every frame of the past."""
        velocity = torch.diff(past, dim=1, prepend=past[:, :1]) / self.v_sd
        return torch.cat([past, velocity], -1)

    def tokens(self, static: Tensor, past: Tensor, disturb: HistoryNoise | None = None) -> Tensor:
        """All condition tokens (B, T, n, width) from static tokens (B, T, m, width) and residuals (B, lead + T, D)."""
        features = self.history_frames(past)
        if disturb is not None:
            features = features + disturb.noise
        history = history_of(features, self.lead, self.config.tau)
        if disturb is not None:
            history = history * disturb.kept.unsqueeze(-1)
        batch, frames = history.shape[:2]
        groups = self.config.tau // self.config.frames_per_token
        long = None
        if self.config.long_frames:
            dims = torch.tensor(self.config.long_dims, device=past.device)
            long = long_history_of(features, self.lead, self.config.long_frames, self.config.long_stride, dims)
        encoded = self.encoder(static, history.reshape(batch, frames, groups, -1), long)
        own = self._own_token(features, long)
        return encoded if own is None else torch.cat([encoded, own.unsqueeze(2)], 2)

    def _own_token(self, features: Tensor, long: Tensor | None) -> Tensor | None:
        """The token (B, T, width) of the stack's mixture: the recent and the long past of its features as they are, zeros behind them.

        No frame of it is ever dropped: without the frame before, nothing tells whether an eye is about to open.
        """
        apart = self.config.stack.apart if self.config.model == "flow" else ()
        if not apart:
            return None
        width = self.config.stack.width
        room = width - (0 if long is None else long.shape[-1])
        depth = min(self.config.tau, room // len(apart))
        recent = history_of(features[..., list(apart)], self.lead, depth).flatten(2)
        parts = [recent] if long is None else [recent, long]
        return F.pad(torch.cat(parts, -1), (0, width - sum(part.shape[-1] for part in parts)))

    # Likelihood.

    def log_prob(
        self, window: Window, disturb: HistoryNoise | None = None, noise: Tensor | None = None, history: Tensor | None = None
    ) -> Tensor:
        """Mean log-density of u per frame (B,) of teacher-forced windows.

        Labelled windows are scored under their emotion, unlabelled ones by the exact mixture over emotions.

        Args:
            window: The batch.
            disturb: History noise and dropout (training).
            noise: (B, T, D) added to u: the declared dequantisation noise.
            history: (B, lead + T, D) shown to the network in place of the window's own past (diagnostics).
        """
        if not isinstance(self.core, FlowStack):
            raise TypeError("a regression has no likelihood")
        u = self.innovations(window.past)
        if noise is not None:
            u = u + noise
        g, log_det = self.to_normal(u)
        bend = log_det.mean(1)
        features = self.audio(window.audio)
        past = window.past if history is None else history

        def tokens(weights: Tensor) -> Tensor:
            return self.tokens(self.static_tokens(features, window.plan, window.x0, weights), past, disturb)

        if self.config.kind == "pose" or bool(window.known.all()):
            return self.core.log_prob(g, tokens(window.weights), window.weights.unsqueeze(1)).mean(1) + bend
        eye = torch.eye(self.config.stack.labels, dtype=u.dtype, device=u.device)
        mixed = self.core.log_prob_unlabelled(g, [tokens(row.expand(len(u), -1)) for row in eye]) / u.shape[1] + bend
        if not bool(window.known.any()):
            return mixed
        labelled = self.core.log_prob(g, tokens(window.weights), window.weights.unsqueeze(1)).mean(1) + bend
        return torch.where(window.known, labelled, mixed)

    def squared_error(self, window: Window, disturb: HistoryNoise | None = None, history: Tensor | None = None) -> Tensor:
        """Mean squared error of u (B,) of a regression; arguments as in ``log_prob``."""
        if not isinstance(self.core, RegressionCore):
            raise TypeError("a flow is trained by its likelihood")
        static = self.static_tokens(self.audio(window.audio), window.plan, window.x0, window.weights)
        predicted = self.core(self.tokens(static, window.past if history is None else history, disturb))
        return (predicted - self.innovations(window.past)).square().mean((1, 2))

    @torch.no_grad()
    def initialise(self, window: Window) -> None:
        """Data-dependent initialisation of the actnorms on a large batch."""
        if isinstance(self.core, FlowStack):
            static = self.static_tokens(self.audio(window.audio), window.plan, window.x0, window.weights)
            known = window.known if bool(window.known.any()) else torch.ones_like(window.known)
            # Without a single label every emotion starts at the moments of all frames.
            weights = torch.where(window.known.unsqueeze(1), window.weights, 1 / self.config.stack.labels)
            g, _ = self.to_normal(self.innovations(window.past))
            self.core.initialise(g[known], self.tokens(static, window.past)[known], weights[known].unsqueeze(1))


def stable_prediction(series: list[Tensor], order: int) -> Tensor:
    """Coefficients (order, D) of a stable linear prediction, each dimension on its own, by Burg's method.

    Burg's reflection coefficients are below one in size by construction, so that the prediction is stable: a rollout with
    bounded innovations stays bounded for ever.

    Args:
        series: Sequences (T, D).
        order: Order of the prediction.
    """
    dims = series[0].shape[1]
    forward, backward = [s.double() for s in series], [s.double() for s in series]
    phi = torch.zeros(0, dims, dtype=torch.float64)
    for _ in range(order):
        pairs = [(f[1:], b[:-1]) for f, b in zip(forward, backward, strict=True) if len(f) > 1]
        top = torch.zeros(dims, dtype=torch.float64)
        bottom = torch.full((dims,), 1e-12, dtype=torch.float64)
        for f, b in pairs:
            top += 2 * (f * b).sum(0)
            bottom += (f.square() + b.square()).sum(0)
        # A coefficient of exactly one (constant data) would be a random walk.
        reflection = (top / bottom).clamp(-0.999, 0.999)
        phi = torch.cat([phi - reflection * phi.flip(0), reflection.unsqueeze(0)])
        forward = [f - reflection * b for f, b in pairs]
        backward = [b - reflection * f for f, b in pairs]
    return phi.to(series[0].dtype)
