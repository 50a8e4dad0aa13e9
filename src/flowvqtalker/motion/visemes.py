"""Lip motion from phonemes: targets per phoneme, blended by dominance functions, with lips that seal.

Coarticulation after Cohen & Massaro, "Modeling coarticulation in synthetic visual speech" (1993): every phoneme pulls each shape towards
its target with a strength that falls off exponentially in time; the shape is the weighted mean of all pulls. A phoneme that does not care
about a shape (lip rounding during /t/) pulls it weakly, so its neighbours' gesture spreads through it. The targets are our own.

Bilabials are not left to that mean: lips touch fully on at least one frame of every /m b p/, whatever its neighbours want.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from flowvqtalker.constants import FPS_HZ
from flowvqtalker.face.expressions import EXPRESSION_INDEX, EXPRESSIONS
from flowvqtalker.speech.espeak import Phoneme, Speech

_OVERSAMPLING = 4
_REACH_S = 0.026
_REACH_PER_DURATION = 0.24
_REST_STRENGTH = 0.02
_UNCARED = 0.28

_OPEN = {"jawOpen": 0.62, "mouthLowerDown": 0.20, "mouthUpperUp": 0.10}
_NEAR_OPEN = {"jawOpen": 0.52, "mouthStretch": 0.10, "mouthLowerDown": 0.22, "mouthUpperUp": 0.14}
_MID_FRONT = {"jawOpen": 0.36, "mouthStretch": 0.11, "mouthSmile": 0.08, "mouthLowerDown": 0.20, "mouthUpperUp": 0.11}
_CLOSE_FRONT = {"jawOpen": 0.15, "mouthStretch": 0.17, "mouthSmile": 0.14, "mouthLowerDown": 0.20, "mouthUpperUp": 0.09}
_MID = {"jawOpen": 0.26, "mouthLowerDown": 0.14, "mouthUpperUp": 0.06}
_BACK_OPEN = {"jawOpen": 0.50, "mouthFunnel": 0.32, "mouthLowerDown": 0.12}
_BACK_MID = {"jawOpen": 0.36, "mouthFunnel": 0.46, "mouthPucker": 0.22}
_BACK_CLOSE = {"jawOpen": 0.12, "mouthFunnel": 0.28, "mouthPucker": 0.58}
_RHOTIC = {"jawOpen": 0.15, "mouthFunnel": 0.28, "mouthPucker": 0.20}
_BILABIAL = {"jawOpen": 0.06, "mouthPress": 0.16, "mouthRollUpper": 0.10, "mouthRollLower": 0.10}
_LABIODENTAL = {"jawOpen": 0.05, "mouthRollLower": 0.42, "mouthUpperUp": 0.20, "mouthLowerDown": 0.00, "mouthShrugLower": 0.10}
_DENTAL = {"jawOpen": 0.13, "mouthLowerDown": 0.17, "mouthUpperUp": 0.08}
_ALVEOLAR = {"jawOpen": 0.10, "mouthLowerDown": 0.14, "mouthUpperUp": 0.05}
_SIBILANT = {"jawOpen": 0.04, "mouthStretch": 0.12, "mouthLowerDown": 0.19, "mouthUpperUp": 0.10}
_POSTALVEOLAR = {"jawOpen": 0.07, "mouthFunnel": 0.46, "mouthPucker": 0.14, "mouthUpperUp": 0.10, "mouthLowerDown": 0.10}
_VELAR = {"jawOpen": 0.18, "mouthLowerDown": 0.09}
_GLIDE_W = {"jawOpen": 0.07, "mouthFunnel": 0.22, "mouthPucker": 0.68}
_BREATH = {"jawOpen": 0.20}

#: IPA letter -> (targets of its shapes [0, 1], strength of its pull). Both sides of a face get the same target.
_LETTERS: dict[str, tuple[dict[str, float], float]] = {
    **dict.fromkeys("aɑɒ", (_OPEN, 1.0)),
    **dict.fromkeys("æ", (_NEAR_OPEN, 1.0)),
    **dict.fromkeys("ɛeɐʌ", (_MID_FRONT, 0.9)),
    **dict.fromkeys("iɪᵻj", (_CLOSE_FRONT, 0.9)),
    **dict.fromkeys("ə", (_MID, 0.45)),
    **dict.fromkeys("ɔ", (_BACK_OPEN, 1.0)),
    **dict.fromkeys("o", (_BACK_MID, 1.0)),
    **dict.fromkeys("uʊʉ", (_BACK_CLOSE, 1.0)),
    **dict.fromkeys("ɜɚɝɹr", (_RHOTIC, 0.8)),
    **dict.fromkeys("mbp", (_BILABIAL, 1.6)),
    **dict.fromkeys("fv", (_LABIODENTAL, 1.5)),
    **dict.fromkeys("wʍ", (_GLIDE_W, 1.4)),
    **dict.fromkeys("θð", (_DENTAL, 0.7)),
    **dict.fromkeys("tdnlɾ", (_ALVEOLAR, 0.6)),
    **dict.fromkeys("sz", (_SIBILANT, 0.9)),
    **dict.fromkeys("ʃʒ", (_POSTALVEOLAR, 1.2)),
    **dict.fromkeys("kɡŋgx", (_VELAR, 0.5)),
    **dict.fromkeys("hʔ", (_BREATH, 0.3)),
}
_PAUSE: tuple[dict[str, float], float] = ({}, 0.35)
BILABIALS = frozenset("mbp")
#: Letters that end in another mouth than they begin with get the second part's share of time.
_LATER_SHARE = 0.45
_IGNORED = frozenset("ː:ˑʲʰ̪̩̃ ̯͡")


def _vector(targets: Mapping[str, float]) -> np.ndarray:
    vector = np.zeros(len(EXPRESSIONS))
    for name, value in targets.items():
        for full in (name, f"{name}_L", f"{name}_R"):
            if full in EXPRESSION_INDEX:
                vector[EXPRESSION_INDEX[full]] = value
    return vector


#: Targets of every known IPA letter as vectors (53,) in [0, 1].
VISEMES: Mapping[str, np.ndarray] = MappingProxyType({letter: _vector(targets) for letter, (targets, _) in _LETTERS.items()})
#: Shapes that speech moves.
SPEECH_SHAPES: tuple[str, ...] = (
    *tuple(name for i, name in enumerate(EXPRESSIONS) if any(v[i] > 0 for v in VISEMES.values())),
    "mouthClose",
)


def phoneme_letters(symbol: str) -> tuple[str, ...]:
    """IPA letters of a phoneme that shape the mouth, e.g. "aɪ" -> ("a", "ɪ"), "tʃ" -> ("t", "ʃ"); a pause or an unknown sign -> ()."""
    return tuple(letter for letter in symbol if letter not in _IGNORED and letter in _LETTERS)


def _gestures(speech: Speech) -> list[tuple[float, float, float, np.ndarray, np.ndarray, int]]:
    """(centre [s], reach [s], strength, target (53,), cared (53,) bool, phoneme number) of each mouth gesture."""
    gestures = []
    for number, phoneme in enumerate(speech.phonemes):
        letters = phoneme_letters(phoneme.symbol)
        parts = [(_vector(_LETTERS[letter][0]), _LETTERS[letter]) for letter in letters] or [(_vector({}), _PAUSE)]
        edges = _part_edges(phoneme, len(parts))
        for (start, end), (target, (targets, strength)) in zip(edges, parts):
            cared = _vector(dict.fromkeys(targets, 1.0)) > 0
            reach = _REACH_S + _REACH_PER_DURATION * (end - start)
            gestures.append(((start + end) / 2, reach, strength, target, cared, number))
    return gestures


def _part_edges(phoneme: Phoneme, n: int) -> list[tuple[float, float]]:
    if n == 1:
        return [(phoneme.start_s, phoneme.end_s)]
    length = phoneme.end_s - phoneme.start_s
    shares = np.full(n, _LATER_SHARE / (n - 1))
    shares[0] = 1 - _LATER_SHARE
    marks = phoneme.start_s + length * np.concatenate([[0.0], np.cumsum(shares)])
    return [(float(a), float(b)) for a, b in itertools.pairwise(marks)]


def seal_curve(phonemes: tuple[Phoneme, ...], n_frames: int) -> np.ndarray:
    """How far the lips are pressed together for /m b p/, (T,) in [0, 1]; 1 on at least one frame of each.

    The lips are closed during the phoneme and close and open over 45 ms on either side.
    """
    times = np.arange(n_frames) / FPS_HZ
    seal = np.zeros(n_frames)
    ramp_s = 0.045
    for phoneme in phonemes:
        if phoneme.symbol[:1] not in BILABIALS:
            continue
        end_s = min(phoneme.end_s, phoneme.start_s + 0.16)
        outside = np.maximum(np.maximum(phoneme.start_s - times, times - end_s), 0.0)
        seal = np.maximum(seal, np.clip(1 - outside / ramp_s, 0, 1))
        nearest = round((phoneme.start_s + end_s) / 2 * FPS_HZ)
        if nearest < n_frames:
            seal[nearest] = 1.0
    return seal


def lip_motion(speech: Speech, n_frames: int, *, articulation: float = 1.0, gains: np.ndarray | None = None) -> np.ndarray:
    """Expression coefficients of speech alone.

    Args:
        speech: phonemes with times; time 0 is frame 0.
        n_frames: T.
        articulation: factor on all targets (a mumbler 0.8, a clear speaker 1.15).
        gains: factor per phoneme (n,), default 1: how fully each is spoken in this take.

    Returns:
        (T, 53) float64 in [0, 1]; during a seal ``mouthClose`` equals ``jawOpen`` and no shape parts the lips.
    """
    fine = (np.arange(n_frames * _OVERSAMPLING) + 0.5) / (FPS_HZ * _OVERSAMPLING) - 0.5 / FPS_HZ
    total = np.full((len(fine), len(EXPRESSIONS)), _REST_STRENGTH)
    value = np.zeros_like(total)
    for centre, reach, strength, target, cared, number in _gestures(speech):
        gain = 1.0 if gains is None else float(gains[number])
        pull = strength * np.exp(-np.abs(fine - centre) / reach)
        weight = pull[:, None] * np.where(cared, 1.0, _UNCARED)
        total += weight
        value += weight * (target * gain)
    beta = (value / total).reshape(n_frames, _OVERSAMPLING, -1).mean(1) * articulation
    return close_lips(np.clip(beta, 0, 1), seal_curve(speech.phonemes, n_frames))


_PARTING = {"mouthLowerDown": 1.0, "mouthUpperUp": 1.0, "mouthFunnel": 0.75, "mouthStretch": 0.4, "noseSneer": 0.3}


def close_lips(beta: np.ndarray, seal: np.ndarray) -> np.ndarray:
    """Bring the lips together where ``seal`` is 1.

    Args:
        beta: (T, 53).
        seal: (T,) in [0, 1].

    Returns:
        A copy in which parting shapes fade with the seal and ``mouthClose`` rises to ``seal * jawOpen``: in ARKit's meaning mouthClose
        closes the lips over an open jaw, so equal values leave the lips closed and the jaw where it is.
    """
    beta = beta.copy()
    for name, share in _PARTING.items():
        for full in (name, f"{name}_L", f"{name}_R"):
            if full in EXPRESSION_INDEX:
                beta[:, EXPRESSION_INDEX[full]] *= 1 - share * seal
    jaw, close = EXPRESSION_INDEX["jawOpen"], EXPRESSION_INDEX["mouthClose"]
    beta[:, close] = np.maximum(np.minimum(beta[:, close], beta[:, jaw]), seal * beta[:, jaw])
    return beta
