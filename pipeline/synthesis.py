"""Trained models at work: motion from sound, frames from motion, a tagged video. Shared by `generate` and `flowvqtalker animate`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from flowvqtalker.audio import compute_mel, mel_windows
from flowvqtalker.constants import FPS_HZ
from flowvqtalker.flow.model import load_motion
from flowvqtalker.flow.motionflow import MotionFlow
from flowvqtalker.flow.sampling import MotionRequest, rollout
from flowvqtalker.image.codebook import Codebook, load_codebook
from flowvqtalker.image.vqig import VQIG, load_vqig
from flowvqtalker.precision import autocast
from pipeline.errors import PipelineError
from pipeline.io import read_torch
from pipeline.media import probe, synthetic_metadata, write_video


@dataclass(frozen=True)
class Source:
    """The picture that is made to talk.

    Attributes:
        image: (S, S, 3) uint8 RGB crop.
        beta: (E,) fitted expression.
        pose: (6,) fitted pose in the crop camera [rad, cm].
        landmarks_px: (68, 2) landmarks in the crop [px].
    """

    image: np.ndarray
    beta: np.ndarray
    pose: np.ndarray
    landmarks_px: np.ndarray


class Models:
    """Trained models, each loaded on first use.

    Args:
        flow: folder of a flow variant, or None.
        regression: folder of the regression variant, or None.
        imagegen: folder of an imagegen variant, or None.
        codebook: folder of the codebook, or None.
    """

    def __init__(
        self, *, flow: Path | None = None, regression: Path | None = None, imagegen: Path | None = None, codebook: Path | None = None
    ) -> None:
        self.folders = {"flow": flow, "regression": regression, "imagegen": imagegen, "codebook": codebook}

    def _file(self, model: str, name: str) -> Path:
        folder = self.folders[model]
        if folder is None or not (folder / name).exists():
            where = f"{folder}/{name}" if folder else f"no {model} variant is chosen"
            raise PipelineError(f"no trained model: {where}", "train it first, for example with `snakemake --cores all all`")
        return folder / name

    def _motion(self, model: str, name: str) -> MotionFlow:
        return load_motion(read_torch(self._file(model, name)))

    @cached_property
    def expflow(self) -> MotionFlow:
        """ExpFlow of the chosen variant."""
        return self._motion("flow", "expflow.pt")

    @cached_property
    def poseflow(self) -> MotionFlow:
        """PoseFlow of the chosen variant."""
        return self._motion("flow", "poseflow.pt")

    @cached_property
    def regression(self) -> MotionFlow:
        """Deterministic baseline."""
        return self._motion("regression", "regression.pt")

    @cached_property
    def codebook(self) -> Codebook:
        """Frozen codebook."""
        return load_codebook(read_torch(self._file("codebook", "model.pt"))).to(memory_format=torch.channels_last).eval()

    @cached_property
    def vqig(self) -> VQIG:
        """Image generator of the chosen variant, on its codebook."""
        return load_vqig(read_torch(self._file("imagegen", "model.pt")), self.codebook)


def speech_windows(samples: np.ndarray, n_frames: int) -> torch.Tensor:
    """Mel windows (T, 16, 80) float32 of a sound."""
    return torch.from_numpy(mel_windows(compute_mel(samples), n_frames))


def sample_motion(
    flow: MotionFlow, requests: Sequence[MotionRequest], *, temperature: float, batch: int, guidance: float = 1.0
) -> list[np.ndarray]:
    """Coefficients (T, C) float32 of every request, in order."""
    with torch.inference_mode():
        return [motion.numpy() for motion in rollout(flow, requests, temperature=temperature, guidance=guidance, batch=batch)]


def render_frames(vqig: VQIG, source: Source, beta: np.ndarray, pose: np.ndarray, *, batch: int, precision: str) -> np.ndarray:
    """Frames (T, S, S, 3) uint8 of the source moved by beta (T, E) and pose (T, 6)."""
    image = torch.from_numpy(np.ascontiguousarray(source.image)).permute(2, 0, 1).float() / 255
    known = (torch.from_numpy(np.ascontiguousarray(part)) for part in (source.beta, source.pose, source.landmarks_px))
    state = vqig.prepare_source(image, *known, precision=precision)
    return vqig.render_clip(state, torch.from_numpy(beta), torch.from_numpy(pose), batch_size=batch, precision=precision).numpy()


@torch.inference_mode()
def through_codebook(codebook: Codebook, frames: np.ndarray, *, batch: int, precision: str) -> np.ndarray:
    """Frames (T, S, S, 3) uint8 encoded, quantised and decoded: the best that the generator could draw."""
    made = []
    for start in range(0, len(frames), batch):
        image = torch.from_numpy(frames[start : start + batch]).permute(0, 3, 1, 2).float() / 255
        with autocast(image.device, precision):
            drawn = codebook(image.contiguous(memory_format=torch.channels_last))[0]
        made.append((drawn.float().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return np.concatenate(made)


def write_synthetic(path: Path, frames: Iterable[np.ndarray], sound: np.ndarray | None, *, crf: int, by: str) -> int:
    """Write a generated video with its sound and the statement that it is synthetic; the sound lasts as long as the picture.

    Args:
        path: mp4 to write.
        frames: (H, W, 3) uint8 pictures; an iterator keeps memory flat.
        sound: (S,) float32 mono at 16 kHz, or None.
        crf: quality of x264.
        by: what made it.

    Returns:
        Number of frames.

    Raises:
        PipelineError: see ``check_length``.
    """
    count = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal count
        for frame in frames:
            count += 1
            yield frame

    write_video(path, counted(), sound=sound, crf=crf, metadata=synthetic_metadata(by))
    check_length(path, count)
    return count


def check_length(video: Path, n_frames: int) -> None:
    """Raise unless the container lasts as long as its frames, within one frame: sound and picture must end together."""
    lasts, expected = probe(video).duration_s, n_frames / FPS_HZ
    if lasts is None or abs(lasts - expected) > 1 / FPS_HZ + 1e-3:
        said = "names no duration" if lasts is None else f"lasts {lasts:.3f} s"
        raise PipelineError(f"{video}: {said}, its {n_frames} frames last {expected:.3f} s", "the disk may be full: write it again")
