"""Voices of the synthetic identities and the prosody of their emotions.

Prosody follows the direction of the classical findings on vocal emotion (Scherer, Speech Communication 40, 2003,
https://doi.org/10.1016/S0167-6393(02)00084-5): joy, anger and fear raise pitch and rate, sadness lowers them, anger is loud,
sadness is soft. The sizes are ours, in espeak-ng's units.
"""

from __future__ import annotations

import numpy as np

from flowvqtalker.constants import EMOTIONS
from flowvqtalker.speech.espeak import Prosody

_BASES = ("en-us", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")
_VARIANTS = ("m1", "f2", "m3", "f4", "m7", "f1", "m4", "f3", "m8", "f5", "m2", "m6")

#: 72 distinct voices; neighbours differ in both accent and timbre.
VOICES: tuple[str, ...] = tuple(
    f"{_BASES[(number + turn) % len(_BASES)]}+{variant}" for turn in range(len(_BASES)) for number, variant in enumerate(_VARIANTS)
)

#: Change at full intensity: rate as a factor; pitch, range and volume added in espeak-ng's units.
PROSODY_SHIFT: dict[str, tuple[float, float, float, float]] = {
    "neutral": (1.00, 0, 0, 0),
    "angry": (1.10, 6, 22, 30),
    "contempt": (0.94, -8, -12, -5),
    "disgusted": (0.92, -4, 8, 10),
    "fear": (1.16, 22, 6, -10),
    "happy": (1.08, 18, 26, 15),
    "sad": (0.84, -12, -24, -25),
    "surprised": (1.05, 24, 34, 20),
}
if tuple(PROSODY_SHIFT) != EMOTIONS:
    raise AssertionError("PROSODY_SHIFT must name the eight emotions in order")


def prosody_of(emotion: str, intensity: float, generator: np.random.Generator, *, rate_wpm: int = 170) -> Prosody:
    """Prosody of one utterance: the emotion's shift scaled by intensity, with small changes from one utterance to the next.

    Args:
        emotion: one of the eight.
        intensity: [0, 1].
        generator: draws rate (sd 4 %), pitch (sd 3), range (sd 5) and volume (sd 5) around the mean.
        rate_wpm: neutral speaking rate [words a minute].
    """
    rate, pitch, pitch_range, volume = PROSODY_SHIFT[emotion]
    noise = generator.standard_normal(4) * (0.04, 3.0, 5.0, 5.0)
    return Prosody(
        rate_wpm=int(np.clip(round(rate_wpm * (1 + (rate - 1) * intensity) * (1 + noise[0])), 80, 450)),
        pitch=int(np.clip(round(50 + pitch * intensity + noise[1]), 0, 99)),
        pitch_range=int(np.clip(round(50 + pitch_range * intensity + noise[2]), 0, 99)),
        volume=int(np.clip(round(70 + volume * intensity + noise[3]), 20, 110)),
    )
