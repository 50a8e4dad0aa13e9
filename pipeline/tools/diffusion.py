"""The diffusion baseline beside ExpFlow on the test clips of a finished run: writes docs/diffusion.{csv,md}.

Usage: python -m pipeline.tools.diffusion [--root .] [--variant full] [--model file.pt] [--out docs/diffusion]

A denoiser of the flow's size is trained on the flow's own training clips, around the plans of the flow's own conditioners, then samples the
test clips with DDIM at several numbers of steps; the flow and, where it is trained, the regression sample the same clips with the same seeds.
With --model the trained denoiser is kept in that file, and used instead of a training where the file is already there. Everything runs on
one thread; speeds count that thread's own time, so that other work on the machine hardly matters.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from flowvqtalker.constants import FPS_HZ
from flowvqtalker.face.expressions import EXPRESSIONS
from flowvqtalker.flow.corruption import corrupt_expressions
from flowvqtalker.flow.diagnostics import blinks, correlation, lip_opening, request_of
from flowvqtalker.flow.diffusion import Denoiser, config_for, diffuse, diffusion_state, load_diffusion
from flowvqtalker.flow.model import load_motion
from flowvqtalker.flow.motionflow import MotionFlow
from flowvqtalker.flow.sampling import MotionRequest, rollout
from flowvqtalker.flow.windows import MotionClip
from flowvqtalker.metrics.bootstrap import Estimate, cluster_bootstrap
from flowvqtalker.seeding import derive_seed, numpy_generator
from flowvqtalker.train.diffusion import fit_diffusion
from flowvqtalker.train.loop import LoopConfig
from pipeline import context as house
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.flow import flow_training, read_clips
from pipeline.io import read_torch, write_text, write_torch
from pipeline.params.flow import FlowParams
from pipeline.stages import STAGES, stamp_path

STEPS = (1, 2, 5, 10, 20, 50)
SAMPLES = 2
#: Length of the one clip whose speed is measured [frames]: 10 s; rounds, of which the fastest counts.
TIMED_FRAMES, TIMED_ROUNDS = 10 * FPS_HZ, 3
#: A number of DDIM steps is enough when its lip correlation lies this near to that of the most steps.
NEAR = 0.02
#: The training: as many steps as ExpFlow's in params.yaml.
LOOP = LoopConfig(
    steps=420, lr=3e-3, warmup_steps=30, final_lr_share=0.05, grad_clip=1.0, ema_decay=0.99, validate_every=105, checkpoint_every=21,
    select="loss",
)  # fmt: skip
ABSENT_SHARE = 0.15


@dataclass(frozen=True)
class Sampled:
    """What one method made of the test clips.

    Attributes:
        method: Name of the row.
        steps: DDIM steps; None for other methods.
        parameters: Trained numbers, the conditioners included.
        made: SAMPLES lists of (T, C) coefficients, in the order of the clips.
        one_clip: frames/s of one clip alone.
        together: frames/s of the test clips in batches.
    """

    method: str
    steps: int | None
    parameters: int
    made: list[list[np.ndarray]]
    one_clip: float
    together: float


Sampler = Callable[[Sequence[MotionRequest]], Iterable[Tensor]]


def parameters(*modules: nn.Module) -> int:
    """Numbers that a model learns or keeps frozen."""
    return sum(value.numel() for module in modules for value in module.parameters())


def clip_context(root: Path, variant: str) -> Context:
    """The context that a finished run's flow was trained with: parameters, seed and hand-over files."""
    stamp = root / stamp_path("flow", variant)
    if not stamp.is_file():
        raise PipelineError(f"{stamp}: no such file", "name the folder of a finished run with --root and one of its flow variants")
    out = root / STAGES["flow"].out.format(variant=variant)
    return house.make_context(argparse.Namespace(stamp=stamp, root=root, out=out, threads=1))


def timed(sampler: Sampler, requests: Sequence[MotionRequest]) -> tuple[list[np.ndarray], float]:
    """Coefficients and frames per second of this process's own time."""
    start = time.process_time()
    made = [motion.numpy() for motion in sampler(requests)]
    return made, sum(map(len, made)) / (time.process_time() - start)


def long_request(clips: Sequence[MotionClip], seed: int) -> MotionRequest:
    """One request of TIMED_FRAMES frames: the first clip, with the sound of as many clips as it takes behind one another."""
    requests = [request_of(clip, seed) for clip in clips]
    windows = torch.cat([request.windows for request in requests])
    return replace(requests[0], windows=windows.repeat(-(-TIMED_FRAMES // len(windows)), 1, 1)[:TIMED_FRAMES])


def sample(method: str, steps: int | None, size: int, sampler: Sampler, clips: Sequence[MotionClip], seed: int) -> Sampled:
    """Sample every clip SAMPLES times, and time one clip alone."""
    requests = [request_of(clip, derive_seed(seed, clip.name, number) % 2**31) for number in range(SAMPLES) for clip in clips]
    made, together = timed(sampler, requests)
    alone = [long_request(clips, seed)]
    one_clip = max(timed(sampler, alone)[1] for _ in range(TIMED_ROUNDS))
    return Sampled(method, steps, size, [made[i * len(clips) : (i + 1) * len(clips)] for i in range(SAMPLES)], one_clip, together)


def lip_correlations(made: Sequence[Sequence[np.ndarray]], clips: Sequence[MotionClip]) -> np.ndarray:
    """Correlation (clips,) of generated and real lip opening, mean over samples."""
    real = [lip_opening(clip.beta.numpy()) for clip in clips]
    return np.array([[correlation(lip_opening(m), r) for m, r in zip(one, real, strict=True)] for one in made]).mean(0)


def ratio(made: Sequence[np.ndarray], real: Sequence[np.ndarray]) -> float:
    """Mean over dimensions of generated over real, each averaged over clips first."""
    return float((np.mean(made, 0) / np.maximum(np.mean(real, 0), 1e-9)).mean())


def motion_numbers(made: Sequence[Sequence[np.ndarray]], clips: Sequence[MotionClip], flow: MotionFlow) -> dict[str, float]:
    """The numbers of ``flow.diagnostics.rollout_metrics``, for samples of any method.

    Args:
        made: Samples, each a list of (T, C) coefficients in the order of the clips.
        clips: The real clips.
        flow: Says which dimensions are modelled and their standard deviation.
    """
    kept, sd = flow.kept.numpy(), flow.sd.numpy()
    real, every = [clip.beta.numpy() for clip in clips], [motion for one in made for motion in one]
    lengths = [length for motion in every for length in blinks(motion)]
    return {
        "seed_distance": float(np.mean([(np.abs(a - b) / sd)[:, kept].mean() for a, b in zip(made[0], made[-1], strict=True)])),
        "spread_ratio": ratio([m.std(0)[kept] for m in every], [r.std(0)[kept] for r in real]),
        "jitter_ratio": ratio(
            [np.abs(np.diff(m, 2, axis=0)).mean(0)[kept] for m in every], [np.abs(np.diff(r, 2, axis=0)).mean(0)[kept] for r in real]
        ),
        "blinks_per_s": len(lengths) / (sum(map(len, every)) / FPS_HZ),
        "blink_ms": float(np.median(lengths)) * 1000 / FPS_HZ if lengths else 0.0,
    }


def table_of(rows: Sequence[Sampled], clips: Sequence[MotionClip], flow: MotionFlow, seed: int) -> pd.DataFrame:
    """One row a method; the first one is what the others' lip correlation is compared with. The last row is the real clips."""
    people = [clip.identity for clip in clips]
    lips = [lip_correlations(row.made, clips) for row in rows]

    def interval(name: str, estimate: Estimate) -> dict[str, float]:
        low, high = estimate.ci or (np.nan, np.nan)
        return {name: estimate.value, f"{name}_low": low, f"{name}_high": high}

    table = []
    for row, values in zip(rows, lips, strict=True):
        generator = numpy_generator(seed, "diffusion table")
        lead = values - lips[0] if row is not rows[0] else np.full(len(values), np.nan)
        table.append(
            {"method": row.method, "ddim_steps": row.steps, "parameters": row.parameters}
            | interval("lip_correlation", cluster_bootstrap(values, people, generator))
            | interval("lips_minus_flow", cluster_bootstrap(lead, people, generator)) | motion_numbers(row.made, clips, flow)
            | {"frames_per_s": row.one_clip, "frames_per_s_batched": row.together, "n_clips": len(clips), "n_identities": len(set(people)), "n_samples": SAMPLES}
        )  # fmt: skip
    truth = motion_numbers([[clip.beta.numpy() for clip in clips]], clips, flow)
    table.append({"method": "real clips", "lip_correlation": 1.0, "n_clips": len(clips), "n_identities": len(set(people))} | truth)
    made = pd.DataFrame(table)
    return made.astype({name: "Int64" for name in ("ddim_steps", "parameters", "n_clips", "n_identities", "n_samples")})


def fewest_steps(table: pd.DataFrame) -> int:
    """Least number of DDIM steps whose lip correlation, and that of every larger number, lies within NEAR of the largest number's."""
    rows = table.dropna(subset=["ddim_steps"]).sort_values("ddim_steps", ascending=False)
    goal, fewest = rows["lip_correlation"].iloc[0], int(rows["ddim_steps"].iloc[0])
    for steps, value in zip(rows["ddim_steps"], rows["lip_correlation"], strict=True):
        if abs(value - goal) > NEAR:
            break
        fewest = int(steps)
    return fewest


def page_of(table: pd.DataFrame, training: dict[str, float], name: str, options: str = "") -> str:
    """The page around the table; ``name`` is the flow's variant, ``options`` what the command was given beside folders."""

    def cell(value: Any, digits: int) -> str:
        return "" if pd.isna(value) else f"{value:.{digits}f}"

    def between(row: Any, column: str) -> str:
        value, low, high = (row[column + end] for end in ("", "_low", "_high"))
        text = cell(value, 3)
        return text if pd.isna(low) else f"{text} [{low:.3f}, {high:.3f}]"

    lines = [
        "| method | DDIM steps | parameters | lips | lips minus flow's | spread | jitter | seed distance | blinks [1/s] | blink [ms] | frames/s, one clip | frames/s, batches of 32 |",
        "|---|" + "---:|" * 11,
    ]
    for row in table.to_dict("records"):
        cells = [
            row["method"], cell(row["ddim_steps"], 0), "" if pd.isna(row["parameters"]) else f"{row['parameters']:,}", between(row, "lip_correlation"),
            between(row, "lips_minus_flow"), cell(row["spread_ratio"], 2), cell(row["jitter_ratio"], 2), cell(row["seed_distance"], 2) if row["method"] != "real clips" else "",
            cell(row["blinks_per_s"], 2), cell(row["blink_ms"], 0), cell(row["frames_per_s"], 0), cell(row["frames_per_s_batched"], 0),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    flow = table.iloc[0]
    fewest = fewest_steps(table)
    chosen = table[table["ddim_steps"] == fewest].iloc[0]
    most = int(np.nanmax(table["ddim_steps"].to_numpy(dtype=float)))  # the flow and the real clips have none
    faster, slower = ("flow", "diffusion") if flow["frames_per_s"] > chosen["frames_per_s"] else ("diffusion", "flow")
    factor = max(flow["frames_per_s"], chosen["frames_per_s"]) / min(flow["frames_per_s"], chosen["frames_per_s"])
    return f"""# The diffusion baseline

Written by `python -m pipeline.tools.diffusion{options}` from the run's flow `{name}`, its data and its conditioners; the numbers are also in [diffusion.csv](diffusion.csv). Why the sampler is our own: [0026](decisions/0026-own-ddim.md).

A denoiser over windows of 32 frames with the 16 frames before them as a condition (`flow/diffusion.py`), trained in {training["steps"]:.0f} steps ({training["cpu_s"]:.0f} s of one core; best on validation clips at step {training["best_step"]:.0f}).
It models the flow's residual around the plan of the flow's conditioners, with the same source, emotion and sound. Parameters count the shared conditioners ({training["conditioners"]:,.0f}) on both sides.

{chr(10).join(lines)}

Test clips: {int(flow["n_clips"])} of {int(flow["n_identities"])} identities, {SAMPLES} samples each, temperature 1, one trained model of each kind. In brackets: 95 % intervals over identities.
- **lips**: correlation of the lip opening (from coefficients) with the real clip's. A model that makes the expected motion scores higher here than one that samples what is possible, so read it beside spread and seed distance.
- **spread**, **jitter**: standard deviation over time, and mean absolute second difference, generated over real, mean over dimensions. **seed distance**: mean absolute difference of two samples, in standard deviations.
- **frames/s**: one thread, from mel windows to coefficients, plan included; one clip of {TIMED_FRAMES} frames (fastest of {TIMED_ROUNDS}), and the test clips in batches of 32.

The fewest DDIM steps from which on lips stay within {NEAR} of those of {most} steps: {fewest}. At that number one clip takes {chosen["frames_per_s"]:.0f} frames/s against the flow's {flow["frames_per_s"]:.0f}: the {faster} is {factor:.1f} times as fast as the {slower}.
"""


def trained(flow: MotionFlow, ctx: Context, train: Sequence[MotionClip], val: Sequence[MotionClip], model: Path | None) -> tuple[Denoiser, dict[str, float]]:  # fmt: skip
    """The denoiser and its training's numbers, from the file where there is one; an interrupted training goes on from its checkpoint."""
    if model is not None and model.is_file():
        kept = read_torch(model)
        return load_diffusion(kept["state"]), kept["training"]
    cfg: FlowParams = ctx.cfg
    checkpoint = None if model is None else model.with_suffix(".checkpoint")
    begun = read_torch(checkpoint) if checkpoint is not None and checkpoint.is_file() else {"loop": None, "cpu_s": 0.0}
    start = time.process_time() - begun["cpu_s"]

    def save(state: dict[str, Any]) -> None:
        if checkpoint is not None:
            write_torch(checkpoint, {"loop": state, "cpu_s": time.process_time() - start})

    def log(step: int, split: str, values: dict[str, float]) -> None:
        if split == "val":
            print(f"step {step}: held-out squared error {values['loss']:.4f}, {time.process_time() - start:.0f} s", flush=True)

    made = fit_diffusion(
        config_for(flow, cfg.dropout), flow, corrupt_expressions(train, cfg.corrupted_share, derive_seed(ctx.seed, "flow corrupted")), val,
        flow_training(cfg, "expression"), absent_share=ABSENT_SHARE, loop=LOOP, seed=derive_seed(ctx.seed, "diffusion"), log=log, resume=begun["loop"], save=save,
    )  # fmt: skip
    training = made.metrics | {"cpu_s": time.process_time() - start, "conditioners": float(parameters(flow.conditioners))}
    if model is not None:
        write_torch(model, {"state": diffusion_state(made.denoiser), "training": training})
    return made.denoiser, training


def run(root: Path, variant: str, model: Path | None, takes: int, out: Path) -> None:
    """Train, sample, compare, write."""
    ctx = clip_context(root, variant)
    flow = load_motion(read_torch(ctx.out.parent / "expflow.pt"))
    if flow.config.coefficients != len(EXPRESSIONS):
        raise PipelineError(
            f"{ctx.out.parent}: the coefficients have no names, lips and lids cannot be read", "use a run with `clay` or `ict`"
        )
    train, val, test = read_clips(ctx)
    if not test:
        raise PipelineError(f"{ctx.reads['crop']}: no test clip", "use a run with a test split")
    test = test[:: max(1, len(test) // takes)][:takes] if takes else test
    denoiser, training = trained(flow, ctx, train, val, model)
    print({name: round(value, 4) for name, value in training.items()}, flush=True)
    seed = derive_seed(ctx.seed, "diffusion samples")
    rows = [sample("ExpFlow", None, parameters(flow), lambda requests: rollout(flow, requests), test, seed)]
    baseline = root / STAGES["flow"].out.format(variant="regression")
    if baseline.is_file():
        regression = load_motion(read_torch(baseline.parent / "regression.pt"))
        rows.append(sample("regression", None, parameters(regression), lambda requests: rollout(regression, requests), test, seed))
    size = parameters(denoiser, flow.conditioners)
    rows += [
        sample("diffusion", steps, size, lambda requests, steps=steps: diffuse(denoiser, flow, requests, steps=steps), test, seed)
        for steps in STEPS
    ]
    table = table_of(rows, test, flow, seed)
    print(table.round(3).to_string(index=False))
    write_text(out.with_suffix(".csv"), table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))
    write_text(out.with_suffix(".md"), page_of(table, training, variant, f" --clips {takes}" if takes else ""))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("."), help="folder of the finished run")
    parser.add_argument("--variant", default="full", help="variant of the flow")
    parser.add_argument("--model", type=Path, help="where the trained denoiser is kept")
    parser.add_argument("--clips", type=int, default=0, help="test clips, spread over all of them; 0: all")
    parser.add_argument("--out", type=Path, default=Path("docs/diffusion"), help="table and page, without ending")
    args = parser.parse_args()
    house.limit_threads(1)
    house.guarded(lambda: run(args.root, args.variant, args.model, args.clips, args.out))


if __name__ == "__main__":
    main()
