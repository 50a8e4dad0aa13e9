"""How exact a flow is on given frames: inverse, log-determinant, densities and mixture against independent computations.

Every function measures and returns errors; what is small enough is the caller's to say. Latents, densities and log-determinants are
compared in the number format of the flow that comes in (``in_format`` makes the float64 copy of a trained flow).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import special, stats
from torch import Tensor

from flowvqtalker.flow.chain import ClipConditions, conditions_of, from_latents, residuals, stack_of, target_x, to_latents
from flowvqtalker.flow.motionflow import MotionFlow, Window
from flowvqtalker.flow.priors import Prior, PriorKind
from flowvqtalker.flow.sampling import plan_around
from flowvqtalker.flow.stack import FlowStack
from flowvqtalker.flow.windows import MotionClip, mel_windows


def in_format(flow: MotionFlow, dtype: torch.dtype) -> MotionFlow:
    """A copy of a flow in another number format.

    The knots of the marginals are a fixed grid of equal distances, stored in the format of the training. Cast as they are, a float32 grid
    is no longer equally spaced in float64, and the two directions of the map disagree by some 1e-8 beside a knot. So the grid is laid anew.
    """
    cast = copy.deepcopy(flow).to(dtype)
    if cast.marginals is not None:
        knots = cast.marginals.knots
        cast.marginals.knots = torch.linspace(float(knots[0]), float(knots[-1]), len(knots), dtype=dtype, device=knots.device)
    return cast


def randomised(flow: MotionFlow, size: float, generator: torch.Generator) -> MotionFlow:
    """A copy whose every learned number outside the conditioners is moved by normal noise, so that nothing rests where training left it.

    Args:
        flow: Flow.
        size: Standard deviation of the noise on vectors; on matrices it is divided by the root of the number of inputs.
        generator: Source of the noise.
    """
    moved = copy.deepcopy(flow)
    for part in (moved.core, moved.encoder, moved.audio):
        for parameter in part.parameters():
            scale = size / math.sqrt(parameter.shape[-1]) if parameter.dim() > 1 else size
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data += (scale * noise).to(parameter)
    return moved


@dataclass(frozen=True)
class RoundTrip:
    """Largest absolute errors of x -> z -> x in standardised coefficients.

    Attributes:
        given_past: Every frame inverted given its true past.
        own_past: Every frame inverted given the frames made before it, over whole clips.
        largest_z: Largest absolute latent on the way.
        frames: Number of frames.
    """

    given_past: float
    own_past: float
    largest_z: float
    frames: int


@torch.no_grad()
def round_trip(flow: MotionFlow, clips: Sequence[MotionClip]) -> RoundTrip:
    """Whole clips through the complete chain and back."""
    given = own = largest = 0.0
    for clip in clips:
        x, conditions = target_x(flow, clip), conditions_of(flow, clip)
        z, _ = to_latents(flow, x, conditions)
        past = residuals(flow, x, conditions.plan)
        given = max(given, float((from_latents(flow, z, conditions, past) - x).abs().max()))
        own = max(own, float((from_latents(flow, z, conditions) - x).abs().max()))
        largest = max(largest, float(z.abs().max()))
    return RoundTrip(given, own, largest, sum(len(clip.start) for clip in clips))


@dataclass(frozen=True)
class LogDeterminant:
    """Log-determinants against the Jacobian of z_1..z_T by x_1..x_T that autograd gives.

    Attributes:
        frame_error: Largest absolute difference over single frames: log-determinant of dz_t / dx_t.
        window_error: Largest absolute difference over windows: log-determinant of the whole Jacobian.
        acausal: Largest absolute derivative of a latent by a later frame; exactly 0 in an autoregressive map.
        condition: Largest condition number of a frame's Jacobian: by how much a round trip may enlarge rounding errors.
        frames: Number of frames.
    """

    frame_error: float
    window_error: float
    acausal: float
    condition: float
    frames: int


def log_determinant(flow: MotionFlow, clips: Sequence[MotionClip], first: int, count: int) -> LogDeterminant:
    """Compare on ``count`` frames from frame ``first`` of each clip, with their true past in front of them."""
    frame_error = window_error = acausal = condition = 0.0
    for clip in clips:
        all_x, whole = target_x(flow, clip), conditions_of(flow, clip)
        before = residuals(flow, all_x, whole.plan)[:, first : first + flow.lead]
        conditions, x = whole.frames(first, count), all_x[:, first : first + count]
        dims = x.shape[2]

        def latents(flat: Tensor, conditions: ClipConditions = conditions, before: Tensor = before, shape: torch.Size = x.shape) -> Tensor:
            return to_latents(flow, flat.view(shape), conditions, before=before)[0].flatten()

        jacobian = torch.autograd.functional.jacobian(latents, x.flatten())
        assert isinstance(jacobian, Tensor)
        with torch.no_grad():
            log_det = to_latents(flow, x, conditions, before=before)[1][0]
        window_error = max(window_error, abs(float(torch.linalg.slogdet(jacobian)[1] - log_det.sum())))
        blocks = jacobian.view(count, dims, count, dims)
        for t in range(count):
            frame_error = max(frame_error, abs(float(torch.linalg.slogdet(blocks[t, :, t])[1] - log_det[t])))
            condition = max(condition, float(torch.linalg.cond(blocks[t, :, t])))
            if t + 1 < count:
                acausal = max(acausal, float(blocks[t, :, t + 1 :].abs().max()))
    return LogDeterminant(frame_error, window_error, acausal, condition, count * len(clips))


def _scipy_prior(kind: PriorKind, mean: np.ndarray, nu: float) -> Any:
    """SciPy's distribution of one component; its type hints know scalars only."""
    student: dict[str, Any] = {"shape": np.eye(len(mean)), "df": nu}
    normal: dict[str, Any] = {"cov": np.eye(len(mean))}
    return stats.multivariate_t(mean, **student) if kind == "smm" else stats.multivariate_normal(mean, **normal)


#: Priors that are compared with SciPy: kind and degrees of freedom (which only the Student's t has).
PRIORS: tuple[tuple[PriorKind, float], ...] = (("smm", 2.0), ("smm", 5.0), ("smm", 50.0), ("gmm", 50.0), ("gaussian", 50.0))


def prior_error(
    kind: PriorKind, nu: float, features: int, labels: int, separation: float, generator: torch.Generator, draws: int = 200
) -> float:
    """Largest absolute difference [nats] of a prior's log-density to SciPy's, over all emotions and latents near to and far from the means.

    Half of the latents are spread like the prior's scale, half ten times as wide, where tails of different nu lie far apart.
    """
    # Means are made in the default number format; a float64 copy holds the same means.
    prior = Prior(kind, features, labels, nu, separation, generator).double()
    z = torch.randn(draws, features, generator=generator, dtype=torch.float64)
    z[draws // 2 :] *= 10
    worst = 0.0
    for label, weights in enumerate(torch.eye(labels, dtype=torch.float64)):
        mean = prior.means[label].numpy()
        reference = _scipy_prior(kind, mean, nu)
        found = prior.log_prob((z + prior.means[label]).unsqueeze(0), weights.view(1, 1, -1))[0].numpy()
        worst = max(worst, float(np.abs(found - reference.logpdf(z.numpy() + mean)).max()))
    return worst


def mixture_error(flow: MotionFlow, clip: MotionClip, frames: int) -> float:
    """Absolute difference [nats] of an unlabelled window's log-density to the mixture computed one emotion and one frame at a time.

    The second computation shares only the forward map with the first: log-determinants are those of autograd Jacobians, log-densities
    SciPy's, the sum over emotions SciPy's ``logsumexp``. The plan stays that of the clip, since the mixture is over the flow's emotions.

    Args:
        flow: Flow of kind expression in float64 and eval mode.
        clip: Clip.
        frames: Number of frames from the clip's first.
    """
    core, config = stack_of(flow), flow.config
    own = conditions_of(flow, clip)
    x = target_x(flow, clip)[:, :frames]
    past = residuals(flow, x, own.plan[:, :frames])
    window = _unlabelled_window(flow, clip, past, own.plan, frames)
    with torch.no_grad():
        found = float(flow.log_prob(window)) * frames
        features = flow.audio(window.audio)
    each = []
    for label, row in enumerate(torch.eye(config.stack.labels, dtype=x.dtype)):
        with torch.no_grad():
            tokens = flow.tokens(flow.static_tokens(features, window.plan, window.x0, row.unsqueeze(0)), past)
            u = flow.innovations(past)
        weights, mean = row.view(1, 1, -1), core.prior.means[label].numpy()
        apart = list(config.stack.apart)
        rest = [d for d in range(config.stack.features) if d not in apart]
        reference = _scipy_prior(config.stack.prior, mean[rest], config.stack.nu)
        total = 0.0
        for t in range(frames):

            def latent(v: Tensor, t: int = t, tokens: Tensor = tokens, weights: Tensor = weights) -> Tensor:
                return core(flow.to_normal(v.view(1, 1, -1))[0], tokens[:, t : t + 1], weights)[0].flatten()

            jacobian = torch.autograd.functional.jacobian(latent, u[0, t])
            assert isinstance(jacobian, Tensor)
            with torch.no_grad():
                z = latent(u[0, t]).numpy()
                total += (
                    float(reference.logpdf(z[rest])) + float(stats.norm.logpdf(z[apart]).sum()) + float(torch.linalg.slogdet(jacobian)[1])
                )
        each.append(total)
    return abs(found - float(np.asarray(special.logsumexp(each))) + math.log(len(each)))


def _unlabelled_window(flow: MotionFlow, clip: MotionClip, past: Tensor, plan: Tensor, frames: int) -> Window:
    audio = mel_windows(clip.mel, clip.start, flow.context, flow.context).to(past)[: frames + 2 * flow.context]
    around = plan_around(plan)[:, :frames] if flow.config.conditioners else plan.new_zeros(1, frames, 0)
    x0 = flow.standardise(clip.beta0.to(past)).unsqueeze(0)
    labels = flow.config.stack.labels
    return Window(past, around, x0, past.new_zeros(1, labels), torch.tensor([False]), audio.unsqueeze(0))


@dataclass(frozen=True)
class ActnormStart:
    """Moments behind freshly initialised actnorms, worst over steps, emotions and dimensions.

    Attributes:
        mean_error: Largest absolute mean within an emotion.
        variance_error: Largest absolute difference of a variance within an emotion to 1.
        emotions: Number of emotions that have frames.
        frames: Number of frames.
    """

    mean_error: float
    variance_error: float
    emotions: int
    frames: int


@torch.no_grad()
def actnorm_start(flow: MotionFlow, clips: Sequence[MotionClip]) -> ActnormStart:
    """Initialise an untrained core of the flow's shape on real frames and measure what arrives behind each of its actnorms.

    Every labelled clip counts fully as its emotion (intensity 1); between emotions the initialisation is a least-squares fit, for which
    no moment is exact. Dimensions whose variance within an emotion is below a hundredth of the overall one are floored by design and left out.
    A shared actnorm is measured over all frames together.
    """
    core = FlowStack(flow.config.stack, flow.config.seed).to(flow.mean)
    labelled = [clip for clip in clips if clip.emotion >= 0]
    eye = torch.eye(flow.config.stack.labels, dtype=flow.mean.dtype)
    frames, tokens, labels = [], [], []
    for clip in labelled:
        conditions = conditions_of(flow, clip, eye[clip.emotion : clip.emotion + 1])
        past = residuals(flow, target_x(flow, clip), conditions.plan)
        frames.append(flow.to_normal(flow.innovations(past))[0][0])
        tokens.append(flow.tokens(conditions.static, past)[0])
        labels.append(torch.full((len(clip.start),), clip.emotion))
    x, token, label = torch.cat(frames).unsqueeze(1), torch.cat(tokens).unsqueeze(1), torch.cat(labels)
    weights = eye[label].unsqueeze(1)
    core.initialise(x, token, weights)
    if core.mixture is not None:  # the steps, and so the actnorms, see the lids as a condition
        x, apart = core._split(x)
        token = core._with_lids(token, apart)
    if flow.config.stack.actnorm == "shared":
        label = torch.zeros_like(label)
    mean_error = variance_error = 0.0
    steps: Any = core.steps  # a ModuleList forgets the type of its modules
    for step, condition in zip(steps, core.bank(token), strict=True):
        overall = x[:, 0].var(0, unbiased=False)
        y, _ = step.actnorm(x, weights)
        for emotion in label.unique():
            rows = label == emotion
            real = x[rows, 0].var(0, unbiased=False) >= 0.0101 * overall
            part = y[rows, 0][:, real]
            mean_error = max(mean_error, float(part.mean(0).abs().max()))
            variance_error = max(variance_error, float((part.var(0, unbiased=False) - 1).abs().max()))
        x, _, _ = step.coupling(step.linear(y)[0], condition)
    return ActnormStart(mean_error, variance_error, len(label.unique()), len(label))
