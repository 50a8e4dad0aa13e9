"""How the codebook's ceiling grows with people, tokens, codes, size of a code and time: writes docs/codebook_growth.{json,md}.

Usage: python -m pipeline.tools.codebook_growth [--root .] [--arms NAME ...] [--work .cache/codebook_growth] [--out docs/codebook_growth]

Needs the finished stages crop and codebook of a run below --root. Each arm is one training of the stage `codebook` that differs from the run's in one
parameter, on the run's own frames and with its own perceptual network and seed; the run's own training is not repeated. Test people, as the stage
measures them. An interrupted command goes on where it stopped (--work keeps finished arms and checkpoints). One thread.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowvqtalker.image.codebook import Codebook, CodebookConfig
from flowvqtalker.image.data import FrameSet
from flowvqtalker.image.layers import channels_last
from flowvqtalker.image.perceptual import load_perceptual
from flowvqtalker.seeding import derive_seed
from flowvqtalker.train.codebook import CodebookLosses, CodebookTask, measure_codebook
from flowvqtalker.train.loop import run as train
from pipeline import context as house
from pipeline.codebook import loop_config
from pipeline.context import Context, guarded, limit_threads, set_up_logging
from pipeline.errors import PipelineError
from pipeline.frames import training_frames
from pipeline.io import read_json, read_torch, text_sha256, write_json, write_text
from pipeline.stages import STAGES, stamp_path
from pipeline.training import TrainingFolder

#: Numbers of the table, their heads and digits.
COLUMNS = {
    "psnr_db": ("PSNR [dB]", 2), "psnr_face_db": ("face [dB]", 2), "psnr_mouth_db": ("mouth [dB]", 2), "psnr_eyes_db": ("eyes [dB]", 2),
    "usage": ("codes used", 2), "perplexity": ("perplexity", 0), "train_psnr_db": ("training people [dB]", 2),
}  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """One training.

    Attributes:
        name: of the arm.
        axis: what is varied.
        value: of the varied quantity, in words.
        model: replaced parameters of ``codebook.model``.
        steps_factor: on the number of steps and what goes with it.
        people_share: share of the training people, evenly chosen from those who talk and those who are seen in stills.
    """

    name: str
    axis: str
    value: str
    model: tuple[tuple[str, int], ...] = ()
    steps_factor: float = 1.0
    people_share: float = 1.0


ARMS = (
    Arm("people_16th", "people", "1/16", people_share=1 / 16),
    Arm("people_4th", "people", "1/4", people_share=1 / 4),
    Arm("tokens_8", "pixels a token covers", "8 x 8", (("downsample", 8),)),
    Arm("tokens_16", "pixels a token covers", "16 x 16", (("downsample", 16),)),
    Arm("codes_128", "codes", "128", (("codes", 128),)),
    Arm("codes_512", "codes", "512", (("codes", 512),)),
    Arm("codes_4096", "codes", "4096", (("codes", 4096),)),
    Arm("dim_8", "dimensions of a code", "8", (("dim", 8),)),
    Arm("dim_128", "dimensions of a code", "128", (("dim", 128),)),
    Arm("steps_4th", "steps", "1/4", steps_factor=1 / 4),
    Arm("steps_half", "steps", "1/2", steps_factor=1 / 2),
    Arm("steps_double", "steps", "2 times", steps_factor=2.0),
)


def some_people(frames: FrameSet, share: float) -> FrameSet:
    """Frames of an even choice of the people, of those in videos and of those in stills alike (at least one of each that is there)."""
    if share >= 1:
        return frames
    kept: list[Tensor] = []
    for group in (frames.is_still, ~frames.is_still):
        people = frames.identity[group].unique()
        if len(people):
            kept.append(people[torch.linspace(0, len(people) - 1, max(1, round(share * len(people)))).round().long()])
    chosen = torch.isin(frames.identity, torch.cat(kept))
    own = {
        name: getattr(frames, name)[chosen]
        for name in ("images", "landmarks", "identity", "is_still", "is_enrolment", "row", "first", "last")
    }
    return replace(frames, **own)


def measure(ctx: Context, arm: Arm, frames: FrameSet, validation: FrameSet, test: FrameSet, folder: TrainingFolder) -> dict[str, float]:
    """Train one arm and measure it on the test people."""
    cfg = ctx.cfg
    features = channels_last(load_perceptual(read_torch(ctx.out.parent / "perceptual.pt")))
    frames = some_people(frames, arm.people_share)
    scaled = {
        name: max(1, round(getattr(cfg.training, name) * arm.steps_factor))
        for name in ("steps", "warmup_steps", "validate_every", "checkpoint_every")
    }
    training = cfg.training.model_copy(update=scaled)
    seed = derive_seed(ctx.seed, "codebook")
    torch.manual_seed(seed)
    codebook = channels_last(Codebook(CodebookConfig(**(cfg.model.model_dump() | dict(arm.model)))))
    weights = CodebookLosses(
        **cfg.losses.model_dump(),
        gan_from=int(cfg.gan_from_share * training.steps),
        quantise_from=int(cfg.quantise_from_share * training.steps),
    )
    task = CodebookTask(
        codebook, features, frames, validation, weights, lr=training.lr, weight_decay=training.weight_decay, batch=training.batch,
        stills_share=cfg.stills_share, discriminator_width=cfg.discriminator_width, validation_frames=cfg.validation_frames, precision=cfg.precision,
    )  # fmt: skip
    result = train(
        task, loop_config(training, "mse"), seed=seed, resume=folder.load_checkpoint(arm.name),
        save=lambda state: folder.save_checkpoint(arm.name, state), log=lambda *_: None, progress=arm.name,
    )  # fmt: skip
    codebook.load_state_dict(result["best"]["codebook"])
    codebook.freeze()
    found = measure_codebook(codebook, test, test.evenly(cfg.test_frames), cfg.precision)
    seen = measure_codebook(codebook, frames, frames.evenly(cfg.validation_frames), cfg.precision)
    return found | {f"train_{name}": value for name, value in seen.items()} | {
        "people": float(len(frames.identity.unique())), "steps": float(training.steps), "parameters": float(sum(p.numel() for p in codebook.parameters())),
    }  # fmt: skip


def base_values(ctx: Context, frames: FrameSet) -> dict[str, float]:
    """The run's own training."""
    return read_json(ctx.out.parent / "metrics.json") | {
        "people": float(len(frames.identity.unique())),
        "steps": float(ctx.cfg.training.steps),
    }


def markdown(base: dict[str, Any], rows: Sequence[tuple[Arm, dict[str, float]]], about: dict[str, Any]) -> str:
    """The page: one table an axis, the run's own training in each."""
    model, words = about["model"], {"pixels a token covers": f"{about['model']['downsample']} x {about['model']['downsample']}"}
    words |= {"codes": str(model["codes"]), "dimensions of a code": str(model["dim"]), "people": "all", "steps": "as the run"}
    lines = [
        "# How the codebook's ceiling grows", "",
        f"Written by `python -m pipeline.tools.codebook_growth` (code {about['code']}); the same numbers are in `codebook_growth.json`. One training an arm, which differs from the run's in one "
        f"parameter; {about['test_frames']} frames of the {about['test_people']} test people at {about['size_px']} px; real frames through E_h, C and D_h. "
        "One training each: a difference of a tenth of a dB is within what another seed changes.", "",
    ]  # fmt: skip
    for axis in dict.fromkeys(arm.axis for arm, _ in rows):
        lines += [f"## {axis.capitalize()}", "", f"| {axis} | people | steps | " + " | ".join(head for head, _ in COLUMNS.values()) + " |"]
        lines.append("|---|---:|---:|" + "---:|" * len(COLUMNS))
        for value, found in [(f"**{words[axis]}**", base), *((arm.value, found) for arm, found in rows if arm.axis == axis)]:
            cells = " | ".join(f"{found[name]:.{digits}f}" for name, (_, digits) in COLUMNS.items())
            lines.append(f"| {value} | {found['people']:.0f} | {found['steps']:.0f} | {cells} |")
        lines.append("")
    return "\n".join(lines)


def run(args: argparse.Namespace) -> None:
    """Train what is missing, write the page."""
    stamp = args.root / stamp_path("codebook")
    if not stamp.is_file():
        raise PipelineError(f"{stamp}: no such file", "name the folder of a finished run with --root")
    ctx = house.make_context(argparse.Namespace(stamp=stamp, root=args.root, out=args.root / STAGES["codebook"].out, threads=1))
    cfg = ctx.cfg
    frames, validation, test = training_frames(ctx, "codebook", cfg.max_frames, cfg.validation_frames, cfg.test_frames)
    if test is None:
        raise PipelineError(f"{ctx.reads['crop']}: no test clips", "the ceiling is that of test people; give the run some")
    rows = []
    for arm in ARMS:
        if args.arms and arm.name not in args.arms:
            continue
        folder = TrainingFolder(args.work / text_sha256(ctx.fingerprint(), repr(arm))[:24])
        done = folder.path / "values.json"
        if not done.exists():
            write_json(done, measure(ctx, arm, frames, validation, test, folder))
        rows.append((arm, read_json(done)))
        print(arm.name, {name: round(rows[-1][1][name], 2) for name in COLUMNS}, flush=True)
    about = {
        "code": ctx.stamp["code"][:12], "model": cfg.model.model_dump(), "test_frames": min(cfg.test_frames, len(test)),
        "test_people": len(test.identity.unique()), "size_px": test.size_px,
    }  # fmt: skip
    base = base_values(ctx, frames)
    write_json(args.out.with_suffix(".json"), {"about": about, "run": base, "arms": {arm.name: found for arm, found in rows}})
    write_text(args.out.with_suffix(".md"), markdown(base, rows, about))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("."), help="folder of a finished run")
    parser.add_argument("--arms", nargs="*", default=[], choices=[arm.name for arm in ARMS], help="only these")
    parser.add_argument("--work", type=Path, default=Path(".cache/codebook_growth"), help="folder of finished arms and checkpoints")
    parser.add_argument("--out", type=Path, default=Path("docs/codebook_growth"), help="path of the two files, without their endings")
    args = parser.parse_args()
    set_up_logging()
    limit_threads(1)
    guarded(lambda: run(args))


if __name__ == "__main__":
    main()
