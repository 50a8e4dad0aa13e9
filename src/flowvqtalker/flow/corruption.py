"""Frames whose fitted expression is wrong, to learn how a training bears outliers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from flowvqtalker.flow.windows import MotionClip
from flowvqtalker.seeding import torch_generator


def corrupt_expressions(clips: Sequence[MotionClip], share: float, seed: int) -> list[MotionClip]:
    """Clips in which a share of the frames has a random expression, as after a fit gone wrong.

    Every coefficient of such a frame is drawn anew, evenly between its least and greatest value over all clips, so that each value is possible
    and their combination is not. Frames are drawn one by one and alike; sound, pose and the source frame stay as they are.

    Args:
        clips: Training clips; they are not changed.
        share: Share of the frames, [0, 1]; at 0 the clips come back as they are.
        seed: Of the draws, which belong to each clip, so that leaving one out changes no other.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share: expected [0, 1], got {share}")
    if share == 0:
        return list(clips)
    frames = torch.cat([clip.beta for clip in clips])
    low, high = frames.amin(0), frames.amax(0)
    corrupted = []
    for clip in clips:
        generator = torch_generator(seed, clip.name, "corrupted")
        hit = torch.rand(len(clip.beta), 1, generator=generator) < share
        drawn = low + (high - low) * torch.rand(clip.beta.shape, generator=generator)
        corrupted.append(replace(clip, beta=torch.where(hit, drawn, clip.beta)))
    return corrupted
