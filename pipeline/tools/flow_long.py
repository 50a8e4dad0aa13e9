"""Long speech through a trained flow, piece by piece: ``python -m pipeline.tools.flow_long [--config ...] [--minutes 10]``.

The test clips' sounds of a finished run, one after another and over again, drive ExpFlow and PoseFlow of flow.streaming. Printed are, for each flow:
peak memory of the process after 10 s and at the end, time for each frame, the largest difference to a rollout of the whole of the first minute, and for the second half against
the first: shift of the mean and ratio of the standard deviation of every coefficient that moves. Bounds (exit code 1 beyond them): means shift by at most
--most-shift standard deviations (median over coefficients), standard deviations change by a factor of at most --most-ratio (median), nothing leaves the
range of the training data, nothing is NaN. Both halves hear the same sounds, so that what differs is drift or chance.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from flowvqtalker.constants import EMOTIONS, FPS_HZ
from flowvqtalker.flow.blinkrate import closure_of
from flowvqtalker.flow.control import one_emotion
from flowvqtalker.flow.model import load_motion
from flowvqtalker.flow.motionflow import MotionFlow
from flowvqtalker.flow.sampling import CHUNK_FRAMES, MotionRequest, rollout
from flowvqtalker.flow.streaming import MotionStream, StreamRow, stream
from flowvqtalker.flow.windows import MotionClip, mel_windows
from flowvqtalker.metrics.blinks import blink_events
from pipeline import context as house
from pipeline.errors import PipelineError
from pipeline.io import read_torch, write_json
from pipeline.params import read_config, validate
from pipeline.stages import reads_of, run_root
from pipeline.tools.flow_transfer import read_run

#: Frames that are compared with a rollout of the whole, and frames after which memory is looked at first.
COMPARED, EARLY = 60 * FPS_HZ, 10 * FPS_HZ


@dataclass(frozen=True)
class Halves:
    """What the second half of a motion is against its first.

    Attributes:
        shift: (D,) difference of the means, in standard deviations of the first half.
        ratio: (D,) standard deviation over that of the first half.
        beyond: how far a value lies outside the flow's bounds, at most; 0 when none does.
        finite: whether all values are.
    """

    shift: np.ndarray
    ratio: np.ndarray
    beyond: float
    finite: bool


def compare_halves(flow: MotionFlow, motion: np.ndarray) -> Halves:
    """Second half against first of (T, C) coefficients, over the dimensions that the flow models."""
    kept = flow.kept.numpy()
    first, second = (part[:, kept].astype(np.float64) for part in np.array_split(motion, 2))
    sd = np.maximum(first.std(0), 1e-9)
    beyond = np.maximum(motion - flow.high.numpy(), flow.low.numpy() - motion).max()
    shift, ratio = (second.mean(0) - first.mean(0)) / sd, second.std(0) / sd
    return Halves(shift, ratio, max(0.0, float(beyond)), bool(np.isfinite(motion).all()))


def speech(clips: list[MotionClip], frames: int, most: int | None = None) -> Iterator[torch.Tensor]:
    """Mel windows (n, 16, 80) of the clips one after another, ``most`` frames at most; each half of the frames begins with the first clip."""
    left = frames if most is None else most
    for count in (frames - frames // 2, frames // 2):
        place = 0
        while count and left:
            clip = clips[place % len(clips)]
            windows = mel_windows(clip.mel, clip.start)[: min(count, left)]
            for start in range(0, len(windows), CHUNK_FRAMES):
                yield windows[start : start + CHUNK_FRAMES]
            count, left, place = count - len(windows), left - len(windows), place + 1


def peak_mb() -> float:
    """Peak memory of this process [MB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(
    flow: MotionFlow, clips: list[MotionClip], frames: int, emotion: str, temperature: float, guidance: float, seed: int
) -> dict[str, float]:
    """Numbers of one long motion; ``median_shift`` and ``median_ratio`` are what the bounds are for."""
    pose = flow.config.kind == "pose"
    source = clips[0].pose0 if pose else clips[0].beta0
    row = StreamRow(source, one_emotion(emotion), seed)
    made, early, count = [], float("nan"), 0
    started = time.perf_counter()
    for piece in stream(flow, row, speech(clips, frames), temperature=temperature, guidance=guidance):
        made.append(piece.numpy())
        count += len(piece)
        if count >= EARLY and early != early:
            early = peak_mb()
    seconds, late = time.perf_counter() - started, peak_mb()
    motion = np.concatenate(made)
    halves = compare_halves(flow, motion)
    # The whole of a shorter speech agrees except where it ends: there the long one listens on.
    compared = min(COMPARED, frames)
    windows = torch.cat(list(speech(clips, frames, compared)))
    request = MotionRequest(windows, clips[0].beta0, clips[0].pose0, EMOTIONS.index(emotion), 0.0 if emotion == EMOTIONS[0] else 1.0, seed)
    whole = next(rollout(flow, [request], temperature=temperature, guidance=guidance)).numpy()
    same = compared - MotionStream(flow, [row]).lookahead if compared < frames else compared
    values = {
        "frames": len(motion), "ms_per_frame": 1000 * seconds / len(motion), "times_real_time": len(motion) / FPS_HZ / seconds,
        "peak_mb_early": early, "peak_mb_end": late, "largest_difference_to_rollout": float(np.abs(motion[:same] - whole[:same]).max()),
        "median_shift_sd": float(np.median(np.abs(halves.shift))), "largest_shift_sd": float(np.abs(halves.shift).max()),
        "median_ratio": float(np.exp(np.median(np.abs(np.log(halves.ratio))))), "largest_ratio": float(np.exp(np.abs(np.log(halves.ratio)).max())),
        "beyond_bounds": halves.beyond, "finite": float(halves.finite),
    }  # fmt: skip
    if not pose and motion.shape[1] == 53:
        closure = closure_of(motion)
        for name, half in zip(("first", "second"), np.array_split(closure, 2), strict=True):
            values[f"blinks_per_s_{name}_half"] = len(blink_events(half)) / (len(half) / FPS_HZ)
    return values


def run(configs: list[Path], minutes: float, emotion: str, seed: int, most_shift: float, most_ratio: float, out: Path | None) -> None:
    """Measure both flows, print, and fail beyond the bounds."""
    config = read_config("params.yaml", *configs)
    generate = validate(config)["generate"]
    expflow, clips = read_run(config, generate.flow_variant)
    folder = (run_root(config) / reads_of(config, "generate")[f"flow_{generate.flow_variant}"]).parent
    poseflow = load_motion(read_torch(folder / "poseflow.pt"))
    frames, found, failed = round(minutes * 60 * FPS_HZ), {}, []
    if frames < 2 * EARLY:
        raise PipelineError(f"{minutes} minutes are too short to have two halves", f"use at least {2 * EARLY / FPS_HZ / 60:.2g} minutes")
    for name, flow, warmth, guidance in (
        ("expflow", expflow, generate.temperature, generate.emotion_guidance), ("poseflow", poseflow, generate.pose_temperature, 1.0),
    ):  # fmt: skip
        found[name] = measure(flow, clips, frames, emotion, warmth, guidance, seed)
        for key, value in found[name].items():
            print(f"{name:9s} {key:32s} {value:.6g}")
        if not found[name]["finite"] or found[name]["beyond_bounds"] > 1e-5:
            failed.append(f"{name} leaves the range of its training data")
        if found[name]["median_shift_sd"] > most_shift or found[name]["median_ratio"] > most_ratio:
            failed.append(f"{name} drifts: the second half differs from the first")
    if out is not None:
        write_json(out, found)
    if failed:
        raise SystemExit("; ".join(failed))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, nargs="*", default=[], help="overlays of the run")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the speech")
    parser.add_argument("--emotion", choices=EMOTIONS, default="neutral")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most-shift", type=float, default=0.3, help="largest median shift of a mean [standard deviations]")
    parser.add_argument("--most-ratio", type=float, default=1.25, help="largest median factor of a standard deviation")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--out", type=Path, help="json of the numbers")
    args = parser.parse_args()
    house.limit_threads(args.threads)
    torch.set_grad_enabled(False)
    house.guarded(lambda: run(args.config, args.minutes, args.emotion, args.seed, args.most_shift, args.most_ratio, args.out))


if __name__ == "__main__":
    main()
