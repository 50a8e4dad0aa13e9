"""Lip sync from window embeddings of a SyncNet: LSE-D, LSE-C and the offset between sound and picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowvqtalker.checks import ShapeError
from flowvqtalker.metrics.base import MeanAccumulator

#: Largest shift searched, as in syncnet_python with vshift 15 [frames].
MAX_SHIFT_FRAMES = 15


@dataclass(frozen=True)
class SyncScore:
    """Lip-sync scores of one clip or window.

    Attributes:
        lse_d: Distance at the best shift, in units of the judge's embedding. Lower is better.
        lse_c: Median over shifts minus the minimum (confidence). Higher is better.
        offset_frames: Best shift; positive = the sound is late.
    """

    lse_d: float
    lse_c: float
    offset_frames: int


def shift_distances(video: np.ndarray, audio: np.ndarray, max_shift: int = MAX_SHIFT_FRAMES) -> np.ndarray:
    """Distance between every picture window and the sound window ``s`` frames later, for all shifts.

    Args:
        video: (T, D) embeddings of the picture windows, frame by frame.
        audio: (T, D) embeddings of the sound windows of the same frames.
        max_shift: Largest shift [frames].

    Returns:
        (T, 2 max_shift + 1) Euclidean distances; column ``max_shift + s`` belongs to shift s; NaN where the shifted window lies outside the clip.

    Raises:
        ShapeError: the two arrays differ in shape.
    """
    if video.shape != audio.shape or video.ndim != 2:
        raise ShapeError(f"sync: expected two arrays (T, D), got {tuple(video.shape)} and {tuple(audio.shape)}")
    frames = len(video)
    result = np.full((frames, 2 * max_shift + 1), np.nan)
    for shift in range(-max_shift, max_shift + 1):
        first, last = max(0, -shift), min(frames, frames - shift)
        if last > first:
            result[first:last, max_shift + shift] = np.linalg.norm(
                video[first:last].astype(np.float64) - audio[first + shift : last + shift], axis=1
            )
    return result


def _score(distances: np.ndarray, min_windows: int) -> SyncScore:
    counts = (~np.isnan(distances)).sum(axis=0)
    sums = np.nansum(distances, axis=0)
    means = np.where(counts >= min_windows, sums / np.maximum(counts, 1), np.nan)
    if np.isnan(means).all():
        return SyncScore(float("nan"), float("nan"), 0)
    best = int(np.nanargmin(means))
    half = distances.shape[1] // 2
    return SyncScore(float(means[best]), float(np.nanmedian(means) - means[best]), best - half)


def sync_score(video: np.ndarray, audio: np.ndarray, max_shift: int = MAX_SHIFT_FRAMES) -> SyncScore:
    """LSE-D, LSE-C and AV offset of one clip: ``d(s) = mean_t |v_t - a_(t+s)|``, ``LSE-D = min d``, ``LSE-C = median d - min d``, ``offset = argmin d``.

    Args:
        video: (T, D) picture embeddings.
        audio: (T, D) sound embeddings of the same frames.
        max_shift: Search range [frames]; shifts that leave less than a third of the clip are left out.

    Returns:
        Scores; NaN for an empty clip. Lower LSE-D is better, higher LSE-C is better, an offset near zero is better.

    Unit: LSE-D and LSE-C in the distance of the judge's embedding, the offset in frames (positive = sound late).
    Source: syncnet_python (Chung and Zisserman 2016) and Wav2Lip's evaluation. Two differences, on purpose: the mean of a shift is taken over the
    windows that exist (the original pads with zeros, which favours small shifts in short clips), and the sign is turned so that positive = sound late.
    Pitfalls: values of different judges are not comparable; re-encoding alone moves LSE; LSE rewards the judge's idea of prototypical lips,
    so a generated clip may score better than a real one.
    """
    return _score(shift_distances(video, audio, max_shift), max(1, len(video) // 3))


def window_offsets(video: np.ndarray, audio: np.ndarray, window: int = 25, step: int = 5, max_shift: int = MAX_SHIFT_FRAMES) -> np.ndarray:
    """AV offsets [frames] of all windows of ``window`` picture frames inside a clip, every ``step`` frames: ``argmin_s mean_t |v_t - a_(t+s)|`` each.

    The share of windows with an offset of at most one frame in size is ``av_within_1_pct``, where higher is better.

    Args:
        video: (T, D) picture embeddings.
        audio: (T, D) sound embeddings.
        window: Length of a window [frames]; 25 = 1 s.
        step: Distance of window starts [frames].
        max_shift: Search range [frames]; the sound of the whole clip is available to every window.

    Returns:
        (n,) int64 in [-max_shift, max_shift], positive = sound late; empty for clips shorter than a window.

    Unit: frames; % of windows for the share.
    Source: ours, after the accuracy measure of Chung and Zisserman, ACCV-W 2016 (offset within one frame).
    Pitfalls: a silent window has no answer and counts as wrong when it misses; a window at an end of the clip can only be searched one way.
    """
    distances = shift_distances(video, audio, max_shift)
    starts = range(0, len(video) - window + 1, step)
    return np.array([_score(distances[start : start + window], window // 2).offset_frames for start in starts], dtype=np.int64)


class LipSync(MeanAccumulator):
    """Mean LSE-D over clips (``compute``), with mean LSE-C, median offset and share of clips within one frame beside it."""

    def reset(self) -> None:
        super().reset()
        self.scores: list[SyncScore] = []

    def update(self, video: np.ndarray, audio: np.ndarray) -> None:
        score = sync_score(video, audio)
        self.scores.append(score)
        self.add(score.lse_d)

    def merge(self, other: LipSync) -> None:
        super().merge(other)
        self.scores = self.scores + other.scores

    def lse_c(self) -> float:
        """Mean LSE-C over clips."""
        return float(np.mean([score.lse_c for score in self.scores])) if self.scores else float("nan")

    def offset_frames(self) -> float:
        """Median AV offset over clips [frames], positive = sound late."""
        return float(np.median([score.offset_frames for score in self.scores])) if self.scores else float("nan")

    def within(self, frames: int = 1) -> float:
        """Share of clips whose offset is at most ``frames`` in size."""
        return float(np.mean([abs(score.offset_frames) <= frames for score in self.scores])) if self.scores else float("nan")
