"""Does a flow listen: bits per dimension of held-out clips under their own conditions and under those of other clips.

A condition is exchanged in everything that depends on it, or in the network alone:

- ``complete``: the density of the clip's coefficients given the other clip's sound (emotion, source): plan, residuals, innovations and
  tokens are made anew from it. The other clip's history is also what the linear prediction starts from.
- ``network``: residuals and innovations stay those of the clip's own conditions, only what the network sees is exchanged, so that the
  gap is what the flow itself owes to the condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from flowvqtalker.flow.chain import ClipConditions, bits_per_dim, conditions_of, log_prob, residuals, target_x, to_latents
from flowvqtalker.flow.motionflow import MotionFlow
from flowvqtalker.flow.windows import MotionClip
from flowvqtalker.seeding import numpy_generator, torch_generator

#: Conditions of each kind of flow. PoseFlow is given no emotion.
CONDITIONS = {"expression": ("audio", "emotion", "history", "source"), "pose": ("audio", "history", "source")}
#: How far an exchange reaches.
REACHES = ("complete", "network")


def partners(clips: Sequence[MotionClip], keys: Sequence[str], count: int, *seed: object) -> list[list[int]]:
    """For each clip ``count`` other clips, drawn among those with another key (sentence, emotion, ...); empty where there is none.

    Args:
        clips: Clips; a clip's draws depend on its name, not on its place.
        keys: One key a clip.
        count: Number of partners; fewer when fewer clips have another key.
        seed: What the draws derive from.
    """
    found = []
    for clip, key in zip(clips, keys, strict=True):
        others = [i for i, other in enumerate(keys) if other != key]
        draws = numpy_generator(*seed, clip.name).permutation(len(others))[:count]
        found.append([others[i] for i in draws])
    return found


def exchanged(clip: MotionClip, other: MotionClip, condition: str) -> MotionClip:
    """The clip with another one's sound, emotion or source; sound is repeated or cut to the clip's own length."""
    if condition == "audio":
        rows = torch.arange(len(clip.mel)) % len(other.mel)
        return replace(clip, mel=other.mel[rows])
    if condition == "emotion":
        return replace(clip, emotion=other.emotion, intensity=other.intensity)
    if condition == "source":
        return replace(clip, beta0=other.beta0, pose0=other.pose0)
    raise ValueError(f"condition: expected audio, emotion or source, got {condition!r}")


class Listener:
    """Scores clips under one flow; what a clip's own conditions give is computed once.

    Args:
        flow: Trained flow in eval mode.
        dequantisation: Standard deviation of the declared noise on the innovations; a clip's draws are the same under all conditions.
    """

    def __init__(self, flow: MotionFlow, dequantisation: float) -> None:
        self.flow, self.dequantisation = flow, dequantisation
        self._own: dict[str, tuple[Tensor, ClipConditions]] = {}

    def own(self, clip: MotionClip) -> tuple[Tensor, ClipConditions]:
        """Standardised coefficients (1, T, D) and conditions of a clip."""
        if clip.name not in self._own:
            self._own[clip.name] = target_x(self.flow, clip), conditions_of(self.flow, clip)
        return self._own[clip.name]

    def _past_of(self, other: MotionClip, frames: int) -> Tensor:
        """Residuals (1, lead + frames, D) of another clip around its own plan, repeated or cut to a number of frames."""
        x, conditions = self.own(other)
        past = residuals(self.flow, x, conditions.plan)
        rows = torch.arange(frames) % x.shape[1]
        return torch.cat([past[:, : self.flow.lead], past[:, self.flow.lead :][:, rows]], 1)

    @torch.no_grad()
    def _bits(self, clip: MotionClip, given: ClipConditions, shown: Tensor | None = None, predict_from: Tensor | None = None) -> float:
        x, _ = self.own(clip)
        noise = self.dequantisation * torch.randn(x.shape, generator=torch_generator("listening", clip.name)).to(x)
        z, log_det = to_latents(self.flow, x, given, shown=shown, predict_from=predict_from, noise=noise)
        return bits_per_dim(self.flow, log_prob(self.flow, z, log_det, given))

    def matched(self, clip: MotionClip) -> float:
        """Bits per dimension of a whole labelled clip in standardised coefficients, under its own conditions."""
        return self._bits(clip, self.own(clip)[1])

    def shuffled(self, clip: MotionClip, other: MotionClip, condition: str) -> dict[str, float]:
        """The same under another clip's sound, emotion, history or source: bits by reach."""
        x, own = self.own(clip)
        if condition == "history":
            past = self._past_of(other, x.shape[1])
            return {"complete": self._bits(clip, own, past, past), "network": self._bits(clip, own, past)}
        given = conditions_of(self.flow, exchanged(clip, other, condition))
        return {"complete": self._bits(clip, given), "network": self._bits(clip, given.under(own.plan))}


@dataclass(frozen=True)
class Listening:
    """Bits per dimension of clips.

    Attributes:
        matched: (N,) under the own conditions.
        shuffled: (condition, reach) -> (N,) mean over the partners; NaN where a clip has no partner.
    """

    matched: np.ndarray
    shuffled: dict[tuple[str, str], np.ndarray]


def listen(flow: MotionFlow, clips: Sequence[MotionClip], sentences: Sequence[str], dequantisation: float, shuffles: int) -> Listening:
    """Score labelled clips under their own conditions and, condition by condition, under those of ``shuffles`` other clips.

    Sound comes from clips with another sentence, emotion from clips with another emotion, the source from another identity, history
    from any other clip. The partners do not depend on the flow, so that several trainings are compared on the same ones.
    """
    keys = {
        "audio": list(sentences),
        "emotion": [str(clip.emotion) for clip in clips],
        "history": [clip.name for clip in clips],
        "source": [clip.identity for clip in clips],
    }
    listener = Listener(flow, dequantisation)
    shuffled = {}
    for condition in CONDITIONS[flow.config.kind]:
        chosen = partners(clips, keys[condition], shuffles, "listening", condition)
        scores = [[listener.shuffled(clip, clips[i], condition) for i in others] for clip, others in zip(clips, chosen, strict=True)]
        for reach in REACHES:
            shuffled[condition, reach] = np.array([np.mean([score[reach] for score in one]) if one else np.nan for one in scores])
    matched = np.array([listener.matched(clip) for clip in clips])
    return Listening(matched, shuffled)
