"""Teacher-forced training windows, and the histories that training and rollout share.

The sequence that a flow models is padded before its first frame with zeros (the lead-in: exactly what the plan expects), in
training as in a rollout, so that a rollout starts like a clip does and never from target frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowvqtalker.audio.mel import N_MELS, SILENCE, WINDOW_STEPS
from flowvqtalker.checks import check_shape


@dataclass(frozen=True)
class MotionClip:
    """One clip to learn from.

    Attributes:
        name: Clip id, for messages.
        identity: Who speaks; cross-fitting never splits one.
        mel: (steps, 80) float32 mel in [-4, 4].
        start: (T,) int64 first mel step of each frame's window; beyond the edges there is silence.
        beta: (T, E) float32 expression.
        pose: (T, 6) float32 [rad, cm].
        beta0: (E,) expression of the source frame.
        pose0: (6,) pose of the source frame.
        emotion: Label, -1 when unknown.
        intensity: [0, 1].
    """

    name: str
    identity: str
    mel: Tensor
    start: Tensor
    beta: Tensor
    pose: Tensor
    beta0: Tensor
    pose0: Tensor
    emotion: int
    intensity: float

    def __post_init__(self) -> None:
        frames = len(self.start)
        check_shape("mel", self.mel, (None, N_MELS))
        check_shape("beta", self.beta, (frames, None))
        check_shape("pose", self.pose, (frames, 6))


def mel_windows(mel: Tensor, start: Tensor, before: int = 0, after: int = 0) -> Tensor:
    """Mel windows (T + before + after, 16, 80) of consecutive frames; silence beyond the clip and in the extra frames.

    Args:
        mel: (steps, 80).
        start: (T,) first step of each window; may lie before 0 or end behind the last step.
        before: Extra frames of silence in front.
        after: Extra frames of silence behind.
    """
    index = start.unsqueeze(1) + torch.arange(WINDOW_STEPS, device=mel.device)
    inside = (index >= 0) & (index < len(mel))
    windows = torch.where(inside.unsqueeze(-1), mel[index.clamp(0, len(mel) - 1)], mel.new_tensor(SILENCE))
    if before or after:
        silence = mel.new_full((1, WINDOW_STEPS, N_MELS), SILENCE)
        windows = torch.cat([silence.expand(before, -1, -1), windows, silence.expand(after, -1, -1)])
    return windows


def history_of(padded: Tensor, lead: int, tau: int) -> Tensor:
    """The tau frames before each frame, oldest first.

    Args:
        padded: (B, lead + T, D): lead frames, then the frames themselves.
        lead: Number of frames in front, at least tau.
        tau: History length.

    Returns:
        (B, T, tau, D): entry t holds padded[lead + t - tau : lead + t].
    """
    frames = padded.shape[1] - lead
    return padded[:, lead - tau : lead + frames - 1].unfold(1, tau, 1).transpose(2, 3)


def long_history_of(padded: Tensor, lead: int, span: int, stride: int, dims: Tensor) -> Tensor:
    """Strided long history: the largest value of chosen dimensions within each bin of ``stride`` frames.

    The history tokens hold a few frames; the time since the last blink is longer. A maximum keeps a blink of three frames
    visible in a bin of eight.

    Args:
        padded: (B, lead + T, D).
        lead: Number of frames in front, at least span.
        span: Frames looked back; a multiple of stride.
        stride: Frames per bin.
        dims: Indices of the dimensions.

    Returns:
        (B, T, span / stride * len(dims)), oldest bin first.
    """
    chosen = padded[..., dims]
    frames = padded.shape[1] - lead
    past = chosen[:, lead - span : lead + frames - 1].unfold(1, span, 1)
    batch, count = past.shape[:2]
    return past.reshape(batch, count, len(dims), span // stride, stride).amax(-1).transpose(2, 3).reshape(batch, count, -1)


def drop_mask(shape: tuple[int, int, int], probability: float, share: float, generator: torch.Generator) -> Tensor:
    """Data dropout: which history frames are kept, each drawn on its own, in a share of the windows.

    A dropped frame is zeroed as a whole, and nothing but the history ever is. Dropping half of the frames in every window would
    hardly ever show the flow a full history, hence ``share`` (docs/decisions on the flow).

    Args:
        shape: (B, T, tau).
        probability: Probability that a frame is dropped, in windows that have dropout.
        share: Share of windows that have dropout.
        generator: Source of the draws.

    Returns:
        (B, T, tau) float32, 1 = kept.
    """
    has_dropout = torch.rand(shape[0], 1, 1, generator=generator) < share
    return (~((torch.rand(shape, generator=generator) < probability) & has_dropout)).float()


def window_starts(lengths: list[int], length: int) -> list[tuple[int, int]]:
    """(clip, first frame) of windows that cover all clips of at least ``length`` frames; the last window of a clip may overlap."""
    places = []
    for clip, frames in enumerate(lengths):
        if frames >= length:
            places += [(clip, min(first, frames - length)) for first in range(0, frames, length)]
    return sorted(set(places))
