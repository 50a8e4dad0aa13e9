"""The diffusion baseline: windows of expressions from noise, in the flow's standardisation and around the same plan.

What today's talking-face models do (DDIM over windows of coefficients, with the frames before as a condition), at the size of ExpFlow and
with its conditions: audio through an encoder of its own, the conditioner's plan, source and emotion weights. Modelled is the flow's
residual r = (x - plan) / sd_r (``motionflow``, step 2). A window is made whole, so the linear prediction and the normal marginals, which
serve a density frame by frame, are left out.

Noise level is an angle phi in [0, pi/2]: x_phi = cos(phi) x_0 + sin(phi) noise, which is the cosine schedule without an offset. The
network predicts the velocity v = cos(phi) noise - sin(phi) x_0 (Salimans and Ho, arXiv 2202.00512), defined at pure noise too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowvqtalker.audio.mel import N_MELS, SILENCE, WINDOW_STEPS
from flowvqtalker.checks import MissingWeightsError
from flowvqtalker.flow.conditioner import AudioEncoder, emotion_weights
from flowvqtalker.flow.motionflow import PLAN_OFFSETS, MotionFlow
from flowvqtalker.flow.sampling import MotionRequest, plan_around
from flowvqtalker.seeding import numpy_generator

FORMAT = "flowvqtalker diffusion 1"
#: Angle of pure noise.
NOISE = math.pi / 2
#: Sines and cosines that tell the network the angle.
WAVES = 16

#: From a velocity (x, phi) -> v, noise and a number of steps to data; ``ddim``, or a library's scheduler behind the same call.
Sampler = Callable[[Callable[[Tensor, float], Tensor], Tensor, int], Tensor]


def ddim(velocity: Callable[[Tensor, float], Tensor], noise: Tensor, steps: int) -> Tensor:
    """Deterministic DDIM (Song et al., arXiv 2010.02502, eta 0) in equal steps of the angle, from pure noise to data.

    A step estimates x_0 = cos(phi) x - sin(phi) v and noise = sin(phi) x + cos(phi) v and puts them together again at the next angle;
    what comes out is a rotation of x towards -v by the difference of the angles.

    Args:
        velocity: (x (B, ..), phi in (0, pi/2] [rad]) -> v (B, ..).
        noise: (B, ..) standard normal.
        steps: Number of calls of ``velocity``, at least 1.
    """
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
    turn = NOISE / steps
    x = noise
    for left in range(steps, 0, -1):
        x = math.cos(turn) * x - math.sin(turn) * velocity(x, left * turn)
    return x


@dataclass(frozen=True)
class DiffusionConfig:
    """Shape of a denoiser; saved with its weights.

    Attributes:
        features: D, the flow's kept dimensions.
        labels: E, number of emotions.
        planned: Whether the plan is a condition (the flow has conditioners).
        window: Frames that are made at once.
        history: Frames before the window that it sees.
        width: Width of the network.
        dilations: Dilation of each block's convolution (kernel 3); as many blocks.
        audio_width: Width of the audio encoder.
        dropout: Dropout in audio encoder and blocks.
    """

    features: int
    labels: int
    planned: bool
    window: int
    history: int
    width: int
    dilations: tuple[int, ...]
    audio_width: int
    dropout: float

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DiffusionConfig:
        """Inverse of ``to_dict``."""
        complete: dict[str, Any] = {**values, "dilations": tuple(values["dilations"])}
        return cls(**complete)


def config_for(flow: MotionFlow, dropout: float) -> DiffusionConfig:
    """The denoiser that stands beside a flow of the default size: its conditions, and as many parameters as the flow within 10 %."""
    shape = flow.config
    return DiffusionConfig(
        features=shape.stack.features, labels=shape.stack.labels, planned=shape.conditioners > 0, window=32, history=16, width=72,
        dilations=(1, 2, 4, 8, 4), audio_width=shape.audio_width, dropout=dropout,
    )  # fmt: skip


class _Block(nn.Module):
    """Norm, shift and scale by noise level and condition, dilated convolution along the frames, residual; the last layer starts at zero."""

    def __init__(self, width: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.wide = nn.Conv1d(width, 2 * width, 3, padding=dilation, dilation=dilation)
        self.back = nn.Conv1d(2 * width, width, 1)
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            for parameter in self.back.parameters():
                parameter.zero_()

    def forward(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """(B, T, width) -> same."""
        normed = self.norm(x) * (1 + scale) + shift
        return x + self.back(self.dropout(F.silu(self.wide(normed.transpose(1, 2))))).transpose(1, 2)


class Denoiser(nn.Module):
    """Velocity of a noisy window given the frames before it, audio, plan, source and emotion.

    Args:
        config: Shape.
    """

    waves: Tensor

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.config = config
        width, blocks = config.width, len(config.dilations)
        self.audio = AudioEncoder(config.audio_width, (1, 2, 4), 0, config.dropout)
        plan = config.features * len(PLAN_OFFSETS) if config.planned else 0
        self.condition = nn.Linear(config.audio_width + plan + config.features + config.labels, width)
        self.register_buffer("waves", torch.exp(torch.linspace(0, math.log(32), WAVES)), persistent=False)
        self.level = nn.Sequential(nn.Linear(2 * WAVES, width), nn.SiLU(), nn.Linear(width, width))
        self.noisy = nn.Linear(config.features, width)
        self.known = nn.Linear(config.features, width)
        # Where a frame lies in history or window; a history that is not there is one learned vector instead.
        self.place = nn.Parameter(torch.randn(config.history + config.window, width) * 0.02)
        self.absent = nn.Parameter(torch.randn(width) * 0.02)
        self.by_condition = nn.Linear(width, blocks * 2 * width)
        self.by_level = nn.Linear(width, blocks * 2 * width)
        self.blocks = nn.ModuleList(_Block(width, dilation, config.dropout) for dilation in config.dilations)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, config.features)
        for layer in (self.by_condition, self.by_level, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def context(self) -> int:
        """Frames of audio in front of and behind a window."""
        return self.audio.context

    def conditions(self, features: Tensor, around: Tensor, x0: Tensor, weights: Tensor) -> Tensor:
        """Scales and shifts of all blocks (B, T, blocks, 2, width): what does not depend on the noise, computed once a window.

        Args:
            features: (B, T, audio_width) of the audio encoder.
            around: (B, T, len(PLAN_OFFSETS) * D) plan, empty without conditioners.
            x0: (B, D) source, standardised.
            weights: (B, E) emotion weights, zero where the label is unknown.
        """
        frames = features.shape[1]
        parts = [features, around] if self.config.planned else [features]
        parts += [value.unsqueeze(1).expand(-1, frames, -1) for value in (x0, weights)]
        made = self.by_condition(F.silu(self.condition(torch.cat(parts, -1))))
        return made.view(*made.shape[:2], len(self.blocks), 2, self.config.width)

    def forward(self, noisy: Tensor, angle: Tensor, past: Tensor, present: Tensor, conditions: Tensor) -> Tensor:
        """Velocity (B, window, D).

        Args:
            noisy: (B, window, D) residuals with noise.
            angle: (B,) noise level [rad].
            past: (B, history, D) residuals before the window.
            present: (B,) bool, whether there is a past; none before a clip's first frame.
            conditions: of ``conditions``, for the window's frames.
        """
        config = self.config
        waves = angle.unsqueeze(1) * self.waves
        level = F.silu(self.level(torch.cat([waves.sin(), waves.cos()], -1)))
        both = self.by_level(level).view(len(noisy), 1, len(self.blocks), 2, config.width)
        # Frames of the past have no condition of their own: their motion tells what the sound was.
        both = both + F.pad(conditions, (0, 0, 0, 0, 0, 0, config.history, 0))
        before = torch.where(present.view(-1, 1, 1), self.known(past), self.absent)
        x = torch.cat([before, self.noisy(noisy)], 1) + self.place
        for index, block in enumerate(self.blocks):
            x = block(x, both[:, :, index, 0], both[:, :, index, 1])
        return self.out(self.norm(x[:, config.history :]))


def add_noise(clean: Tensor, noise: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Noisy windows and their velocity, both (B, T, D), at angles (B,) [rad]."""
    cos, sin = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    return cos * clean + sin * noise, cos * noise - sin * clean


@torch.no_grad()
def diffuse(
    denoiser: Denoiser, flow: MotionFlow, requests: Sequence[MotionRequest], *, steps: int, temperature: float = 1.0, batch: int = 32,
    sampler: Sampler = ddim,
) -> Iterator[Tensor]:  # fmt: skip
    """Coefficients (T, C) float32 of each request, in order: one window after the other, each from noise in ``steps`` DDIM steps.

    Every row draws from a stream of its own, window by window, so the same numbers come out whatever the batch. No target frame enters.
    Emotions that are not given are drawn as in the flow's rollouts. Intensities above 1 widen the emotion's part of the plan as they
    do there.

    Args:
        denoiser: In eval mode.
        flow: Gives standardisation, plan and bounds; its own couplings are not used.
        requests: Any number of clips and samples.
        steps: DDIM steps of each window.
        temperature: Factor of the first noise; 1 samples the learned distribution.
        batch: Rows that are made together; changes speed only.
        sampler: Takes a window from noise to data.
    """
    for first in range(0, len(requests), batch):
        rows = requests[first : first + batch]
        made = _Windows(denoiser, flow, rows).make(steps, temperature, sampler)
        for row, request in zip(made, rows, strict=True):
            yield row[: len(request.windows)].to(torch.float32).cpu()


class _Windows:
    """A batch of requests with their conditions, padded to whole windows by repeating each row's last frame."""

    def __init__(self, denoiser: Denoiser, flow: MotionFlow, requests: Sequence[MotionRequest]) -> None:
        self.denoiser, self.flow = denoiser, flow
        window, reference, labels = denoiser.config.window, flow.mean, flow.config.stack.labels
        self.frames = -(-max(len(r.windows) for r in requests) // window) * window
        self.x0 = flow.standardise(torch.stack([r.beta0 for r in requests]).to(reference))
        chosen = [r.emotion if r.emotion >= 0 else int(numpy_generator(r.seed, "label").integers(labels)) for r in requests]
        intensity = torch.tensor([r.intensity for r in requests])
        self.weights = emotion_weights(torch.tensor(chosen), intensity, labels).to(reference)
        neutral = emotion_weights(torch.zeros(1, dtype=torch.int64), torch.zeros(1), labels).to(reference)
        features, plans, widened = [], [], []
        for row, request in enumerate(requests):
            silence = request.windows.new_full((flow.context, WINDOW_STEPS, N_MELS), SILENCE)
            windows = torch.cat([silence, request.windows, silence]).to(reference).unsqueeze(0)
            features.append(self._padded(denoiser.audio(windows)[0]))
            source = self.x0[row : row + 1]
            plan = flow.plan(windows, source, self.weights[row : row + 1])[0]
            plans.append(self._padded(plan))
            if request.intensity > 1:
                plan = plan + (request.intensity - 1) * (plan - flow.plan(windows, source, neutral)[0])
            widened.append(self._padded(plan))
        self.features, self.plan, self.around = torch.stack(features), torch.stack(widened), plan_around(torch.stack(plans))
        self.draws = [numpy_generator(r.seed, "expression", "diffusion") for r in requests]

    def _padded(self, values: Tensor) -> Tensor:
        return torch.cat([values, values[-1:].expand(self.frames - len(values), -1)])

    def make(self, steps: int, temperature: float, sampler: Sampler) -> Tensor:
        """Coefficients (B, frames, C)."""
        config, flow = self.denoiser.config, self.flow
        rows, dims = self.x0.shape
        past = self.x0.new_zeros(rows, config.history, dims)
        made = []
        for start in range(0, self.frames, config.window):
            part = slice(start, start + config.window)
            conditions = self.denoiser.conditions(self.features[:, part], self.around[:, part], self.x0, self.weights)
            present = torch.full((rows,), start > 0, device=past.device)
            noise = torch.from_numpy(np.stack([draws.standard_normal((config.window, dims)) for draws in self.draws])).to(past)

            def velocity(
                x: Tensor, angle: float, past: Tensor = past, present: Tensor = present, conditions: Tensor = conditions
            ) -> Tensor:
                return self.denoiser(x, x.new_full((len(x),), angle), past, present, conditions)

            r = sampler(velocity, temperature * noise, steps)
            coefficients = flow.coefficients(self.plan[:, part] + r * flow.r_sd)
            made.append(coefficients)
            # As in the flow's rollouts, the next window sees what was handed out, clamped to the bounds.
            r = (flow.standardise(coefficients) - self.plan[:, part]) / flow.r_sd
            past = torch.cat([past, r], 1)[:, -config.history :]
        return torch.cat(made, 1)


def diffusion_state(denoiser: Denoiser) -> dict[str, Any]:
    """Plain dictionary of a denoiser: format, shape and weights; the flow that it stands on is kept apart."""
    weights = {name: value.cpu() for name, value in denoiser.state_dict().items()}
    return {"format": FORMAT, "config": denoiser.config.to_dict(), "weights": weights}


def load_diffusion(state: dict[str, Any]) -> Denoiser:
    """Denoiser from ``diffusion_state``, in eval mode and without gradients.

    Raises:
        MissingWeightsError: The dictionary is of another kind or version.
    """
    if state.get("format") != FORMAT:
        raise MissingWeightsError(
            f"diffusion model: expected format {FORMAT!r}, got {state.get('format')!r}; train it anew with this version"
        )
    denoiser = Denoiser(DiffusionConfig.from_dict(state["config"]))
    denoiser.load_state_dict(state["weights"])
    return denoiser.eval().requires_grad_(False)
