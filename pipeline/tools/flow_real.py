"""The flows on coefficients of real recordings: do they train and sample with the functions and settings of the embedded corpus.

Usage: python -m pipeline.tools.flow_real [--parts clips deep3d] [--media ../shared/media] [--config configs/clips.yaml] [--share 0.15] [--out docs/flow_real]

Two sets, each with both flows:
clips    recordings that the pipeline has fitted: `make clips ROOT=../shared/media TARGET=audio` first; they are read as the stage `flow` reads them.
deep3d   coefficient files of Deep3DFaceRecon below --media: 64 expression coefficients, angles and translation. A wav of the same name, beside the
         file or in a folder `wav` next to it, is its sound; a file without one gets silence. A video of the same name says the frame rate.

Shapes and settings are those of the section `flow` of params.yaml; --share multiplies the number of steps, warm-up and validation interval of every
training. Whole identities are held out (`hold_out`). Each flow is scored as it is initialised (`fit_motion` with a learning rate of zero), at every
validation, and after training; then it samples the held-out clips with --seeds seeds. No claim of quality: the page says whether the held-out
likelihood falls, whether everything stays finite, and whether samples stay within bounds. A check that fails ends the command with an error.

Writes <out>.json and <out>.md.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from flowvqtalker.audio import compute_mel, window_starts
from flowvqtalker.constants import EMOTIONS, FPS_HZ, SAMPLES_PER_FRAME, intensity_of
from flowvqtalker.face.deep3d import read_deep3d
from flowvqtalker.flow.diagnostics import request_of, rollout_metrics
from flowvqtalker.flow.motionflow import MotionFlow
from flowvqtalker.flow.sampling import rollout
from flowvqtalker.flow.windows import MotionClip
from flowvqtalker.seeding import derive_seed
from flowvqtalker.train.flow import FlowTraining, Trained, clip_bits, fit_motion, source_of, target_of
from flowvqtalker.train.loop import LoopConfig
from pipeline.context import Context, guarded, limit_threads
from pipeline.errors import PipelineError
from pipeline.flow import flow_config, flow_training, loop_config, read_clips
from pipeline.io import write_json, write_text
from pipeline.media import probe, read_sound
from pipeline.params import read_config, validate
from pipeline.params.flow import FlowParams
from pipeline.stages import STAGES, run_root

NAMES = {"expression": "ExpFlow", "pose": "PoseFlow"}
PARTS = ("clips", "deep3d")
#: Every third identity is held out; of these, every second is seen by nothing but the last score.
EVERY = 3
#: A sampled head may move this many times as far from where it starts as the farthest real clip does, in any of its six numbers.
FARTHEST = 3.0
_CM_PER_DM = 10.0
#: MEAD's names say emotion and level: M030_front_happy_level3_001 or M003_level_1_happy_024.
_LABELS = (rf"_(?P<emotion>{'|'.join(EMOTIONS)})_level_?(?P<level>\d)", rf"_level_(?P<level>\d)_(?P<emotion>{'|'.join(EMOTIONS)})(_|$)")


@dataclass(frozen=True)
class Material:
    """Clips of one set.

    Attributes:
        name: ``clips`` or ``deep3d``.
        train, val, test: Training clips, clips that choose the best weights, and clips that nothing but the last score sees (may be empty).
        silent: Clips without sound.
    """

    name: str
    train: list[MotionClip]
    val: list[MotionClip]
    test: list[MotionClip]
    silent: int = 0

    @property
    def held_out(self) -> list[MotionClip]:
        """Validation and test clips."""
        return [*self.val, *(clip for clip in self.test if clip not in self.val)]

    @property
    def every(self) -> list[MotionClip]:
        """All clips, each once."""
        return [*self.train, *(clip for clip in self.held_out if clip not in self.train)]


def label_of(name: str) -> tuple[int, float]:
    """Emotion and intensity that a MEAD-like name says; (-1, 1.0) for any other: its likelihood is the mixture over full emotions, and so is its sample."""
    for pattern in _LABELS:
        said = re.search(pattern, name, re.IGNORECASE)
        if said:
            emotion = said["emotion"].lower()
            return EMOTIONS.index(emotion), intensity_of(emotion, int(said["level"]))
    return -1, 1.0


def hold_out(name: str, clips: Sequence[MotionClip], silent: int = 0) -> Material:
    """Split by identity: every third in the order of their names is held out, alternately for validation and for the last score.

    With fewer than three identities the last clip validates; a single clip validates itself.
    """
    identities = sorted({clip.identity for clip in clips})
    held = identities[EVERY - 1 :: EVERY]
    val, test = ([clip for clip in clips if clip.identity in names] for names in (held[::2], held[1::2]))
    if not val:
        val = list(clips[-1:])
    train = [clip for clip in clips if clip not in [*val, *test]] or list(clips)
    return Material(name, train, val, test, silent)


def fitted_clips(config: Path, params: FlowParams, seed: int) -> Material:
    """Clips of a run on recordings that its stages crop, fit3dmm and audio made.

    A folder's clips without a table of labels count as neutral there; here a clip is labelled where its name says so, and unlabelled otherwise.
    """
    root = run_root(read_config("params.yaml", config))
    reads = {name: root / STAGES[name].out for name in ("crop", "fit3dmm", "audio")}
    missing = next((path for path in reads.values() if not path.is_file()), None)
    if missing is not None:
        raise PipelineError(
            f"{missing}: no such table", "run `make clips ROOT=../shared/media TARGET=audio` first, or leave out --parts clips"
        )
    ctx = Context("flow", "full", f'{{"seed": {seed}}}', root, root / "unused", reads, 1, {"flow": params})
    found = {clip.name: clip for side in read_clips(ctx) for clip in side}
    clips = []
    for _, clip in sorted(found.items()):
        emotion, intensity = label_of(clip.name)
        clips.append(replace(clip, emotion=emotion, intensity=intensity))
    return hold_out("clips", clips)


def at_rate(values: np.ndarray, rate_hz: float) -> np.ndarray:
    """Values (N, C) at ``rate_hz`` -> (T, C) at 25 a second, linear between neighbours, T = round(25 N / rate), at least 1."""
    frames = max(1, round(len(values) * FPS_HZ / rate_hz))
    place = (np.arange(frames) * rate_hz / FPS_HZ).clip(0, len(values) - 1)
    low = np.minimum(place.astype(np.int64), max(len(values) - 2, 0))
    high = np.minimum(low + 1, len(values) - 1)
    share = (place - low)[:, None]
    return (values[low] * (1 - share) + values[high] * share).astype(np.float32)


def _beside(path: Path, suffix: str, folder: str) -> Path | None:
    """A file of the same name beside ``path``, or in a folder next to its own."""
    places = (path.parent / f"{path.stem}{suffix}", path.parent.parent / folder / f"{path.stem}{suffix}")
    return next((place for place in places if place.is_file()), None)


def deep3d_clip(path: Path) -> tuple[MotionClip, bool]:
    """One coefficient file as a clip at 25 frames a second, and whether it has sound.

    The pose is the file's own: angles [rad] and translation [cm] of a head whose origin is the mean of its vertices. The Basel model would add a
    fixed shift of the origin (``deep3d_to_pose``); it is not part of the sample folder, and a flow of poses does not need it.
    """
    try:
        with path.open("rb") as file:
            values = read_deep3d(file)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path.name}: {error}", "leave only coefficient files of Deep3DFaceRecon below --media") from error
    video, sound = _beside(path, ".mp4", "video"), _beside(path, ".wav", "wav")
    rate = (probe(video).fps_hz if video else 0.0) or float(FPS_HZ)
    beta = at_rate(values.expression, rate)
    pose = at_rate(np.concatenate([values.angles, _CM_PER_DM * values.translation], 1), rate)
    samples = read_sound(sound, n_frames=len(beta)) if sound else None
    mel = compute_mel(np.zeros(len(beta) * SAMPLES_PER_FRAME, np.float32) if samples is None else samples)
    emotion, intensity = label_of(path.stem)
    b, p = torch.from_numpy(beta), torch.from_numpy(pose)
    clip = MotionClip(
        path.stem, re.split(r"[_-]", path.stem)[0], torch.from_numpy(mel), torch.from_numpy(window_starts(len(beta))), b, p, b[0], p[0], emotion, intensity,
    )  # fmt: skip
    return clip, samples is not None


def deep3d_clips(media: Path) -> Material:
    """All coefficient files below a folder; the identity is what stands in front of the first underscore of the name."""
    if not media.is_dir():
        raise PipelineError(f"{media}: no such folder", "name the folder of the sample media with --media, or leave out --parts deep3d")
    found = [deep3d_clip(path) for path in sorted(media.rglob("*.mat"))]
    if not found:
        raise PipelineError(f"{media}: holds no .mat file", "name a folder with coefficient files of Deep3DFaceRecon")
    return hold_out("deep3d", [clip for clip, _ in found], sum(not heard for _, heard in found))


def shorter(loop: LoopConfig, share: float) -> LoopConfig:
    """The same loop with a share of its steps, warm-up and intervals, each at least 1."""

    def part(count: int) -> int:
        return max(1, round(count * share))

    return replace(
        loop, steps=part(loop.steps), warmup_steps=part(loop.warmup_steps), validate_every=part(loop.validate_every),
        checkpoint_every=part(loop.checkpoint_every),
    )  # fmt: skip


class Memory:
    """Hooks of ``fit_motion``: what was logged in each phase, and trained conditioners that a second fit of the same data finds ready."""

    def __init__(self) -> None:
        self.history: dict[str, list[tuple[int, str, dict[str, float]]]] = {}
        self._states: dict[str, dict[str, Any]] = {}

    def __call__(self, phase: str) -> dict[str, Any]:
        shared = phase.startswith("conditioner_")
        log = self.history.setdefault(phase, [])
        hooks: dict[str, Any] = {"log": lambda step, split, values: log.append((step, split, dict(values)))}
        if shared:
            hooks |= {"resume": self._states.get(phase), "save": lambda state: self._states.__setitem__(phase, state)}
        return hooks

    def values(self, phase: str, split: str, name: str = "loss") -> list[tuple[int, float]]:
        """(step, value) of what was logged in a phase."""
        return [(step, values[name]) for step, kind, values in self.history.get(phase, []) if kind == split and name in values]


@dataclass(frozen=True)
class Samples:
    """What a few seeds made of the held-out clips.

    Attributes:
        seeds, frames: Samples of each clip, and frames in all.
        finite: Whether every number is.
        within: Whether expressions lie within the range of the training frames, or heads move at most FARTHEST times as far as real ones.
        at_bound_pct: Expression values at a bound of that range [%]; None for poses.
        move_ratio: Largest distance from the source pose over the largest real one, the largest of the six; None for expressions.
        spread_ratio, seed_distance: As ``rollout_metrics`` defines them.
    """

    seeds: int
    frames: int
    finite: bool
    within: bool
    at_bound_pct: float | None
    move_ratio: float | None
    spread_ratio: float
    seed_distance: float


@dataclass(frozen=True)
class Fitted:
    """One flow on one set. Bits per dimension are those of standardised coefficients throughout; lower is better.

    Attributes:
        part, kind: Which set, which flow.
        dims: Kept dimensions.
        initial: Held-out bits of the flow as initialised, validation clips.
        curve: (step, held-out bits) at each validation.
        train_curve: (step, training bits), with history noise and dropout.
        trained: Held-out bits with the chosen weights.
        best_step: Step of the chosen weights.
        clips: Per held-out clip: name, identity, frames, side ("val", "test"), bits as initialised and after training.
        bad_steps: Steps that were skipped because a loss or gradient was not finite, all phases of this flow.
        finite: Whether every weight, curve value and score is finite.
        conditioner: (phase, first and last validation loss of the conditioner).
        samples: Rollouts.
    """

    part: str
    kind: str
    dims: int
    initial: float
    curve: list[tuple[int, float]]
    train_curve: list[tuple[int, float]]
    trained: float
    best_step: int
    clips: list[dict[str, Any]]
    bad_steps: int
    finite: bool
    conditioner: list[tuple[str, float, float]]
    samples: Samples

    @property
    def checks(self) -> dict[str, bool]:
        """What the issue asks for, by name."""
        return {
            "held-out likelihood falls": self.trained < self.initial and bool(self.curve) and self.curve[-1][1] < self.initial,
            "no NaN, no skipped step": self.finite and self.bad_steps == 0,
            "samples finite": self.samples.finite,
            "samples within bounds": self.samples.within,
        }


def sample(flow: MotionFlow, material: Material, seeds: int, seed: int) -> Samples:
    """Sample every held-out clip ``seeds`` times, each with its own sound and source."""
    clips = material.held_out
    asked = [request_of(clip, derive_seed(seed, "real", clip.name, n) % 2**31) for n in range(seeds) for clip in clips]
    made = list(rollout(flow, asked))
    finite = all(bool(torch.isfinite(motion).all()) for motion in made)
    at_bound = moved = None
    if flow.config.kind == "expression":
        low, high = flow.low.cpu(), flow.high.cpu()
        within = all(bool(((motion >= low) & (motion <= high)).all()) for motion in made)
        kept = flow.kept.cpu()
        edge = [((motion <= low) | (motion >= high))[:, kept] for motion in made]
        at_bound = 100 * float(torch.cat(edge).double().mean())
    else:
        real = torch.stack([(target_of(flow, clip) - source_of(flow, clip)).abs().amax(0) for clip in material.every]).amax(0)
        sources = [source_of(flow, clip) for clip in clips] * seeds
        far = torch.stack([(motion - source).abs().amax(0) for motion, source in zip(made, sources, strict=True)]).amax(0)
        moved = float((far / real.clamp_min(1e-9)).max())
        within = moved <= FARTHEST
    numbers = rollout_metrics(flow, clips, seed)
    return Samples(seeds, sum(map(len, made)), finite, within, at_bound, moved, numbers["spread_ratio"], numbers["seed_distance"])


def fit_part(material: Material, cfg: FlowParams, kind: str, share: float, seeds: int, seed: int) -> Fitted:
    """Train one flow on one set, and score it before, during and after.

    Args:
        material: The clips.
        cfg: Section ``flow``.
        kind: ``expression`` or ``pose``.
        share: Share of the steps.
        seeds: Samples of each held-out clip.
        seed: Seed of the run.
    """
    own = derive_seed(seed, "flow", kind)
    settings, part = flow_training(cfg, kind), cfg.pose if kind == "pose" else cfg
    loop, conditioner_loop = shorter(loop_config(part.training), share), shorter(loop_config(cfg.conditioner.training), share)
    first = material.train[0]
    config = flow_config(cfg, kind, (first.beta if kind == "expression" else first.pose).shape[1], own % 2**31)
    memory = Memory()

    def fit(
        settings: FlowTraining, loop: LoopConfig, hooks: Callable[[str], dict[str, Any]], lid_loop: LoopConfig | None = None
    ) -> Trained:
        return fit_motion(
            config, material.train, material.val, settings, conditioner_loop=conditioner_loop, flow_loop=loop, lid_loop=lid_loop, seed=own,
            hooks=hooks,
        )  # fmt: skip

    # A learning rate of zero leaves the flow as it is initialised. Conditioners are trained once: the second fit finds them ready.
    still = replace(loop, steps=1, warmup_steps=0, lr=0.0, validate_every=1, checkpoint_every=1)
    before = fit(replace(settings, calibration_rounds=0), still, memory)
    memory.history.pop(kind)
    after = fit(settings, loop, memory, shorter(loop_config(cfg.lids.training), share))
    bits = [clip_bits(one.flow, material.held_out, cfg.window, settings) for one in (before, after)]
    clips = [
        {"clip": clip.name, "identity": clip.identity, "frames": len(clip.start), "side": "val" if clip in material.val else "test", "initial": a, "trained": b}
        for clip, a, b in zip(material.held_out, *bits, strict=True)
    ]  # fmt: skip
    flow = after.flow
    unit = flow.log_scale() / (flow.config.stack.features * math.log(2))
    curve, train_curve = ([(step, value + unit) for step, value in memory.values(kind, split)] for split in ("val", "train"))
    scores = [value for _, value in [*curve, *train_curve]] + [*bits[0], *bits[1], *before.metrics.values(), *after.metrics.values()]
    phases = [phase for phase in sorted(memory.history) if phase.startswith("conditioner_")]
    conditioner = [(phase, values[0][1], values[-1][1]) for phase in phases if (values := memory.values(phase, "val"))]
    finite = all(math.isfinite(v) for v in [*scores, *(v for _, *pair in conditioner for v in pair)]) and all(
        bool(torch.isfinite(value).all())
        for name, value in flow.state_dict().items()
        if name not in ("low", "high") and value.is_floating_point()
    )
    return Fitted(
        material.name, kind, flow.config.stack.features, before.metrics["held_out_bits_per_dim"], curve, train_curve,
        after.metrics["held_out_bits_per_dim"], int(after.metrics["best_step"]), clips, int(after.metrics["bad_steps"]), finite, conditioner,
        sample(flow, material, seeds, seed),
    )  # fmt: skip


def summary_of(material: Material) -> dict[str, Any]:
    """Counts of one set, by side."""

    def count(clips: Sequence[MotionClip]) -> dict[str, Any]:
        return {
            "clips": len(clips), "frames": sum(len(clip.start) for clip in clips), "identities": sorted({clip.identity for clip in clips}),
            "unlabelled": sum(clip.emotion < 0 for clip in clips),
        }  # fmt: skip

    sides = {side: count(getattr(material, side)) for side in ("train", "val", "test")}
    return {**sides, "silent": material.silent, "coefficients": material.train[0].beta.shape[1]}


_TEXT = {
    "clips": "Recordings, fitted by the pipeline",
    "deep3d": "Coefficient files of Deep3DFaceRecon",
}


def to_markdown(materials: Sequence[Material], fitted: Sequence[Fitted], share: float) -> str:
    """The page."""
    missing = len(materials) < len(PARTS)
    command = " ".join(
        ["python -m pipeline.tools.flow_real", *(["--parts", *(m.name for m in materials)] if missing else []), f"--share {share:g}"]
    )
    lines = [
        "# The flows on coefficients of real recordings", "",
        f"Written by `{command}`: shapes and settings of `params.yaml`, {share:g} of its steps, one training of each flow. "
        "All sets go through the functions of the stage `flow`; nothing in them knows where the coefficients come from. Bits per dimension are those of "
        "standardised coefficients, each in its own set's units: sets do not compare, and no claim of quality is made.", "",
        "Whole identities are held out: every third in the order of their names, alternately for validation (chooses the weights) and for the last score "
        "(test). Clips whose name says an emotion, as MEAD's do, are labelled; all others are unlabelled and count by the exact mixture over emotions. ",
    ]  # fmt: skip
    by_part = {part: [one for one in fitted if one.part == part] for part in PARTS}
    for material in materials:
        s = summary_of(material)
        sides = ", ".join(
            f"{words} {s[side]['clips']} ({s[side]['frames']} frames; unlabelled {s[side]['unlabelled']}, identities {len(s[side]['identities'])})"
            for side, words in (("train", "training"), ("val", "validation"), ("test", "test"))
            if s[side]["clips"]
        )
        lines += [
            "",
            f"## {_TEXT[material.name]}",
            "",
            f"{s['coefficients']} expression coefficients and 6 of the pose. Clips for {sides}.",
        ]
        if material.name == "clips":
            lines.append(
                "`make clips ROOT=../shared/media TARGET=audio` makes them; clips without sound take no part, as in the stage `flow`."
            )
        else:
            lines.append(
                f"{material.silent} of the files have no sound and get silence. Files at another rate than 25 frames a second, by the video of the same name, are "
                "interpolated linearly. Poses are the files' own (origin: mean of the vertices), since the Basel model is not in the sample folder."
            )
        lines += [
            "", "| flow | dimensions | held-out bits, initialised | validations (step: bits) | chosen step | held-out bits, trained | held-out clips that fall |",
            "|---|---:|---:|---|---:|---:|---:|",
        ]  # fmt: skip
        for one in by_part[material.name]:
            curve = ", ".join(f"{step}: {value:.3f}" for step, value in one.curve)
            falls = sum(clip["trained"] < clip["initial"] for clip in one.clips)
            lines.append(
                f"| {NAMES[one.kind]} | {one.dims} | {one.initial:.3f} | {curve} | {one.best_step} | {one.trained:.3f} | {falls} of {len(one.clips)} |"
            )
        lines += [
            "", "| flow | side | identity | clips | initialised | trained |", "|---|---|---|---:|---:|---:|",
            *(row for one in by_part[material.name] for row in _identity_rows(one)),
            "", "| flow | samples | frames | finite | within bounds | at a bound [%] | farthest move, times real | spread over time, times real | distance of two seeds [sd] |",
            "|---|---:|---:|---|---|---:|---:|---:|---:|",
        ]  # fmt: skip
        for one in by_part[material.name]:
            m = one.samples
            edge = "" if m.at_bound_pct is None else f"{m.at_bound_pct:.2f}"
            moved = "" if m.move_ratio is None else f"{m.move_ratio:.2f}"
            lines.append(
                f"| {NAMES[one.kind]} | {m.seeds * len(one.clips)} | {m.frames} | {_yes(m.finite)} | {_yes(m.within)} | {edge} | {moved} | {m.spread_ratio:.2f} | {m.seed_distance:.2f} |"
            )
    lines += ["", "## Checks", "", "| set | flow | " + " | ".join(fitted[0].checks) + " |", "|---|---|" + "---|" * len(fitted[0].checks)]
    lines += [f"| {one.part} | {NAMES[one.kind]} | " + " | ".join(map(_yes, one.checks.values())) + " |" for one in fitted]
    lines += [
        "", "Falls: the chosen weights and the last validation are both below the initialised flow. No NaN: every weight, loss and score is finite, and no step "
        "was skipped. Bounds: expressions lie within the range of the training frames; a head moves at most "
        f"{FARTHEST:g} times as far from its source as the farthest real clip of the set, in each of its six numbers.",
    ]  # fmt: skip
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _identity_rows(one: Fitted) -> list[str]:
    rows = []
    for side in ("val", "test"):
        for identity in sorted({clip["identity"] for clip in one.clips if clip["side"] == side}):
            own = [clip for clip in one.clips if clip["side"] == side and clip["identity"] == identity]
            a, b = (float(np.mean([clip[name] for clip in own])) for name in ("initial", "trained"))
            rows.append(
                f"| {NAMES[one.kind]} | {'validation' if side == 'val' else 'test'} | {identity} | {len(own)} | {a:.3f} | {b:.3f} |"
            )
    return rows


def _yes(value: bool) -> str:
    return "yes" if value else "NO"


def _plain(one: Fitted) -> dict[str, Any]:
    """For a JSON file: numbers that are not finite become null."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: clean(entry) for name, entry in value.items()}
        if isinstance(value, list | tuple):
            return [clean(entry) for entry in value]
        if isinstance(value, float):
            return float(f"{value:.6g}") if math.isfinite(value) else None
        return value

    return clean({**asdict(one), "checks": one.checks})


def run(parts: Sequence[str], media: Path, config: Path, share: float, seeds: int, out: Path) -> None:
    """Read, train, sample, print and write."""
    values = read_config("params.yaml")
    cfg, seed = cast(FlowParams, validate(values)["flow"]), int(values["seed"])
    make = {"clips": lambda: fitted_clips(config, cfg, seed), "deep3d": lambda: deep3d_clips(media)}
    materials = [make[part]() for part in PARTS if part in parts]
    fitted = []
    for material in materials:
        for kind in NAMES:
            one = fit_part(material, cfg, kind, share, seeds, seed)
            fitted.append(one)
            print(f"{material.name} {NAMES[kind]}: held-out bits {one.initial:.3f} -> {one.trained:.3f}, {one.checks}", flush=True)
    text = to_markdown(materials, fitted, share)
    write_json(
        out.with_suffix(".json"),
        {"share": share, "sets": {m.name: summary_of(m) for m in materials}, "flows": [_plain(one) for one in fitted]},
    )
    write_text(out.with_suffix(".md"), text)
    print(text)
    failed = [f"{one.part} {NAMES[one.kind]}: {name}" for one in fitted for name, passed in one.checks.items() if not passed]
    if failed:
        raise SystemExit(f"not met: {'; '.join(failed)}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="which sets")
    parser.add_argument("--media", type=Path, default=Path("../shared/media"), help="folder below which the coefficient files lie")
    parser.add_argument("--config", type=Path, default=Path("configs/clips.yaml"), help="run whose fitted recordings are read")
    parser.add_argument("--share", type=float, default=0.15, help="share of the steps of params.yaml")
    parser.add_argument("--seeds", type=int, default=3, help="samples of each held-out clip")
    parser.add_argument("--out", type=Path, default=Path("docs/flow_real"), help="path of the files without their suffix")
    args = parser.parse_args()
    limit_threads(1)
    guarded(lambda: run(args.parts, args.media, args.config, args.share, args.seeds, args.out))


if __name__ == "__main__":
    main()
