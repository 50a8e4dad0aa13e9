"""How far generated lips follow the sound: ``python -m pipeline.tools.flow_lips [--root DIR] [--models FOLDER ...]``.

Every talked test clip is sampled from its own sound, source and emotion at temperature 1 without guidance, and its lip opening is compared with that of the
clip's fitted coefficients and, on the embedded corpus, with the opening that the generator declared. Beside it stand the plan (what the audio
conditioner expects), other models of the same clips, and the fits of a second take of the same sentence. Several trainings of one variant are
averaged clip by clip; intervals resample identities. Writes docs/flow_lips.{json,md}.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from flowvqtalker.flow.diagnostics import correlation, lip_opening, request_of
from flowvqtalker.flow.model import load_motion
from flowvqtalker.flow.motionflow import MotionFlow
from flowvqtalker.flow.sampling import rollout
from flowvqtalker.flow.windows import MotionClip
from flowvqtalker.metrics.bootstrap import Estimate, cluster_bootstrap
from flowvqtalker.seeding import derive_seed, numpy_generator
from flowvqtalker.train.flow import plans_of
from pipeline.context import guarded
from pipeline.errors import PipelineError
from pipeline.io import read_index, read_npz, read_torch, write_json, write_text
from pipeline.tools.runread import read_run

SAMPLES = 2
#: What the issue asks of samples at temperature 1.
ASKED = 0.80


@dataclass(frozen=True)
class Row:
    """Lip openings of one model or reference, one list entry a training or sample.

    Attributes:
        name: of the row.
        made: sequences of openings (T,), in the order of the clips; several lists are averaged clip by clip.
    """

    name: str
    made: list[list[np.ndarray]]


def agreement(made: Sequence[np.ndarray], real: Sequence[np.ndarray]) -> np.ndarray:
    """Correlation of each pair of openings over the frames that both have; NaN where the real one is missing."""
    return np.array([correlation(m[: len(r)], r[: len(m)]) if len(r) else np.nan for m, r in zip(made, real, strict=True)])


def sampled(flow: MotionFlow, clips: Sequence[MotionClip], samples: int) -> list[list[np.ndarray]]:
    """Openings of ``samples`` samples of every clip; a deterministic model gives the same one each time and is asked once."""
    count = 1 if flow.config.model == "regression" else samples
    requests = [request_of(clip, derive_seed(11, clip.name, number) % 2**31) for number in range(count) for clip in clips]
    made = [lip_opening(motion.numpy()) for motion in rollout(flow, requests)]
    return [made[i * len(clips) : (i + 1) * len(clips)] for i in range(count)]


def planned(flow: MotionFlow, clips: Sequence[MotionClip]) -> list[np.ndarray]:
    """Openings of the plans alone."""
    return [lip_opening(flow.coefficients(plan).numpy()) for plan in plans_of(flow, clips)]


def declared_openings(root: Path, clips: Sequence[MotionClip]) -> list[np.ndarray]:
    """Openings that the corpus' generator declared, empty where a clip has no such truth."""
    rows = read_index(root / "data/corpus/index.csv", "corpus").set_index("clip")
    found = []
    for clip in clips:
        file = rows["truth"].get(clip.name, "")
        found.append(lip_opening(read_npz(root / "data/corpus" / file)["beta"]) if isinstance(file, str) and file else np.zeros(0))
    return found


def other_takes(clips: Sequence[MotionClip], openings: Sequence[np.ndarray], keys: Sequence[str]) -> list[np.ndarray]:
    """For each clip the opening of another take of the same words by the same person, empty where there is none."""
    found = []
    for i, clip in enumerate(clips):
        others = [j for j, other in enumerate(clips) if j != i and other.identity == clip.identity and keys[j] == keys[i]]
        found.append(openings[others[0]] if others else np.zeros(0))
    return found


def estimate(row: Row, real: Sequence[np.ndarray], clips: Sequence[MotionClip], label: str) -> Estimate:
    """Mean correlation over clips; an interval over identities."""
    each = np.mean([agreement(made, real) for made in row.made], 0)
    return cluster_bootstrap(each, [clip.identity for clip in clips], numpy_generator("flow_lips", row.name, label))


def to_markdown(rows: Sequence[tuple[Row, Estimate, Estimate | None, float]], spread: float, trainings: int, code: str) -> str:
    """The page."""

    def cell(value: Estimate | None) -> str:
        if value is None or not np.isfinite(value.value):
            return ""
        return f"{value.value:.3f}" + ("" if value.ci is None else f" [{value.ci[0]:.3f}, {value.ci[1]:.3f}]")

    plan = next((fitted.value for row, fitted, _, _ in rows if row.name == "plan of the conditioner"), float("nan"))
    lines = [
        "# How far generated lips follow the sound", "",
        f"Written by `python -m pipeline.tools.flow_lips` on the test clips (code {code} of the stage `flow`): correlation of lip openings "
        f"(`flow.diagnostics.lip_opening`) over a clip, mean over clips, 95 % intervals resample identities. Samples are drawn at temperature 1 without "
        f"guidance, {SAMPLES} a clip, from {trainings} training{'s' if trainings > 1 else ''}. Asked of samples: at least {ASKED:g}.", "",
        "| lips of | with the fitted clip | with the declared motion | standard deviation over time, of the fitted one's |", "|---|---:|---:|---:|",
    ]  # fmt: skip
    for row, fitted, declared, sd in rows:
        lines.append(f"| {row.name} | {cell(fitted)} | {cell(declared)} | {sd / spread:.2f} |")
    if np.isfinite(plan):
        lines += [
            "",
            f"A sample that moves as much as real lips do cannot follow them better than the square of what the plan reaches, {plan * plan:.3f} here, unless the flow "
            f"finds in the sound what the plan misses: what the plan leaves open is drawn, independently of what the speaker did. {ASKED:g} would need a plan of {np.sqrt(ASKED):.3f}.",
        ]
    return "\n".join(lines) + "\n"


def run(root: Path, models: Sequence[Path], others: Sequence[Path], out: Path) -> None:
    """Sample, compare, write."""
    read = read_run(root, models[0].name)
    clips = read.test
    if not clips:
        raise PipelineError(f"{root}: no test clip", "name the folder of a finished run with --root")
    fitted = [lip_opening(clip.beta.numpy()) for clip in clips]
    declared = declared_openings(root, clips)
    rows_of = read_index(root / "data/crop/index.csv", "crop").set_index("clip")
    keys = [f"{rows_of.loc[c.name, 'sentence']} {rows_of.loc[c.name, 'emotion']} {rows_of.loc[c.name, 'level']}" for c in clips]
    flows = [load_motion(read_torch(folder / "expflow.pt")) for folder in models]
    rows = [
        Row("samples", [one for flow in flows for one in sampled(flow, clips, SAMPLES)]),
        Row("plan of the conditioner", [planned(flow, clips) for flow in flows]),
    ]
    for folder in others:
        file = next((folder / name for name in ("expflow.pt", "regression.pt") if (folder / name).exists()), None)
        if file is None:
            raise PipelineError(f"{folder}: no expflow.pt or regression.pt", "name folders of trained variants with --others")
        rows.append(
            Row(
                f"samples of `{folder.name}`" if file.name == "expflow.pt" else f"`{folder.name}`",
                sampled(load_motion(read_torch(file)), clips, SAMPLES),
            )
        )
    rows.append(Row("another take, fitted", [other_takes(clips, fitted, keys)]))
    rows.append(Row("the clip's own fit", [fitted]))
    spread = float(np.mean([opening.std() for opening in fitted]))
    known = any(len(opening) for opening in declared)
    table = [
        (
            row,
            estimate(row, fitted, clips, "fitted"),
            estimate(row, declared, clips, "declared") if known else None,
            float(np.mean([opening.std() for made in row.made for opening in made if len(opening)])),
        )
        for row in rows
    ]
    text = to_markdown(table, spread, len(models), read.code)
    plain = [
        {"row": row.name, "fitted": one.value, "fitted_ci": one.ci, "declared": None if two is None else two.value,
         "declared_ci": None if two is None else two.ci, "sd": sd}
        for row, one, two, sd in table
    ]  # fmt: skip
    write_json(out.with_suffix(".json"), {"trainings": [folder.name for folder in models], "rows": plain})
    write_text(out.with_suffix(".md"), text)
    print(text)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--root", type=Path, default=Path("."), help="folder of a finished run, whose test clips are sampled")
    parser.add_argument("--models", type=Path, nargs="+", help="folders of trainings of one variant; default: the run's models/flow/full")
    parser.add_argument("--others", type=Path, nargs="*", default=[], help="folders of other variants, a row each: regression, no_residual")
    parser.add_argument("--out", type=Path, default=Path("docs/flow_lips"), help="path of the files without their suffix")
    args = parser.parse_args()
    torch.set_num_threads(1)
    guarded(lambda: run(args.root, args.models or [args.root / "models/flow/full"], args.others, args.out))


if __name__ == "__main__":
    main()
