"""Which emotion, how strong, and when: one emotion, a blend of two, or a schedule, as emotion weights per frame.

A track says how much of each emotion a frame shows. An amount of 1 is the full emotion as learnt, 0 none of it, and what the amounts leave
over is neutral; amounts move linearly between the points of a track. What a frame's amounts mean to the flow is what
``conditioner.emotion_weights`` says of a label and an intensity: up to a sum of 1 the amounts are the weights, with the rest at neutral;
beyond 1 the weights keep their proportions and the sum is a factor of guidance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowvqtalker.constants import EMOTIONS, FPS_HZ, N_EMOTIONS
from flowvqtalker.flow.sampling import MOST_INTENSE


@dataclass(frozen=True)
class EmotionTrack:
    """Emotions over time: piecewise linear, constant before the first and after the last point.

    Attributes:
        seconds: (P,) times of the points [s], rising.
        amounts: (P, E) how much of each emotion in the order of ``EMOTIONS``, each in [0, MOST_INTENSE], their sum as well; the entry of
            neutral is not looked at: neutral is what the others leave over.
    """

    seconds: tuple[float, ...]
    amounts: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if not self.seconds or len(self.seconds) != len(self.amounts):
            raise ValueError(f"track: expected as many times as amounts and at least one, got {len(self.seconds)} and {len(self.amounts)}")
        if not all(math.isfinite(s) and s >= 0 for s in self.seconds):
            raise ValueError(f"seconds: expected finite times from 0 on, got {self.seconds}")
        for before, after in zip(self.seconds, self.seconds[1:]):
            if after <= before:
                raise ValueError(
                    f"seconds: expected rising times, got {after:g} after {before:g}; a jump is two points {1 / FPS_HZ:g} s apart"
                )
        for row in self.amounts:
            if len(row) != N_EMOTIONS:
                raise ValueError(f"amounts: expected {N_EMOTIONS} emotions, got {len(row)}")
            if min(row) < 0 or not sum(row[1:]) <= MOST_INTENSE + 1e-9:
                raise ValueError(f"intensity: expected amounts from 0 on with a sum in [0, {MOST_INTENSE}], got {row}")

    @property
    def is_constant(self) -> bool:
        """Whether all frames are alike."""
        return len(set(self.amounts)) == 1

    def at(self, first: int, frames: int) -> tuple[Tensor, Tensor]:
        """Emotion weights (T, E) float32, which sum to one, and intensities (T,) float32 in [0, MOST_INTENSE] of consecutive frames.

        Args:
            first: Number of the first frame; frame i stands at i / 25 s.
            frames: T.
        """
        times = (first + np.arange(frames)) / FPS_HZ
        each = [np.interp(times, self.seconds, [row[e] for row in self.amounts]) for e in range(N_EMOTIONS)]
        amounts = torch.from_numpy(np.stack(each, 1)).float()
        amounts[:, 0] = 0
        intensity = amounts.sum(1)
        weights = amounts / intensity.clamp_min(1).unsqueeze(1)
        weights[:, 0] = 1 - intensity.clamp(0, 1)
        return weights, intensity


def _index(emotion: str) -> int:
    if emotion not in EMOTIONS:
        raise ValueError(f"emotion: expected one of {', '.join(EMOTIONS)}, got {emotion!r}")
    return EMOTIONS.index(emotion)


def _amounts(emotion: str, intensity: float) -> list[float]:
    if not 0 <= intensity <= MOST_INTENSE:
        raise ValueError(f"intensity: expected [0, {MOST_INTENSE}], got {intensity}")
    row, index = [0.0] * N_EMOTIONS, _index(emotion)
    if index:
        row[index] = float(intensity)
    return row


def one_emotion(emotion: str, intensity: float = 1.0) -> EmotionTrack:
    """The same emotion throughout; ``neutral`` ignores the intensity.

    Args:
        emotion: One of ``EMOTIONS``.
        intensity: [0, MOST_INTENSE].
    """
    return EmotionTrack((0.0,), (tuple(_amounts(emotion, intensity)),))


def blend(first: str, second: str, share: float, intensity: float = 1.0) -> EmotionTrack:
    """Between two emotions, the same throughout.

    Args:
        first: Emotion at share 0.
        second: Emotion at share 1.
        share: [0, 1] of the second one; label embedding, actnorm, latent mean and plan move together.
        intensity: [0, MOST_INTENSE] of the whole.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"blend share: expected [0, 1], got {share}")
    pairs = zip(_amounts(first, intensity), _amounts(second, intensity), strict=True)
    return EmotionTrack((0.0,), (tuple((1 - share) * a + share * b for a, b in pairs),))


def schedule(rows: Sequence[tuple[float, str, float]]) -> EmotionTrack:
    """A track through rows of (second, emotion, intensity).

    Rows of the same second are added up: ``(0, "happy", 0.6), (0, "sad", 0.4)`` is a blend. Between two seconds every emotion's amount
    changes linearly.

    Args:
        rows: In order of time.
    """
    if not rows:
        raise ValueError("schedule: expected at least one row (second, emotion, intensity)")
    seconds: list[float] = []
    amounts: list[list[float]] = []
    for second, emotion, intensity in rows:
        row = _amounts(emotion, intensity)
        if seconds and second == seconds[-1]:
            amounts[-1] = [a + b for a, b in zip(amounts[-1], row, strict=True)]
        else:
            seconds.append(float(second))
            amounts.append(row)
    return EmotionTrack(tuple(seconds), tuple(tuple(row) for row in amounts))
