"""Blendshape scores of a landmark back end as expected expression coefficients, and back.

MediaPipe's face landmarker, whose order is kept, scores ARKit's shapes with "Left" and "Right" spelled out, both from the subject's view; our names end in _L and
_R and keep the two sides of browInnerUp and cheekPuff apart.
"""

from __future__ import annotations

import numpy as np

from flowvqtalker.face.expressions import BLENDSHAPES

_SHARED = ("browInnerUp", "cheekPuff")


def arkit_name(name: str) -> str:
    """MediaPipe's name of one of our shapes: ``eyeBlink_L`` -> ``eyeBlinkLeft``, ``browInnerUp_R`` -> ``browInnerUp``."""
    stem, _, side = name.partition("_")
    if not side or stem in _SHARED:
        return stem
    return stem + {"L": "Left", "R": "Right"}[side]


def blendshapes_to_beta(scores: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Reorder blendshape scores to a face model's shapes.

    Args:
        scores: (T, 52) in [0, 1] in the order of ``face.expressions.BLENDSHAPES``; NaN where no face was found.
        names: E shape names; names without a score stay at zero.

    Returns:
        (T, E) float32 in [0, 1]; rows without a face are zero. Looking down fades as the lids close.

    Raises:
        ValueError: another number of columns.
    """
    if scores.ndim != 2 or scores.shape[1] != len(BLENDSHAPES):
        raise ValueError(f"blendshapes: expected (T, {len(BLENDSHAPES)}), got {scores.shape}")
    column = {name: index for index, name in enumerate(BLENDSHAPES)}
    beta = np.zeros((len(scores), len(names)), dtype=np.float32)
    for index, name in enumerate(names):
        if arkit_name(name) in column:
            beta[:, index] = np.clip(np.nan_to_num(scores[:, column[arkit_name(name)]]), 0, 1)
    # A blink is scored as a look down too; left in, the lookDown shapes would close the lids and leave the blink too little to explain.
    for side in ("L", "R"):
        if f"eyeBlink_{side}" in names and f"eyeLookDown_{side}" in names:
            beta[:, names.index(f"eyeLookDown_{side}")] *= 1 - beta[:, names.index(f"eyeBlink_{side}")]
    return beta


def beta_to_blendshapes(beta: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Expression coefficients as blendshape scores: where two shapes share a score it is their mean; scores without a shape are 0.

    Args:
        beta: (T, E).
        names: E shape names.

    Returns:
        (T, 52) float32 in the order of ``face.expressions.BLENDSHAPES``.
    """
    scores = np.zeros((len(beta), len(BLENDSHAPES)), dtype=np.float32)
    for index, score in enumerate(BLENDSHAPES):
        columns = [column for column, name in enumerate(names) if arkit_name(name) == score]
        if columns:
            scores[:, index] = beta[:, columns].mean(axis=1)
    return scores
