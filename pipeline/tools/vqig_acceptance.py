"""What issue E asks of the pictures, measured on the scored test clips of a finished run: ceiling, generator, mouth, lids, emotion, flicker.

Usage: python -m pipeline.tools.vqig_acceptance [--root .] [--method vqig_on_fitted] [--variant NAME] [--note "..."] [--out docs/vqig_acceptance]

Needs the finished stages up to `evaluate` below --root, and trains nothing. --variant measures the row <method>__<variant> of that run, made with
another variant of the image generator. What the stage `evaluate` knows already is taken from it: its tables, its landmarks (from the cache that it wrote;
run in its checkout, or name the cache with FVQT_CACHE) and its choice of the frames that differ from the source. The rest is looked up in the decoded
videos. Writes <out>.json, <out>.md and docs/figures/<name of out>_faces.png and _emotions.png.
Definitions: `flowvqtalker.metrics.lids`, `teeth`, `change`, `sharpness` and `compensated`.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import binary_erosion

from flowvqtalker.constants import EMOTIONS
from flowvqtalker.face.expressions import EXPRESSION_INDEX
from flowvqtalker.image import regions
from flowvqtalker.image.codebook import Codebook, load_codebook
from flowvqtalker.image.layers import channels_last
from flowvqtalker.image.quantize import usage
from flowvqtalker.landmarks.align import mean_shape
from flowvqtalker.metrics.blinks import COMPLETE_CLOSURE, eye_aspect_ratio
from flowvqtalker.metrics.bootstrap import Estimate, bootstrap_statistic, cluster_bootstrap
from flowvqtalker.metrics.change import aligned_mean, change_correlation, change_energy, fine_change, to_unit
from flowvqtalker.metrics.compensated import compensated_flicker
from flowvqtalker.metrics.lids import ClosedLids, balanced_accuracy, closed_threshold, eye_contrast
from flowvqtalker.metrics.pixels import psnr_db
from flowvqtalker.metrics.sharpness import luminance
from flowvqtalker.metrics.teeth import lip_gap, teeth_contrast, teeth_correlation
from flowvqtalker.precision import autocast
from flowvqtalker.seeding import numpy_generator
from pipeline.codehash import code_hash
from pipeline.context import guarded, limit_threads, make_context
from pipeline.errors import PipelineError
from pipeline.evaluate import read_table
from pipeline.evaluation.checks import NO_TRUTH, Truth, moved_frames
from pipeline.evaluation.clips import Scorer, blink_closure
from pipeline.evaluation.pooled import Pool
from pipeline.io import file_sha256, read_index, read_json, read_torch, text_sha256, write_json, write_text
from pipeline.media import read_video
from pipeline.methods import chosen_variant, split_row, variant_stage
from pipeline.stages import STAGES, stamp_json
from pipeline.tools.vqig_pictures import Picture, faces_figure, maps_figure

#: Rows of the result table that the method is read beside.
TRUTH, CEILING, SOURCE, TAKE, FREE = "ground_truth", "codebook_ceiling", "copy_source", "other_take", "flowvqtalker_free"
#: Bars of the issue: decibels, shares and ratios.
PSNR_DB, SSIM, CODES, USED, PERPLEXITY = 27.0, 0.87, 512, 0.80, 0.25
UNDER_CEILING_DB, OVER_SOURCE_DB, SHARPNESS, CLOSED, JUDGE, FLICKER = 3.0, 3.0, 0.85, 0.90, 0.90, 1.3
#: A mouth counts as open from this distance of the inner lips on, as a share of that of the outer corners of the eyes, in truth.
OPEN_GAP = 0.10
#: Pairs of neighbouring frames count as static when the true landmarks move less than in all but this share of them.
STATIC_SHARE = 0.25
#: Share of a person's real frames that lie below what counts as their open eyes.
OPEN_QUANTILE = 0.9
#: Real clips of other splits that choose the threshold of closed eyes.
THRESHOLD_CLIPS = 60
#: Creases are finer than this Gaussian, and the silhouette of the face is as wide as this rim [shares of the picture's side].
FINE_SD, RIM = 0.02, 0.04
RESAMPLES, INTERVAL = 1000, 0.95
#: Two looks at the lids, by the name of the array.
LOOKS = {
    "aspect": "eye aspect ratio of the landmarks found in the picture",
    "contrast": "contrast of the picture between the corners of the eyes",
}
REGIONS = {
    "brows": "brows and the skin between and above them",
    "skin": "face without the boxes of brows, eyes and mouth (folds, wrinkles)",
}


@dataclass(frozen=True)
class View:
    """What is needed of one scored clip. T frames of S x S px, the same moments in every role.

    Attributes:
        clip, identity, emotion, level: of the crop table.
        real: (T, S, S, 3) uint8, the real crop.
        frames: by role ("truth", "ceiling", "made") the decoded videos, (T, S, S, 3) uint8.
        points: by role (T, 68, 2) px landmarks found in that video.
        real_points: (T, 68, 2) px landmarks found in the real crop.
        true_points: (T, 68, 2) px landmarks of the corpus.
        true_beta: (T, E) coefficients that the corpus declares.
        moved: (T,) bool, whether the real frame differs from the source.
        compared: by role ("ceiling", "made", "source") the arrays psnr_db, psnr_face_db and ssim, each (T,).
        sharpness: by role (T,) sharpness of the mouth's region.
        copy: (T, S, S, 3) uint8, the source picture as it is.
    """

    clip: str
    identity: str
    emotion: str
    level: int
    real: np.ndarray
    frames: dict[str, np.ndarray]
    points: dict[str, np.ndarray]
    real_points: np.ndarray
    true_points: np.ndarray
    true_beta: np.ndarray
    moved: np.ndarray
    compared: dict[str, dict[str, np.ndarray]]
    sharpness: dict[str, np.ndarray]
    copy: np.ndarray


@dataclass(frozen=True)
class Numbers:
    """What a clip is reduced to.

    Attributes:
        clip, identity, emotion, level: of the crop table.
        moved: (T,) bool.
        closure: (T,) true closure of the eyes.
        gap: (T,) true distance of the lips, see ``lip_gap``.
        speed: (T - 1,) px, how far the true landmarks move on average from a frame to the next.
        expression: (T,) sum of the true coefficients but those of lips, lids and gaze.
        arrays: by role and name: psnr_db, psnr_face_db, ssim, psnr_mouth_db, sharpness, aspect, contrast, teeth, teeth_correlation (T,), flicker (T - 1,).
        faces: by role (S, S) mean aligned grey picture.
    """

    clip: str
    identity: str
    emotion: str
    level: int
    moved: np.ndarray
    closure: np.ndarray
    gap: np.ndarray
    speed: np.ndarray
    expression: np.ndarray
    arrays: dict[str, dict[str, np.ndarray]]
    faces: dict[str, np.ndarray]


_SAID = [i for name, i in EXPRESSION_INDEX.items() if not name.startswith(("mouth", "jaw", "tongue", "eyeBlink", "eyeLook"))]


def region_mask(function: Callable[[torch.Tensor, int], torch.Tensor], points_px: np.ndarray, size_px: int) -> np.ndarray:
    """(T, S, S) bool of a function of `flowvqtalker.image.regions`."""
    return function(torch.from_numpy(np.asarray(points_px, np.float32)), size_px)[:, 0].numpy() > 0.5


def measure(view: View, template: np.ndarray) -> Numbers:
    """Reduce a clip; ``template`` (68, 2) is where the points of the mean faces lie, in half sides of the picture."""
    size = view.real.shape[1]
    mouth = region_mask(regions.mouth_mask, view.real_points, size)
    closure = blink_closure(view.true_beta)
    assert closure is not None
    arrays = {role: dict(found) for role, found in view.compared.items()}
    real_grey = luminance(view.frames["truth"])
    for role, frames in {**view.frames, "source": view.copy}.items():
        own = arrays.setdefault(role, {})
        if role != "truth":
            own["psnr_mouth_db"] = psnr_db(frames, view.real, mouth)
        if role == "source":
            continue
        grey = real_grey if role == "truth" else luminance(frames)
        own |= {
            "sharpness": view.sharpness[role], "aspect": eye_aspect_ratio(view.points[role]), "contrast": eye_contrast(frames, view.true_points, grey),
            "teeth": teeth_contrast(grey, view.true_points), "teeth_correlation": teeth_correlation(grey, real_grey, view.true_points),
            "flicker": compensated_flicker(grey),
        }  # fmt: skip
    return Numbers(
        view.clip, view.identity, view.emotion, view.level, view.moved, closure, lip_gap(view.true_points),
        np.linalg.norm(np.diff(view.true_points, axis=0), axis=2).mean(1), view.true_beta[:, _SAID].sum(1), arrays,
        {role: aligned_mean(frames, view.true_points, template) for role, frames in view.frames.items()},
    )  # fmt: skip


# Pooling.


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        part: heading it stands below.
        name: what is measured.
        unit: of value and bar.
        value: None where it cannot be had, and ``beside`` says why.
        ci: interval over identities; None where there is none.
        n: how many, of what.
        bar: in words; in brackets where the issue sets it for something near.
        holds: None where the issue asks for nothing.
        beside: what to read it with.
    """

    part: str
    name: str
    unit: str
    value: float | None
    ci: tuple[float, float] | None
    n: str
    bar: str
    holds: bool | None
    beside: str = ""


@dataclass(frozen=True)
class Bar:
    """Least or greatest value that the issue accepts; ``judged`` is False where the issue speaks of something near only."""

    text: str
    accepts: Callable[[float], bool]
    judged: bool = True


def at_least(bound: float, judged: bool = True) -> Bar:
    return Bar(f"at least {bound:g}", lambda value: value >= bound, judged)


def at_most(bound: float, judged: bool = True) -> Bar:
    return Bar(f"at most {bound:g}", lambda value: value <= bound, judged)


def as_row(part: str, name: str, unit: str, found: Estimate, n: str, bar: Bar | None = None, beside: str = "") -> Row:
    """A row of an estimate; without a finite value it says why."""
    text = "" if bar is None else bar.text if bar.judged else f"({bar.text})"
    if not math.isfinite(found.value):
        return Row(part, name, unit, None, None, n, text, None, "; ".join(filter(None, (found.reason or "no data", beside))))
    holds = bar.accepts(found.value) if bar is not None and bar.judged else None
    reason = "" if found.reason in ("", "no data") else found.reason
    return Row(part, name, unit, found.value, found.ci, n, text, holds, "; ".join(filter(None, (beside, reason))))


Sums = Callable[[Numbers], tuple[float, float]]


def weighted_mean(clips: Sequence[Numbers], sums: Sums, *names: str) -> Estimate:
    """Mean of ``value`` with ``weight`` over clips, where ``sums`` gives (value, weight) of a clip; interval over identities."""
    pairs = [sums(clip) for clip in clips]
    values, weights = (np.array([pair[side] for pair in pairs], np.float64) for side in (0, 1))
    people = [clip.identity for clip in clips]
    return cluster_bootstrap(values, people, numpy_generator(0, "vqig acceptance", *names), np.nan_to_num(weights), RESAMPLES, INTERVAL)


def ratio(people: Sequence[str], tops: Sequence[float], bottoms: Sequence[float], *names: str) -> Estimate:
    """``sum of tops / sum of bottoms`` with an interval over identities; an item that is NaN on either side is left out of both."""
    top, bottom = np.asarray(tops, np.float64), np.asarray(bottoms, np.float64)
    known = np.isfinite(top) & np.isfinite(bottom)
    if not known.any():
        return Estimate(float("nan"), None, 0, 0, "no data")
    identities, index = np.unique(np.asarray(people, dtype=str)[known], return_inverse=True)
    sums = np.stack([np.bincount(index, weights=side[known], minlength=len(identities)) for side in (top, bottom)])

    def statistic(counts: np.ndarray) -> np.ndarray:
        above, below = counts @ sums[0], counts @ sums[1]
        return above / np.where(below > 0, below, np.nan)

    return bootstrap_statistic(
        statistic, len(identities), int(known.sum()), numpy_generator(0, "vqig acceptance", *names), RESAMPLES, INTERVAL
    )


def over(clips: Sequence[Numbers], name: str, top: str, bottom: str, chosen: Callable[[Numbers], np.ndarray] | None = None) -> Estimate:
    """An array's mean in one role over that in another, over the frames (or pairs of frames) that are known in both and chosen."""
    sides: list[tuple[float, float]] = []
    for clip in clips:
        a, b = clip.arrays[top][name], clip.arrays[bottom][name]
        keep = np.isfinite(a) & np.isfinite(b)
        if chosen is not None:
            keep &= chosen(clip)
        sides.append((float(a[keep].sum()), float(b[keep].sum())) if keep.any() else (math.nan, math.nan))
    return ratio([clip.identity for clip in clips], [a for a, _ in sides], [b for _, b in sides], name, top, bottom)


def frame_mean(clips: Sequence[Numbers], name: str, role: str, chosen: Callable[[Numbers], np.ndarray] | None = None) -> Estimate:
    """Mean of an array over the frames that are known and chosen."""

    def sums(clip: Numbers) -> tuple[float, float]:
        values = clip.arrays[role][name]
        keep = np.isfinite(values)
        if chosen is not None:
            keep &= chosen(clip)
        return (float(values[keep].mean()), float(keep.sum())) if keep.any() else (math.nan, 0.0)

    return weighted_mean(clips, sums, name, role)


def difference(clips: Sequence[Numbers], name: str, first: str, second: str, moved: bool) -> Estimate:
    """An array in one role minus that in another, clip by clip, weighted by frames; on the moved frames only, or on all."""

    def sums(clip: Numbers) -> tuple[float, float]:
        with np.errstate(invalid="ignore"):  # two infinite decibels have no difference
            values = clip.arrays[first][name] - clip.arrays[second][name]
        keep = np.isfinite(values) & (clip.moved if moved else True)
        return (float(values[keep].mean()), float(keep.sum())) if keep.any() else (math.nan, 0.0)

    return weighted_mean(clips, sums, name, first, second, str(moved))


def told(found: Estimate, digits: str = ".3g") -> str:
    """``0.91 (0.88 to 0.93)``."""
    if not math.isfinite(found.value):
        return "none"
    return f"{found.value:{digits}}" + (f" ({found.ci[0]:{digits}} to {found.ci[1]:{digits}})" if found.ci else "")


def counted(clips: Sequence[Numbers], frames: int | None = None, of: str = "frames") -> str:
    people = len({clip.identity for clip in clips})
    return f"{frames} {of} of {people} people" if frames is not None else f"{len(clips)} clips of {people} people"


# Lids.


@dataclass(frozen=True)
class Eyes:
    """A look at the eyes of real clips that are not scored, which chooses the threshold.

    Attributes:
        values: by look (N,) measure over the person's open eyes.
        closure: (N,) true closure.
    """

    values: dict[str, np.ndarray]
    closure: np.ndarray

    def threshold(self, look: str) -> float:
        return closed_threshold(self.values[look], self.closure >= COMPLETE_CLOSURE)

    def accuracy(self, look: str) -> float:
        return balanced_accuracy(self.values[look], self.closure >= COMPLETE_CLOSURE, self.threshold(look))


def over_open(clips: Sequence[tuple[str, np.ndarray]], reference: Sequence[tuple[str, np.ndarray]]) -> list[np.ndarray]:
    """Measures (T,) of clips, each over what counts as the person's open eyes in ``reference``: pairs of identity and (T,) values."""
    opened = {
        name: float(np.nanquantile(np.concatenate([values for person, values in reference if person == name]), OPEN_QUANTILE))
        for name in {person for person, _ in reference}
    }
    return [values / opened[person] if opened.get(person, 0.0) > 0 else np.full(len(values), np.nan) for person, values in clips]


def lid_counts(clips: Sequence[Numbers], look: str, role: str, threshold: float, open_at: float) -> list[ClosedLids]:
    """Counts of each clip.

    The aspect ratio is compared with that of the person's open eyes in the real frames, the contrast with that of the same role: blur lowers the
    contrast of open and of closed eyes.
    """
    of = [(clip.identity, clip.arrays[role][look]) for clip in clips]
    reference = [(clip.identity, clip.arrays["truth"][look]) for clip in clips] if look == "aspect" else of
    counts = []
    for clip, values in zip(clips, over_open(of, reference), strict=True):
        one = ClosedLids()
        one.update(values, clip.closure, threshold, COMPLETE_CLOSURE, open_at)
        counts.append(one)
    return counts


def lid_rows(clips: Sequence[Numbers], eyes: Eyes, open_at: float) -> list[Row]:
    """Recall of closed frames and false closures of both looks."""
    rows, people = [], [clip.identity for clip in clips]
    for look, words in LOOKS.items():
        threshold = eyes.threshold(look)
        shares: dict[str, tuple[Estimate, Estimate]] = {}
        for role in ("truth", "ceiling", "made"):
            counts = lid_counts(clips, look, role, threshold, open_at)
            shares[role] = (
                ratio(people, [c.closed_found for c in counts], [c.closed for c in counts], "closed", look, role),
                ratio(people, [c.open_found for c in counts], [c.open for c in counts], "false", look, role),
            )
        total = ClosedLids()
        for one in lid_counts(clips, look, "made", threshold, open_at):
            total.merge(one)
        for index, (name, n, bar) in enumerate(
            (
                ("closed eyes found closed", f"{total.closed} closed frames", at_least(CLOSED)),
                ("open eyes found closed", f"{total.open} open frames", None),
            )
        ):
            beside = f"truth {told(shares['truth'][index])}, ceiling {told(shares['ceiling'][index])}"
            rows.append(as_row("Lids", f"{name}: {words}", "share", shares["made"][index], n, bar, beside))
    return rows


# Emotion.


@dataclass(frozen=True)
class Change:
    """What an emotion changes in the mean aligned face of a person.

    Attributes:
        identity, emotion, level: whose, and of which clip.
        maps: by role (S, S) difference to the person's neutral picture in that role [grey levels].
    """

    identity: str
    emotion: str
    level: int
    maps: dict[str, np.ndarray]


def changes(clips: Sequence[Numbers]) -> list[Change]:
    """Differences of all emotional clips to the neutral one of the same person; people without a neutral scored clip have none."""
    rest: dict[str, list[Numbers]] = {}
    for clip in clips:
        if clip.emotion == EMOTIONS[0]:
            rest.setdefault(clip.identity, []).append(clip)
    found = []
    for clip in clips:
        if clip.emotion in ("", EMOTIONS[0]) or clip.identity not in rest:
            continue
        calm = {role: np.mean([one.faces[role] for one in rest[clip.identity]], axis=0) for role in clip.faces}
        found.append(Change(clip.identity, clip.emotion, clip.level, {role: face - calm[role] for role, face in clip.faces.items()}))
    return found


def change_masks(template: np.ndarray, size_px: int) -> dict[str, np.ndarray]:
    """(S, S) bool of each of ``REGIONS`` around the template, inside the face without its rim, where the silhouette moves."""
    points = (((template + 1.0) * size_px - 1.0) / 2.0)[None]
    masks = {name: region_mask(getattr(regions, f"{name}_mask"), points, size_px)[0] for name in ("brows", "eyes", "mouth", "face")}
    inner = binary_erosion(masks["face"], iterations=max(1, round(RIM * size_px)))
    return {"brows": masks["brows"] & inner & ~masks["eyes"], "skin": inner & ~(masks["brows"] | masks["eyes"] | masks["mouth"])}


@dataclass(frozen=True)
class EmotionLine:
    """How one emotion (or all of them) shows in one region: grey levels, shares and correlations; None where there is none."""

    emotion: str
    region: str
    n: int
    truth: float | None
    ceiling: float | None
    made: float | None
    of_truth: float | None
    of_ceiling: float | None
    ceiling_correlation: float | None
    made_correlation: float | None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def emotion_lines(found: Sequence[Change], masks: dict[str, np.ndarray]) -> list[EmotionLine]:
    """Energy and correlation by emotion and region, all emotions last."""
    lines = []
    for region, mask in masks.items():
        for name in (*EMOTIONS[1:], "all"):
            part = [one for one in found if name in (one.emotion, "all")]
            if not part:
                continue
            energy = {role: float(np.mean([change_energy(one.maps[role], mask) for one in part])) for role in ("truth", "ceiling", "made")}
            agree = {
                role: float(np.mean([change_correlation(one.maps[role], one.maps["truth"], mask) for one in part]))
                for role in ("ceiling", "made")
            }
            over_truth, over_ceiling = (energy["made"] / energy[side] if energy[side] > 0 else math.nan for side in ("truth", "ceiling"))
            numbers = (*(energy[role] for role in ("truth", "ceiling", "made")), over_truth, over_ceiling, agree["ceiling"], agree["made"])
            lines.append(EmotionLine(name, region, len(part), *(_finite(number) for number in numbers)))
    return lines


def change_rows(found: Sequence[Change], masks: dict[str, np.ndarray], floor: dict[str, Estimate]) -> list[Row]:
    """Strength and likeness of the change over all emotions, by region; then of its fine part alone."""
    rows, people = [], [one.identity for one in found]
    n, ones = f"{len(found)} clips of {len(set(people))} people", [1.0] * len(found)
    for kind in ("change", "fine change"):
        maps = {role: [one.maps[role] for one in found] for role in ("truth", "ceiling", "made")}
        if kind == "fine change":
            maps = {role: [fine_change(one, FINE_SD * len(one)) for one in own] for role, own in maps.items()}
        for region, mask in masks.items():
            energy = {role: [change_energy(one, mask) for one in own] for role, own in maps.items()}
            agree = {
                role: [change_correlation(*pair, mask) for pair in zip(maps[role], maps["truth"], strict=True)]
                for role in ("ceiling", "made")
            }
            plain = {role: ratio(people, values, ones, kind, region, role) for role, values in energy.items()}
            beside = f"grey levels: made {told(plain['made'])}, ceiling {told(plain['ceiling'])}, truth {told(plain['truth'])}"
            if f"{kind} {region}" in floor:
                beside += f", two real takes of one performance {told(floor[f'{kind} {region}'])}"
            for side in ("truth", "ceiling"):
                share = ratio(people, energy["made"], energy[side], kind, "share", side, region)
                rows.append(
                    as_row(
                        "Emotion",
                        f"{kind} with the label over the {side}'s: {region}",
                        "ratio",
                        share,
                        n,
                        None,
                        beside if side == "truth" else "",
                    )
                )
            like, ceiling = (ratio(people, agree[role], ones, kind, "correlation", region, role) for role in ("made", "ceiling"))
            rows.append(
                as_row("Emotion", f"correlation of the {kind} with the truth's: {region}", "", like, n, None, f"ceiling {told(ceiling)}")
            )
    return rows


# Codes.


@torch.inference_mode()
def code_counts(codebook: Codebook, frames: np.ndarray, points_px: np.ndarray, batch: int, precision: str) -> tuple[np.ndarray, np.ndarray]:
    """How often each code draws a token of the frames (T, S, S, 3), and how often one of the face: two arrays (K,).

    A token belongs to the face when more than half of its pixels lie in `regions.face_mask`, which takes in the forehead.
    """
    every, face = torch.zeros(codebook.config.codes), torch.zeros(codebook.config.codes)
    for start in range(0, len(frames), batch):
        image = torch.from_numpy(np.ascontiguousarray(frames[start : start + batch])).permute(0, 3, 1, 2).float() / 255
        with autocast(image.device, precision):
            indices = codebook.encode(image.contiguous(memory_format=torch.channels_last)).indices
        mask = regions.face_mask(torch.from_numpy(np.asarray(points_px[start : start + batch], np.float32)), image.shape[-1])
        inside = torch.nn.functional.adaptive_avg_pool2d(mask, (indices.shape[-2], indices.shape[-1]))[:, 0] > 0.5
        every += torch.bincount(indices.reshape(-1), minlength=len(every))
        face += torch.bincount(indices[inside], minlength=len(face))
    return every.numpy(), face.numpy()


def code_rows(people: Sequence[str], every: np.ndarray, face: np.ndarray, tokens: str) -> list[Row]:
    """Use of the codes from counts (N, K) of the clips; the share is of all codes of the codebook."""
    identities, index = np.unique(np.asarray(people, dtype=str), return_inverse=True)
    k = every.shape[1]
    sums = {name: np.stack([part[index == i].sum(0) for i in range(len(identities))]) for name, part in (("all", every), ("face", face))}
    n = f"{int(every.sum())} tokens ({int(face.sum())} of faces)"

    def estimate(name: str, what: str) -> Estimate:
        def statistic(counts: np.ndarray) -> np.ndarray:
            found = [usage(torch.from_numpy(row)) for row in counts @ sums[name]]
            return np.array([(used if what == "used" else perplexity) / k for used, perplexity in found])

        return bootstrap_statistic(
            statistic, len(identities), len(people), numpy_generator(0, "vqig acceptance", name, what), RESAMPLES, INTERVAL
        )

    used, face_perplexity, perplexity = estimate("all", "used"), estimate("face", "perplexity"), estimate("all", "perplexity")
    low = "an identity drawn twice hides another: the interval of a count of codes lies low"
    of = f"share of the {k} codes"
    return [
        as_row("Ceiling", "codes in the codebook", "", Estimate(float(k), None, len(people), len(identities)), tokens, at_least(CODES)),
        as_row("Ceiling", "codes used on test frames", of, used, n, at_least(USED), f"{used.value * k:.0f} codes; {low}"),
        as_row("Ceiling", "perplexity over face tokens", of, face_perplexity, n, at_least(PERPLEXITY), f"perplexity {face_perplexity.value * k:.0f}"),
        as_row("Ceiling", "perplexity over all tokens", of, perplexity, n, None, f"perplexity {perplexity.value * k:.0f}"),
    ]  # fmt: skip


# The table.


def static_pairs(clips: Sequence[Numbers]) -> tuple[float, Callable[[Numbers], np.ndarray]]:
    """Largest speed [px] of a static pair of frames, and which pairs of a clip are static."""
    bound = float(np.quantile(np.concatenate([clip.speed for clip in clips]), STATIC_SHARE))
    return bound, lambda clip: clip.speed <= bound


def is_open(clip: Numbers) -> np.ndarray:
    """(T,) frames whose true mouth is open."""
    return clip.gap >= OPEN_GAP


def picture_rows(clips: Sequence[Numbers], eyes: Eyes, open_at: float) -> list[Row]:
    """All rows that need the pictures alone: differences in decibels, mouth, lids, flicker."""
    names = {"psnr_db": "whole frame", "psnr_face_db": "face", "psnr_mouth_db": "mouth"}
    moved = counted(clips, int(sum(clip.moved.sum() for clip in clips)), "frames")
    everything = counted(clips, int(sum(len(clip.moved) for clip in clips)), "frames")
    rows = []
    for first, second, text, bar in (
        ("ceiling", "made", "below the ceiling", partial(at_most, UNDER_CEILING_DB)),
        ("made", "source", "above the source as it is", partial(at_least, OVER_SOURCE_DB)),
    ):
        for name, where in names.items():
            judged = name == "psnr_db"
            found = difference(clips, name, first, second, True)
            rows.append(as_row("Generator", f"{text}, {where}, frames that differ from the source", "dB", found, moved, bar(judged=judged)))
    for name, where in names.items():
        found = difference(clips, name, "ceiling", "made", False)
        rows.append(
            as_row("Generator", f"below the ceiling, {where}, all frames", "dB", found, everything, at_most(UNDER_CEILING_DB, False))
        )
    n_open = counted(clips, int(sum(is_open(clip).sum() for clip in clips)), "frames")
    seen = [(clip, np.isfinite(clip.arrays["truth"]["teeth"]) & is_open(clip)) for clip in clips]
    n_seen = counted(clips, int(sum(keep.sum() for _, keep in seen)), "frames")
    for bottom, bar in (("ceiling", at_least(SHARPNESS)), ("truth", None)):
        beside = f"ceiling over truth {told(over(clips, 'sharpness', 'ceiling', 'truth'))}" if bottom == "truth" else ""
        rows.append(
            as_row("Mouth", f"sharpness over the {bottom}'s", "ratio", over(clips, "sharpness", "made", bottom), everything, bar, beside)
        )
        found = over(clips, "sharpness", "made", bottom, is_open)
        rows.append(
            as_row(
                "Mouth", f"sharpness over the {bottom}'s, open mouths", "ratio", found, n_open, at_least(SHARPNESS, False) if bar else None
            )
        )
    levels = ", ".join(f"{role} {told(frame_mean(clips, 'teeth', role, is_open))}" for role in ("made", "ceiling", "truth"))
    rows += [
        as_row("Mouth", "light against dark between open lips over the ceiling's", "ratio", over(clips, "teeth", "made", "ceiling", is_open), n_seen, None, f"grey levels: {levels}"),
        as_row("Mouth", "light against dark between open lips over the truth's", "ratio", over(clips, "teeth", "made", "truth", is_open), n_seen, None,
               f"ceiling over truth {told(over(clips, 'teeth', 'ceiling', 'truth', is_open))}"),
        as_row("Mouth", "correlation between open lips with the truth", "", frame_mean(clips, "teeth_correlation", "made", is_open), n_seen, None,
               f"ceiling {told(frame_mean(clips, 'teeth_correlation', 'ceiling', is_open))}"),
    ]  # fmt: skip
    rows += lid_rows(clips, eyes, open_at)
    bound, chosen = static_pairs(clips)
    pairs = counted(clips, int(sum(chosen(clip).sum() for clip in clips)), "pairs")
    truth = over(clips, "flicker", "truth", "ceiling", chosen)
    rows += [
        as_row("Flicker", "motion-compensated difference over the ceiling's, static pairs", "ratio", over(clips, "flicker", "made", "ceiling", chosen), pairs, at_most(FLICKER),
               f"truth over ceiling {told(truth)}; static: the true landmarks move at most {bound:.2f} px"),
        as_row("Flicker", "motion-compensated difference over the ceiling's, all pairs", "ratio", over(clips, "flicker", "made", "ceiling"),
               counted(clips, int(sum(len(clip.speed) for clip in clips)), "pairs"), at_most(FLICKER, False), f"truth over ceiling {told(over(clips, 'flicker', 'truth', 'ceiling'))}"),
    ]  # fmt: skip
    return rows


def cell_row(part: str, name: str, unit: str, cell: dict[str, Any] | None, bar: Bar | None = None, beside: str = "") -> Row:
    """A row of a number that the stage `evaluate` pooled."""
    if cell is None or cell["value"] is None:
        return as_row(
            part, name, unit, Estimate(math.nan, None, 0, 0, cell["reason"] if cell else "this run has no such row"), "", bar, beside
        )
    found = Estimate(cell["value"], tuple(cell["ci"]) if cell["ci"] else None, cell["n"], 0, cell["reason"])
    return as_row(part, name, unit, found, f"{cell['n']} clips", bar, beside)


def judge_row(made: pd.DataFrame, ceiling: pd.DataFrame, real: pd.DataFrame) -> Row:
    """The judge's accuracy on the method over that on the ceiling, clips that both have."""
    name, part = "judge of emotions: right over right on the ceiling", "Emotion"
    if any("emotion_right" not in table for table in (made, ceiling)):
        return as_row(part, name, "ratio", Estimate(math.nan, None, 0, 0, "this run has no judge of emotions"), "", at_least(JUDGE))
    both = made.merge(ceiling, on="clip", suffixes=("", "_ceiling"))
    both = both[both["emotion_right"].notna() & both["emotion_right_ceiling"].notna()]
    found = ratio(list(both["identity"]), list(both["emotion_right"]), list(both["emotion_right_ceiling"]), "judge")
    told_real = f", truth {100 * real['emotion_right'].mean():.1f} %" if "emotion_right" in real else ""
    right = [100 * float(np.asarray(both[column], float).mean()) for column in ("emotion_right", "emotion_right_ceiling")]
    return as_row(
        part,
        name,
        "ratio",
        found,
        f"{len(both)} clips",
        at_least(JUDGE),
        f"right: made {right[0]:.1f} %, ceiling {right[1]:.1f} %{told_real}",
    )


# Reading.


@dataclass(frozen=True)
class Run:
    """A finished run, read only.

    Attributes:
        root: its folder.
        pool: scores and readers of the stage `evaluate`.
        truth: of the corpus.
        cells: by row and column, as metrics.json holds them.
        method: the row that is measured.
    """

    root: Path
    pool: Pool
    truth: Truth
    cells: dict[str, dict[str, dict[str, Any]]]
    method: str

    @property
    def scorer(self) -> Scorer:
        return self.pool.scorer


def open_run(root: Path, method: str) -> Run:
    """Tables of a run.

    Raises:
        PipelineError: a stage is not finished, the scores are of other videos, or the run has no such row or no truth.
    """
    stamp = root / ".stamps" / "evaluate.json"
    if not stamp.is_file():
        raise PipelineError(f"{stamp}: no stamp of the stage evaluate", "name the folder of a finished run with --root")
    metrics = root / STAGES["evaluate"].out
    ctx = make_context(argparse.Namespace(stamp=stamp, root=root, out=metrics, threads=1))
    if not metrics.is_file():
        raise PipelineError(f"{metrics}: the videos have not been scored", f"run `snakemake --cores all {metrics}`")
    values = read_json(metrics)
    if values["data_sha256"] != text_sha256(*(f"{name}={file_sha256(path)}" for name, path in sorted(ctx.reads.items()))):
        raise PipelineError(f"{metrics}: the scores are of other videos than those of {root}", f"run `snakemake --cores all {metrics}`")
    # What this code finds in a video is kept by this code's hash, whatever code made the run.
    ctx = replace(ctx, stamp_text=stamp_json({**ctx.stamp, "code": code_hash(STAGES["evaluate"].module)}))
    tables = {path.stem: read_table(path) for path in sorted(metrics.parent.glob("*.csv")) if path.stem in values["methods"]}
    for row in (TRUTH, CEILING, SOURCE, method):
        if row not in tables:
            raise PipelineError(
                f"{metrics.parent}: has no scored row '{row}'", "add it to generate.methods of the run's configuration and run it again"
            )
    pool = Pool(Scorer(ctx), tables, {}, read_index(ctx.reads["generate"], "generate"))
    truth = Truth(pool)
    if not truth:
        raise PipelineError(f"{root}: {NO_TRUTH}", "use a run of the embedded corpus")
    return Run(root, pool, truth, values["methods"], method)


def scored(run: Run) -> list[str]:
    """Clips that every row has."""
    names = [set(run.pool.ok(row)["clip"]) for row in (TRUTH, CEILING, SOURCE, run.method)]
    known = {crop["clip"] for crop in run.truth.clips}
    return sorted(set.intersection(known, *names))


def views(run: Run, clips: Sequence[str]) -> Iterator[View]:
    """The clips one by one."""
    moved = moved_frames(run.pool)
    rows = {"truth": TRUTH, "ceiling": CEILING, "made": run.method}
    for clip in clips:
        crop, scorer = run.scorer.crops[clip], run.scorer
        truth = run.truth.clip(crop)
        keys = {role: run.pool.rows[row, clip] for role, row in rows.items()}
        found = {role: scorer.generated(key) for role, key in keys.items()}
        frames = {role: read_video(scorer.video_path(key))[0] for role, key in keys.items()}
        compared = {role: scorer.compare(keys[role]) for role in ("ceiling", "made")}
        compared["source"] = scorer.compare(run.pool.rows[SOURCE, clip])
        copy, real = read_video(scorer.video_path(run.pool.rows[SOURCE, clip]))[0], read_video(scorer.real_path(clip))[0]
        lengths = [len(side) for side in (*frames.values(), copy, real, truth["true_beta"], moved[clip])]
        count = min(*lengths, *(len(side["psnr_db"]) for side in compared.values()))
        yield View(
            clip, crop["identity"], crop["emotion"], int(crop["level"]) if crop["level"] == crop["level"] else 0, real[:count],
            {role: side[:count] for role, side in frames.items()}, {role: side["landmarks_px"][:count] for role, side in found.items()},
            scorer.real(clip)["landmarks_px"][:count], truth["true_px"][:count], truth["true_beta"][:count], moved[clip][:count],
            {role: {name: values[:count] for name, values in side.items()} for role, side in compared.items()},
            {role: side["mouth_sharpness"][:count] for role, side in found.items()}, copy[:count],
        )  # fmt: skip


def make_template(run: Run, clips: Sequence[str]) -> np.ndarray:
    """(68, 2) mean of the true faces of the scored clips, in half sides of the picture."""
    points = [to_unit(run.truth.clip(run.scorer.crops[clip])["true_px"], int(run.scorer.crops[clip]["size_px"])) for clip in clips]
    return mean_shape(torch.from_numpy(np.concatenate(points)).float()).double().numpy()


def read_eyes(run: Run) -> Eyes:
    """Eyes in real talking clips of the training and validation people, those with closed eyes first come first served by name.

    Raises:
        PipelineError: no such clip shows closed eyes.
    """
    values: dict[str, list[tuple[str, np.ndarray]]] = {look: [] for look in LOOKS}
    closures: list[np.ndarray] = []
    for name in sorted(run.scorer.crops):
        crop = run.scorer.crops[name]
        usable = crop["kind"] == "video" and crop["split"] in ("val", "train") and crop["source_clip"] in run.truth.files
        if not usable or name not in run.truth.fits or len(closures) >= THRESHOLD_CLIPS:
            continue
        truth = run.truth.clip(crop)
        closure = blink_closure(truth["true_beta"])
        if closure is None or not (closure >= COMPLETE_CLOSURE).any():
            continue
        frames = read_video(run.scorer.real_path(name))[0][: len(closure)]
        count = len(frames)
        closures.append(closure[:count])
        values["aspect"].append((crop["identity"], eye_aspect_ratio(truth["found_px"][:count])))
        values["contrast"].append((crop["identity"], eye_contrast(frames, truth["true_px"][:count])))
    if not closures:
        raise PipelineError(f"{run.root}: no training or validation clip shows closed eyes", "use a larger corpus")
    return Eyes({look: np.concatenate(over_open(pairs, pairs)) for look, pairs in values.items()}, np.concatenate(closures))


def take_floor(run: Run, clips: Sequence[Numbers], template: np.ndarray, masks: dict[str, np.ndarray]) -> dict[str, Estimate]:
    """Change between two real takes of one performance in each region [grey levels]: what is no matter of the label."""
    people: list[str] = []
    energy: dict[str, list[float]] = {}
    have = set(run.pool.ok(TAKE)["clip"]) if TAKE in run.pool.tables else set()
    for clip in clips:
        row = run.pool.rows.get((TAKE, clip.clip))
        said = re.search(r"take=(\w+)", row["protocol"]) if row is not None and clip.clip in have else None
        if row is None or said is None or said[1] not in run.truth.fits:
            continue
        points = run.truth.clip(run.scorer.crops[said[1]])["true_px"]
        frames = read_video(run.scorer.video_path(row))[0][: len(points)]
        other = aligned_mean(frames, points[: len(frames)], template)
        people.append(clip.identity)
        change = other - clip.faces["truth"]
        for kind, one in (("change", change), ("fine change", fine_change(change, FINE_SD * len(change)))):
            for region, mask in masks.items():
                energy.setdefault(f"{kind} {region}", []).append(change_energy(one, mask))
    return {name: ratio(people, values, [1.0] * len(values), "takes", name) for name, values in energy.items()}


def codes_of(run: Run, clips: Sequence[str]) -> list[Row]:
    """Use of the codes on the real frames of the scored clips."""
    path = run.root / STAGES["codebook"].folder / "model.pt"
    codebook = channels_last(load_codebook(read_torch(path)))
    made: Any = run.scorer.ctx.params["generate"]
    people, every, face = [], [], []
    for clip in clips:
        frames, points = read_video(run.scorer.real_path(clip))[0], run.scorer.real(clip)["landmarks_px"]
        count = min(len(frames), len(points))
        counts = code_counts(codebook, frames[:count], points[:count], made.render_batch, made.precision)
        people.append(run.scorer.crops[clip]["identity"])
        every.append(counts[0])
        face.append(counts[1])
    side = codebook.config.downsample
    return code_rows(people, np.stack(every), np.stack(face), f"a token covers {side} x {side} px")


def evaluated_rows(run: Run) -> tuple[list[Row], list[Row], Row]:
    """Rows from what the stage `evaluate` pooled: of the ceiling, of the free protocol, of the judge."""
    ceiling, cells = run.cells[CEILING], run.cells
    first = [
        cell_row("Ceiling", "PSNR, whole frame", "dB", ceiling.get("psnr_db"), at_least(PSNR_DB)),
        cell_row("Ceiling", "PSNR, face", "dB", ceiling.get("psnr_face_db"), None, "convex hull of the landmarks"),
        cell_row("Ceiling", "SSIM", "", ceiling.get("ssim"), at_least(SSIM)),
    ]
    values: Any = run.scorer.ctx.params["generate"]
    drawn = {row: chosen_variant(values.model_dump(), row, "imagegen") for row in (run.method, FREE)}
    free = []
    for column, name in (("kid_expert", "KID"), ("fid_expert", "FID")):
        title = f"{name} of the free protocol ({FREE})"
        if drawn[FREE] != drawn[run.method]:
            why = f"{FREE} of this run is drawn by the variant '{drawn[FREE]}', not by '{drawn[run.method]}'"
            free.append(cell_row("Generator", title, "", {"value": None, "reason": why}))
            continue
        floor, fitted = (cells[row][column] if row in cells else None for row in (TAKE, run.method))
        beside = ", ".join(
            f"{word} {_cell_text(cell)}" for word, cell in (("floor (another real take)", floor), (run.method, fitted)) if cell is not None
        )
        free.append(cell_row("Generator", title, "", cells.get(FREE, {}).get(column), None, beside))
    return first, free, judge_row(*(run.pool.ok(row) for row in (run.method, CEILING, TRUTH)))


def _cell_text(cell: dict[str, Any]) -> str:
    found = Estimate(cell["value"] if cell["value"] is not None else math.nan, tuple(cell["ci"]) if cell["ci"] else None, cell["n"], 0)
    return told(found)


# Pictures and the page.


def chosen_pictures(clips: Sequence[Numbers], each: int) -> list[Picture]:
    """Which frames the figure shows, chosen by truth alone: teeth between open lips, closed lids, each emotion at its highest level."""

    def best(score: Callable[[Numbers], np.ndarray]) -> list[tuple[Numbers, int]]:
        """The frame of greatest score of each person, the best people first."""
        people: dict[str, tuple[float, Numbers, int]] = {}
        for clip in clips:
            values = score(clip)
            if not np.isfinite(values).any():
                continue
            frame = int(np.nanargmax(values))
            if clip.identity not in people or values[frame] > people[clip.identity][0]:
                people[clip.identity] = (float(values[frame]), clip, frame)
        ranked = sorted(people.values(), key=lambda one: (-one[0], one[1].clip))
        return [(clip, frame) for _, clip, frame in ranked[:each]]

    open_mouths = best(lambda clip: np.where(is_open(clip), clip.arrays["truth"]["teeth"], np.nan))
    shut = best(lambda clip: np.where(clip.closure >= COMPLETE_CLOSURE, clip.closure, np.nan))
    pictures = [Picture(clip.clip, frame, "mouth", "open mouth") for clip, frame in open_mouths]
    pictures += [Picture(clip.clip, frame, "eyes", "closed lids") for clip, frame in shut]
    for emotion in EMOTIONS:
        own = sorted((clip for clip in clips if clip.emotion == emotion), key=lambda clip: (-clip.level, clip.clip))
        if own:
            awake = np.where(own[0].closure < 0.5, own[0].expression, -np.inf)
            level = f" {own[0].level}" if own[0].level else ""
            pictures.append(Picture(own[0].clip, int(awake.argmax()), "face", f"{emotion}{level}"))
    return pictures


def _number(value: float | None, digits: str = ".3g") -> str:
    return "" if value is None else f"{value:{digits}}"


def _plain(value: float) -> str:
    """Decibels and counts with the digits that they have, small numbers with three."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def markdown(rows: Sequence[Row], lines: Sequence[EmotionLine], about: dict[str, Any], faces: str, maps: str) -> str:
    """The page."""
    judged = [row for row in rows if row.holds is not None]
    page = [
        "# Pictures against what issue E asks", "",
        "Written by `python -m pipeline.tools.vqig_acceptance`; the same numbers are in "
        f"`{about['name']}.json`. {about['note']}".rstrip(), "",
        f"Row `{about['method']}` (image generator `{about['variant']}`) on {about['clips']} scored test clips of {about['identities']} people, {about['frames']} frames, "
        f"as decoded from their videos. Intervals: {100 * INTERVAL:.0f} % over identities, and not over trainings. {sum(bool(row.holds) for row in judged)} of {len(judged)} "
        "bars hold.", "",
    ]  # fmt: skip
    for part in dict.fromkeys(row.part for row in rows):
        page += [f"## {part}", "", "| | unit | measured | interval | bar | verdict | on | beside |", "|---|---|---:|---|---|---|---|---|"]
        for row in (row for row in rows if row.part == part):
            value = "none" if row.value is None else _plain(row.value)
            ci = f"{_plain(row.ci[0])} to {_plain(row.ci[1])}" if row.ci else ""
            verdict = {True: "ok", False: "**short**", None: ""}[row.holds]
            page.append(f"| {row.name} | {row.unit} | {value} | {ci} | {row.bar} | {verdict} | {row.n} | {row.beside} |")
        page.append("")
        if part == "Emotion" and lines:
            page += [
                f"![What each emotion changes in the mean face, against the same person's neutral clip]({maps})", "",
                "| region | emotion | clips | truth | ceiling | made | made / truth | made / ceiling | r, ceiling | r, made |",
                "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
            ]  # fmt: skip
            page += [
                f"| {line.region} | {line.emotion} | {line.n} | {_number(line.truth)} | {_number(line.ceiling)} | {_number(line.made)} | "
                f"{_number(line.of_truth)} | {_number(line.of_ceiling)} | {_number(line.ceiling_correlation)} | {_number(line.made_correlation)} |"
                for line in lines
            ]
            page.append("")
    thresholds = "; ".join(
        f"{words}: below {about['thresholds'][look]:.3f} of the person's open eyes, balanced accuracy {about['threshold_accuracy'][look]:.3f} on the frames that chose it"
        for look, words in LOOKS.items()
    )
    page += [
        "## Eyes, mouths and faces", "",
        f"Rows: truth, ceiling, `{about['method']}`. The frames are chosen by truth alone: strongest light against dark between open lips, most closed lids (one frame a person), "
        "and of each emotion the clip of highest level, at its strongest expression with open eyes.", "",
        f"![Open mouths, closed lids and each emotion: truth, ceiling, generator]({faces})", "",
        "## How to read it", "",
        "- **Verdict**: *ok* or *short* by the measured value; a bar in brackets is set by the issue for another line and only printed here.",
        "- **Frames that differ from the source**: as the stage `evaluate` has them, the half of the frames whose true face lies farthest from the source picture.",
        f"- **Open mouth**: the inner lips of the true landmarks are apart by at least {OPEN_GAP:g} of the distance of the outer corners of the eyes. *Light against dark* is the 90th minus the 10th "
        "percentile of grey between the true inner lips: teeth and cavity.",
        f"- **Closed eyes**: the corpus declares a closure of at least {COMPLETE_CLOSURE:g} (mean of both lids), open ones at most {about['open_at']:g}. Two looks at the decoded picture, "
        f"each with a threshold chosen on {about['threshold_frames']} real frames ({about['threshold_closed']} closed) of people who are not tested: {thresholds}. "
        "The contrast is taken over that of open eyes in the same video's row, since blur lowers both.",
        f"- **Change with the label**: mean picture of a clip with eyes and nose laid over each other, minus that of the same person's neutral clip, in each row by itself; mean absolute value over the region "
        f"({'; '.join(f'*{name}*: {words}' for name, words in REGIONS.items())}) and correlation with the truth's, signs included. The *fine change* is what a Gaussian of {FINE_SD:g} of the picture's side takes away: creases, and edges that move. "
        "People without a neutral scored clip are left out. Heads that turn and nod change the mean picture too, so two takes of one performance differ: where their difference is as large as "
        "that of the label, strength says little, and the correlation is what counts.",
        f"- **Static pairs**: the {100 * STATIC_SHARE:.0f} % of neighbouring frames between which the true landmarks move least.",
        "- **Not measured here**: how the ceiling grows with identities, tokens, code size and time ([codebook_growth.md](codebook_growth.md)); ablations; speed; "
        "`animate` ([animate.md](animate.md)); a real person ([person.md](person.md)). They need other trainings or clocks.", "",
    ]  # fmt: skip
    return "\n".join(page)


def run_tool(args: argparse.Namespace) -> None:
    """Read, measure, print, write."""
    method = f"{args.method}__{args.variant}" if args.variant else args.method
    if variant_stage(method) != "imagegen" or split_row(method)[0] in (TRUTH, CEILING, SOURCE, TAKE):
        raise PipelineError(
            f"'{method}' is not drawn by an image generator from fitted motion",
            "name a row like vqig_on_fitted or vqig_on_fitted__<variant>",
        )
    run = open_run(args.root, method)
    names = scored(run)
    if not names:
        raise PipelineError(f"{args.root}: no clip was scored in all rows", "look at status and reason in reports/evaluate/*.csv")
    template = make_template(run, names)
    clips = [measure(view, template) for view in views(run, names)]
    eyes, size = read_eyes(run), int(run.scorer.crops[names[0]]["size_px"])
    judged: Any = run.scorer.cfg
    masks, found = change_masks(template, size), changes(clips)
    first, free, judge = evaluated_rows(run)
    mouth = weighted_mean(clips, lambda clip: (float(np.nanmean(clip.arrays["ceiling"]["psnr_mouth_db"])), 1.0), "mouth")
    rows = [*first[:2], as_row("Ceiling", "PSNR, mouth", "dB", mouth, f"{len(clips)} clips", None, "box of the mouth"), *first[2:]]
    rows += codes_of(run, names)
    pictures = picture_rows(clips, eyes, judged.blink_off)
    rows += [row for row in pictures if row.part == "Generator"] + free
    rows += [row for row in pictures if row.part in ("Mouth", "Lids")]
    rows += [judge, *change_rows(found, masks, take_floor(run, clips, template, masks))]
    rows += [row for row in pictures if row.part == "Flicker"]
    for row in rows:
        verdict = {True: "ok", False: "SHORT", None: ""}[row.holds]
        print(
            f"{row.part}: {row.name}: {'none' if row.value is None else format(row.value, '.4g')} {row.unit} {row.bar} {verdict} [{row.beside}]"
        )
    lines, name = emotion_lines(found, masks), args.out.name
    folder = args.out.parent / "figures"
    closed = int((eyes.closure >= COMPLETE_CLOSURE).sum())
    values: Any = run.scorer.ctx.params["generate"]
    about = {
        "name": name, "note": args.note, "method": method, "variant": chosen_variant(values.model_dump(), method, "imagegen"), "clips": len(clips),
        "identities": len({clip.identity for clip in clips}), "frames": int(sum(len(clip.moved) for clip in clips)), "open_at": judged.blink_off,
        "open_gap": OPEN_GAP, "static_share": STATIC_SHARE, "closed_at": COMPLETE_CLOSURE, "threshold_frames": len(eyes.closure), "threshold_closed": closed,
        "thresholds": {look: eyes.threshold(look) for look in LOOKS}, "threshold_accuracy": {look: eyes.accuracy(look) for look in LOOKS},
    }  # fmt: skip
    faces, maps = folder / f"{name}_faces.png", folder / f"{name}_emotions.png"
    show_faces(run, chosen_pictures(clips, args.each), faces)
    if found:
        maps_figure(maps, {role: mean_maps(found, role) for role in ("truth", "ceiling", "made")}, masks, method)
    write_json(
        args.out.with_suffix(".json"), {**about, "rows": [asdict(row) for row in rows], "emotions": [asdict(line) for line in lines]}
    )
    write_text(args.out.with_suffix(".md"), markdown(rows, lines, about, f"figures/{faces.name}", f"figures/{maps.name}"))


def mean_maps(found: Sequence[Change], role: str) -> dict[str, np.ndarray]:
    """(S, S) mean absolute change of each emotion over its clips."""
    return {
        emotion: np.mean([np.abs(one.maps[role]) for one in part], axis=0)
        for emotion in EMOTIONS[1:]
        if (part := [one for one in found if one.emotion == emotion])
    }


def show_faces(run: Run, pictures: Sequence[Picture], path: Path) -> None:
    """Read the chosen frames and draw them."""
    cells = []
    for picture in pictures:
        truth = run.truth.clip(run.scorer.crops[picture.clip])["true_px"][picture.frame]
        videos = [run.scorer.video_path(run.pool.rows[row, picture.clip]) for row in (TRUTH, CEILING, run.method)]
        cells.append((picture, truth, [read_video(video)[0][picture.frame] for video in videos]))
    faces_figure(path, cells, ("truth", "ceiling", run.method))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--root", type=Path, default=Path("."), help="folder of a finished run")
    parser.add_argument("--method", default="vqig_on_fitted", help="row of the result table")
    parser.add_argument("--variant", default="", help="variant of the image generator: measures the row <method>__<variant>")
    parser.add_argument("--each", type=int, default=3, help="open mouths and closed lids in the figure")
    parser.add_argument("--note", default="", help="sentence about the run, for the page")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--out", type=Path, default=Path("docs/vqig_acceptance"), help="path of the page without suffix")
    args = parser.parse_args()
    limit_threads(args.threads)
    guarded(lambda: run_tool(args))


if __name__ == "__main__":
    main()
