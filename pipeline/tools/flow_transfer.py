"""How often the emotion of a reference clip is inferred right: ``python -m pipeline.tools.flow_transfer [--config ...] [--every 1]``.

Reads the test clips of a finished run (talked, fitted, labelled) and asks its ExpFlow for the emotion of each, from coefficients and sound alone
(flow.transfer); the labels are only compared with. Two sources are tried: the first frame of the person's enrolment clip, as in training, and the clip's
own first frame, as `flowvqtalker animate --emotion-from` must. Prints accuracy by source, emotion and level; --out writes one row a clip.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from flowvqtalker.constants import EMOTIONS
from flowvqtalker.flow.model import load_motion
from flowvqtalker.flow.motionflow import MotionFlow
from flowvqtalker.flow.transfer import Reference, read_emotion
from flowvqtalker.flow.windows import MotionClip, mel_windows
from pipeline import context as house
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.flow import read_clips
from pipeline.io import read_torch, write_text
from pipeline.params import read_config, validate
from pipeline.stages import reads_of, run_root

SOURCES = ("enrolment", "own_first_frame")


def read_run(config: dict[str, Any], variant: str) -> tuple[MotionFlow, list[MotionClip]]:
    """ExpFlow of a finished run, and its test clips.

    Raises:
        PipelineError: a stage is not finished.
    """
    root = run_root(config)
    reads = {
        name: root / path for name, path in reads_of(config, "generate").items() if name in ("crop", "fit3dmm", "audio", f"flow_{variant}")
    }
    for name, path in reads.items():
        if not path.exists():
            raise PipelineError(f"{path}: there is no such file", f"finish stage {name} first, for example with `make all`")
    if f"flow_{variant}" not in reads:
        raise PipelineError(f"variant {variant!r} of the flow is not part of this run", "name one of flow.variants with --variant")
    context = Context("flow", variant, "{}", root, root, {name: reads[name] for name in ("crop", "fit3dmm", "audio")})
    flow = load_motion(read_torch(reads[f"flow_{variant}"].parent / "expflow.pt"))
    return flow, read_clips(context)[2]


def judge_clips(flow: MotionFlow, clips: list[MotionClip]) -> pd.DataFrame:
    """One row for each clip and source: what was inferred, how sure, and what is true."""
    rows = []
    for clip in tqdm(clips, desc="reference clips", disable=None):
        windows = mel_windows(clip.mel, clip.start)
        for source, beta0 in zip(SOURCES, (clip.beta0, clip.beta[0]), strict=True):
            reading = read_emotion(flow, Reference(windows, clip.beta, beta0))
            rows.append({
                "clip": clip.name, "identity": clip.identity, "source": source, "emotion": EMOTIONS[clip.emotion], "intensity": clip.intensity,
                "inferred": reading.emotion, "inferred_intensity": reading.intensity,
                "probability": float(reading.posterior[EMOTIONS.index(reading.emotion)]), "right": reading.emotion == EMOTIONS[clip.emotion],
            })  # fmt: skip
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame) -> str:
    """Accuracies for people; n stands beside every number."""

    def line(name: str, rows: pd.DataFrame) -> str:
        return f"  {name:22s} {100 * rows['right'].mean():5.1f} %  (n = {len(rows)})"

    lines = []
    for source, rows in table.groupby("source", sort=False):
        by_person = [float(np.mean(part["right"].to_numpy(dtype=bool))) for _, part in rows.groupby("identity")]
        spread = float(np.std(by_person, ddof=1)) / np.sqrt(len(by_person)) if len(by_person) > 1 else float("nan")
        lines += [f"source {source}: standard error over {len(by_person)} people {100 * spread:.1f} points", line("all", rows)]
        lines += [line(str(emotion), part) for emotion, part in rows.groupby("emotion")]
        lines += [line(f"intensity {value:.2f}", part) for value, part in rows.groupby("intensity")]
        right = rows["right"].to_numpy(dtype=bool)
        off = np.absolute(rows["inferred_intensity"].to_numpy(dtype=float) - rows["intensity"].to_numpy(dtype=float))[right]
        lines.append(f"  of these, level right   {100 * np.mean(off < 1e-3) if len(off) else float('nan'):5.1f} %  (n = {len(off)})")
    return "\n".join(lines)


def run(configs: list[Path], variant: str, every: int, out: Path | None) -> None:
    """Infer, compare and print."""
    config = read_config("params.yaml", *configs)
    variant = variant or validate(config)["generate"].flow_variant
    flow, clips = read_run(config, variant)
    clips = [clip for clip in clips if clip.emotion >= 0][::every]
    if not clips:
        raise PipelineError("this run has no labelled test clip", "use a data set with emotion labels")
    table = judge_clips(flow, clips)
    print(summary(table))
    if out is not None:
        write_text(out, table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, nargs="*", default=[], help="overlays of the run")
    parser.add_argument("--variant", default="", help="variant of the flow; the one that generates when not given")
    parser.add_argument("--every", type=int, default=1, help="look at every n-th test clip only")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--out", type=Path, help="csv of the table")
    args = parser.parse_args()
    house.limit_threads(args.threads)
    torch.set_grad_enabled(False)
    house.guarded(lambda: run(args.config, args.variant, args.every, args.out))


if __name__ == "__main__":
    main()
