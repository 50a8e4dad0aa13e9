"""What each emotion does to a face: peaks of the shapes at full intensity.

The choice of shapes follows the action units of the emotion prototypes in FACS (Ekman & Friesen; EMFACS as summarised by Matsumoto &
Ekman 2008 for contempt), translated to ARKit names: AU1 browInnerUp, AU2 browOuterUp, AU4 browDown, AU5 eyeWide, AU6 cheekSquint,
AU7 eyeSquint, AU9 noseSneer, AU10 mouthUpperUp, AU12 mouthSmile, AU14 mouthDimple, AU15 mouthFrown, AU17 mouthShrugLower,
AU20 mouthStretch, AU23/24 mouthPress, AU26 jawOpen. The peaks are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from flowvqtalker.constants import EMOTIONS
from flowvqtalker.face.expressions import EXPRESSION_INDEX, EXPRESSIONS


def _both(**values: float) -> dict[str, float]:
    """Names without side become both sides; names that the model has as they stand stay."""
    targets: dict[str, float] = {}
    for name, value in values.items():
        names = (name,) if name in EXPRESSION_INDEX else (f"{name}_L", f"{name}_R")
        targets.update(dict.fromkeys(names, value))
    return targets


#: Emotion -> shape -> peak in [0, 1] at intensity 1. Contempt is drawn on the left; a clip may mirror it.
EMOTION_TARGETS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "neutral": {},
        "angry": _both(browDown=0.85, eyeSquint=0.40, noseSneer=0.25, mouthPress=0.40, mouthShrugLower=0.22, mouthFrown=0.15, jawForward=0.15),
        "contempt": _both(
            mouthSmile_L=0.55, mouthDimple_L=0.55, cheekSquint_L=0.25, mouthUpperUp_L=0.12, mouthLeft=0.18,
            browOuterUp_L=0.35, browDown_R=0.18, eyeBlink=0.10, mouthPress=0.15,
        ),
        "disgusted": _both(
            noseSneer=0.80, mouthUpperUp=0.42, browDown=0.40, eyeSquint=0.32, cheekSquint=0.30, mouthFrown=0.28, mouthShrugLower=0.20
        ),
        "fear": _both(browInnerUp=0.80, browOuterUp=0.35, browDown=0.25, eyeWide=0.75, mouthStretch=0.58, mouthFrown=0.12, jawOpen=0.06),
        "happy": _both(mouthSmile=0.85, cheekSquint=0.68, eyeSquint=0.24, mouthDimple=0.15, mouthUpperUp=0.16, browOuterUp=0.10),
        "sad": _both(browInnerUp=0.82, browDown=0.20, mouthFrown=0.68, mouthShrugLower=0.34, eyeBlink=0.14, eyeSquint=0.12),
        "surprised": _both(browInnerUp=0.82, browOuterUp=0.82, eyeWide=0.70, jawOpen=0.16),
    }
)  # fmt: skip
if tuple(EMOTION_TARGETS) != EMOTIONS:
    raise AssertionError("EMOTION_TARGETS must name the eight emotions in order")


def emotion_vector(emotion: str, *, mirrored: bool = False) -> np.ndarray:
    """Peak coefficients of an emotion, (53,) float64 in [0, 1].

    Args:
        emotion: one of the eight.
        mirrored: swap left and right (only contempt changes).
    """
    vector = np.zeros(len(EXPRESSIONS))
    for name, value in EMOTION_TARGETS[emotion].items():
        vector[EXPRESSION_INDEX[name]] = value
    return vector[MIRROR] if mirrored else vector


def _mirror_name(name: str) -> str:
    if name.endswith("_L"):
        return name[:-1] + "R"
    if name.endswith("_R"):
        return name[:-1] + "L"
    return name[:-4] + "Right" if name.endswith("Left") else name[:-5] + "Left" if name.endswith("Right") else name


#: Index of each shape's mirror image: ``beta[..., MIRROR]`` is the face in a mirror.
MIRROR = np.array([EXPRESSION_INDEX[_mirror_name(name)] for name in EXPRESSIONS])
