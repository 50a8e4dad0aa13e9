"""Whether the trained flows listen: ``python -m pipeline.tools.flow_listen [--root DIR] [--models FOLDER ...]``.

Bits per dimension of every test clip under its own conditions, and under the sound, emotion, history or source of other clips
(``flowvqtalker.flow.listening``). Several trainings of one variant are averaged clip by clip; intervals resample identities. Writes
docs/flow_listen.{json,md}.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowvqtalker.flow.listening import CONDITIONS, REACHES, Listening, listen
from flowvqtalker.flow.windows import MotionClip
from flowvqtalker.metrics.bootstrap import Estimate, cluster_bootstrap, over_seeds, verdict
from flowvqtalker.seeding import numpy_generator
from pipeline.context import guarded
from pipeline.errors import PipelineError
from pipeline.io import write_json, write_text
from pipeline.tools.runread import FLOW_FILES, read_flow, read_run

NAMES = {"expression": "ExpFlow", "pose": "PoseFlow"}
EXCHANGED = {
    "audio": "sound of another sentence",
    "emotion": "another emotion",
    "history": "history of another clip",
    "source": "source of another person",
}


@dataclass(frozen=True)
class Row:
    """One number over all trainings.

    Attributes:
        flow: kind of the flow.
        condition: exchanged condition; "" for the matched bits themselves.
        reach: ``complete`` or ``network``; "" for the matched bits.
        estimate: mean over clips of bits per dimension (matched), or of shuffled minus matched.
        spread: standard deviation over trainings of a training's mean; None with one training.
    """

    flow: str
    condition: str
    reach: str
    estimate: Estimate
    spread: float | None

    def plain(self) -> dict[str, Any]:
        """For a JSON file."""
        e = self.estimate
        value = e.value if math.isfinite(e.value) else None
        numbers = {
            "value": value,
            "ci": e.ci,
            "n_clips": e.n,
            "n_identities": e.n_clusters,
            "reason": e.reason,
            "sd_over_trainings": self.spread,
        }
        return {"flow": self.flow, "condition": self.condition, "reach": self.reach} | numbers


def rows_of(kind: str, found: Sequence[Listening], clips: Sequence[MotionClip], resamples: int, level: float) -> list[Row]:
    """Matched bits and all gaps of the trainings of one kind of flow, with intervals clustered by identity."""
    names = [clip.name for clip in clips]
    identity = {clip.name: clip.identity for clip in clips}

    def row(condition: str, reach: str, values: Sequence[np.ndarray]) -> Row:
        seeds = np.repeat(np.arange(len(values)), len(names))
        means, order, spread = over_seeds(np.concatenate(values), names * len(values), [str(seed) for seed in seeds])
        generator = numpy_generator("flow_listen", kind, condition, reach)
        estimate = cluster_bootstrap(means, [identity[name] for name in order], generator, None, resamples, level)
        return Row(kind, condition, reach, estimate, spread if math.isfinite(spread) else None)

    gaps = [
        row(condition, reach, [one.shuffled[condition, reach] - one.matched for one in found])
        for condition in CONDITIONS[kind]
        for reach in REACHES
    ]
    return [row("", "", [one.matched for one in found]), *gaps]


def per_clip(kind: str, found: Sequence[Listening], clips: Sequence[MotionClip]) -> list[dict[str, Any]]:
    """One entry a clip: bits of each training, matched and exchanged."""

    def numbers(values: Sequence[float]) -> list[float | None]:
        return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]

    return [
        {
            "flow": kind,
            "clip": clip.name,
            "identity": clip.identity,
            "matched": numbers([one.matched[i] for one in found]),
            "shuffled": {
                f"{c} {reach}": numbers([one.shuffled[c, reach][i] for one in found]) for c in CONDITIONS[kind] for reach in REACHES
            },
        }
        for i, clip in enumerate(clips)
    ]


def to_markdown(rows: Sequence[Row], trainings: int, shuffles: int, level: float, code: str) -> str:
    """The page."""

    def interval(estimate: Estimate) -> str:
        return estimate.reason if estimate.ci is None else f"{estimate.ci[0]:.3f} to {estimate.ci[1]:.3f}"

    def spread(row: Row) -> str:
        return "" if row.spread is None else f"{row.spread:.3f}"

    lines = [
        "# Whether the trained flows listen", "",
        f"Written by `python -m pipeline.tools.flow_listen`: held-out bits per dimension of the test clips in standardised coefficients (lower is better), mean over "
        f"{trainings} training{'s' if trainings > 1 else ''} (code {code} of the stage `flow`); {100 * level:g} % intervals resample identities. Each clip is scored under its own conditions and "
        f"under those of {shuffles} other clips; the gap is shuffled minus matched, clip by clip. Complete: plan, residuals, linear prediction and network are all made "
        "from the exchanged condition. Network only: residuals and linear prediction stay the clip's own, so the gap is what the flow's network owes to the condition.", "",
        "| flow | matched bits per dimension | interval | sd over trainings | clips | identities |", "|---|---:|---|---:|---:|---:|",
    ]  # fmt: skip
    lines += [
        f"| {NAMES[row.flow]} | {row.estimate.value:.3f} | {interval(row.estimate)} | {spread(row)} | {row.estimate.n} | {row.estimate.n_clusters} |"
        for row in rows
        if not row.condition
    ]
    lines += ["", "| flow | exchanged | reach | gap | interval | sd over trainings | listens |", "|---|---|---|---:|---|---:|---|"]
    words = {"better": "yes", "worse": "no: it is worse off with its own", "undecided": "undecided"}
    for row in rows:
        if row.condition:
            said = verdict(row.estimate)
            reach = {"complete": "complete", "network": "network only"}[row.reach]
            value = f"{row.estimate.value:.3f}" if math.isfinite(row.estimate.value) else ""
            lines.append(
                f"| {NAMES[row.flow]} | {EXCHANGED[row.condition]} | {reach} | {value} | {interval(row.estimate)} | {spread(row)} | {words.get(said, said)} |"
            )
    return "\n".join(lines) + "\n"


def run(root: Path, models: Sequence[Path], shuffles: int, most_clips: int, resamples: int, level: float, out: Path) -> None:
    """Score, print and write."""
    read = read_run(root, models[0].name)
    labelled = [clip for clip in read.test if clip.emotion >= 0]
    clips = labelled[:: max(1, -(-len(labelled) // most_clips))]
    if len(clips) < 2:
        raise PipelineError(f"{root}: fewer than two labelled test clips", "name the folder of a finished run with --root")
    if len(labelled) < len(read.test):
        print(f"{len(read.test) - len(labelled)} test clips without an emotion label take no part")
    sentences = [read.sentences[clip.name] for clip in clips]
    rows: list[Row] = []
    each: list[dict[str, Any]] = []
    for kind in FLOW_FILES:
        found = [listen(read_flow(folder, kind), clips, sentences, read.params.dequantisation, shuffles) for folder in models]
        rows += rows_of(kind, found, clips, resamples, level)
        each += per_clip(kind, found, clips)
    text = to_markdown(rows, len(models), shuffles, level, read.code)
    write_json(
        out.with_suffix(".json"),
        {
            "trainings": [folder.name for folder in models],
            "shuffles": shuffles,
            "level": level,
            "rows": [row.plain() for row in rows],
            "clips": each,
        },
    )
    write_text(out.with_suffix(".md"), text)
    print(text)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--root", type=Path, default=Path("."), help="folder of a finished run, whose test clips are scored")
    parser.add_argument("--models", type=Path, nargs="+", help="folders of trainings of one variant; default: the run's models/flow/full")
    parser.add_argument("--shuffles", type=int, default=3, help="other clips that each condition is taken from")
    parser.add_argument("--clips", type=int, default=1000, help="test clips that take part at most")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--level", type=float, default=0.95)
    parser.add_argument("--out", type=Path, default=Path("docs/flow_listen"), help="path of the files without their suffix")
    args = parser.parse_args()
    torch.set_num_threads(1)
    models = args.models or [args.root / "models/flow/full"]
    guarded(lambda: run(args.root, models, args.shuffles, args.clips, args.resamples, args.level, args.out))


if __name__ == "__main__":
    main()
