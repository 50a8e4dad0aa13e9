"""The complete chain between coefficients and latents, clip by clip: what the exactness and listening checks look through.

From standardised coefficients x to latents z and back: residual to the plan, linear prediction, marginals, flow steps. The training and
the sampler have the same chain, each in the form that it needs (windows; frame by frame with a clamp and a gain). Here it is without
clamp and gain, in the number format of the flow's weights, with everything that can be exchanged as an argument.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flowvqtalker.flow.conditioner import emotion_weights
from flowvqtalker.flow.motionflow import MotionFlow
from flowvqtalker.flow.sampling import plan_around
from flowvqtalker.flow.stack import FlowStack, StackState
from flowvqtalker.flow.windows import MotionClip, mel_windows


@dataclass(frozen=True)
class ClipConditions:
    """What the frames of one clip are given.

    Attributes:
        static: (1, T, m, width) tokens that do not depend on the past.
        plan: (1, T, D) what is expected, in standardised units.
        weights: (1, 1, E) emotion weights.
    """

    static: Tensor
    plan: Tensor
    weights: Tensor

    def frames(self, first: int, count: int) -> ClipConditions:
        """The same for the frames ``first`` to ``first + count``."""
        part = slice(first, first + count)
        return ClipConditions(self.static[:, part], self.plan[:, part], self.weights)

    def under(self, plan: Tensor) -> ClipConditions:
        """The same tokens and emotion, with residuals around another plan (1, T, D)."""
        return replace(self, plan=plan)


def stack_of(flow: MotionFlow) -> FlowStack:
    """The invertible core.

    Raises:
        TypeError: the model is a regression, which has no latents.
    """
    if not isinstance(flow.core, FlowStack):
        raise TypeError("a regression has no latents")
    return flow.core


def target_x(flow: MotionFlow, clip: MotionClip) -> Tensor:
    """Standardised coefficients (1, T, D) of a clip, in the number format of the flow."""
    coefficients = clip.beta if flow.config.kind == "expression" else clip.pose
    return flow.standardise(coefficients.to(flow.mean)).unsqueeze(0)


@torch.no_grad()
def conditions_of(flow: MotionFlow, clip: MotionClip, weights: Tensor | None = None) -> ClipConditions:
    """Audio, source and emotion of a whole clip as its flow sees them.

    Args:
        flow: Trained flow in eval mode.
        clip: Clip.
        weights: (1, E) emotion weights in place of the clip's label and intensity.
    """
    reference = flow.mean
    if weights is None:
        weights = emotion_weights(torch.tensor([clip.emotion]), torch.tensor([clip.intensity]), flow.config.stack.labels)
    weights = weights.to(reference)
    audio = mel_windows(clip.mel, clip.start, flow.context, flow.context).to(reference).unsqueeze(0)
    source = clip.beta0 if flow.config.kind == "expression" else clip.pose0
    x0 = flow.standardise(source.to(reference)).unsqueeze(0)
    plan = flow.plan(audio, x0, weights)
    static = flow.static_tokens(flow.audio(audio), plan_around(plan), x0, weights)
    return ClipConditions(static, plan, weights.unsqueeze(1))


def residuals(flow: MotionFlow, x: Tensor, plan: Tensor, before: Tensor | None = None) -> Tensor:
    """Residuals (B, lead + T, D) of x (B, T, D) around a plan; ``before`` (B, lead, D) came earlier, zeros in front of a clip."""
    r = (x - plan) / flow.r_sd
    before = r.new_zeros(len(r), flow.lead, r.shape[2]) if before is None else before
    return torch.cat([before, r], 1)


def to_latents(
    flow: MotionFlow,
    x: Tensor,
    conditions: ClipConditions,
    *,
    before: Tensor | None = None,
    shown: Tensor | None = None,
    predict_from: Tensor | None = None,
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Standardised coefficients to latents.

    Args:
        flow: Flow in eval mode.
        x: (B, T, D).
        conditions: Of the same frames.
        before: (B, lead, D) residuals of the frames in front; zeros without.
        shown: (B, lead + T, D) residuals that the network sees as its past, in place of the own.
        predict_from: (B, lead + T, D) residuals that the linear prediction starts from, in place of the own.
        noise: (B, T, D) added to the innovations: the declared dequantisation noise.

    Returns:
        z (B, T, D) and log |det dz_t / dx_t| (B, T) of each frame given its past.
    """
    past = residuals(flow, x, conditions.plan, before)
    u = (past[:, flow.lead :] - flow.predicted(past if predict_from is None else predict_from)) / flow.u_sd
    g, bend = flow.to_normal(u if noise is None else u + noise)
    tokens = flow.tokens(conditions.static.expand(len(x), -1, -1, -1), past if shown is None else shown)
    z, log_det = stack_of(flow)(g, tokens, conditions.weights)
    return z, log_det + bend - (flow.r_sd.log() + flow.u_sd.log()).sum()


@torch.no_grad()
def from_latents(flow: MotionFlow, z: Tensor, conditions: ClipConditions, past: Tensor | None = None) -> Tensor:
    """Latents to standardised coefficients: the inverse of ``to_latents``.

    Args:
        flow: Flow in eval mode.
        z: (B, T, D).
        conditions: Of the same frames.
        past: (B, lead + T, D) the true residuals: every frame is inverted given its true past. Without, each frame is given what was made
            before it, as in a rollout, so that errors of earlier frames go into later ones.

    Returns:
        x (B, T, D).
    """
    core = stack_of(flow)
    static = conditions.static.expand(len(z), -1, -1, -1)

    def residual(z: Tensor, tokens: Tensor, padded: Tensor, state: StackState | None) -> tuple[Tensor, StackState]:
        g, state = core.inverse(z, tokens, conditions.weights, state)
        u = g if flow.marginals is None else flow.marginals.from_normal(g)
        return u * flow.u_sd + flow.predicted(padded), state

    if past is not None:
        r, _ = residual(z, flow.tokens(static, past), past, None)
        return conditions.plan + r * flow.r_sd
    made = z.new_zeros(len(z), flow.lead, z.shape[2])
    state, frames = None, []
    for t in range(z.shape[1]):
        padded = torch.cat([made, made[:, :1]], 1)  # the frame to be made is in no history
        r, state = residual(z[:, t : t + 1], flow.tokens(static[:, t : t + 1], padded), padded, state)
        made = torch.cat([made[:, 1:], r], 1)
        frames.append(r)
    return conditions.plan + torch.cat(frames, 1) * flow.r_sd


def log_prob(flow: MotionFlow, z: Tensor, log_det: Tensor, conditions: ClipConditions) -> Tensor:
    """Log-density (B, T) [nats] of standardised coefficients from what ``to_latents`` returns."""
    return stack_of(flow).prior.log_prob(z, conditions.weights) + log_det


def bits_per_dim(flow: MotionFlow, log_density: Tensor) -> float:
    """Bits per modelled number, mean over the frames, of a log-density (1, T) [nats]."""
    return -float(log_density.double().mean()) / (flow.config.stack.features * math.log(2))
