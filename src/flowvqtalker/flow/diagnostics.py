"""What a trained flow does in rollouts on held-out clips: does the mouth follow the sound, do the eyes blink, do samples differ.

Quick numbers for training logs, on coefficients; the judged numbers come from the evaluation on decoded video.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flowvqtalker.constants import FPS_HZ
from flowvqtalker.face.expressions import EXPRESSION_INDEX, EXPRESSIONS
from flowvqtalker.flow.motionflow import MotionFlow
from flowvqtalker.flow.sampling import MotionRequest, rollout
from flowvqtalker.flow.windows import MotionClip, mel_windows
from flowvqtalker.seeding import derive_seed

#: Closure above which an eye counts as closed, and below which as open again (docs: evaluate.blink_on, blink_off).
CLOSED, OPEN = 0.5, 0.3


def lip_opening(beta: np.ndarray) -> np.ndarray:
    """Opening of the lips (..,) from coefficients (.., 53): the jaw as far as the lips follow it, plus lips drawn apart.

    A stand-in for the distance of the inner lips that needs no face model; unit: coefficient of jawOpen.
    """

    def value(name: str) -> np.ndarray:
        return beta[..., EXPRESSION_INDEX[name]]

    apart = value("mouthLowerDown_L") + value("mouthLowerDown_R") + value("mouthUpperUp_L") + value("mouthUpperUp_R")
    return value("jawOpen") * (1 - value("mouthClose").clip(0, 1)) + 0.1 * apart


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson correlation of two sequences; 0 when one of them is constant."""
    a, b = first - first.mean(), second - second.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size > 1e-9 else 0.0


def blinks(beta: np.ndarray) -> list[int]:
    """Length [frames] of every blink in (T, 53) coefficients: from above CLOSED until below OPEN again."""
    closure = 0.5 * (beta[:, EXPRESSION_INDEX["eyeBlink_L"]] + beta[:, EXPRESSION_INDEX["eyeBlink_R"]])
    lengths: list[int] = []
    closed = False
    for value in closure:
        if not closed and value > CLOSED:
            closed = True
            lengths.append(0)
        elif closed and value < OPEN:
            closed = False
        if closed:
            lengths[-1] += 1
    return lengths


def request_of(clip: MotionClip, seed: int) -> MotionRequest:
    """Ask for a clip's motion from its sound, source and emotion."""
    return MotionRequest(mel_windows(clip.mel, clip.start), clip.beta0, clip.pose0, clip.emotion, clip.intensity, seed)


def rollout_metrics(flow: MotionFlow, clips: Sequence[MotionClip], seed: int) -> dict[str, float]:
    """Numbers of two samples (temperature 1) per clip.

    Returns:
        ``seed_distance``: mean absolute difference of the two samples, in standard deviations; ``spread_ratio``: standard deviation
        over time, generated over real, mean over dimensions; ``jitter_ratio``: the same for second differences. For expressions of
        ICT/ARKit names also ``lip_correlation`` with the real clip, ``blinks_per_s``, ``blink_ms`` (median, 0 without blinks) and
        their real counterparts.
    """
    requests = [request_of(clip, derive_seed(seed, clip.name, sample) % 2**31) for sample in range(2) for clip in clips]
    made = [motion.numpy() for motion in rollout(flow, requests)]
    expression = flow.config.kind == "expression"
    real = [(clip.beta if expression else clip.pose).numpy() for clip in clips]
    sd = flow.sd.numpy()
    kept = flow.kept.numpy()
    pairs = list(zip(made[: len(clips)], made[len(clips) :], strict=True))
    values = {
        "seed_distance": float(np.mean([(np.abs(a - b) / sd)[:, kept].mean() for a, b in pairs])),
        "spread_ratio": _ratio([m.std(0)[kept] for m in made], [r.std(0)[kept] for r in real]),
        "jitter_ratio": _ratio(
            [np.abs(np.diff(m, 2, axis=0)).mean(0)[kept] for m in made], [np.abs(np.diff(r, 2, axis=0)).mean(0)[kept] for r in real]
        ),
    }
    if expression and flow.config.coefficients == len(EXPRESSIONS):
        values["lip_correlation"] = float(
            np.mean([correlation(lip_opening(m), lip_opening(r)) for m, r in zip(made, real + real, strict=True)])
        )
        for name, sequences in (("", made), ("real_", real)):
            lengths = [length for sequence in sequences for length in blinks(sequence)]
            values[f"{name}blinks_per_s"] = len(lengths) / (sum(map(len, sequences)) / FPS_HZ)
            values[f"{name}blink_ms"] = float(np.median(lengths)) * 1000 / FPS_HZ if lengths else 0.0
    return values


def _ratio(made: Sequence[np.ndarray], real: Sequence[np.ndarray]) -> float:
    return float((np.mean(made, 0) / np.maximum(np.mean(real, 0), 1e-9)).mean())
