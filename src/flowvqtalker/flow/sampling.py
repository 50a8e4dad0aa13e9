"""Autoregressive rollouts, batched over clips and samples.

Every row has its own random streams, derived from its seed alone, and draws them frame by frame: the same numbers come out
whatever the batch, its order, or the chunks in which a long clip is made. A rollout starts from the source frame; no target
frame ever enters.
"""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowvqtalker.audio.mel import N_MELS, SILENCE, WINDOW_STEPS
from flowvqtalker.checks import check_finite, check_shape
from flowvqtalker.flow.conditioner import emotion_weights
from flowvqtalker.flow.motionflow import PLAN_OFFSETS, MotionFlow
from flowvqtalker.flow.stack import FlowStack, StackState
from flowvqtalker.seeding import numpy_generator

#: Frames whose static tokens are embedded at once; bounds the memory of long rollouts, never changes a result.
CHUNK_FRAMES = 256
#: A step is traced when this rollout and the ones before it, of the same flow with as many rows, make at least so many frames (a stream, whose end
#: nobody knows: behind so many). Tracing takes as long as about a hundred frames. A step that was traced before is used at once.
WORTH_TRACING = 150
#: Traced steps by flow, or the frames made without: by rows, number format and state of the weights. They hold copies of the weights, never the flow.
_TRACED: weakref.WeakKeyDictionary[MotionFlow, dict[Any, int | Callable[..., tuple[Tensor, Tensor]]]] = weakref.WeakKeyDictionary()
#: Traced steps that are kept of one flow.
_MOST_TRACED = 4
#: Largest intensity that can be asked for; training knows intensities up to 1.
MOST_INTENSE = 1.5


@dataclass(frozen=True)
class MotionRequest:
    """One clip to make.

    Attributes:
        windows: (T, 16, 80) float32 mel windows, one per frame to make.
        beta0: (E,) expression of the source frame.
        pose0: (6,) pose of the source frame [rad, cm].
        emotion: Label; -1 draws one from the mixture.
        intensity: [0, MOST_INTENSE]; up to 1 as in training, beyond by guidance.
        seed: The clip's and sample's own seed.
    """

    windows: Tensor
    beta0: Tensor
    pose0: Tensor
    emotion: int
    intensity: float
    seed: int

    def __post_init__(self) -> None:
        check_shape("windows", self.windows, (None, WINDOW_STEPS, N_MELS))
        check_finite("windows", self.windows)
        if len(self.windows) == 0:
            raise ValueError("windows: no frame to make")
        if not 0 <= self.intensity <= MOST_INTENSE:
            raise ValueError(f"intensity: expected [0, {MOST_INTENSE}], got {self.intensity}")


def plan_around(plan: Tensor) -> Tensor:
    """The plan at PLAN_OFFSETS around each frame: (.., T, D) -> (.., T, offsets * D); edges repeat."""
    frames = plan.shape[-2]
    index = torch.arange(frames, device=plan.device)
    return torch.cat([plan.index_select(-2, (index + offset).clamp(0, frames - 1)) for offset in PLAN_OFFSETS], -1)


class _Draws:
    """Noise of one row: standard normals and chi-squares from two streams, so that neither shifts the other."""

    def __init__(self, seed: int, kind: str, nu: float) -> None:
        self.normal = numpy_generator(seed, kind, "normal")
        self.radius = numpy_generator(seed, kind, "radius")
        self.nu = nu

    def take(self, frames: int, features: int) -> tuple[np.ndarray, np.ndarray]:
        return self.normal.standard_normal((frames, features)), self.radius.chisquare(self.nu, frames)


class FrameStep(nn.Module):
    """One frame of a rollout as a function of tensors alone, so that it can be traced once and run without Python.

    Args:
        flow: ExpFlow, PoseFlow or the regression, in eval mode; its weights must not change while the step is in use.
    """

    def __init__(self, flow: MotionFlow) -> None:
        super().__init__()
        self.flow = flow
        core = flow.core
        with torch.no_grad():
            self.state = core.start() if isinstance(core, FlowStack) else StackState([None] * len(core.nets))

    def forward(self, static: Tensor, latent: Tensor, gain: Tensor, weights: Tensor, plan: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """The next frame.

        Args:
            static: (B, 1, m, width) static tokens.
            latent: (B, 1, D) latent z; a regression does not look at it.
            gain: (B, 1, D) factor of the innovations.
            weights: (B, 1, E) emotion weights.
            plan: (B, D) plan of the frame.
            past: (B, lead, D) residuals of the frames before.

        Returns:
            Coefficients (B, C) and the past of the frame behind it (B, lead, D). What recurrent couplings carry stays in ``state``.
        """
        flow, core = self.flow, self.flow.core
        padded = torch.cat([past, past.new_zeros(len(past), 1, past.shape[2])], 1)
        tokens = flow.tokens(static, padded)
        if isinstance(core, FlowStack):
            g, self.state = core.inverse(latent, tokens, weights, self.state)
            u = flow.from_normal(g, gain)
        else:
            u, states = core.step(tokens, self.state.couplings)
            self.state = StackState(states)
        r = (u * flow.u_sd + flow.predicted(padded))[:, 0]
        c = flow.coefficients(plan + r * flow.r_sd)
        # What the next frames see is what was really handed out, clamped to the bounds.
        r = (flow.standardise(c) - plan) / flow.r_sd
        return c, torch.cat([past[:, 1:], r.unsqueeze(1)], 1)


class Rollout:
    """A running rollout of one flow over a batch of requests.

    A frame is some hundred small operations whose cost is calling them. Where it is worth it (WORTH_TRACING) the step is therefore traced, once for
    all rollouts of a flow with as many rows; a flow whose couplings are recurrent stays as it is.

    Args:
        flow: ExpFlow, PoseFlow or the regression, in eval mode.
        requests: Rows; clips may differ in length (a shorter one goes on over silence and is cut by the caller).
        temperature: Factor of the latent noise.
        latent_rho: Correlation of the noise of neighbouring frames; None takes the flow's own.
        guidance: Factor of what the plan owes to the emotion: its difference to the plan for a neutral face with the same speech. The flow's
            conditions stay those of the unguided plan, and what it adds to the plan stays the same. Without conditioners it does nothing.
            Source: the idea of classifier-free guidance (Ho and Salimans, arXiv 2207.12598) on a mean instead of a score.
    """

    def __init__(
        self,
        flow: MotionFlow,
        requests: Sequence[MotionRequest],
        temperature: float,
        latent_rho: float | None = None,
        guidance: float = 1.0,
    ) -> None:
        config = flow.config
        reference = flow.mean
        source = [r.beta0 if config.kind == "expression" else r.pose0 for r in requests]
        self._start(flow, torch.stack(source).to(reference), [r.seed for r in requests], temperature, latent_rho)
        labels = [r.emotion if r.emotion >= 0 else self._any_label(r.seed) for r in requests]
        intensity = torch.tensor([r.intensity for r in requests])
        self.weights = emotion_weights(torch.tensor(labels), intensity, config.stack.labels).to(reference)
        strength = guidance * intensity.clamp_min(1).to(reference)
        neutral = emotion_weights(torch.zeros(1, dtype=torch.int64), torch.zeros(1), config.stack.labels).to(reference)
        self.longest = max(len(r.windows) for r in requests)
        features, plans, guided = [], [], []
        for row, request in enumerate(requests):
            silence = request.windows.new_full((flow.context, WINDOW_STEPS, N_MELS), SILENCE)
            windows = torch.cat([silence, request.windows, silence]).to(reference).unsqueeze(0)
            features.append(self._padded(flow.audio(windows)[0]))
            plan = flow.plan(windows, self.x0[row : row + 1], self.weights[row : row + 1])[0]
            plans.append(self._padded(plan))
            if strength[row] != 1 and config.kind == "expression":
                plan = plan + (strength[row] - 1) * (plan - flow.plan(windows, self.x0[row : row + 1], neutral)[0])
            guided.append(self._padded(plan))
        self.features, self.plan = torch.stack(features), torch.stack(guided)
        self.around = plan_around(torch.stack(plans))
        self.frame, self.to_make = 0, self.longest

    def _start(self, flow: MotionFlow, sources: Tensor, seeds: Sequence[int], temperature: float, latent_rho: float | None) -> None:
        """What every rollout begins with, from the coefficients (B, C) of the source frames."""
        self.flow, self.temperature = flow, temperature
        self.rho = flow.config.latent_rho if latent_rho is None else latent_rho
        self.x0 = flow.standardise(sources)
        self.draws = [_Draws(seed, flow.config.kind, flow.config.stack.nu) for seed in seeds]
        self.past = self.x0.new_zeros(len(seeds), flow.lead, self.x0.shape[1])
        self.noise: Tensor | None = None
        self.step: Callable[..., tuple[Tensor, Tensor]] = FrameStep(flow).train(flow.training)
        self.traced = False
        self.made = 0
        #: Frames of the whole rollout, where they are known.
        self.to_make: int | None = None

    def _any_label(self, seed: int) -> int:
        return int(numpy_generator(seed, "label").integers(self.flow.config.stack.labels))

    def _padded(self, values: Tensor) -> Tensor:
        return torch.cat([values, values[-1:].expand(self.longest - len(values), -1)])

    @torch.no_grad()
    def advance(self, frames: int) -> Tensor:
        """The next frames: coefficients (B, frames, C)."""
        flow, first = self.flow, self.frame
        frames = min(frames, self.longest - first)
        part = slice(first, first + frames)
        static = flow.static_tokens(self.features[:, part], self.around[:, part], self.x0, self.weights)
        plan, weights = self.plan[:, part], self.weights.unsqueeze(1)
        latent, gain = self._latents(frames, weights)
        # One piece of memory for all frames: a tensor for each would be what a long rollout leaves behind.
        made = self.x0.new_empty(len(self.x0), frames, flow.config.coefficients)
        for i in range(frames):
            at = slice(i, i + 1)
            inputs = (static[:, at], latent[:, at], gain[:, at], weights, plan[:, i], self.past)
            if not self.traced:
                self._trace(inputs)
            made[:, i], self.past = self.step(*inputs)
            self.made += 1
        self.frame += frames
        return made

    def _trace(self, inputs: tuple[Tensor, ...]) -> None:
        """Take the traced step where there is one, make it where it is worth it."""
        flow = self.flow
        if flow.config.stack.coupling != "transformer" or flow.training or not isinstance(self.step, FrameStep):
            self.traced = True
            return
        if self.to_make is None and self.made not in (0, WORTH_TRACING):
            return
        kept = _TRACED.setdefault(flow, {})
        try:
            weights = [*flow.parameters(), *flow.buffers()]
            key = (len(self.past), self.past.dtype, self.past.device, tuple((tensor.data_ptr(), tensor._version) for tensor in weights))
        except RuntimeError:  # tensors made in inference mode do not say whether they have changed
            key = None
        known = kept.get(key, 0)
        if isinstance(known, int):
            known += self.made if self.to_make is None else self.to_make
            if known < WORTH_TRACING:
                # What is not worth it for one rollout may be for the next ones.
                kept[key], self.traced = known, self.to_make is not None
                return
            with warnings.catch_warnings():
                # Shapes are the same in every frame, which is what the tracer's warnings are about.
                warnings.simplefilter("ignore")
                known = torch.jit.freeze(torch.jit.trace(self.step, inputs, check_trace=False))
            while len(kept) >= _MOST_TRACED:
                del kept[next(iter(kept))]
            if key is not None:
                kept[key] = known
        self.step, self.traced = known, True

    def _latents(self, frames: int, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Latents and gains (B, frames, D) of the next frames."""
        drawn = [draws.take(frames, self.x0.shape[1]) for draws in self.draws]
        normal = torch.from_numpy(np.stack([d[0] for d in drawn])).to(self.x0)
        chi_square = torch.from_numpy(np.stack([d[1] for d in drawn])).to(self.x0)
        core, gain = self.flow.core, self.flow.gain.expand_as(normal)
        if not isinstance(core, FlowStack):
            return normal, gain
        if self.rho:
            steps = []
            for one in normal.unbind(1):
                self.noise = one if self.noise is None else self.rho * self.noise + math.sqrt(1 - self.rho**2) * one
                steps.append(self.noise)
            normal = torch.stack(steps, 1)
        latent = core.prior.latent(normal, chi_square, weights, self.temperature)
        apart = list(self.flow.config.stack.apart)
        if apart:
            # Blinks are all or nothing: a gain of innovations would change how far lids close, one of their latents changes how often.
            latent[..., apart] = latent[..., apart] * gain[..., apart]
            gain = gain.clone()
            gain[..., apart] = 1.0
        return latent, gain


def rollout(
    flow: MotionFlow,
    requests: Sequence[MotionRequest],
    *,
    temperature: float = 1.0,
    latent_rho: float | None = None,
    guidance: float = 1.0,
    batch: int = 32,
    chunk: int = CHUNK_FRAMES,
) -> Iterator[Tensor]:
    """Coefficients (T, C) float32 of each request, in order.

    Args:
        flow: ExpFlow, PoseFlow or the regression, in eval mode.
        requests: Any number of clips and samples.
        temperature: Factor of the latent noise; 1 samples the learned distribution.
        latent_rho: Correlation of neighbouring noise; None takes the flow's own.
        guidance: Factor of the emotion's part of the plan; see ``Rollout``. 1 samples the learned distribution.
        batch: Rows that are rolled out together; changes speed only.
        chunk: Frames whose conditions are embedded at once; changes memory only.
    """
    for first in range(0, len(requests), batch):
        rows = requests[first : first + batch]
        running = Rollout(flow, rows, temperature, latent_rho, guidance)
        made = torch.cat([running.advance(chunk) for _ in range(0, running.longest, chunk)], 1)
        for row, request in zip(made, rows, strict=True):
            yield row[: len(request.windows)].to(torch.float32).cpu()
