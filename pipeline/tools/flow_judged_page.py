"""Numbers, tables and figure of ``pipeline.tools.flow_judged``: verdicts in, a page out. Every interval resamples whole identities."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowvqtalker.constants import EMOTIONS, LEVELS
from flowvqtalker.metrics.bootstrap import Estimate, bootstrap_statistic, cluster_bootstrap, over_seeds, paired_difference
from flowvqtalker.metrics.emotion import confusion_matrix
from flowvqtalker.seeding import numpy_generator
from pipeline.io import atomic_path
from pipeline.reporting.style import COLOURS, STYLE

#: Bounds of the issue: samples over truth, transferred over truth, share of sweeps that rise, and by how much a sweep may fall.
EMOTION_BAR, TRANSFER_BAR, SWEEP_BAR, TOLERANCE = 0.9, 0.75, 0.9, 0.02
RESAMPLES, INTERVAL = 1000, 0.95
LATENTS, LABEL = "latents", "label"
#: Neutral has no level; None is all levels together.
STRATA: tuple[int | None, ...] = (None, 0, *LEVELS)
ROWS = {
    "real": "real video",
    "truth_head": "true coefficients, true head pose",
    "truth": "true coefficients, fitted head pose",
    "fitted": "fitted coefficients and head pose",
    "flow": "samples of ExpFlow, fitted head pose",
}


@dataclass(frozen=True)
class Verdict:
    """What the judge said of one drawing of a test clip.

    Attributes:
        row: what was drawn: a name of ``ROWS`` or ``swap <region>``.
        clip, identity, emotion, level: the clip and its true label; level 0 for neutral.
        seed: number of the sample.
        said: the judge's emotion; "" where no face was found.
        probability: what the judge gives the true emotion; NaN where no face was found.
    """

    row: str
    clip: str
    identity: str
    emotion: str
    level: int
    seed: int
    said: str
    probability: float

    @property
    def right(self) -> float:
        """1 or 0; NaN where no face was found."""
        return float(self.said == self.emotion) if self.said else math.nan


@dataclass(frozen=True)
class Pair:
    """A reference clip and what became of its emotion on a target.

    Attributes:
        reference, target: clips.
        identity, emotion, level: of the reference.
        inferred: emotion that the flow read, by source.
        intensity: inferred with the first source.
        said: the judge's emotion of the result by way (``LATENTS``, ``LABEL``); "" where no face was found.
    """

    reference: str
    target: str
    identity: str
    emotion: str
    level: int
    inferred: dict[str, str]
    intensity: float
    said: dict[str, str]


@dataclass(frozen=True)
class Sweep:
    """One emotion from intensity 0 to 1 and beyond, the same source, sound and seed.

    Attributes:
        clip, identity: the target.
        emotion: that is asked for.
        seed: of all its samples.
        probability: what the judge gives the emotion at 0, 0.25, 0.5, 0.75, 1 and 1.5.
        said: the judge's emotion at 1.5.
        finite: whether all coefficients at 1.5 are finite.
        over: farthest that a coefficient at 1.5 lies outside the range of the training clips; at most 0 inside.
        largest, largest_at_one: largest absolute coefficient at 1.5 and at 1.
        at_bound: share of the coefficients at 1.5 that rest on an end of that range.
    """

    clip: str
    identity: str
    emotion: str
    seed: int
    probability: list[float]
    said: str
    finite: bool
    over: float
    largest: float
    largest_at_one: float
    at_bound: float

    @property
    def known(self) -> bool:
        """Whether a face was found at every intensity from 0 to 1."""
        return bool(np.isfinite(self.probability[:5]).all())


@dataclass(frozen=True)
class Shift:
    """Mean of a coefficient over the test clips of an emotion, left and right averaged, in truth and in the fit."""

    emotion: str
    name: str
    true: float
    fit: float


# Numbers.


def _generator() -> np.random.Generator:
    return numpy_generator(0, "flow judged")


def clip_means(verdicts: Sequence[Verdict], row: str, level: int | None = None) -> tuple[dict[str, float], dict[str, str]]:
    """Share of right verdicts of each clip over its seeds, and each clip's identity; clips without a face are left out."""
    own = [one for one in verdicts if one.row == row and level in (None, one.level)]
    if not own:
        return {}, {}
    means, names, _ = over_seeds(np.array([one.right for one in own]), [one.clip for one in own], [one.seed for one in own])
    identity = {one.clip: one.identity for one in own}
    return {name: float(mean) for name, mean in zip(names, means, strict=True) if not math.isnan(mean)}, identity


def accuracy(verdicts: Sequence[Verdict], row: str, level: int | None = None) -> Estimate:
    """Share of right verdicts, mean over clips."""
    means, identity = clip_means(verdicts, row, level)
    return cluster_bootstrap(np.array(list(means.values())), [identity[clip] for clip in means], _generator(), None, RESAMPLES, INTERVAL)


def ratio_of(top: dict[str, float], bottom: dict[str, float], identity: dict[str, str]) -> Estimate:
    """``sum top / sum bottom`` over the clips that both sides know, with an interval over identities."""
    shared = sorted(top.keys() & bottom.keys())
    names = sorted({identity[clip] for clip in shared})
    sums = np.array([[sum(side[clip] for clip in shared if identity[clip] == name) for side in (top, bottom)] for name in names]).reshape(
        -1, 2
    )

    def statistic(counts: np.ndarray) -> np.ndarray:
        tops, bottoms = (counts @ sums).T
        return tops / np.where(bottoms > 0, bottoms, np.nan)

    if not shared:
        return Estimate(math.nan, None, 0, 0, "no data")
    return bootstrap_statistic(statistic, len(names), len(shared), _generator(), RESAMPLES, INTERVAL)


def ratio(verdicts: Sequence[Verdict], top: str, bottom: str, level: int | None = None) -> Estimate:
    """Accuracy of one row over that of another on the same clips."""
    above, identity = clip_means(verdicts, top, level)
    return ratio_of(above, clip_means(verdicts, bottom, level)[0], identity)


def difference(verdicts: Sequence[Verdict], row: str, baseline: str) -> Estimate:
    """Accuracy of one row minus that of another, clip by clip."""
    (one, identity), (other, _) = (clip_means(verdicts, name) for name in (row, baseline))
    shared = sorted(one.keys() & other.keys())
    values, base = (np.array([side[clip] for clip in shared]) for side in (one, other))
    return paired_difference(values, base, [identity[clip] for clip in shared], _generator(), RESAMPLES, INTERVAL)


def confusion(verdicts: Sequence[Verdict], row: str) -> np.ndarray:
    """(E, E) counts: rows are true emotions, columns the judge's."""
    own = [one for one in verdicts if one.row == row and one.said]
    truth, said = (np.array([EMOTIONS.index(getattr(one, name)) for one in own], dtype=np.int64) for name in ("emotion", "said"))
    return confusion_matrix(truth, said, len(EMOTIONS))


def lost_and_won(verdicts: Sequence[Verdict], row: str, baseline: str) -> tuple[Counter, Counter]:
    """Clips that the judge names right in ``baseline`` only, and those right in ``row`` only.

    Returns:
        Two counters of (emotion, level, verdict in ``baseline``, verdict in ``row``).
    """
    before = {one.clip: one for one in verdicts if one.row == baseline}
    after = {one.clip: one for one in verdicts if one.row == row}
    both = [(before[clip], after[clip]) for clip in sorted(before.keys() & after.keys())]
    lost = Counter((b.emotion, b.level, b.said, a.said or "no face") for b, a in both if b.right == 1 and a.right != 1)
    won = Counter((b.emotion, b.level, b.said or "no face", a.said) for b, a in both if b.right != 1 and a.right == 1)
    return lost, won


def rises(probability: Sequence[float], tolerance: float = TOLERANCE) -> bool:
    """Whether no value lies more than ``tolerance`` below any value before it: small steps down must not add up."""
    values = np.asarray(probability, np.float64)
    # The tolerance itself is allowed, whatever the rounding of a difference.
    return bool((values >= np.maximum.accumulate(values) - tolerance - 1e-9).all())


def steps_rise(probability: Sequence[float], tolerance: float = TOLERANCE) -> bool:
    """The weaker form: no value lies more than ``tolerance`` below the one before it."""
    return bool((np.diff(np.asarray(probability, np.float64)) >= -tolerance - 1e-9).all())


def share_of_sweeps(sweeps: Sequence[Sweep], holds: Callable[[Sequence[float]], bool] = rises) -> Estimate:
    """Share of the sweeps from 0 to 1 for which a rule holds, with an interval over identities; sweeps without a face are left out."""
    known = [sweep for sweep in sweeps if sweep.known]
    values = np.array([float(holds(sweep.probability[:5])) for sweep in known])
    return cluster_bootstrap(values, [sweep.identity for sweep in known], _generator(), None, RESAMPLES, INTERVAL)


def inferred_right(pairs: Sequence[Pair], source: str, level: int | None = None) -> Estimate:
    """Share of references whose emotion the flow reads right."""
    own = [pair for pair in pairs if level in (None, pair.level)]
    values = np.array([float(pair.inferred[source] == pair.emotion) for pair in own])
    return cluster_bootstrap(values, [pair.identity for pair in own], _generator(), None, RESAMPLES, INTERVAL)


def _shown(pairs: Iterable[Pair], way: str, level: int | None) -> tuple[dict[str, float], dict[str, str]]:
    own = [pair for pair in pairs if level in (None, pair.level) and pair.said[way]]
    return {pair.reference: float(pair.said[way] == pair.emotion) for pair in own}, {pair.reference: pair.identity for pair in own}


def shown_right(pairs: Sequence[Pair], way: str, level: int | None = None) -> Estimate:
    """Share of results in which the judge sees the reference's true emotion."""
    values, identity = _shown(pairs, way, level)
    return cluster_bootstrap(np.array(list(values.values())), [identity[clip] for clip in values], _generator(), None, RESAMPLES, INTERVAL)


def shown_ratio(pairs: Sequence[Pair], verdicts: Sequence[Verdict], way: str, baseline: str, level: int | None = None) -> Estimate:
    """Accuracy of the results over that of the judge on the references themselves, drawn from ``baseline``."""
    values, identity = _shown(pairs, way, level)
    return ratio_of(values, clip_means(verdicts, baseline, level)[0], identity)


# Words.


def share(estimate: Estimate, percent: bool = True) -> str:
    """Value with its interval; percent or a plain ratio."""
    if math.isnan(estimate.value):
        return estimate.reason or "none"
    factor, form = (100.0, ".1f") if percent else (1.0, ".2f")
    ends = f" [{factor * estimate.ci[0]:{form}}, {factor * estimate.ci[1]:{form}}]" if estimate.ci else f" ({estimate.reason})"
    return f"{factor * estimate.value:{form}}{ends}"


def against(estimate: Estimate, bar: float) -> str:
    """Whether a bar is met, and whether its interval leaves that open."""
    if math.isnan(estimate.value):
        return ""
    said = "yes" if estimate.value >= bar else "**no**"
    if estimate.ci is None:
        return f"{said} (no interval)"
    return said if (estimate.ci[0] >= bar) or (estimate.ci[1] < bar) else f"{said}, undecided"


def level_name(level: int | None) -> str:
    """A stratum in words."""
    return "all" if level is None else "neutral" if level == 0 else f"level {level}"


def _emotion_part(about: dict[str, Any], verdicts: Sequence[Verdict]) -> list[str]:
    lines = [
        "## Emotion", "",
        f"Samples are {about['seeds']} of each clip (temperature {about['temperature']:g}, guidance {about['guidance']:g}); a clip's share "
        f"of right samples counts once. Accuracies in %. The bar: samples over truth at least {EMOTION_BAR:g}.", "",
        "| drawn | " + " | ".join(level_name(level) for level in STRATA) + " |", "|---|" + "---:|" * len(STRATA),
    ]  # fmt: skip
    for row, name in ROWS.items():
        lines.append(f"| {name} | " + " | ".join(share(accuracy(verdicts, row, level)) for level in STRATA) + " |")
    counts = [accuracy(verdicts, "truth", level) for level in STRATA]
    lines += ["| clips | " + " | ".join(str(one.n) for one in counts) + " |", ""]
    lines += [
        "| level | samples over true coefficients | at least 0.9 | samples over fitted coefficients | at least 0.9 |",
        "|---|---:|---|---:|---|",
    ]
    for level in STRATA:
        true, fit = (ratio(verdicts, "flow", bottom, level) for bottom in ("truth", "fitted"))
        cells = [level_name(level), *(part for one in (true, fit) for part in (share(one, False), against(one, EMOTION_BAR)))]
        lines.append(f"| {' | '.join(cells)} |")
    spread = [float(np.mean([one.right for one in verdicts if one.row == "flow" and one.seed == seed])) for seed in range(about["seeds"])]
    lines += ["", "Each seed alone: " + ", ".join(f"{100 * value:.1f}" for value in spread) + " %.", ""]
    return lines


def _matrix(counts: np.ndarray) -> list[str]:
    lines = ["| true | " + " | ".join(EMOTIONS) + " | right |", "|---|" + "---:|" * (len(EMOTIONS) + 1)]
    for index, name in enumerate(EMOTIONS):
        if counts[index].sum():
            cells = " | ".join(str(value) if value else "" for value in counts[index])
            lines.append(f"| {name} | {cells} | {counts[index, index]} of {counts[index].sum()} |")
    return [*lines, ""]


def _fit_part(verdicts: Sequence[Verdict], shifts: Sequence[Shift]) -> list[str]:
    gaps = [("true head pose to fitted head pose", "truth", "truth_head"), ("true to fitted coefficients", "fitted", "truth"),
            ("real video to fitted coefficients", "fitted", "real")]  # fmt: skip
    lines = ["## What the fit loses", "", "| from, to | change of the accuracy [points] |", "|---|---:|"]
    lines += [f"| {name} | {share(difference(verdicts, row, base))} |" for name, row, base in gaps]
    regions = list(dict.fromkeys(one.row for one in verdicts if one.row.startswith("swap ")))
    lines += [
        f"| truth with {row.removeprefix('swap ')} from the fit (right in {share(accuracy(verdicts, row))} %) "
        f"| {share(difference(verdicts, row, 'truth'))} |"
        for row in regions
    ]
    lines += ["", "Verdicts on true coefficients (rows: true emotion, columns: the judge's):", "", *_matrix(confusion(verdicts, "truth"))]
    lines += ["Verdicts on fitted coefficients, everything else equal:", "", *_matrix(confusion(verdicts, "fitted"))]
    lost, won = lost_and_won(verdicts, "fitted", "truth")

    def told(found: Counter) -> str:
        words = [
            f"{emotion}{f' {level}' if level else ''}: {before} to {after}{f' ({count})' if count > 1 else ''}"
            for (emotion, level, before, after), count in sorted(found.items(), key=lambda item: (EMOTIONS.index(item[0][0]), item[0][1]))
        ]
        return "; ".join(words) or "none"

    lines += [
        f"- Lost by the fit, {sum(lost.values())} clips (emotion and level: verdict on truth to verdict on the fit): {told(lost)}.",
        f"- Won by the fit, {sum(won.values())} clips: {told(won)}.", "",
        "Coefficients whose mean the fit changes most, by emotion (true to fitted, left and right averaged):", "",
    ]  # fmt: skip
    for emotion in dict.fromkeys(shift.emotion for shift in shifts):
        own = sorted((one for one in shifts if one.emotion == emotion), key=lambda one: -abs(one.fit - one.true))[:4]
        lines.append(f"- {emotion}: " + ", ".join(f"{one.name} {one.true:.2f} to {one.fit:.2f}" for one in own) + ".")
    return [*lines, ""]


def _transfer_part(verdicts: Sequence[Verdict], pairs: Sequence[Pair]) -> list[str]:
    if not pairs:
        return ["## Transfer", "", "No pair of test clips of two people and two sentences.", ""]
    sources = list(pairs[0].inferred)
    lines = [
        "## Transfer", "",
        f"{len(pairs)} test clips as references: ExpFlow reads emotion and level from fitted coefficients and sound, without the label, "
        f"against the source frame that stands in the first column. The reading against the {sources[0]} is then shown by another test "
        "person who says another sentence: with the reference's latents played back as far as they go, or with its emotion and level "
        f"only. Right is what agrees with the reference's true label; in %. The bar: result at least {TRANSFER_BAR:g} of the judge's "
        "accuracy on the references' true coefficients. Intervals resample the references' identities.", "",
        "| | " + " | ".join(level_name(level) for level in STRATA) + " |", "|---|" + "---:|" * len(STRATA),
    ]  # fmt: skip
    lines += [
        f"| inferred, {source} | " + " | ".join(share(inferred_right(pairs, source, level)) for level in STRATA) + " |"
        for source in sources
    ]
    lines += [
        f"| result, {way} | " + " | ".join(share(shown_right(pairs, way, level)) for level in STRATA) + " |" for way in (LATENTS, LABEL)
    ]
    lines += [
        "",
        "| result | over the references' true coefficients | at least 0.75 | over their fitted coefficients |",
        "|---|---:|---|---:|",
    ]
    for way in (LATENTS, LABEL):
        true, fit = (shown_ratio(pairs, verdicts, way, base) for base in ("truth", "fitted"))
        lines.append(f"| {way} | {share(true, False)} | {against(true, TRANSFER_BAR)} | {share(fit, False)} |")
    known = [pair for pair in pairs if pair.inferred[sources[0]] == pair.emotion]
    parts = (
        [f"{way} {100 * np.mean([pair.said[way] == pair.emotion for pair in known]):.1f} %" for way in (LATENTS, LABEL)] if known else []
    )
    wrong = [pair for pair in pairs if pair not in known]
    follow = [f"{way} {sum(pair.said[way] == pair.inferred[sources[0]] for pair in wrong)}" for way in (LATENTS, LABEL)]
    lines += [
        "",
        f"Where the inferred emotion is right ({len(known)}), the result is read right in: {', '.join(parts) or 'none'}. "
        f"Where it is wrong ({len(wrong)}), the judge names the inferred emotion in: {', '.join(follow)}.", "",
    ]  # fmt: skip
    return lines


def _intensity_part(sweeps: Sequence[Sweep], performed: Sequence[Sweep] = ()) -> list[str]:
    if not sweeps:
        return ["## Intensity", "", "No intensity was swept.", ""]
    known = [sweep for sweep in sweeps if sweep.known]
    all_rise, steps = share_of_sweeps(sweeps), share_of_sweeps(sweeps, steps_rise)
    lines = [
        "## Intensity", "",
        f"{len(sweeps)} sweeps: {len({sweep.emotion for sweep in sweeps})} emotions for {len({sweep.clip for sweep in sweeps})} sentences "
        f"of {len({sweep.identity for sweep in sweeps})} people, the same seed at all intensities of a target. A sweep rises when none of "
        "the judge's probabilities of the emotion at 0, 0.25, 0.5, 0.75 and 1 lies more "
        f"than {TOLERANCE:g} below any before it. The bar: {100 * SWEEP_BAR:.0f} % of the sweeps.", "",
        "| | sweeps [%] | at least 90 |", "|---|---:|---|",
        f"| rise within {TOLERANCE:g} | {share(all_rise)} | {against(all_rise, SWEEP_BAR)} |",
        f"| no single step falls by more than {TOLERANCE:g} (a weaker rule) | {share(steps)} | |",
        *([f"| the corpus' own performance: rise within {TOLERANCE:g} | {share(share_of_sweeps(performed))} | |"] if performed else []), "",
        "| emotion | rise | " + " | ".join(f"at {value:g}" for value in (0, 0.25, 0.5, 0.75, 1, 1.5)) + " | largest fall "
        + ("| own performance: rise | at 1 |" if performed else "|"),
        "|---|---:|" + "---:|" * (9 if performed else 7),
    ]  # fmt: skip
    for emotion in EMOTIONS[1:]:
        own = [sweep for sweep in known if sweep.emotion == emotion]
        if own:
            values = np.array([sweep.probability for sweep in own])
            falls = [float((np.maximum.accumulate(p[:5]) - p[:5]).max()) for p in values]
            cells = " | ".join(f"{value:.2f}" for value in np.nanmean(values, 0))
            best = [sweep.probability for sweep in performed if sweep.emotion == emotion and sweep.known]
            beside = f" {sum(rises(p[:5]) for p in best)} of {len(best)} | {np.mean([p[4] for p in best]):.2f} |" if best else ""
            lines.append(f"| {emotion} | {sum(rises(p[:5]) for p in values)} of {len(own)} | {cells} | {max(falls):.2f} |{beside}")
    finite, inside = (sum(part) for part in zip(*((sweep.finite, sweep.over <= 1e-6) for sweep in sweeps), strict=True))
    right = sum(sweep.said == sweep.emotion for sweep in sweeps)
    lines += [
        "", "Columns are means of the judge's probability of the emotion over the sweeps."
        + (" Own performance: true coefficients of the corpus' generator for the same sentences and emotions at the five intensities up "
           "to 1, with one take's random draws; what the judge does with them is the most that a model can be asked." if performed else ""), "",
        f"At 1.5: coefficients finite in {finite} of {len(sweeps)}, within the range of the training clips in {inside} (a rollout clamps "
        f"to that range, and {100 * np.mean([sweep.at_bound for sweep in sweeps]):.1f} % of the coefficients lie on an end of it); "
        f"largest absolute coefficient {max(s.largest for s in sweeps):.2f} (at 1: {max(s.largest_at_one for s in sweeps):.2f}); the "
        f"judge names the emotion in {right} of {len(sweeps)}, with probability {np.nanmean([s.probability[5] for s in sweeps]):.2f} in "
        f"the mean (at 1: {np.nanmean([s.probability[4] for s in sweeps]):.2f}).", "",
    ]  # fmt: skip
    return lines


def markdown(
    about: dict[str, Any],
    verdicts: Sequence[Verdict],
    pairs: Sequence[Pair],
    sweeps: Sequence[Sweep],
    performed: Sequence[Sweep],
    shifts: Sequence[Shift],
    picture: str,
) -> str:
    """The page: where the numbers come from, three parts, what the fit loses."""
    judge = f" On the real test clips of its own training the judge reached {about['judge']:.1f} %." if about["judge"] is not None else ""
    unread = sum(not one.said for one in verdicts)
    same = "".join(
        f" The run's own evaluation gave the same verdict on `{method}` for {equal} of {count} clips."
        for method, (equal, count) in about["agreement"].items()
    )
    lines = [
        "# What the judge says of generated motion", "",
        f"Written by `python -m pipeline.tools.flow_judged`; single verdicts are in `flow_judged.json`. {about['note']}".strip(), "",
        f"{about['clips']} scored test clips of {about['identities']} people ({about['frames']} frames); variant `{about['variant']}` of "
        f"the flow (code {about['code']} of the stage `flow`). "
        f"Intervals ({100 * INTERVAL:.0f} %) resample identities. \"Undecided\": the interval holds the bar.{judge}", "",
        "All coefficients are drawn by the renderer of the embedded corpus, on the clip's own person, light and camera with the head pose "
        f"fitted to the clip, as the rows `clay_*` of the table of results are, written as H.264 (crf {about['crf']:g}) and read again. "
        "The judge reads them as `evaluate` does: landmarks by the run's back end on every decoded frame, smoothed over time; the face "
        "cut from every frame; the person's usual face from all their real videos; one verdict on the whole clip. No frame is left out."
        + same
        + (f" {unread} drawings showed no face and are left out." if unread else ""), "",
    ]  # fmt: skip
    lines += _emotion_part(about, verdicts) + _transfer_part(verdicts, pairs) + _intensity_part(sweeps, performed)
    lines += [f"![Probability of the emotion against intensity, and accuracies]({picture})", ""]
    return "\n".join(lines + _fit_part(verdicts, shifts))


def plain(
    about: dict[str, Any], verdicts: Sequence[Verdict], pairs: Sequence[Pair], sweeps: Sequence[Sweep], performed: Sequence[Sweep]
) -> dict[str, Any]:
    """For a JSON file: bars, estimates, and every verdict."""

    def number(value: float) -> float | None:
        return float(f"{value:.4g}") if math.isfinite(value) else None

    def estimate(one: Estimate) -> dict[str, Any]:
        ci = None if one.ci is None else [number(end) for end in one.ci]
        return {"value": number(one.value), "ci": ci, "n": one.n, "identities": one.n_clusters, "reason": one.reason}

    def by_level(of: Callable[[int | None], Estimate]) -> dict[str, Any]:
        return {level_name(level): estimate(of(level)) for level in STRATA}

    rows = list(dict.fromkeys(one.row for one in verdicts))
    clips: dict[str, dict[str, Any]] = {}
    for one in verdicts:
        entry = clips.setdefault(one.clip, {"clip": one.clip, "emotion": one.emotion, "level": one.level, "said": {}, "probability": {}})
        entry["said"].setdefault(one.row, []).append(one.said)
        entry["probability"].setdefault(one.row, []).append(number(one.probability))
    for entry in clips.values():
        entry["said"] = {row: " ".join(said or "-" for said in names) for row, names in entry["said"].items()}
        entry["probability"] = {
            row: " ".join("-" if value is None else f"{value:.3f}" for value in values) for row, values in entry["probability"].items()
        }
    sources = list(pairs[0].inferred) if pairs else []
    return {
        "about": about,
        "bars": {"emotion": EMOTION_BAR, "transfer": TRANSFER_BAR, "sweeps": SWEEP_BAR, "tolerance": TOLERANCE},
        "accuracy": {row: by_level(lambda level, row=row: accuracy(verdicts, row, level)) for row in rows},
        "flow_over": {base: by_level(lambda level, base=base: ratio(verdicts, "flow", base, level)) for base in ("truth", "fitted")},
        "inferred": {source: by_level(lambda level, source=source: inferred_right(pairs, source, level)) for source in sources},
        "transfer": {way: by_level(lambda level, way=way: shown_right(pairs, way, level)) for way in (LATENTS, LABEL)},
        "transfer_over": {
            f"{way} over {base}": estimate(shown_ratio(pairs, verdicts, way, base))
            for way in (LATENTS, LABEL) for base in ("truth", "fitted")
        },
        "sweeps_rise": estimate(share_of_sweeps(sweeps)),
        "sweeps_steps_rise": estimate(share_of_sweeps(sweeps, steps_rise)),
        "performed_rise": estimate(share_of_sweeps(performed)),
        "beyond": {
            "finite": all(sweep.finite for sweep in sweeps) if sweeps else None,
            "over": number(max((sweep.over for sweep in sweeps), default=math.nan)),
            "largest": number(max((sweep.largest for sweep in sweeps), default=math.nan)),
        },
        "clips": list(clips.values()),
        "pairs": [
            {"reference": pair.reference, "target": pair.target, "inferred": pair.inferred, "intensity": number(pair.intensity),
             "said": pair.said}
            for pair in pairs
        ],
        "sweeps": [
            {"clip": s.clip, "emotion": s.emotion, "seed": s.seed, "probability": " ".join(f"{p:.3f}" for p in s.probability),
             "rises": s.known and rises(s.probability[:5])}
            for s in sweeps
        ],
        "performed": [
            {"clip": s.clip, "emotion": s.emotion, "probability": " ".join(f"{p:.3f}" for p in s.probability), "rises": s.known and rises(s.probability)}
            for s in performed
        ],
    }  # fmt: skip


def figure(path: Path, verdicts: Sequence[Verdict], sweeps: Sequence[Sweep]) -> None:
    """The judge's probability against intensity, one panel an emotion, and accuracies by level."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    grid = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
    with plt.rc_context(STYLE):
        drawn, axes = plt.subplots(2, 4, figsize=(11, 5), constrained_layout=True)
        for axis, emotion in zip(axes.ravel(), EMOTIONS[1:], strict=False):
            own = [sweep for sweep in sweeps if sweep.emotion == emotion]
            for sweep in own:
                colour = COLOURS["flowvqtalker_paired"] if sweep.known and rises(sweep.probability[:5]) else COLOURS["flowvqtalker_free"]
                axis.plot(grid, sweep.probability, color=colour, lw=0.8, alpha=0.6)
            if own:
                axis.plot(grid, np.nanmean([sweep.probability for sweep in own], 0), color=COLOURS["real"], lw=2.2)
            axis.axvline(1.0, color="0.6", lw=0.8, ls=":")
            axis.set(title=emotion, ylim=(-0.03, 1.03), xticks=grid, xticklabels=[f"{value:g}" for value in grid])
            if axis in axes[:, 0]:
                axis.set_ylabel("judge's probability")
            axis.set_xlabel("intensity")
        axis, rows = axes[1, 3], {"truth": "true", "fitted": "fitted", "flow": "sampled"}
        colours = (COLOURS["real"], COLOURS["regression"], COLOURS["flowvqtalker_paired"])
        for index, ((row, name), colour) in enumerate(zip(rows.items(), colours, strict=True)):
            found = [accuracy(verdicts, row, level) for level in STRATA]
            places = np.arange(len(STRATA)) + 0.27 * (index - 1)
            axis.bar(places, [100 * one.value for one in found], 0.25, color=colour, label=name)
            for place, one in zip(places, found, strict=True):
                if one.ci is not None:
                    axis.plot([place, place], [100 * end for end in one.ci], color="black", lw=0.8)
        axis.set(title="right verdicts [%]", ylim=(0, 125), yticks=range(0, 101, 25), xticks=range(len(STRATA)))
        axis.set_xticklabels(["all", "neutral", "1", "2", "3"])
        axis.set_xlabel("level")
        axis.legend(ncols=3, fontsize=7, loc="upper center", columnspacing=0.8, handlelength=1.0)
        with atomic_path(path) as temporary:
            drawn.savefig(temporary, format="png", metadata={"Software": None})
        plt.close(drawn)
