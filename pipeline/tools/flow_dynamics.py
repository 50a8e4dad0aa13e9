"""Does generated motion move like people: blinks, head, velocities and diversity of a finished run's flows against the real test clips.

Usage: python -m pipeline.tools.flow_dynamics [--root .] [--params params.yaml] [--models full] [--minutes 20] [--note "..."] [--out docs/flow_dynamics]

Needs the finished stages crop, fit3dmm, audio and flow of a run below --root and trains nothing. Every test clip that is talked is sampled again and
again, with its own sound, source and emotion, until at least --minutes have been made by each model: generated clips are exactly as long as the real
ones, so that numbers over time compare. Several trained replicates of one variant may be named (`--models full full_r1 full_r2`): values are means over
them. Writes <out>.json, <out>.md and docs/figures/<name of out>.png. Definitions: `flowvqtalker.metrics.dynamics` and `blinks`.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch

from flowvqtalker.constants import EMOTIONS, FPS_HZ
from flowvqtalker.face.expressions import EXPRESSION_INDEX, EXPRESSIONS
from flowvqtalker.flow.diagnostics import request_of
from flowvqtalker.flow.model import load_motion
from flowvqtalker.flow.sampling import rollout
from flowvqtalker.flow.windows import MotionClip
from flowvqtalker.metrics import dynamics
from flowvqtalker.metrics.blinks import blink_events
from flowvqtalker.metrics.bootstrap import Estimate, bootstrap_statistic
from flowvqtalker.motion.distributions import DECLARED
from flowvqtalker.motion.nonverbal import blink_closure
from flowvqtalker.motion.nonverbal import blink_events as draw_blinks
from flowvqtalker.seeding import derive_seed, numpy_generator
from pipeline.context import guarded, limit_threads
from pipeline.errors import PipelineError
from pipeline.flow import read_clips
from pipeline.io import atomic_path, read_index, read_torch, write_json, write_text
from pipeline.params import read_config, validate_section

#: Bounds of the issue: rate, duration, diversity and acceleration, each relative to what it is compared with.
RATE, DURATION, DIVERSITY, ACCELERATION = (0.85, 1.15), (0.75, 1.25), (0.70, 1.40), (0.0, 1.2)
SPLITS, LEVEL, RESAMPLES, INTERVAL = 200, 0.95, 1000, 0.95
#: Half the power of the low pass of the diversity [Hz].
CUTOFF_HZ = 3.0
#: How often the declared blinks are drawn for every test clip.
DECLARED_ROUNDS = 60
LIPS = ("mouth", "jaw", "cheekPuff")
OTHERS = [index for name, index in EXPRESSION_INDEX.items() if not name.startswith(LIPS)]
LIDS = [EXPRESSION_INDEX["eyeBlink_L"], EXPRESSION_INDEX["eyeBlink_R"]]


@dataclass(frozen=True)
class Thresholds:
    """Closure at which a blink starts and below which it ends."""

    on: float
    off: float


@dataclass(frozen=True)
class Moves:
    """What one clip, real or generated, is reduced to.

    Attributes:
        seconds: length.
        durations_s, intervals_s: of its blinks, (n,) and (n - 1,); start to start.
        head: power of the three angles [deg^2/Hz].
        head_speed: (T - 1,) deg/s.
        other_speed: (T - 1,) of the coefficients that are not the lips' [1/s].
        expression_acceleration: (n,) of the coefficients that move [1/s^2].
        head_acceleration: (3,) [deg/s^2].
        slow: (T, n) low-passed coefficients that are not the lips'.
        range_deg: standard deviation over time of the angles, mean over the three.
    """

    seconds: float
    durations_s: np.ndarray
    intervals_s: np.ndarray
    head: dynamics.Power
    head_speed: np.ndarray
    other_speed: np.ndarray
    expression_acceleration: np.ndarray
    head_acceleration: np.ndarray
    slow: np.ndarray
    range_deg: float


def blinks_of(closure: np.ndarray, at: Thresholds) -> tuple[np.ndarray, np.ndarray]:
    """Durations and intervals [s] of the blinks in a clip's closure (T,)."""
    events = blink_events(closure, at.on, at.off)
    return (events[:, 1] - events[:, 0]) / FPS_HZ, np.diff(events[:, 0]) / FPS_HZ


def moving_of(betas: Sequence[np.ndarray], least_sd: float) -> np.ndarray:
    """Indices of the coefficients that move in real clips: a flow does not model the others, and fills them with their mean."""
    return np.flatnonzero(np.concatenate(list(betas)).std(0) >= least_sd)


def moves_of(beta: np.ndarray, pose: np.ndarray, at: Thresholds, moving: np.ndarray | None = None) -> Moves:
    """Reduce one clip of coefficients (T, 53) and poses (T, 6); ``moving``: coefficients whose acceleration counts, all by default."""
    degrees = np.degrees(np.asarray(pose, np.float64)[:, :3])
    durations, intervals = blinks_of(beta[:, LIDS].mean(1), at)
    return Moves(
        len(beta) / FPS_HZ, durations, intervals, dynamics.welch_power(degrees, FPS_HZ), dynamics.head_speed_deg_per_s(pose, FPS_HZ),
        dynamics.speed(beta[:, OTHERS], FPS_HZ), dynamics.acceleration(beta if moving is None else beta[:, moving], FPS_HZ), dynamics.acceleration(degrees, FPS_HZ),
        dynamics.low_pass(beta[:, OTHERS], FPS_HZ, CUTOFF_HZ), float(degrees.std(0).mean()),
    )  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A real clip with its samples.

    Attributes:
        identity: who speaks.
        sentence: what all takes of one performance share.
        emotion: its label's name.
        real: the clip.
        made: its samples.
    """

    identity: str
    sentence: str
    emotion: str
    real: Moves
    made: list[Moves]


@dataclass(frozen=True)
class Blinks:
    """Blinks as the generator of the corpus declares them.

    Attributes:
        rate_per_s: declared rate, mean over the clips weighted by their length.
        detected_rate_per_s, detected_duration_s: rate and mean duration of the declared process, cut to the same clips and found with the same
            thresholds: clips cut blinks off at both ends, and thresholds see less of a blink than lasts from rest to rest.
        lasting_s: declared mean from rest to rest.
    """

    rate_per_s: float
    detected_rate_per_s: float
    detected_duration_s: float
    lasting_s: float


def declared_blinks(cases: Sequence[Case], at: Thresholds, rounds: int = DECLARED_ROUNDS) -> Blinks:
    """Draw the declared process for every clip ``rounds`` times; each round gives every identity a rate of its own."""
    seconds = np.array([case.real.seconds for case in cases])
    rates = np.array([DECLARED.blink_rate_hz[case.emotion] for case in cases])
    generator = numpy_generator(0, "declared blinks")
    found, lasting = [], []
    for _ in range(rounds):
        own = {name: generator.uniform(*DECLARED.blink_style_range) for name in sorted({case.identity for case in cases})}
        for case, length, rate in zip(cases, seconds, rates, strict=True):
            events = draw_blinks(generator, length, rate * own[case.identity])
            whole = events[(events[:, 0] > 0) & (events[:, 1] < length)]
            lasting.append(whole[:, 1] - whole[:, 0])
            found.append(blinks_of(blink_closure(generator, events, round(length * FPS_HZ)), at)[0])
    durations = np.concatenate(found)
    return Blinks(
        float(rates @ seconds / seconds.sum()),
        len(durations) / (rounds * float(seconds.sum())),
        float(durations.mean()),
        float(np.concatenate(lasting).mean()),
    )


@dataclass(frozen=True)
class Result:
    """One line of the table.

    Attributes:
        name: what is measured.
        unit: of ``value``, ``real`` and ``bound``.
        value: mean over the models.
        ci: interval over identities, models pooled; None where there is none.
        per_model: value of each model.
        real: the same of the real clips, or what it is compared with.
        bound: in words.
        holds: None where the issue asks for nothing.
    """

    name: str
    unit: str
    value: float
    ci: tuple[float, float] | None
    per_model: list[float]
    real: float
    bound: str
    holds: bool | None


def _over_identities(cases: Sequence[Case], top: Callable[[Case], float], bottom: Callable[[Case], float]) -> Estimate:
    """``sum top / sum bottom`` with an interval over identities."""
    names = sorted({case.identity for case in cases})
    sums = np.array([[sum(side(case) for case in cases if case.identity == name) for side in (top, bottom)] for name in names])

    def statistic(counts: np.ndarray) -> np.ndarray:
        tops, bottoms = (counts @ sums).T
        return tops / np.where(bottoms > 0, bottoms, np.nan)

    return bootstrap_statistic(statistic, len(names), len(cases), numpy_generator(0, "flow dynamics"), RESAMPLES, INTERVAL)


def _accelerations(cases: Sequence[Case], side: str) -> Estimate:
    """``acceleration_ratio`` with an interval over identities."""
    names = sorted({case.identity for case in cases})
    means = np.array(
        [
            [
                np.nanmean(
                    [getattr(one, side) for case in cases if case.identity == name for one in (case.made if made else [case.real])], 0
                )
                for name in names
            ]
            for made in (True, False)
        ]
    )

    def statistic(counts: np.ndarray) -> np.ndarray:
        return np.array([dynamics.acceleration_ratio(*(np.repeat(part, row.astype(int), 0) for part in means)) for row in counts])

    return bootstrap_statistic(statistic, len(names), len(cases), numpy_generator(0, "flow dynamics"), RESAMPLES, INTERVAL)


def take_distance(cases: Sequence[Case]) -> dict[str, list[float]]:
    """Low-passed distance between real takes of one performance, by identity."""
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.identity, case.sentence), []).append(case)
    found: dict[str, list[float]] = {}
    for (identity, _), group in groups.items():
        found.setdefault(identity, []).extend(_apart([case.real for case in group]))
    return found


def seed_distance(cases: Sequence[Case]) -> dict[str, list[float]]:
    """Low-passed distance between samples of one clip, by identity."""
    found: dict[str, list[float]] = {}
    for case in cases:
        found.setdefault(case.identity, []).extend(_apart(case.made))
    return found


def _apart(moves: Sequence[Moves]) -> list[float]:
    pairs = [(moves[i].slow, moves[j].slow) for i in range(len(moves)) for j in range(i)]
    return [float(np.linalg.norm(a[: len(b)] - b[: len(a)], axis=1).mean()) for a, b in pairs]


def diversity(cases: Sequence[Case]) -> Estimate:
    """Distance between seeds over distance between takes, with an interval over identities."""
    takes, seeds = take_distance(cases), seed_distance(cases)
    names = sorted(takes.keys() & seeds.keys())
    sums = np.array([[sum(seeds[n]), len(seeds[n]), sum(takes[n]), len(takes[n])] for n in names], float).reshape(-1, 4)

    def statistic(counts: np.ndarray) -> np.ndarray:
        a, n, b, m = (counts @ sums).T
        return (a / np.where(n > 0, n, np.nan)) / np.where(m > 0, b / np.where(m > 0, m, 1), np.nan)

    return bootstrap_statistic(statistic, len(names), len(cases), numpy_generator(0, "flow dynamics"), RESAMPLES, INTERVAL)


#: What is compared as a distribution: name, unit, how a clip shows it, the distance, and whether the issue sets a bound.
DISTANCES: tuple[tuple[str, str, Callable[[Moves], Any], Callable[..., float], bool], ...] = (
    ("blink intervals", "s", lambda m: m.intervals_s, dynamics.pooled_distance, True),
    ("blink durations", "s", lambda m: m.durations_s, dynamics.pooled_distance, False),
    ("head spectrum", "dB", lambda m: m.head, dynamics.power_distance_db, True),
    ("head speed", "deg/s", lambda m: m.head_speed, dynamics.pooled_distance, True),
    ("speed of all but the lips", "1/s", lambda m: m.other_speed, dynamics.pooled_distance, False),
    ("head range in a clip", "deg", lambda m: np.array([m.range_deg]), dynamics.pooled_distance, False),
)


def training_distances(train: Sequence[Moves], real: Sequence[Moves]) -> dict[str, float]:
    """Distance of the training people's real clips to the test people's, by name: what a perfect student of the former would get.

    Median over SPLITS draws of half of the test clips and as many training clips, so that sizes are those of a split.
    """
    generator = numpy_generator(0, "flow dynamics", "training people")
    half = min(len(real) // 2, len(train))
    found: dict[str, list[float]] = {name: [] for name, *_ in DISTANCES}
    for _ in range(SPLITS):
        here, there = (generator.choice(len(clips), half, replace=False) for clips in (real, train))
        for name, _, of, distance, _ in DISTANCES:
            found[name].append(distance([of(real[i]) for i in here], [of(train[i]) for i in there]))
    return {name: float(np.nanmedian(values)) for name, values in found.items()}


def _splits(
    cases: Sequence[Case], of: Callable[[Moves], Any], distance: Callable[..., float], people_apart: bool = False
) -> dynamics.SplitDistances:
    return dynamics.split_distances(
        distance,
        [of(case.real) for case in cases],
        [[of(one) for one in case.made] for case in cases],
        numpy_generator(0, "flow dynamics", "splits"),
        SPLITS,
        [case.identity for case in cases] if people_apart else None,
    )


def _within(value: float, band: tuple[float, float]) -> bool:
    return band[0] <= value <= band[1]


def results_of(models: Sequence[Sequence[Case]], declared: Blinks) -> list[Result]:
    """All lines of the table for one temperature.

    Args:
        models: the same clips in the same order with the samples of each model.
        declared: blinks of the generator.
    """
    pooled = [Case(c.identity, c.sentence, c.emotion, c.real, [one for m in models for one in m[i].made]) for i, c in enumerate(models[0])]
    results = []

    def add(
        name: str,
        unit: str,
        estimate: Callable[[Sequence[Case]], Estimate],
        real: float,
        bound: str,
        passed: Callable[[float], bool] | None,
    ) -> None:
        each = [estimate(cases).value for cases in models]
        value = float(np.mean(each))
        results.append(Result(name, unit, value, estimate(pooled).ci, each, real, bound, passed(value) if passed else None))

    def rate(cases: Sequence[Case], made: bool = True) -> Estimate:
        return _over_identities(
            cases, lambda c: sum(len(m.durations_s) for m in (c.made if made else [c.real])),
            lambda c: sum(m.seconds for m in (c.made if made else [c.real])),
        )  # fmt: skip

    def duration(cases: Sequence[Case], made: bool = True) -> Estimate:
        return _over_identities(
            cases, lambda c: float(sum(m.durations_s.sum() for m in (c.made if made else [c.real]))),
            lambda c: sum(len(m.durations_s) for m in (c.made if made else [c.real])),
        )  # fmt: skip

    minutes = min(sum(one.seconds for case in cases for one in case.made) for cases in models) / 60
    results.append(Result("generated motion", "min", minutes, None, [], math.nan, "at least 20 each model", minutes >= 20))
    real_rate, real_duration = rate(pooled, False).value, duration(pooled, False).value

    def percent(band: tuple[float, float], what: float) -> str:
        return f"{band[0] * what:.3f} to {band[1] * what:.3f}"

    add(
        "blink rate, declared", "1/s", rate, real_rate, f"{percent(RATE, declared.rate_per_s)} (declared {declared.rate_per_s:.3f})",
        lambda v: _within(v / declared.rate_per_s, RATE),
    )  # fmt: skip
    add(
        "blink rate, declared and detected", "1/s", rate, real_rate,
        f"{percent(RATE, declared.detected_rate_per_s)} (declared, as found in clips: {declared.detected_rate_per_s:.3f})",
        lambda v: _within(v / declared.detected_rate_per_s, RATE),
    )  # fmt: skip
    add(
        "blink duration, mean", "s", duration, real_duration,
        f"{percent(DURATION, declared.detected_duration_s)} (declared, as found in clips: {declared.detected_duration_s:.3f})",
        lambda v: _within(v / declared.detected_duration_s, DURATION),
    )  # fmt: skip
    for name, unit, of, distance, judged in DISTANCES:
        splits = [_splits(cases, of, distance) for cases in models]
        each, bound = [one.value() for one in splits], splits[0].bound(LEVEL)
        value = float(np.mean(each))
        results.append(
            Result(
                f"{name}, distance", unit, value, None, each, float(np.nanmedian(splits[0].real)),
                f"at most {bound:.3g} (real against real, {100 * LEVEL:.0f} %)" if judged else f"({bound:.3g})", value <= bound if judged else None,
            )
        )  # fmt: skip
        if judged and len({case.identity for case in models[0]}) > 3:
            # Nobody told the flow what these people's own habits are: halves of other people are what it can be asked to be like.
            splits = [_splits(cases, of, distance, people_apart=True) for cases in models]
            each, bound = [one.value() for one in splits], splits[0].bound(LEVEL)
            value = float(np.mean(each))
            within = "within" if value <= bound else "beyond"
            results.append(
                Result(
                    f"{name}, distance, no person in both halves", unit, value, None, each, float(np.nanmedian(splits[0].real)),
                    f"({within} {bound:.3g})", None,
                )
            )  # fmt: skip
    apart = [value for values in take_distance(pooled).values() for value in values]
    between = f"{DIVERSITY[0]} to {DIVERSITY[1]} (takes: {np.mean(apart):.3f})" if apart else "no two takes"
    add("diversity, seeds over takes", "", diversity, 1.0, between, (lambda v: _within(v, DIVERSITY)) if apart else None)
    for name, side in (("expression", "expression_acceleration"), ("head", "head_acceleration")):
        add(
            f"acceleration of the {name} over real", "", lambda cases, side=side: _accelerations(cases, side), 1.0,
            f"at most {ACCELERATION[1]}", lambda v: _within(v, ACCELERATION),
        )  # fmt: skip
    return results


# Reading, sampling, writing.


def read_test_clips(root: Path) -> tuple[list[MotionClip], list[str]]:
    """Test clips of a run and, for each, what its takes share.

    Raises:
        PipelineError: there is none, or its coefficients have no names.
    """
    folder = {name: root / "data" / name / "index.csv" for name in ("crop", "fit3dmm", "audio")}
    _, _, clips = read_clips(cast(Any, SimpleNamespace(reads=folder, log=logging.getLogger("flow_dynamics"))))
    if not clips or clips[0].beta.shape[1] != len(EXPRESSIONS):
        raise PipelineError(f"{root}: no test clip with named coefficients", "run the pipeline up to `flow` on a corpus with a test split")
    if any(clip.emotion < 0 for clip in clips):
        raise PipelineError(f"{root}: a test clip has no emotion", "blinks are declared by emotion: use the embedded corpus")
    rows = read_index(folder["crop"], "crop").set_index("clip")
    return clips, [f"{rows.loc[c.name, 'sentence']} {rows.loc[c.name, 'emotion']} {rows.loc[c.name, 'level']}" for c in clips]


def read_training_clips(root: Path) -> list[MotionClip]:
    """Training clips of a run."""
    folder = {name: root / "data" / name / "index.csv" for name in ("crop", "fit3dmm", "audio")}
    return read_clips(cast(Any, SimpleNamespace(reads=folder, log=logging.getLogger("flow_dynamics"))))[0]


def sample(
    model: Path, clips: Sequence[MotionClip], each: int, temperatures: tuple[float, float], guidance: float, batch: int
) -> list[Any]:
    """``each`` samples of every clip as pairs (beta, pose): a list over clips of lists.

    Args:
        model: folder of the trained variant.
        clips: what to sample.
        each: samples of a clip.
        temperatures: of expression and pose.
        guidance: emotion guidance of the expression.
        batch: rows rolled out together.
    """
    flows = [load_motion(read_torch(model / f"{name}.pt")) for name in ("expflow", "poseflow")]
    requests = [request_of(clip, derive_seed(5, "dynamics", clip.name, number) % 2**31) for clip in clips for number in range(each)]
    with torch.inference_mode():
        made = [
            [motion.numpy() for motion in rollout(flow, requests, temperature=temperature, guidance=guidance, batch=batch)]
            for flow, temperature in zip(flows, temperatures, strict=True)
        ]
    pairs = list(zip(*made, strict=True))
    return [pairs[i * each : (i + 1) * each] for i in range(len(clips))]


def figure(path: Path, temperatures: dict[str, Sequence[Case]]) -> None:
    """Spectrum, speed, intervals and durations: real with its band of halves, and generated at each temperature."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colours = ("#c2410c", "#2563eb", "#0f766e")
    cases = next(iter(temperatures.values()))
    real = [case.real for case in cases]
    generator = numpy_generator(0, "flow dynamics", "band")
    halves = [generator.permutation(len(real))[: len(real) // 2] for _ in range(SPLITS)]
    hertz = dynamics.frequencies_hz(FPS_HZ)[1:]

    def spectrum(moves: Sequence[Moves]) -> np.ndarray:
        return sum((m.head for m in moves[1:]), moves[0].head).density()[1:].sum(1)

    def share(of: Callable[[Moves], np.ndarray], grid: np.ndarray) -> Callable[[Sequence[Moves]], np.ndarray]:
        return lambda moves: (
            np.searchsorted(np.sort(np.concatenate([of(m) for m in moves])), grid, side="right") / max(1, sum(len(of(m)) for m in moves))
        )

    speed, interval, length = np.linspace(0, 40, 161), np.linspace(0, 2.6, 66), np.arange(0, 0.81, 0.04) + 1e-6
    panels = (
        ("head angles: power, sum of three [deg²/Hz]", "Hz", hertz, spectrum),
        ("head speed: share below", "deg/s", speed, share(lambda m: m.head_speed, speed)),
        ("blink intervals within a clip: share below", "s", interval, share(lambda m: m.intervals_s, interval)),
        ("blink durations (thresholds 0.5 and 0.3): share up to", "s", length, share(lambda m: m.durations_s, length)),
    )
    drawn, axes = plt.subplots(2, 2, figsize=(10, 7), constrained_layout=True)
    for axis, (title, unit, grid, curve) in zip(axes.ravel(), panels, strict=True):
        band = np.quantile([curve([real[i] for i in half]) for half in halves], [0.025, 0.975], axis=0)
        axis.fill_between(grid, *band, color="0.85", label="real, halves of the clips (95 %)")
        axis.plot(grid, curve(real), color="black", lw=1.8, label="real")
        for colour, (name, some) in zip(colours, temperatures.items(), strict=False):
            axis.plot(grid, curve([one for case in some for one in case.made]), color=colour, lw=1.4, label=name)
        axis.set(title=title, xlabel=unit)
    axes[0, 0].set(yscale="log", xscale="log")
    axes[0, 0].legend(frameon=False, fontsize=8)
    with atomic_path(path) as temporary:
        drawn.savefig(temporary, dpi=100, format="png", metadata={"Software": None})
    plt.close(drawn)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}"


def markdown(tables: dict[str, list[Result]], about: dict[str, Any], picture: str) -> str:
    """The page: where the numbers come from, one table a temperature, how to read them."""
    declared = about["declared"]
    lines = [
        "# How generated motion moves", "",
        "Written by `python -m pipeline.tools.flow_dynamics`; the same numbers are in `flow_dynamics.json`. " + about["note"], "",
        f"{about['clips']} real test clips of {about['identities']} identities and {about['emotions']} emotions, {about['real_s']:.0f} s; "
        f"{about['each']} samples of each clip, {about['minutes']:.1f} minutes for every model ({', '.join(about['models'])}). Generated clips are as long as the real ones, "
        f"emotion guidance {about['guidance']}. Intervals: {100 * INTERVAL:.0f} % over identities (and not over trainings).", "",
    ]  # fmt: skip
    for name, results in tables.items():
        judged = [one for one in results if one.holds is not None]
        lines += [f"## {name}", "", f"{sum(bool(one.holds) for one in judged)} of {len(judged)} lines hold.", ""]
        lines += ["| | unit | generated | interval | each model | real | bound | holds |", "|---|---|---:|---|---|---:|---|---|"]
        for one in results:
            ci = f"{one.ci[0]:.3g} to {one.ci[1]:.3g}" if one.ci else ""
            verdict = {True: "yes", False: "**no**", None: ""}[one.holds]
            each = ", ".join(map(_number, one.per_model)) if len(one.per_model) > 1 else ""
            lines.append(
                f"| {one.name} | {one.unit} | {_number(one.value)} | {ci} | {each} | {_number(one.real)} | {one.bound} | {verdict} |"
            )
        lines.append("")
    if about["training"]:
        said = ", ".join(f"{name} {_number(about['training'][name])} {unit}" for name, unit, *_ in DISTANCES)
        lines += [
            f"The people that the flows learnt from are others. Their real clips lie as far from the test people's (median of {SPLITS} draws of equal size): {said}. "
            "Where that is above the bound, a flow that draws the training people to perfection would not hold it either.", "",
        ]  # fmt: skip
    lines += [
        f"![Spectrum, speed, blink intervals and durations]({picture})", "",
        "## How to read it", "",
        f"- **Blinks**: closure is the mean of both lids, a blink lasts from {about['on']} until below {about['off']}. The generator of the corpus declares a rate by emotion (mean here "
        f"{declared['rate_per_s']:.3f}/s) and a duration from rest to rest (mean {declared['lasting_s']:.3f} s). Clips of two seconds cut blinks off, and thresholds see the middle of a blink, so the declared "
        f"process is also drawn, cut to the same clips and measured in the same way ({DECLARED_ROUNDS} times): {declared['detected_rate_per_s']:.3f}/s and {declared['detected_duration_s']:.3f} s. "
        "A mean duration can be compared in this form only.",
        f"- **Distances**: {SPLITS} random splits of the clips into halves A and B. *Real* is the median distance of real A to real B, the bound its {100 * LEVEL:.0f} % quantile; *generated* is the median "
        "distance of real A to samples of the clips in B, one each, so sizes are equal. The issue's bound lets clips of one person into both halves, so it asks for the habits of these very people, which "
        "nobody tells the flow; the lines without a verdict put each person into one half. Within the bound no difference is shown; equality is not proven. Intervals lie within a clip, so all are short.",
        f"- **Head spectrum**: Welch, {dynamics.SEGMENT_FRAMES} frames a segment, log spectral distance, mean over pitch, yaw and roll. Head pose comes from PoseFlow at its own temperature, so that its lines are "
        "the same in tables that differ in the expression's temperature alone.",
        f"- **Diversity**: mean Euclidean distance of the {len(OTHERS)} coefficients that are not the lips' (all but mouth, jaw and puffed cheeks), low-passed at {CUTOFF_HZ:.0f} Hz; between samples of one clip over between "
        "two real takes of one performance.",
        f"- **Acceleration**: second differences, mean over coefficients (the {about['moving']} whose standard deviation over real frames reaches `flow.min_sd`) or angles of generated over real.",
        "- Lines without a verdict are printed because they explain the others; the issue sets no bound for them.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    """The same with null for what is not a number."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def run(args: argparse.Namespace) -> None:
    """Sample, measure, print, write."""
    values = read_config(args.params or args.root / "params.yaml", *args.overlay)
    settings = cast(Any, validate_section("generate", values["generate"]))
    judged = cast(Any, validate_section("evaluate", values["evaluate"]))
    at = Thresholds(judged.blink_on, judged.blink_off)
    clips, sentences = read_test_clips(args.root)
    moving = moving_of([clip.beta.numpy() for clip in clips], values["flow"]["min_sd"])
    real = [moves_of(clip.beta.numpy(), clip.pose.numpy(), at, moving) for clip in clips]
    training = training_distances([moves_of(c.beta.numpy(), c.pose.numpy(), at, moving) for c in read_training_clips(args.root)], real)
    print("training people against test people:", {name: round(value, 4) for name, value in training.items()})
    seconds = sum(one.seconds for one in real)
    each = max(2, math.ceil(60 * args.minutes / seconds))
    temperatures = {f"temperature {settings.temperature}, as generated": (settings.temperature, settings.pose_temperature)}
    if (settings.temperature, settings.pose_temperature) != (1.0, 1.0):
        temperatures["temperature 1.0"] = (1.0, 1.0)
    tables, drawn = {}, {}
    declared = None
    for name, pair in temperatures.items():
        models = []
        for model in args.models:
            made = sample(args.root / "models" / "flow" / model, clips, each, pair, settings.emotion_guidance, settings.rollout_batch)
            models.append(
                [
                    Case(clip.identity, sentence, EMOTIONS[clip.emotion], one, [moves_of(beta, pose, at, moving) for beta, pose in samples])
                    for clip, sentence, one, samples in zip(clips, sentences, real, made, strict=True)
                ]
            )
        declared = declared or declared_blinks(models[0], at)
        tables[name], drawn[name] = results_of(models, declared), models[0]
        for one in tables[name]:
            print(
                f"{name}: {one.name}: {one.value:.4g} {one.unit} (real {one.real:.4g}; {one.bound}) {'' if one.holds is None else 'holds' if one.holds else 'DOES NOT HOLD'}"
            )
    assert declared is not None
    about = {
        "note": args.note, "models": args.models, "clips": len(clips), "identities": len({clip.identity for clip in clips}),
        "emotions": len({clip.emotion for clip in clips}), "real_s": seconds, "each": each, "minutes": each * seconds / 60,
        "guidance": settings.emotion_guidance, "on": at.on, "off": at.off, "declared": asdict(declared), "splits": SPLITS, "training": training, "cutoff_hz": CUTOFF_HZ, "moving": len(moving),
    }  # fmt: skip
    picture = args.out.parent / "figures" / f"{args.out.name}.png"
    figure(picture, drawn)
    found = {name: [asdict(one) for one in rows] for name, rows in tables.items()}
    write_json(args.out.with_suffix(".json"), _plain(about | {"tables": found}))
    write_text(args.out.with_suffix(".md"), markdown(tables, about, f"figures/{picture.name}"))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--root", type=Path, default=Path("."), help="folder of a finished run")
    parser.add_argument("--params", type=Path, help="parameters of that run; default: params.yaml below --root")
    parser.add_argument("--overlay", type=Path, nargs="*", default=[], help="configurations laid over them")
    parser.add_argument("--models", nargs="+", default=["full"], help="variants of the flow: replicates of one training")
    parser.add_argument("--minutes", type=float, default=20.0, help="least motion of each model")
    parser.add_argument("--note", default="", help="sentence about the run, for the page")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--out", type=Path, default=Path("docs/flow_dynamics"), help="path of the page without suffix")
    args = parser.parse_args()
    limit_threads(args.threads)
    guarded(lambda: run(args))


if __name__ == "__main__":
    main()
