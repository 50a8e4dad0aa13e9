"""ExpFlow: the flow of expressions (FlowVQTalker, Fig. 2b), conditioned on source, audio, emotion and past."""

from __future__ import annotations

import torch
from torch import Tensor

from flowvqtalker.face.expressions import EXPRESSIONS

#: The long history watches the lids: the time since the last blink is longer than the recent history.
BLINK_NAMES = ("eyeBlink_L", "eyeBlink_R")


def moving_dims(frames: Tensor, min_sd: float) -> Tensor:
    """Indices of the dimensions of (N, E) frames whose standard deviation is at least ``min_sd``; at least two.

    Landmark fits cannot see some dimensions (gaze, say); a likelihood of a constant has no bound, so such dimensions leave
    the flow and are filled with their mean.
    """
    sd = frames.std(0)
    kept = torch.nonzero(sd >= min_sd).flatten()
    return kept if len(kept) >= 2 else sd.argsort(descending=True)[:2].sort().values


def lid_positions(kept: Tensor, coefficients: int) -> tuple[int, ...]:
    """Positions of the lids among the kept dimensions; all dimensions when the face model has other coefficients."""
    if coefficients != len(EXPRESSIONS):
        return tuple(range(len(kept)))
    return tuple(position for position, index in enumerate(kept.tolist()) if EXPRESSIONS[index] in BLINK_NAMES)
