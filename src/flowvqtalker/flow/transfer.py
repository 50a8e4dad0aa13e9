"""Emotion of a reference clip whose label nobody gives: inferred by the flow's own likelihood, its frames mapped to latents.

FlowVQTalker, Fig. 2b: the reference's coefficients pass forward through the flow, the latents pass back under the target's conditions. The
forward pass needs an emotion; it is the one under which the reference is most likely, with that emotion's own plan and residuals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowvqtalker.audio.mel import N_MELS, SILENCE, WINDOW_STEPS
from flowvqtalker.checks import check_finite, check_shape
from flowvqtalker.constants import EMOTIONS, LEVELS, N_EMOTIONS, intensity_of
from flowvqtalker.flow.conditioner import emotion_weights
from flowvqtalker.flow.control import EmotionTrack, one_emotion
from flowvqtalker.flow.motionflow import MotionFlow, Window
from flowvqtalker.flow.sampling import plan_around
from flowvqtalker.flow.stack import FlowStack

#: Emotions and intensities that a reference is tried under: neutral, and every other emotion at the levels of the training data.
HYPOTHESES: tuple[tuple[str, float], ...] = (
    ("neutral", 0.0),
    *((emotion, intensity_of(emotion, level)) for emotion in EMOTIONS[1:] for level in LEVELS),
)


@dataclass(frozen=True)
class Reference:
    """A clip to take the emotion from.

    Attributes:
        windows: (T, 16, 80) float32 mel windows of its sound.
        beta: (T, C) float32 expression.
        beta0: (C,) expression of the same person's source frame, as calm as there is.
    """

    windows: Tensor
    beta: Tensor
    beta0: Tensor

    def __post_init__(self) -> None:
        check_shape("windows", self.windows, (len(self.beta), WINDOW_STEPS, N_MELS))
        check_shape("beta", self.beta, (None, len(self.beta0)))
        for name in ("windows", "beta", "beta0"):
            check_finite(name, getattr(self, name))
        if len(self.beta) == 0:
            raise ValueError("reference: no frame")


@dataclass(frozen=True)
class Reading:
    """What a reference says.

    Attributes:
        emotion: The inferred emotion.
        intensity: The inferred intensity, one of the training levels.
        log_likelihood: (E,) natural log-density of the reference under each emotion, levels averaged, up to a constant that all share.
        latents: (T, D) latents of the reference's frames under the inferred emotion, less the centre of its component.
    """

    emotion: str
    intensity: float
    log_likelihood: Tensor
    latents: Tensor

    @property
    def track(self) -> EmotionTrack:
        """The inferred emotion throughout."""
        return one_emotion(self.emotion, self.intensity)

    @property
    def posterior(self) -> Tensor:
        """(E,) probabilities of the emotions, all equally likely beforehand."""
        return torch.softmax(self.log_likelihood, 0)


def _window_of(flow: MotionFlow, reference: Reference, weights: Tensor) -> Window:
    """The reference as the flow models it under emotion weights (1, E): residuals from that emotion's own plan."""
    x0 = flow.standardise(reference.beta0.to(flow.mean)).unsqueeze(0)
    silence = reference.windows.new_full((flow.context, WINDOW_STEPS, N_MELS), SILENCE)
    audio = torch.cat([silence, reference.windows, silence]).to(flow.mean).unsqueeze(0)
    plan = flow.plan(audio, x0, weights)
    r = (flow.standardise(reference.beta.to(flow.mean)).unsqueeze(0) - plan) / flow.r_sd
    past = torch.cat([r.new_zeros(1, flow.lead, r.shape[2]), r], 1)
    around = plan_around(plan) if flow.config.conditioners else plan.new_zeros(1, len(reference.beta), 0)
    return Window(past, around, x0, weights, torch.ones(1, dtype=torch.bool), audio)


def _weights(flow: MotionFlow, emotion: str, intensity: float) -> Tensor:
    return emotion_weights(torch.tensor([EMOTIONS.index(emotion)]), torch.tensor([intensity]), N_EMOTIONS).to(flow.mean)


def _expression_core(flow: MotionFlow) -> FlowStack:
    if flow.config.kind != "expression" or not isinstance(flow.core, FlowStack):
        raise TypeError("emotion transfer needs an ExpFlow: a pose flow has no emotion, a regression no likelihood")
    return flow.core


@torch.no_grad()
def likelihoods(flow: MotionFlow, reference: Reference, hypotheses: Sequence[tuple[str, float]] = HYPOTHESES) -> Tensor:
    """Natural log-density (H,) of a reference's frames under each (emotion, intensity), up to a constant that all share.

    The density is that of standardised coefficients given sound, source and emotion; the change of units from residuals is the constant.
    """
    _expression_core(flow)
    frames = len(reference.beta)
    return torch.stack([flow.log_prob(_window_of(flow, reference, _weights(flow, *guess)))[0] * frames for guess in hypotheses])


@torch.no_grad()
def latents_of(flow: MotionFlow, reference: Reference, emotion: str, intensity: float) -> Tensor:
    """Latents (T, D) of a reference's frames under an emotion, less the centre of its component."""
    core, weights = _expression_core(flow), _weights(flow, emotion, intensity)
    window = _window_of(flow, reference, weights)
    g, _ = flow.to_normal(flow.innovations(window.past))
    static = flow.static_tokens(flow.audio(window.audio), window.plan, window.x0, weights)
    z, _ = core(g, flow.tokens(static, window.past), weights.unsqueeze(1))
    return (z - core.prior.mean(weights).unsqueeze(1))[0]


def read_emotion(flow: MotionFlow, reference: Reference) -> Reading:
    """Infer emotion and intensity of a reference and map its frames to latents; no label is looked at.

    All emotions are equally likely beforehand, and so are the levels within one: log p(x | e) is the log of the mean density over its
    levels. The intensity is the most likely level of the most likely emotion.

    Args:
        flow: ExpFlow in eval mode.
        reference: The clip.
    """
    each = likelihoods(flow, reference)
    names = [emotion for emotion, _ in HYPOTHESES]
    rows = [torch.tensor([i for i, name in enumerate(names) if name == emotion]) for emotion in EMOTIONS]
    total = torch.stack([torch.logsumexp(each[row], 0) - torch.log(torch.tensor(float(len(row)))) for row in rows])
    best = int(total.argmax())
    emotion, intensity = HYPOTHESES[int(rows[best][each[rows[best]].argmax()])]
    return Reading(emotion, intensity, total, latents_of(flow, reference, emotion, intensity))
