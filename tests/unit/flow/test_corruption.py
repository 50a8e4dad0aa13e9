"""Corrupted frames: the share that was asked for, within the range of the data, alike for every variant."""

import pytest
import torch

from flowvqtalker.flow.corruption import corrupt_expressions
from flowvqtalker.flow.windows import MotionClip


def clips(count: int = 6, frames: int = 200) -> list[MotionClip]:
    generator = torch.Generator().manual_seed(0)
    beta = 0.2 + 0.1 * torch.rand(count, frames, 5, generator=generator)
    return [
        MotionClip(
            f"c{i}", f"p{i}", torch.zeros(9, 80), torch.zeros(frames, dtype=torch.int64), beta[i], torch.zeros(frames, 6), beta[i, 0],
            torch.zeros(6), 0, 0.0,
        )
        for i in range(count)
    ]  # fmt: skip


def test_nothing_changes_at_zero():
    before = clips()
    assert all(a is b for a, b in zip(before, corrupt_expressions(before, 0.0, 3), strict=True))


def test_the_share_is_corrupted_whole_frames_within_the_range():
    before = clips()
    after = corrupt_expressions(before, 0.05, 3)
    hit = torch.cat([(a.beta != b.beta).any(1) for a, b in zip(before, after, strict=True)])
    whole = torch.cat([(a.beta != b.beta).all(1) for a, b in zip(before, after, strict=True)])
    assert 0.03 < hit.float().mean() < 0.07 and bool((hit == whole).all())
    frames, drawn = torch.cat([c.beta for c in before]), torch.cat([c.beta for c in after])
    assert bool((drawn >= frames.amin(0)).all()) and bool((drawn <= frames.amax(0)).all())
    assert all(torch.equal(a.pose, b.pose) and torch.equal(a.beta0, b.beta0) for a, b in zip(before, after, strict=True))


def test_draws_belong_to_the_clip_and_the_seed():
    after = corrupt_expressions(clips(), 0.3, 3)
    assert torch.equal(corrupt_expressions(clips(), 0.3, 3)[4].beta, after[4].beta)
    assert not torch.equal(corrupt_expressions(clips(), 0.3, 4)[4].beta, after[4].beta)
    hit = [(a.beta != b.beta).any(1) for a, b in zip(clips(), after, strict=True)]
    assert not torch.equal(hit[0], hit[1])
    with pytest.raises(ValueError, match="share"):
        corrupt_expressions(clips(), 1.5, 3)
