"""Frames in memory for the trainings of the codebook and the generator, and the pairs drawn from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowvqtalker.checks import check_shape
from flowvqtalker.image.geometry import unit_points
from flowvqtalker.image.vqig import Motion


@dataclass(frozen=True)
class FrameSet:
    """N crops of many clips.

    Attributes:
        images: (N, 3, S, S) uint8 RGB.
        landmarks: (N, 68, 2) float32 px of the crop; NaN where there is no face.
        identity: (N,) int64, equal for frames of one person.
        is_still: (N,) bool, the frame comes from a set of stills and not from a video.
        is_enrolment: (N,) bool, the frame comes from the identity's neutral enrolment clip.
        row: (N,) int64, row of the frame in ``coefficients``; -1 without motion.
        first, last: (N,) int64, rows of the first and last frame of the frame's clip (a still is its own clip).
        coefficients: (M, E + 6) float32 [beta | pose (rad, cm)] of all frames of the clips, also of those not kept here.
    """

    images: Tensor
    landmarks: Tensor
    identity: Tensor
    is_still: Tensor
    is_enrolment: Tensor
    row: Tensor
    first: Tensor
    last: Tensor
    coefficients: Tensor

    def __post_init__(self) -> None:
        n = len(self.images)
        check_shape("images", self.images, (n, 3, None, None))
        check_shape("landmarks", self.landmarks, (n, 68, 2))
        for name in ("identity", "is_still", "is_enrolment", "row", "first", "last"):
            check_shape(name, getattr(self, name), (n,))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size_px(self) -> int:
        """Side S of the crops."""
        return self.images.shape[-1]

    def batch(self, index: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) float32 in [0, 1], channels last, of frames ``index`` (B,)."""
        return (self.images[index].float() / 255).contiguous(memory_format=torch.channels_last)

    def motion(self, target: Tensor, source: Tensor, reach: int) -> Motion:
        """Coefficients of target frames (B,), in windows of ``reach`` frames on each side; coefficients and landmarks of source frames (B,)."""
        rows = self.row[target][:, None] + torch.arange(-reach, reach + 1)
        rows = torch.maximum(torch.minimum(rows, self.last[target][:, None]), self.first[target][:, None])
        points = unit_points(self.landmarks[source], self.size_px)
        return Motion(self.coefficients[rows], self.coefficients[self.row[source]], points)

    def normaliser(self, floor: float = 0.04) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (E + 6,) of the coefficients; deviations are at least ``floor``.

        A coefficient that hardly varies is mostly the fitter's noise and must not be blown up to the size of the jaw's opening.
        """
        return self.coefficients.mean(0), self.coefficients.std(0, unbiased=False).clamp_min(floor)

    def evenly(self, n: int) -> Tensor:
        """At most ``n`` frame indices, spread evenly."""
        if len(self) <= n:
            return torch.arange(len(self))
        return torch.linspace(0, len(self) - 1, n).round().long()


class Sampler:
    """Draws frames, or pairs of frames of one identity, from a FrameSet and a generator.

    Args:
        frames: the set.
        stills_share: share of the draws that are stills, where there are stills and videos.
        enrolment_share: share of the pairs whose source is an enrolment frame, where the identity has one.
    """

    def __init__(self, frames: FrameSet, stills_share: float, enrolment_share: float = 0.0) -> None:
        self.frames = frames
        self.stills, self.videos = frames.is_still.nonzero().squeeze(1), (~frames.is_still).nonzero().squeeze(1)
        self.stills_share = 0.0 if len(self.stills) == 0 else 1.0 if len(self.videos) == 0 else stills_share
        self.enrolment_share = enrolment_share
        names = frames.identity.unique()
        self.members = {int(name): (frames.identity == name).nonzero().squeeze(1) for name in names}
        self.enrolled = {int(name): (frames.is_enrolment & (frames.identity == name)).nonzero().squeeze(1) for name in names}

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Indices (n,) of frames; videos and stills each evenly."""
        from_stills = torch.rand(n, generator=generator) < self.stills_share
        place = torch.rand(n, generator=generator)
        picked = torch.empty(n, dtype=torch.long)
        for mask, pool in ((from_stills, self.stills), (~from_stills, self.videos)):
            if mask.any():
                picked[mask] = pool[(place[mask] * len(pool)).long().clamp_max(len(pool) - 1)]
        return picked

    def draw_pairs(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sources (n,) and targets (n,) of the same identity; a source is an enrolment frame or any other frame."""
        target = self.draw(n, generator)
        chance, place = torch.rand(n, generator=generator), torch.rand(n, generator=generator)
        source = torch.empty(n, dtype=torch.long)
        for i in range(n):
            identity = int(self.frames.identity[target[i]])
            pool = self.enrolled[identity] if chance[i] < self.enrolment_share else self.members[identity]
            pool = pool if len(pool) else self.members[identity]
            source[i] = pool[min(int(place[i] * len(pool)), len(pool) - 1)]
        return source, target


def fixed_pairs(frames: FrameSet, n: int) -> tuple[Tensor, Tensor]:
    """At most ``n`` pairs for validation: targets spread evenly over the talking frames, source = first enrolment frame of the identity.

    An identity without enrolment frames uses its first frame.

    Returns:
        Sources and targets, both (m,) int64.
    """
    talking = ~frames.is_enrolment & ~frames.is_still
    candidates = talking.nonzero().squeeze(1) if talking.any() else torch.arange(len(frames))
    target = candidates[torch.linspace(0, len(candidates) - 1, min(n, len(candidates))).round().long()]
    source = []
    for identity in frames.identity[target].tolist():
        of_identity = frames.identity == identity
        enrolled = (of_identity & frames.is_enrolment).nonzero()
        source.append(int(enrolled[0] if len(enrolled) else of_identity.nonzero()[0]))
    return torch.tensor(source), target
