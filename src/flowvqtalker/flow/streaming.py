"""Motion piece by piece: sound and plan are encoded with the lookahead they need, so that memory does not grow with the speech.

The steps of a rollout, its draws and its start are those of ``sampling.Rollout``; what differs is that conditions are made when they are
needed and that emotion weights may change from frame to frame. The plan of a frame is the plan of a clip that has the frame's own
weights throughout; residuals are measured from it, so what the face does besides its plan goes on while the emotion changes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowvqtalker.audio.mel import HOP, N_FFT, N_MELS, SILENCE, STEPS_PER_SECOND, WINDOW_STEPS, compute_mel
from flowvqtalker.checks import check_finite, check_shape
from flowvqtalker.constants import FPS_HZ, N_EMOTIONS, SAMPLES_PER_FRAME
from flowvqtalker.flow.conditioner import emotion_weights
from flowvqtalker.flow.control import EmotionTrack, one_emotion
from flowvqtalker.flow.motionflow import PLAN_OFFSETS, MotionFlow
from flowvqtalker.flow.sampling import CHUNK_FRAMES, Rollout
from flowvqtalker.flow.stack import FlowStack


class WindowStream:
    """Mel windows of sound that comes in blocks of any size; what it keeps is a fraction of a second.

    Equal to ``mel_windows(compute_mel(samples), ceil(len(samples) / 640))`` of the whole sound, to float rounding.
    """

    #: Samples in front of a step that its value depends on, in whole steps: half a window and the pre-emphasis.
    _LEAD = -(-(N_FFT // 2 + 1) // HOP)

    def __init__(self) -> None:
        self._samples = np.zeros(0, np.float32)
        self._samples_from = 0  # number of the first sample kept
        self._mel = np.zeros((0, N_MELS), np.float32)
        self._mel_from = 0  # number of the first step kept
        self._frame = 0

    @property
    def _received(self) -> int:
        return self._samples_from + len(self._samples)

    def push(self, samples: np.ndarray) -> Tensor:
        """Add sound; gives the windows (n, 16, 80) float32 that are complete, n may be 0.

        Args:
            samples: (S,) float mono at 16 kHz in [-1, 1].
        """
        samples = np.asarray(samples, dtype=np.float32)
        check_shape("samples", samples, (None,))
        check_finite("samples", samples)
        self._samples = np.concatenate([self._samples, samples])
        self._grow(max(0, (self._received - N_FFT // 2) // HOP + 1))
        # A window is handed out once all its steps are there.
        needed = self._starts(len(self._mel) // 3 + 8) + WINDOW_STEPS
        return self._windows(int(np.searchsorted(needed, self._mel_from + len(self._mel), side="right")))

    def finish(self) -> Tensor:
        """The sound has ended: the remaining windows (n, 16, 80)."""
        self._grow(1 + self._received // HOP)
        return self._windows(-(-self._received // SAMPLES_PER_FRAME) - self._frame)

    def _starts(self, count: int) -> np.ndarray:
        """First mel steps of the next windows, as ``audio.window_starts`` has them."""
        return STEPS_PER_SECOND * (self._frame + np.arange(count) - 2) // FPS_HZ

    def _grow(self, steps: int) -> None:
        """Make the steps up to number ``steps`` and forget the sound that no later step needs."""
        have = self._mel_from + len(self._mel)
        if steps <= have:
            return
        first = max(0, have - self._LEAD)
        # Steps at the cut's own edges are wrong (no sound before, no first difference) and are not taken.
        mel = compute_mel(self._samples[first * HOP - self._samples_from :][: (steps - 1 - first) * HOP + N_FFT // 2])
        self._mel = np.concatenate([self._mel, mel[have - first : steps - first]])
        keep = max(0, steps - self._LEAD) * HOP
        self._samples, self._samples_from = self._samples[keep - self._samples_from :].copy(), keep

    def _windows(self, count: int) -> Tensor:
        count = max(count, 0)
        index = self._starts(count)[:, None] + np.arange(WINDOW_STEPS) - self._mel_from
        inside = (index >= 0) & (index < len(self._mel))
        windows = np.full((count, WINDOW_STEPS, N_MELS), SILENCE, np.float32)
        windows[inside] = self._mel[index[inside]]
        self._frame += count
        keep = max(0, int(self._starts(1)[0]))
        if keep > self._mel_from:
            self._mel, self._mel_from = self._mel[keep - self._mel_from :].copy(), keep
        return torch.from_numpy(windows)


@dataclass(frozen=True)
class StreamRow:
    """One motion to make, whatever its length.

    Attributes:
        source: (C,) coefficients of the source frame: expression for ExpFlow, pose [rad, cm] for PoseFlow.
        emotion: What is shown when.
        seed: Of everything that is drawn.
        latents: (R, D) standardised noise that replaces the draws of the first R frames (``transfer``), or None.
    """

    source: Tensor
    emotion: EmotionTrack
    seed: int
    latents: Tensor | None = None


class _Conditions:
    """Features, plan and weights of one row's frames, encoded as windows arrive; keeps what lookahead and lookback need."""

    def __init__(self, flow: MotionFlow, row: StreamRow, x0: Tensor, guidance: float) -> None:
        self.flow, self.x0, self.guidance = flow, x0, guidance
        # PoseFlow has no emotion: a track that cut its frames into other runs would only move its rounding.
        self.emotion = row.emotion if flow.config.kind == "expression" else one_emotion("neutral")
        self.windows = x0.new_full((flow.context, WINDOW_STEPS, N_MELS), SILENCE)
        self.features = x0.new_zeros(0, flow.config.audio_width)
        self.plan, self.guided = x0.new_zeros(0, x0.shape[1]), x0.new_zeros(0, x0.shape[1])
        self.kept_from = self.plan_from = 0  # numbers of the first frames of features and guided, and of plan
        self.encoded = self.taken = 0
        self.ended = False

    def push(self, windows: Tensor) -> None:
        if not self.ended:
            self.windows = torch.cat([self.windows, windows.to(self.windows)])
            self._encode()

    def finish(self) -> None:
        self.push(self.windows.new_full((self.flow.context, WINDOW_STEPS, N_MELS), SILENCE))
        self.ended = True

    @property
    def ready(self) -> int:
        """Frames that can be taken now."""
        ahead = max(PLAN_OFFSETS) if self.flow.config.conditioners and not self.ended else 0
        return max(0, self.encoded - ahead - self.taken)

    def _encode(self) -> None:
        flow = self.flow
        count = len(self.windows) - 2 * flow.context
        if count <= 0:
            return
        weights, intensity = (part.to(self.x0) for part in self.emotion.at(self.encoded, count))
        windows = self.windows.unsqueeze(0)
        self.features = torch.cat([self.features, flow.audio(windows)[0]])
        plan = guided = self._plan(windows, weights)
        strength = self.guidance * intensity.clamp_min(1)
        if flow.config.kind == "expression" and bool((strength != 1).any()):
            neutral = emotion_weights(torch.zeros(1, dtype=torch.int64), torch.zeros(1), N_EMOTIONS).to(self.x0)
            guided = plan + (strength.unsqueeze(1) - 1) * (plan - flow.plan(windows, self.x0, neutral)[0])
        self.plan, self.guided = torch.cat([self.plan, plan]), torch.cat([self.guided, guided])
        self.encoded += count
        self.windows = self.windows[count:].clone()

    def _plan(self, windows: Tensor, weights: Tensor) -> Tensor:
        """Plan (T, D) of (1, T + 2 * context, 16, 80) windows, each frame's under its own weights (T, E)."""
        flow, context = self.flow, self.flow.context
        plan = self.x0.new_empty(len(weights), self.x0.shape[1])
        single = []
        for first, last in runs(weights):
            if last - first > 1:
                plan[first:last] = flow.plan(windows[:, first : last + 2 * context], self.x0, weights[first : first + 1])[0]
            else:
                single.append(first)
        if single:  # frames of a ramp: each is the middle of a little clip of its own
            around = torch.stack([windows[0, frame : frame + 2 * context + 1] for frame in single])
            plan[single] = flow.plan(around, self.x0.expand(len(single), -1), weights[single])[:, 0]
        return plan

    def take(self, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features (T, A), plan around (T, offsets * D), guided plan (T, D) and weights (T, E) of the next frames.

        Behind a row's end its last frame is repeated: rows of a batch may differ in length.
        """
        last = self.encoded - 1
        place = (self.taken + torch.arange(count)).clamp_max(last)
        around = [self.plan[(place + offset).clamp(0, last) - self.plan_from] for offset in PLAN_OFFSETS]
        own = place - self.kept_from
        parts = self.features[own], torch.cat(around, -1), self.guided[own], self.emotion.at(self.taken, count)[0].to(self.x0)
        self.taken += count
        # The last frame of all stays, to be repeated.
        keep = min(self.taken, last)
        self.features, self.guided = self.features[keep - self.kept_from :].clone(), self.guided[keep - self.kept_from :].clone()
        self.kept_from, keep = keep, max(0, keep + min(PLAN_OFFSETS))
        self.plan, self.plan_from = self.plan[keep - self.plan_from :].clone(), keep
        return parts


def runs(weights: Tensor) -> list[tuple[int, int]]:
    """First and one-past-last frame of the stretches of equal rows of (T, E)."""
    changes = (weights[1:] != weights[:-1]).any(1).nonzero().flatten() + 1
    edges = [0, *changes.tolist(), len(weights)]
    return list(itertools.pairwise(edges))


class MotionStream(Rollout):
    """A rollout whose sound arrives in pieces.

    Coefficients come out as soon as the sound that a frame listens to is there: ``lookahead`` frames later. ``push`` and ``finish`` give
    the same frames as ``sampling.rollout`` of the whole, to float rounding, whatever the pieces.

    Args:
        flow: ExpFlow, PoseFlow or the regression, in eval mode.
        rows: Motions that are made together; each ``push`` brings the same number of frames to all of them.
        temperature: Factor of the latent noise.
        latent_rho: Correlation of the noise of neighbouring frames; None takes the flow's own.
        guidance: See ``sampling.Rollout``.
    """

    def __init__(
        self, flow: MotionFlow, rows: Sequence[StreamRow], temperature: float = 1.0, latent_rho: float | None = None, guidance: float = 1.0
    ) -> None:
        # Rollout.__init__ encodes whole clips; its ``advance`` reads features, plan and weights, which are set piece by piece here.
        if flow.config.stack.labels != N_EMOTIONS:
            raise ValueError(f"labels: expected a flow of {N_EMOTIONS} emotions, got one of {flow.config.stack.labels}")
        for row in rows:
            check_shape("source", row.source, (flow.config.coefficients,))
            if row.latents is not None:
                check_shape("latents", row.latents, (None, flow.config.stack.features))
        sources = torch.stack([row.source for row in rows]).to(flow.mean)
        self._start(flow, sources, [row.seed for row in rows], temperature, latent_rho)
        self.conditions = [_Conditions(flow, row, self.x0[i : i + 1], guidance) for i, row in enumerate(rows)]
        self.latents = [None if row.latents is None else row.latents.to(self.x0) for row in rows]

    @property
    def lookahead(self) -> int:
        """Frames of sound behind a frame that it waits for."""
        return self.flow.context + (max(PLAN_OFFSETS) if self.flow.config.conditioners else 0)

    @torch.no_grad()
    def push(self, windows: Sequence[Tensor]) -> Tensor:
        """Add mel windows, one piece (n, 16, 80) for each row; gives the coefficients (B, m, C) that all rows have the sound for."""
        if len(windows) != len(self.conditions):
            raise ValueError(f"windows: expected one piece for each of {len(self.conditions)} rows, got {len(windows)}")
        for conditions, piece in zip(self.conditions, windows, strict=True):
            check_shape("windows", piece, (None, WINDOW_STEPS, N_MELS))
            check_finite("windows", piece)
            conditions.push(piece)
        going = [conditions.ready for conditions in self.conditions if not conditions.ended]
        return self._make(min(going, default=0))

    @torch.no_grad()
    def end(self, row: int) -> None:
        """The sound of one row has ended: its last frame is repeated while the others go on."""
        if not self.conditions[row].ended:
            self.conditions[row].finish()
        if self.conditions[row].encoded == 0:
            raise ValueError("windows: no frame to make")

    @torch.no_grad()
    def finish(self) -> Tensor:
        """The sound of all rows has ended: the remaining coefficients (B, m, C)."""
        for row in range(len(self.conditions)):
            self.end(row)
        return self._make(max(conditions.ready for conditions in self.conditions))

    def _make(self, count: int) -> Tensor:
        pieces = [self.x0.new_zeros(len(self.x0), 0, self.flow.config.coefficients)]
        for first in range(0, count, CHUNK_FRAMES):
            taken = [conditions.take(min(CHUNK_FRAMES, count - first)) for conditions in self.conditions]
            features, around, guided, weights = (torch.stack(parts) for parts in zip(*taken, strict=True))
            for start, stop in runs(weights.transpose(0, 1).flatten(1)):
                self.features, self.around, self.plan = features[:, start:stop], around[:, start:stop], guided[:, start:stop]
                self.weights = weights[:, start]
                self.frame, self.longest = 0, stop - start
                pieces.append(self.advance(stop - start))
        return torch.cat(pieces, 1)

    def _latents(self, frames: int, weights: Tensor) -> tuple[Tensor, Tensor]:
        # The draws go on underneath given latents, so that the frames behind them are those of the same seed.
        z, gain = super()._latents(frames, weights)
        core = self.flow.core
        if isinstance(core, FlowStack):
            gain = gain.clone()
            for row, latents in enumerate(self.latents):
                given = latents[self.made : self.made + frames] if latents is not None else z.new_zeros(0, z.shape[2])
                z[row, : len(given)] = core.prior.mean(weights[row]) + given
                # Measured latents are no draws: the gain that calibrates a rollout's own noise would keep them from giving back what was measured.
                gain[row, : len(given)] = 1.0
        return z, gain


def stream(
    flow: MotionFlow,
    row: StreamRow,
    windows: Iterable[Tensor],
    *,
    temperature: float = 1.0,
    latent_rho: float | None = None,
    guidance: float = 1.0,
    smooth: int = 0,
) -> Iterator[Tensor]:
    """Coefficients (n, C) float32 of one motion, piece by piece; pieces may be empty.

    Args:
        flow: ExpFlow, PoseFlow or the regression, in eval mode.
        row: What is asked for.
        windows: Pieces (n, 16, 80) of the mel windows, as ``WindowStream`` gives them.
        temperature: Factor of the latent noise.
        latent_rho: Correlation of neighbouring noise; None takes the flow's own.
        guidance: Factor of the emotion's part of the plan; see ``sampling.Rollout``.
        smooth: Frames of the optional smoothing (``Smoother``); 0, the default, for none.
    """
    running, smoother = MotionStream(flow, [row], temperature, latent_rho, guidance), Smoother(smooth)
    for piece in windows:
        yield smoother.push(running.push([piece])[0])
    yield smoother.push(running.finish()[0])
    yield smoother.finish()


def stream_batch(
    flow: MotionFlow,
    rows: Sequence[StreamRow],
    windows: Sequence[Tensor],
    *,
    temperature: float = 1.0,
    latent_rho: float | None = None,
    guidance: float = 1.0,
    batch: int = 32,
    chunk: int = CHUNK_FRAMES,
) -> Iterator[Tensor]:
    """Coefficients (T, C) float32 of each row, in order: ``sampling.rollout`` for rows with tracks or latents.

    Args:
        flow: ExpFlow, PoseFlow or the regression, in eval mode.
        rows: What is asked for.
        windows: (T, 16, 80) mel windows of each row.
        temperature: Factor of the latent noise.
        latent_rho: Correlation of neighbouring noise; None takes the flow's own.
        guidance: Factor of the emotion's part of the plan; see ``sampling.Rollout``.
        batch: Rows that are made together; changes speed and rounding only.
        chunk: Frames that are encoded at once; changes memory and rounding only.
    """
    for first in range(0, len(rows), batch):
        heard = windows[first : first + batch]
        running = MotionStream(flow, rows[first : first + batch], temperature, latent_rho, guidance)
        pieces = []
        for start in range(0, max(map(len, heard)), chunk):
            pieces.append(running.push([one[start : start + chunk] for one in heard]))
            for row, one in enumerate(heard):
                if len(one) <= start + chunk:
                    running.end(row)
        made = torch.cat([*pieces, running.finish()], 1)
        for row, one in zip(made, heard, strict=True):
            yield row[: len(one)].to(torch.float32).cpu()


class Smoother:
    """Savitzky-Golay smoothing along time of frames that come in pieces; edges repeat the first and the last frame.

    Source: SAAS smooths its poses with 13 frames and degree 2; here it is off unless asked for.

    Args:
        frames: Odd length of the window; 0 for none.
        degree: Degree of the polynomial.
    """

    def __init__(self, frames: int, degree: int = 2) -> None:
        if frames and (frames % 2 == 0 or frames <= degree):
            raise ValueError(f"smooth: expected 0 or an odd number of frames above {degree}, got {frames}")
        self.reach = frames // 2
        places = np.arange(-self.reach, self.reach + 1, dtype=np.float64)
        # The value at the middle of the least-squares polynomial, as weights of the window's frames.
        self.weights = torch.from_numpy(np.linalg.pinv(np.vander(places, degree + 1, increasing=True))[0])
        self.kept: Tensor | None = None

    def push(self, values: Tensor) -> Tensor:
        """Add frames (n, C); gives the smoothed frames (m, C) float32 that they complete."""
        values = values.cpu()
        if self.reach == 0:
            self.kept = values[:0]
            return values.to(torch.float32)
        if self.kept is None or len(self.kept) == 0:
            self.kept = values[:1].double().expand(self.reach if len(values) else 0, -1)
        return self._filter(values.double())

    def finish(self) -> Tensor:
        """The frames have ended: the rest (m, C)."""
        if self.kept is None:
            raise ValueError("smooth: no frame was given")
        return self._filter(self.kept[-1:].expand(self.reach, -1)) if len(self.kept) else self.kept.to(torch.float32)

    def _filter(self, more: Tensor) -> Tensor:
        assert self.kept is not None
        values, width = torch.cat([self.kept, more]), 2 * self.reach + 1
        self.kept = values[max(0, len(values) - width + 1) :]
        if len(values) < width:
            return values[:0].to(torch.float32)
        return torch.einsum("tcw,w->tc", values.unfold(0, width, 1), self.weights).to(torch.float32)
