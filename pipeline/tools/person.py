"""One real person: trained on some recordings, tested on another one of the same person that no training has seen.

Usage: python -m pipeline.tools.person [--media ../shared/media/styletalk/source_video] [--train <video> ...] [--test <video>] [--config configs/person.yaml]
           [--cores 1] [--only prepare|train|score] [--out docs/person]

1. prepare: looks for frames and sound of the test recording in the training recordings (and, for the record, in every other video of the media folder's
   parent), and lays links to the recordings with a table of their splits into runs/<name>/data/recordings.
2. train: runs the pipeline on them up to `generate` (corpus, crop, fit3dmm, audio, codebook, imagegen, generate), without flow and judges.
3. score: every row of `generate` against the real crop: PSNR of the whole picture, face, mouth and eyes, SSIM, landmark distances, sharpness of the mouth.
   The frame that served as source picture is not scored. Landmarks of all rows, the real one's too, come from the configuration's back end at the size of the crop.

Writes <out>.md and <out>.csv, and pictures to look at into runs/<name>/reports/look/. These show a real person: the folder is outside git and stays there.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from flowvqtalker.constants import FPS_HZ
from flowvqtalker.image.regions import eyes_mask, mouth_mask
from flowvqtalker.landmarks.boxes import smooth_landmarks
from flowvqtalker.metrics.blinks import closure_from_landmarks
from flowvqtalker.metrics.bootstrap import Estimate, cluster_bootstrap
from flowvqtalker.metrics.landmarks import faces_found_pct, lip_aperture, lip_correlation, lmd_centred_px, lmd_raw_px
from flowvqtalker.metrics.pixels import face_mask, psnr_db, ssim
from flowvqtalker.metrics.sharpness import mouth_sharpness
from flowvqtalker.seeding import numpy_generator
from pipeline import context as house
from pipeline.adapters.folder import find_sidecar, make_id
from pipeline.backends import make_landmarker
from pipeline.cli import clips
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.io import atomic_path, file_sha256, ok_rows, read_index, read_json, write_text
from pipeline.media import iterate_video_at, read_sound, read_video_at, write_video
from pipeline.params import read_config, validate
from pipeline.params.landmarks import LandmarksParams
from pipeline.scoredclips import ScoredClip, scored_clips, source_picture
from pipeline.stages import STAGES, run_root

TRAIN = ("video/Obama_clip1.mp4", "video/Obama_clip2.mp4")
TEST = "video/Obama_clip3.mp4"
#: Rows of the table in their order.
METHODS = ("ground_truth", "codebook_ceiling", "vqig_on_fitted", "copy_source")
NAMES = {
    "ground_truth": "truth, encoded again", "codebook_ceiling": "codebook ceiling", "vqig_on_fitted": "generator on fitted motion",
    "copy_source": "copy of the source",
}  # fmt: skip
#: Two frames are the same picture when their grey thumbnails differ by less than this [mean absolute, of 255].
SAME_FRAME = 2.0
#: A recording repeats another when at least this share of its frames is there, or its sound correlates this much at some shift.
REPEATED_SHARE, REPEATED_SOUND = 0.02, 0.5
#: Frames a second that are compared, side of their thumbnails [px].
LOOK_HZ, THUMBNAIL_PX = 12.5, 32
#: Recoloured pieces of the training recordings: their length [s], and how far gains of the channels and gamma (standard deviations of logarithms) and saturation go.
RECOLOURED_S, GAIN_SD, GAMMA_SD, SATURATION = 6.0, 0.25, 0.2, (0.4, 1.6)
#: Blocks of the clip that intervals resample [s].
BLOCK_S = 2.0
#: Columns of the table: name in the file, heading, digits; of the sharpness follow the two shares.
COLUMNS = (
    ("psnr_db", "PSNR [dB]", 2), ("psnr_face_db", "face [dB]", 2), ("psnr_mouth_db", "mouth [dB]", 2), ("psnr_eyes_db", "eyes [dB]", 2), ("ssim", "SSIM", 3),
    ("m_lmd_centred_px", "M-LMD centred [px]", 2), ("f_lmd_centred_px", "F-LMD centred [px]", 2), ("m_lmd_raw_px", "M-LMD raw [px]", 2),
    ("f_lmd_raw_px", "F-LMD raw [px]", 2), ("mouth_sharpness", "mouth sharpness [grey levels]", 2),
)  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- prepare


@dataclass(frozen=True)
class Likeness:
    """How much of the test recording is found in another one.

    Attributes:
        file: the other recording, as it is named on the page.
        same_share: share of the test recording's looked-at frames that have a twin in the other one.
        closest: smallest difference between a frame of each [mean absolute grey levels].
        sound: largest absolute normalised correlation of the two sounds over all shifts; NaN without sound.
    """

    file: str
    same_share: float
    closest: float
    sound: float

    @property
    def repeats(self) -> bool:
        """Whether the test recording is in the other one."""
        return self.same_share >= REPEATED_SHARE or self.sound >= REPEATED_SOUND


def thumbnails(frames: Iterable[np.ndarray]) -> np.ndarray:
    """(T, THUMBNAIL_PX^2) float32 grey levels of pieces (n, H, W, 3) uint8 of a video."""
    made = []
    for piece in frames:
        grey = torch.from_numpy(np.ascontiguousarray(piece)).float() @ torch.tensor([0.299, 0.587, 0.114])
        made.append(torch.nn.functional.adaptive_avg_pool2d(grey[:, None], THUMBNAIL_PX).flatten(1))
    return torch.cat(made).numpy()


def frame_likeness(test: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Share of the test's thumbnails with a twin among the other's, and the smallest difference [mean absolute grey levels].

    Args:
        test: (T, P) grey levels.
        other: (T', P) grey levels.
    """
    nearest = np.array([np.abs(other - row).mean(1).min() for row in test])
    return float((nearest < SAME_FRAME).mean()), float(nearest.min())


def sound_likeness(test: np.ndarray | None, other: np.ndarray | None) -> float:
    """Largest absolute correlation of two sounds (S,) over all shifts, normalised by the energy under the overlap of at least a quarter of the shorter one.

    Returns:
        In [0, 1]; NaN where one is missing or silent.
    """
    if test is None or other is None or not len(test) or not len(other):
        return float("nan")
    a, b = test.astype(np.float64) - test.mean(), other.astype(np.float64) - other.mean()
    if not a.any() or not b.any():
        return float("nan")
    size = 1 << (len(a) + len(b) - 1).bit_length()
    product = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)
    shifts = np.arange(-(len(b) - 1), len(a))
    # Under the shift s, a[s + k] meets b[k].
    low, high = np.maximum(shifts, 0), np.minimum(len(a), len(b) + shifts)
    energy_a, energy_b = (np.concatenate([[0.0], np.cumsum(np.square(part))]) for part in (a, b))
    energies = (energy_a[high] - energy_a[low]) * (energy_b[high - shifts] - energy_b[low - shifts])
    enough = (high - low >= min(len(a), len(b)) // 4) & (energies > 1e-12 * energy_a[-1] * energy_b[-1])
    return float((np.abs(product[shifts[enough]]) / np.sqrt(energies[enough])).max())


def likenesses(media: Path, test: str, others: Sequence[Path]) -> list[Likeness]:
    """The test recording beside every other one; names are relative to the parent of ``media``."""
    wanted, heard = thumbnails(iterate_video_at(media / test, LOOK_HZ)), sound_of(media / test, media)
    found = []
    for path in others:
        share, closest = frame_likeness(wanted, thumbnails(iterate_video_at(path, LOOK_HZ)))
        sound = sound_likeness(heard, sound_of(path, media))
        found.append(Likeness(os.path.relpath(path, media.parent), share, closest, sound))
    return found


def sound_of(path: Path, root: Path) -> np.ndarray | None:
    """Sound of a recording: its own, else that of the wav beside it as the adapter finds it."""
    own = read_sound(path)
    sidecar = find_sidecar(path, root) if own is None else None
    return read_sound(sidecar) if sidecar is not None else own


def check_media(media: Path, train: Sequence[str], test: str) -> None:
    """Raise unless all recordings are there and the test recording is none of the training recordings.

    Raises:
        PipelineError: a file is missing; a name is given twice; two recordings have the same bytes.
    """
    for name in (*train, test):
        if not (media / name).is_file():
            raise PipelineError(
                f"{media / name}: there is no such recording", "name the folder with --media and the videos with --train and --test"
            )
    stems = [make_id(Path(Path(name).name)) for name in (*train, test)]
    if len(set(stems)) < len(stems):
        raise PipelineError(
            f"{', '.join((*train, test))}: two recordings have one name", "each recording becomes a clip of its name: rename one"
        )
    sums = {name: file_sha256(media / name) for name in (*train, test)}
    for name in train:
        if sums[name] == sums[test]:
            raise PipelineError(f"{name} and {test} are the same file", "test on a recording that is not trained on")


def recolour(frames: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Frames (..., 3) uint8 as another light and camera might have shown them: saturation, a gain for each channel and a gamma, the same for all frames."""
    gains, gamma = np.exp(generator.normal(0, GAIN_SD, 3)), np.exp(generator.normal(0, GAMMA_SD))
    saturation = generator.uniform(*SATURATION)
    # Two products are linear in the colours and become one matrix; 256 grey levels of each channel suffice for the gamma.
    grey = np.tile(np.array([0.299, 0.587, 0.114]), (3, 1))
    matrix = (saturation * np.eye(3) + (1 - saturation) * grey) * gains[:, None]
    table = (255 * np.linspace(0, 1, 256) ** gamma).round().astype(np.uint8)
    return table[np.clip(frames @ matrix.T, 0, 255).round().astype(np.uint8)]


def write_recoloured(video: Path, name: str, count: int, folder: Path) -> list[str]:
    """Recoloured pieces of a recording as videos without sound, from evenly spread places; gives their file names."""
    frames = read_video_at(video)
    length = min(round(RECOLOURED_S * FPS_HZ), len(frames))
    starts = np.linspace(0, len(frames) - length, count).round().astype(int)
    names = [f"{name}_recoloured{number}.mp4" for number in range(1, count + 1)]
    for file, start in zip(names, starts, strict=True):
        piece = frames[start : start + length]
        # The encoder wants even sides.
        piece = piece[:, : piece.shape[1] // 2 * 2, : piece.shape[2] // 2 * 2]
        write_video(folder / file, recolour(piece, numpy_generator("person", file)), crf=14)
    return names


def lay_out(media: Path, train: Sequence[str], test: str, folder: Path, recoloured: int = 0) -> None:
    """Links to the recordings and their sound in ``folder``, with the table of splits that the adapter `folder` reads; older links go.

    Args:
        media: folder that the names are relative to.
        train: recordings to train on.
        test: recording to test on.
        folder: where to lay them.
        recoloured: pieces of each training recording that are added in other colours, as people of their own.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file", "identity", "split"])
    for name in (*train, test):
        video, sidecar = media / name, find_sidecar(media / name, media)
        (folder / video.name).symlink_to(video.resolve())
        if sidecar is not None:
            (folder / sidecar.name).symlink_to(sidecar.resolve())
        writer.writerow([video.name, make_id(Path(video.name)), "test" if name == test else "train"])
        for file in write_recoloured(video, video.stem, recoloured, folder) if name != test and recoloured else []:
            writer.writerow([file, make_id(Path(file)), "train"])
    write_text(folder / "index.csv", table.getvalue())


def look(media: Path, train: Sequence[str], test: str) -> list[Likeness]:
    """The test recording beside the training recordings, and beside every other video below the parent of ``media``, for the record.

    Raises:
        PipelineError: see ``check_media``; the test recording is part of a training recording.
    """
    check_media(media, train, test)
    chosen = [media / name for name in train]
    rest = sorted(path for path in media.parent.rglob("*.mp4") if path.is_file() and path not in chosen and path != media / test)
    found = likenesses(media, test, [*chosen, *rest])
    for one, name in zip(found, train, strict=False):
        if one.repeats:
            raise PipelineError(
                f"{name} repeats {test}: {one.same_share:.0%} of its frames, sound correlation {one.sound:.2f}",
                "test on a recording that is not trained on",
            )
    return found


# ---------------------------------------------------------------------------------------------------------------- score


def pixel_masks(landmarks_px: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """(T, S, S) bool of face, mouth and eyes; empty in frames without a face."""
    points = torch.from_numpy(landmarks_px.astype(np.float32))
    known = torch.isfinite(points).all(-1).all(-1)[:, None, None, None]
    masks = {"face": face_mask(landmarks_px, size, size)}
    for name, box in (("mouth", mouth_mask), ("eyes", eyes_mask)):
        masks[name] = ((torch.nan_to_num(box(torch.nan_to_num(points), size)) > 0) & known)[:, 0].numpy()
    return masks


def compare(frames: np.ndarray, truth: np.ndarray, points: np.ndarray, wanted: np.ndarray) -> dict[str, np.ndarray]:
    """Numbers of each frame against the real one.

    Args:
        frames: (T, S, S, 3) uint8.
        truth: (T, S, S, 3) uint8.
        points: (T, 68, 2) px landmarks found in ``frames``, NaN without a face.
        wanted: (T, 68, 2) px landmarks found in ``truth``.

    Returns:
        (T,) float64 by column; NaN where a frame has no face (LMD, sharpness) or is equal to the truth (PSNR).
    """
    size = truth.shape[2]
    values = {"psnr_db": psnr_db(frames, truth), "ssim": ssim(frames, truth)}
    values |= {f"psnr_{name}_db": psnr_db(frames, truth, mask) for name, mask in pixel_masks(wanted, size).items()}
    for short, region in (("m", "mouth"), ("f", "face")):
        values[f"{short}_lmd_centred_px"] = lmd_centred_px(points, wanted, region, size)  # type: ignore[arg-type]
        values[f"{short}_lmd_raw_px"] = lmd_raw_px(points, wanted, region, size)  # type: ignore[arg-type]
    values["mouth_sharpness"] = mouth_sharpness(frames, points)
    return {name: np.where(np.isfinite(value), value, np.nan) for name, value in values.items()}


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        method: of `generate`.
        numbers: mean over the scored frames by column, with an interval from blocks of the clip.
        of_truth, of_ceiling: sharpness of the mouth as a share of the real one's and of the ceiling's.
        lip_correlation: of the lip aperture over time with the real one's.
        faces_found_pct: frames with a face.
    """

    method: str
    numbers: Mapping[str, Estimate]
    of_truth: float
    of_ceiling: float
    lip_correlation: float
    faces_found_pct: float


def estimate(values: np.ndarray, *key: str) -> Estimate:
    """Mean over frames; the interval resamples blocks of BLOCK_S seconds of this one clip."""
    blocks = (np.arange(len(values)) / (BLOCK_S * FPS_HZ)).astype(int).astype(str).tolist()
    return cluster_bootstrap(values, blocks, numpy_generator("person", *key))


def make_rows(frames: Mapping[str, np.ndarray], points: Mapping[str, np.ndarray], scored: np.ndarray) -> list[Row]:
    """Rows of the table.

    Args:
        frames: (T, S, S, 3) uint8 by method, and of the real crop under "truth".
        points: (T, 68, 2) px by the same names.
        scored: (T,) bool, frames that count.
    """
    truth, wanted = frames["truth"], points["truth"]
    values = {name: compare(one[scored], truth[scored], points[name][scored], wanted[scored]) for name, one in frames.items()}
    means = {name: float(np.nanmean(part["mouth_sharpness"])) for name, part in values.items()}
    return [
        Row(
            method,
            {column: estimate(values[method][column], method, column) for column, _, _ in COLUMNS},
            means[method] / means["truth"],
            means[method] / means["codebook_ceiling"],
            lip_correlation(points[method][scored], wanted[scored]),
            faces_found_pct(points[method][scored]),
        )
        for method in METHODS
        if method in frames
    ]


def closed_share(points: np.ndarray, wanted: np.ndarray, below: float = 0.5) -> tuple[float, int]:
    """Share of the frames with eyes closed in ``wanted`` whose eyes are closed in ``points``, and their number.

    Args:
        points: (T, 68, 2) px.
        wanted: (T, 68, 2) px, of the truth.
        below: closure, from 0 for the clip's own open eyes to 1, from which eyes count as closed.
    """
    closed = closure_from_landmarks(wanted) >= below
    return (float((closure_from_landmarks(points)[closed] >= below).mean()) if closed.any() else float("nan")), int(closed.sum())


def generate_context(root: Path) -> Context:
    """Context of the finished stage `generate`.

    Raises:
        PipelineError: the stage has not run.
    """
    stamp, out = root / ".stamps/generate.json", root / STAGES["generate"].out
    if not stamp.is_file() or not out.is_file():
        raise PipelineError(f"{out}: is not there", "run the training first: python -m pipeline.tools.person --only train")
    return house.make_context(argparse.Namespace(stamp=stamp, root=root, out=out, threads=1))


@dataclass(frozen=True)
class Scored:
    """The test clip with all that is compared: frames and landmarks by method and "truth", which frames count, where the source came from."""

    clip: ScoredClip
    frames: dict[str, np.ndarray]
    points: dict[str, np.ndarray]
    counts: np.ndarray
    source_frame: int


def read_scored(ctx: Context, landmarks: LandmarksParams) -> Scored:
    """Read the videos of the one test clip and find their landmarks."""
    found = scored_clips(ctx)
    if len(found) != 1:
        raise PipelineError(f"{len(found)} test clips, one is expected", "prepare the recordings again with one --test")
    clip = found[0]
    table = ok_rows(read_index(ctx.out, "generate"))
    finder = make_landmarker(landmarks, ctx.root / STAGES["landmarker"].folder)
    paths = {"truth": ctx.reads["crop"].parent / clip.row["video"]}
    paths |= {row["method"]: ctx.out.parent / row["video"] for row in table.to_dict("records") if row["clip"] == clip.clip}
    missing = sorted(set(METHODS) - set(paths))
    if missing:
        raise PipelineError(f"{ctx.out}: has no row {', '.join(missing)}", "leave the four rows in generate.methods of the configuration")
    frames = {name: read_video_at(path)[: clip.n_frames] for name, path in paths.items()}
    points = {name: smooth_landmarks(finder.detect(one).landmarks_px, landmarks.smooth_sd_frames) for name, one in frames.items()}
    _, number = source_picture(ctx, clip)
    counts = np.ones(clip.n_frames, bool)
    if clip.source_row["clip"] == clip.clip:
        counts[number] = False
    return Scored(clip, frames, points, counts, number)


# ---------------------------------------------------------------------------------------------------------------- pictures


def cut_out(frame: np.ndarray, centre: np.ndarray, half: tuple[int, int], scale: int) -> np.ndarray:
    """A box of (2 half) px around a point, enlarged by a whole factor; what lies beyond the border repeats it."""
    across, down = half
    padded = np.pad(frame, ((down, down), (across, across), (0, 0)), mode="edge")
    u, v = (round(float(value)) for value in centre)
    u, v = min(max(u, 0), frame.shape[1] - 1), min(max(v, 0), frame.shape[0] - 1)
    return padded[v : v + 2 * down, u : u + 2 * across].repeat(scale, 0).repeat(scale, 1)


def shown_frames(points: np.ndarray, counts: np.ndarray, columns: int) -> np.ndarray:
    """Frames to look at: evenly spread ones, the two with the widest mouth and the two with the most closed eyes, in order."""
    known = counts & np.isfinite(points).all((1, 2))
    usable = np.flatnonzero(known)
    even = usable[np.linspace(0, len(usable) - 1, max(columns - 4, 1)).round().astype(int)]
    picked: list[int] = []
    for score in (lip_aperture(points), closure_from_landmarks(points)):
        order, chosen = usable[np.argsort(-score[usable], kind="stable")], []
        for frame in order:
            if all(abs(int(frame) - other) > FPS_HZ for other in chosen):
                chosen.append(int(frame))
            if len(chosen) == 2:
                break
        picked += chosen
    return np.unique([*even.tolist(), *picked])


def write_pictures(scored: Scored, folder: Path, columns: int = 14) -> None:
    """Grids with a row each for truth, ceiling, generator and source: whole frames, mouths and eyes."""
    from PIL import Image

    rows = ("truth", "codebook_ceiling", "vqig_on_fitted", "copy_source")
    wanted = scored.points["truth"]
    chosen = shown_frames(wanted, scored.counts, columns)
    size = scored.frames["truth"].shape[2]
    cuts = {
        "frames": lambda frame, points: frame.repeat(2, 0).repeat(2, 1),
        "mouth": lambda frame, points: cut_out(frame, points[48:68].mean(0), (size // 5, size // 7), 5),
        "eyes": lambda frame, points: cut_out(frame, points[36:48].mean(0), (size // 4, size // 9), 4),
    }
    for name, cut in cuts.items():
        lines = [np.concatenate([cut(scored.frames[row][i], wanted[i]) for i in chosen], 1) for row in rows]
        with atomic_path(folder / f"{name}.png") as temporary:
            Image.fromarray(np.concatenate(lines)).save(temporary, format="png")


# ---------------------------------------------------------------------------------------------------------------- page


def stage_minutes(root: Path) -> list[tuple[str, float]]:
    """Processor minutes of each stage of the run as Snakemake measured them, in order; only of rules that ran."""
    found = []
    for name in STAGES:
        tables = sorted((root / "logs" / name).glob("*.benchmark.tsv"))
        seconds = [pd.read_csv(path, sep="\t")["cpu_time"].sum() for path in tables]
        if seconds:
            found.append((name, float(np.sum(seconds)) / 60))
    return found


def table_lines(rows: Sequence[Row]) -> list[str]:
    """The two tables of the page."""
    pixels = [column for column in COLUMNS if not column[0].endswith("_px") and column[0] != "mouth_sharpness"]
    others = [column for column in COLUMNS if column not in pixels]

    def cell(value: Estimate, digits: int) -> str:
        if not np.isfinite(value.value):
            return ""
        return f"{value.value:.{digits}f}" + (f" ({value.ci[0]:.{digits}f} to {value.ci[1]:.{digits}f})" if value.ci else "")

    lines = ["| row | " + " | ".join(heading for _, heading, _ in pixels) + " |", "|---|" + "---:|" * len(pixels)]
    lines += [
        f"| {NAMES[row.method]} | " + " | ".join(cell(row.numbers[name], digits) for name, _, digits in pixels) + " |" for row in rows
    ]
    extra = ("of the ceiling's", "of the truth's", "lip correlation", "faces found [%]")
    lines += [
        "",
        "| row | " + " | ".join([heading for _, heading, _ in others] + list(extra)) + " |",
        "|---|" + "---:|" * (len(others) + len(extra)),
    ]
    for row in rows:
        cells = [cell(row.numbers[name], digits) for name, _, digits in others]
        cells += [f"{row.of_ceiling:.2f}", f"{row.of_truth:.2f}", f"{row.lip_correlation:.3f}", f"{row.faces_found_pct:.1f}"]
        lines.append(f"| {NAMES[row.method]} | " + " | ".join(cells) + " |")
    return lines


def to_markdown(
    rows: Sequence[Row], scored: Scored, found: Sequence[Likeness], root: Path, config: str, names: tuple[Sequence[str], str]
) -> str:
    """The page."""
    train, test = names
    size = scored.frames["truth"].shape[2]
    book, model = (read_json(root / "models" / part / "metrics.json") for part in ("codebook", "imagegen/full"))
    wanted = scored.points["truth"][scored.counts]
    closed = {method: closed_share(scored.points[method][scored.counts], wanted)[0] for method in METHODS}
    n_closed = closed_share(wanted, wanted)[1]
    n = int(scored.counts.sum())
    lines = [
        "# One real person", "",
        f"Written by `python -m pipeline.tools.person` ({config}): everything is trained on {' and '.join(f'`{Path(name).name}`' for name in train)} and tested on "
        f"`{Path(test).name}` with its own sound, {n} frames of {size} px at {FPS_HZ} frames/s. The pictures show a real person: they are looked at and never committed.",
        "",
        f"- Source picture: frame {scored.source_frame} of `{scored.clip.source_row['clip']}` ({scored.clip.source_kind}); it is not scored. Motion: coefficients fitted to the test "
        "recording. No flow takes part.",
        f"- Landmarks of every row, the truth's too, are found at {size} px; so the row \"truth, encoded again\" shows how much of a distance is the tracker's and the encoder's.",
        f"- Intervals (95 %) resample pieces of {BLOCK_S:g} s of this one clip: they say nothing about other recordings or people.",
        "- LMD in px at a width of 256 px (docs/metrics.md); mouth and eyes are the boxes of the losses, the face is the hull of the 68 landmarks.",
        "",
        *table_lines(rows),
        "",
        f"Of {n_closed} frames whose eyes are closed in truth, so are {closed['vqig_on_fitted']:.0%} of the generator's, {closed['codebook_ceiling']:.0%} through the codebook and "
        f"{closed['ground_truth']:.0%} of the truth, encoded again."
        if n_closed else "No frame has closed eyes.",
        "",
        "## Codebook and generator", "",
        f"Through the codebook the test recording keeps {book['psnr_db']:.2f} dB (face {book['psnr_face_db']:.2f} dB, mouth {book['psnr_mouth_db']:.2f} dB), the {book['train_frames']:.0f} "
        f"training frames {book['train_psnr_db']:.2f} dB (face {book['train_psnr_face_db']:.2f} dB); the test recording uses {book['codes_used']:.0f} of "
        f"{book['codes_used'] / book['usage']:.0f} codes with a perplexity of {book['perplexity']:.0f}. Generator, source and target of one training recording: "
        f"{model['val_psnr_db']:.2f} dB with a ceiling of {model['val_ceiling_psnr_db']:.2f} dB and {model['val_copy_psnr_db']:.2f} dB for the copied source.",
        "",
        "## Is the test recording really unseen?", "",
        f"Compared are {LOOK_HZ:g} frames a second as grey thumbnails of {THUMBNAIL_PX} px (the same picture: less than {SAME_FRAME:g} grey levels apart) and the sound over all shifts. "
        f"A recording that repeats {REPEATED_SHARE:.0%} of the frames or correlates by {REPEATED_SOUND:g} is refused for training.", "",
        "| other recording | used | test frames found in it | closest pair [grey levels] | sound correlation | repeats the test |", "|---|---|---:|---:|---:|---|",
    ]  # fmt: skip
    for index, one in enumerate(found):
        sound = f"{one.sound:.2f}" if np.isfinite(one.sound) else "no sound"
        used = "training" if index < len(train) else "no"
        lines.append(f"| {one.file} | {used} | {one.same_share:.1%} | {one.closest:.2f} | {sound} | {'yes' if one.repeats else 'no'} |")
    minutes = stage_minutes(root)
    if minutes:
        lines += [
            "",
            "## Time",
            "",
            "Processor minutes of each stage, one thread: " + ", ".join(f"{name} {value:.1f}" for name, value in minutes) + ".",
        ]
    return "\n".join(lines) + "\n"


def to_table(rows: Sequence[Row]) -> str:
    """CSV: one line a row and column with its interval."""
    records: list[dict[str, Any]] = []
    for row in rows:
        for column, _, _ in COLUMNS:
            value = row.numbers[column]
            low, high = value.ci or (float("nan"), float("nan"))
            records.append({"row": row.method, "column": column, "value": value.value, "low": low, "high": high, "n_frames": value.n})
        single = ("of_ceiling", "of_truth", "lip_correlation", "faces_found_pct")
        records.extend({"row": row.method, "column": column, "value": getattr(row, column)} for column in single)
    return pd.DataFrame(records).to_csv(index=False, lineterminator="\n", float_format="%.6g")


def score(config: str, found: Sequence[Likeness], names: tuple[Sequence[str], str], out: Path) -> None:
    """Score the finished run, print and write."""
    values = read_config("params.yaml", config)
    root = run_root(values)
    scored = read_scored(generate_context(root), cast(LandmarksParams, validate(values)["landmarks"]))
    rows = make_rows(scored.frames, scored.points, scored.counts)
    write_pictures(scored, root / "reports/look")
    text = to_markdown(rows, scored, found, root, config, names)
    write_text(out.with_suffix(".csv"), to_table(rows))
    write_text(out.with_suffix(".md"), text)
    print(text)
    print(f"pictures: {root / 'reports/look'}")


def run(media: Path, train: Sequence[str], test: str, config: str, cores: str, only: str, out: Path, recoloured: int) -> None:
    """All three parts, or one."""
    root = run_root(read_config("params.yaml", config))
    found = look(media, train, test)
    recordings = root / "data/recordings"
    if only != "score":
        lay_out(media, train, test, recordings, recoloured)
    if only in ("", "train"):
        clips.run(recordings, "audio", cores, config)
        clips.run(recordings, "generate", cores, config)
    if only in ("", "score"):
        score(config, found, (train, test), out)


def main() -> None:
    """Command line."""
    shared = Path(os.environ.get("FVQT_SHARED", Path("..") / "shared"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument(
        "--media", type=Path, default=shared / "media/styletalk/source_video", help="folder that the recordings are named in"
    )
    parser.add_argument("--train", nargs="+", default=list(TRAIN), help="videos to train on, relative to --media")
    parser.add_argument("--test", default=TEST, help="video to test on, relative to --media")
    parser.add_argument("--recoloured", type=int, default=0, help="pieces of each training recording that are added in other colours")
    parser.add_argument("--config", default="configs/person.yaml")
    parser.add_argument("--cores", default="1")
    parser.add_argument("--only", choices=("prepare", "train", "score"), default="", help="one part only")
    parser.add_argument("--out", type=Path, default=Path("docs/person"), help="path of the files without their suffix")
    args = parser.parse_args()
    torch.set_num_threads(1)
    house.guarded(lambda: run(args.media, args.train, args.test, args.config, args.cores, args.only, args.out, args.recoloured))


if __name__ == "__main__":
    main()
