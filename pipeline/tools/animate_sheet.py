"""What `flowvqtalker animate` makes of a finished run: one portrait, a sentence of another voice, eight emotions, two seeds.

Usage: python -m pipeline.tools.animate_sheet [--root .] [--videos FOLDER] [--photographs ../shared/media/images] [--out docs/animate]
       python -m pipeline.tools.animate_sheet --only photographs --photographs FOLDER --videos FOLDER    # no page, outputs to look at

Reads the first frame of a test person's enrolment video and a test sentence of the next test person, and calls what the console calls
(`pipeline.cli.animate.make_video`) for every emotion and seed. Measured are:
videos       length against frames, sound in the file against the sound given, and whether two seeds agree in the lips (correlation of the lip
             opening) and differ in head and blinks: of coefficients, and of landmarks that the run's back end finds in the finished videos.
people       the same of coefficients alone, for every test person with the next one's voice; 95 % intervals resample people.
parts        time of each part of one call on one thread. CPU time stands beside wall time: on a machine that others use, wall time is theirs too.
memory       peak resident memory (VmHWM) of the console command in a process of its own, for 10 s and for 2 minutes of the sentence over and over.
photographs  every picture of a folder, animated with these models: how many ran, how many were refused and why. No names, no outputs are kept
             unless --videos names a folder, and that one stays outside the repository.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from flowvqtalker.constants import EMOTIONS, FPS_HZ, SAMPLE_RATE_HZ
from flowvqtalker.face.pose import euler_to_matrix
from flowvqtalker.flow.blinkrate import closure_of, find_blinks
from flowvqtalker.flow.control import one_emotion
from flowvqtalker.flow.diagnostics import CLOSED, correlation, lip_opening
from flowvqtalker.flow.streaming import StreamRow, stream
from flowvqtalker.metrics.blinks import closure_from_landmarks
from flowvqtalker.metrics.bootstrap import cluster_bootstrap
from flowvqtalker.metrics.landmarks import lip_aperture
from flowvqtalker.seeding import numpy_generator
from pipeline.cli import animate as cli
from pipeline.context import guarded, limit_threads
from pipeline.errors import PipelineError
from pipeline.io import atomic_path, ok_rows, read_index, read_json, write_json, write_text
from pipeline.media import probe, read_sound, read_video, write_sound
from pipeline.params import read_config
from pipeline.stages import STAGES, run_root, stamp_path
from pipeline.synthesis import write_synthetic

SEEDS = (1, 2)
#: Lengths whose peak memory is compared [s], and how much the longer may need of the shorter.
SHORT_S, LONG_S, MOST_GROWTH = 10.0, 120.0, 1.1
#: Places in a clip of the frames that the sheet shows [share], and the side of a frame there [px].
SHOWN, SHEET_PX = (0.2, 0.5, 0.8), 112
#: Largest lag at which the sound in a video is compared with the sound given: two blocks of AAC [samples].
MOST_LAG = 2048
#: Sound that pictures are tried with [s].
TRIED_S = 1.0
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Scene:
    """One person's portrait and somebody else's sentence.

    Attributes:
        identity: whose portrait.
        portrait: video whose first frame is the portrait.
        voice: whose sentence.
        sound: the sentence.
    """

    identity: str
    portrait: Path
    voice: str
    sound: Path


def read_scenes(config: Mapping[str, Any]) -> list[Scene]:
    """A scene for every test person with an enrolment: the voice is the next person's, in the order of their names.

    Raises:
        PipelineError: fewer than two people of the test split have what is needed.
    """
    root = run_root(config)
    corpus, crops = (ok_rows(read_index(root / STAGES[name].out, name)).to_dict("records") for name in ("corpus", "crop"))
    portraits = {
        row["identity"]: root / STAGES["corpus"].folder / row["file"] for row in corpus if row["split"] == "test" and row["role"] == "enrol"
    }
    sounds: dict[str, Path] = {}
    for row in sorted(crops, key=lambda row: (row["emotion"] != "neutral", row["clip"])):  # a neutral voice goes with every emotion
        if row["split"] == "test" and row["role"] == "talk" and row["sound"]:
            sounds.setdefault(row["identity"], root / STAGES["crop"].folder / row["sound"])
    people = sorted(set(portraits) & set(sounds))
    if len(people) < 2:
        raise PipelineError(
            f"{root}: {len(people)} test people have an enrolment and a sentence, two are needed", "name a finished run with --root"
        )
    return [Scene(person, portraits[person], other, sounds[other]) for person, other in zip(people, [*people[1:], people[0]], strict=True)]


def options(*words: str | Path | int) -> argparse.Namespace:
    """Options as the console reads them."""
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers())
    return parser.parse_args(["animate", *map(str, words)])


# ------------------------------------------------------------------------------------------------------------------- seeds


def head_angle_deg(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angle (T,) [deg] between two heads of poses (T, 6)."""
    one, other = (euler_to_matrix(torch.from_numpy(np.asarray(pose)[:, :3]).double()) for pose in (first, second))
    trace = (one * other).sum((1, 2))
    return np.degrees(np.arccos(((trace.numpy() - 1) / 2).clip(-1, 1)))


def shared(first: np.ndarray, second: np.ndarray) -> float:
    """Share of the frames (T,) bool that hold in either which hold in both; NaN when none does."""
    either = (first | second).sum()
    return float((first & second).sum() / either) if either else float("nan")


def compare_seeds(first: cli.Performance, second: cli.Performance) -> dict[str, float]:
    """How far two performances of the same sentence, emotion and portrait agree.

    Returns:
        lip_correlation: of the lip opening; head_deg: median angle between the heads [deg]; head_motion_deg: root mean square difference of
        the head angles without each clip's own mean [deg]; blinks: of both; closed_shared: see ``shared``.
    """
    lids = [closure_of(one.beta) for one in (first, second)]
    turns = [np.degrees(one.pose[:, :3] - one.pose[:, :3].mean(0)) for one in (first, second)]
    return {
        "lip_correlation": correlation(lip_opening(first.beta), lip_opening(second.beta)),
        "head_deg": float(np.median(head_angle_deg(first.pose, second.pose))),
        "head_motion_deg": float(np.sqrt(np.square(turns[0] - turns[1]).sum(1).mean())),
        "blinks": float(sum(len(find_blinks(lid)) for lid in lids)),
        "closed_shared": shared(*(lid >= CLOSED for lid in lids)),
    }


def over_people(studio: cli.Studio, scenes: Sequence[Scene]) -> dict[str, Any]:
    """``compare_seeds`` of every person and emotion, with intervals over people; nothing is rendered."""
    rows, people, seconds = [], [], 0.0
    for scene in scenes:
        portrait, sound = cli.read_portrait(scene.portrait), cli.read_speech(scene.sound)
        for emotion in EMOTIONS:
            pair = [cli.perform(studio, portrait, sound, emotion=emotion, seed=seed, name=scene.identity) for seed in SEEDS]
            rows.append(compare_seeds(*pair))
            people.append(scene.identity)
            seconds += sum(len(one) for one in pair) / FPS_HZ
    result: dict[str, Any] = {"n": len(rows), "people": len(scenes), "seconds": seconds}
    for name in rows[0]:
        found = cluster_bootstrap(np.array([row[name] for row in rows]), people, numpy_generator(0, "animate_sheet", name))
        result[name] = {"value": found.value, "ci": found.ci, "n": found.n}
    result["blinks_per_s"] = sum(row["blinks"] for row in rows) / seconds
    result["head_apart_share"] = float(np.mean([row["head_deg"] > 1 for row in rows]))
    return result


# ------------------------------------------------------------------------------------------------------------------- videos


def sound_match(given: np.ndarray, found: np.ndarray) -> tuple[float, int]:
    """Largest correlation of two sounds within MOST_LAG samples, and the lag [samples] (positive: the second is late)."""
    size = min(len(given), len(found)) - 2 * MOST_LAG
    if size <= 0:
        return float("nan"), 0
    middle = given[MOST_LAG : MOST_LAG + size].astype(np.float64)
    best = (-1.0, 0)
    for lag in range(-MOST_LAG, MOST_LAG + 1, 16):
        best = max(best, (correlation(middle, found[MOST_LAG + lag : MOST_LAG + lag + size].astype(np.float64)), lag))
    for lag in range(best[1] - 15, best[1] + 16):
        if abs(lag) <= MOST_LAG:
            best = max(best, (correlation(middle, found[MOST_LAG + lag : MOST_LAG + lag + size].astype(np.float64)), lag))
    return best


def make_videos(studio: cli.Studio, scene: Scene, folder: Path) -> list[dict[str, Any]]:
    """Every emotion and seed through the console's function; one row a video, with its performance and file."""
    rows = []
    sound = cli.read_speech(scene.sound)
    for emotion in EMOTIONS:
        for seed in SEEDS:
            out = folder / f"{emotion}_{seed}.mp4"
            wall, cpu = time.perf_counter(), time.process_time()
            made = cli.make_video(
                studio, options("--source", scene.portrait, "--audio", scene.sound, "--emotion", emotion, "--seed", seed, "--out", out)
            )
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            info, heard = probe(out), read_sound(out)
            match, lag = sound_match(sound, heard) if heard is not None else (float("nan"), 0)
            rows.append(
                {
                    "emotion": emotion, "seed": seed, "file": out, "made": made, "frames": len(made), "wall_s": wall, "cpu_s": cpu,
                    "shown": len(read_video(out)[0]), "duration_s": info.duration_s, "sound_correlation": match, "sound_lag": lag,
                    "says_synthetic": "synthetic" in info.metadata.get("comment", "").lower(), "speech_s": len(sound) / SAMPLE_RATE_HZ,
                }
            )  # fmt: skip
    return rows


def judge_videos(studio: cli.Studio, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Lengths, sound and seeds of the videos, from coefficients and from landmarks found in the pictures."""
    pairs, shown = [], {}
    for row in rows:
        found = studio.landmarker.detect(read_video(row["file"])[0], video=True)
        shown[row["emotion"], row["seed"]] = found.landmarks_px
        row["faces"] = int(found.present.sum())
    by_name = {(row["emotion"], row["seed"]): row["made"] for row in rows}
    for emotion in EMOTIONS:
        first, second = (by_name[emotion, seed] for seed in SEEDS)
        seen = [shown[emotion, seed] for seed in SEEDS]
        both = np.isfinite(seen[0]).all((1, 2)) & np.isfinite(seen[1]).all((1, 2))
        lips = [lip_aperture(points[both]) for points in seen]
        closed = [closure_from_landmarks(points) >= CLOSED for points in seen]
        pair = {"emotion": emotion} | compare_seeds(first, second)
        pair["shown_lip_correlation"] = correlation(*lips)
        pair["shown_closed_shared"] = shared(*closed)
        pairs.append(pair)
    frames = sum(row["frames"] for row in rows)
    return {
        "videos": len(rows), "frames": frames, "speech_s": rows[0]["speech_s"],
        "most_frames_off": max(abs(row["duration_s"] - row["frames"] / FPS_HZ) * FPS_HZ for row in rows),
        "most_speech_off": max(abs(row["duration_s"] - row["speech_s"]) * FPS_HZ for row in rows),
        "all_frames_shown": all(row["shown"] == row["frames"] for row in rows), "all_say_synthetic": all(row["says_synthetic"] for row in rows),
        "least_sound_correlation": min(row["sound_correlation"] for row in rows), "most_sound_lag_ms": max(abs(row["sound_lag"]) for row in rows) / SAMPLE_RATE_HZ * 1000,
        "frames_with_face": sum(row["faces"] for row in rows), "wall_fps": frames / sum(row["wall_s"] for row in rows), "cpu_fps": frames / sum(row["cpu_s"] for row in rows),
        "pairs": pairs,
    }  # fmt: skip


def draw_sheet(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Rows of emotions, groups of columns of seeds: the same moments of every video."""
    side, left, top, gap = SHEET_PX, 72, 18, 8
    width = left + len(SEEDS) * (len(SHOWN) * side + gap)
    sheet = Image.new("RGB", (width, top + len(EMOTIONS) * side), "white")
    pen = ImageDraw.Draw(sheet)
    for row in rows:
        frames, _ = read_video(row["file"])
        v, group = top + EMOTIONS.index(row["emotion"]) * side, SEEDS.index(row["seed"])
        u = left + group * (len(SHOWN) * side + gap)
        pen.text((4, v + side // 2 - 6), row["emotion"], fill="black")
        for place, share in enumerate(SHOWN):
            number = round(share * (len(frames) - 1))
            sheet.paste(Image.fromarray(frames[number]).resize((side, side), Image.Resampling.LANCZOS), (u + place * side, v))
            pen.text((u + place * side + 4, 3), f"seed {row['seed']}, {number / FPS_HZ:.2f} s", fill="black")
    with atomic_path(path) as temporary:
        sheet.quantize(256).save(temporary, format="PNG", optimize=True)


# ------------------------------------------------------------------------------------------------------------------- parts


def timed(call: Callable[[], Any], times: int = 1) -> tuple[Any, float, float]:
    """The call's value, and the least wall and CPU time of several calls [s]."""
    walls, cpus, value = [], [], None
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        value = call()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return value, min(walls), min(cpus)


def time_parts(config: Mapping[str, Any], scene: Scene, times: int = 2) -> dict[str, Any]:
    """Time of the parts of one call, the models loaded anew.

    Returns:
        rows of name, wall_ms and cpu_ms; "each" says whether the number is of a frame or of a call.
    """
    studio = cli.Studio(config)
    cfg = studio.params["generate"]

    def load() -> Any:
        return studio.landmarker, studio.basis, studio.models.expflow, studio.models.poseflow, studio.models.vqig

    def motion(flow: Any, coefficients: np.ndarray, temperature: float, guidance: float) -> np.ndarray:
        row = StreamRow(torch.from_numpy(coefficients), one_emotion("happy", 1.0), SEEDS[0])
        return torch.cat(list(stream(flow, row, cli.windows_of(sound), temperature=temperature, guidance=guidance))).numpy()

    _, *loading = timed(load)
    sound, portrait = cli.read_speech(scene.sound), cli.read_portrait(scene.portrait)
    source, *fitting = timed(lambda: cli.prepare_source(studio, portrait, scene.identity), times)
    beta, *expression = timed(lambda: motion(studio.models.expflow, source.beta, cfg.temperature, cfg.emotion_guidance), times)
    pose, *head = timed(lambda: motion(studio.models.poseflow, source.pose, cfg.pose_temperature, 1.0), times)
    _, *features = timed(lambda: cli.source_state(studio, source), times)
    made, *rendering = timed(lambda: list(cli.render(studio, cli.Performance(source, beta, pose))), times)
    frames = np.concatenate(made)
    rendering = [max(0.0, render - encode) for render, encode in zip(rendering, features, strict=True)]  # it encodes the source too
    with tempfile.TemporaryDirectory() as folder:
        _, *writing = timed(lambda: write_synthetic(Path(folder) / "a.mp4", iter(frames), sound, crf=cfg.crf, by="a measurement"), times)
    n = len(frames)
    once = {"models loaded": loading, "face found, cropped and fitted": fitting, "source features": features}
    each = {"expression (ExpFlow)": expression, "head (PoseFlow)": head, "rendering (VQIG)": rendering, "x264, AAC and file": writing}
    rows = [{"part": name, "each": "call", "wall_ms": 1000 * wall, "cpu_ms": 1000 * cpu} for name, (wall, cpu) in once.items()]
    rows += [{"part": name, "each": "frame", "wall_ms": 1000 * wall / n, "cpu_ms": 1000 * cpu / n} for name, (wall, cpu) in each.items()]
    return {"rows": rows, "frames": n, "times": times, "threads": torch.get_num_threads(), "size_px": frames.shape[1]}


# ------------------------------------------------------------------------------------------------------------------- memory


def peak_mb() -> float:
    """Peak resident memory of this process [MB]; of its own pages only, unlike `ru_maxrss`, which begins with the parent's."""
    status = Path("/proc/self/status")
    if status.is_file():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) / 1000
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


#: What the measured process does: the console command, then its peak.
_MEASURED = "import sys; from pipeline.cli import app; app.main(sys.argv[1:]); from pipeline.tools.animate_sheet import peak_mb; print('peak', peak_mb())"


def peak_of(scene: Scene, seconds: float, configs: Sequence[Path]) -> float:
    """Peak memory [MB] of the console command in a process of its own, for so many seconds of the sentence over and over.

    Raises:
        PipelineError: the process failed.
    """
    sound = cli.read_speech(scene.sound)
    with tempfile.TemporaryDirectory() as folder:
        speech = Path(folder) / "speech.wav"
        write_sound(speech, np.resize(sound, round(seconds * SAMPLE_RATE_HZ)))
        words = ["animate", "--source", str(scene.portrait), "--audio", str(speech), "--emotion", "happy", "--out", f"{folder}/out.mp4"]
        paths = os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-c", _MEASURED, *words, *(["--config", *map(str, configs)] if configs else [])],
            capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": paths},
        )  # fmt: skip
        found = re.search(r"^peak ([\d.]+)$", done.stdout, re.MULTILINE)
        if done.returncode or not found:
            raise PipelineError(
                f"animate of {seconds:g} s ended with {done.returncode}: {done.stderr[-500:]}", "call the command by itself"
            )
        frames = len(read_video(Path(folder) / "out.mp4")[0])
        if frames != round(seconds * FPS_HZ):
            raise PipelineError(f"animate of {seconds:g} s wrote {frames} frames", "call the command by itself")
        return float(found[1])


# ------------------------------------------------------------------------------------------------------------------- photographs


def reason_of(message: str, source: Path) -> str:
    """A refusal without the picture's name and numbers, so that equal reasons count together."""
    plain = message.replace(f"{source}: ", "")
    return re.sub(r"\s*\(.*\)", "", re.sub(r"\d+(\.\d+)?", "N", plain))


def try_pictures(studio: cli.Studio, pictures: Sequence[Path], sound: Path, folder: Path) -> Counter[str]:
    """Animate every picture; gives the number of pictures by outcome: "ran", "refused: ..." or "CRASHED: ...".

    Args:
        studio: a finished run.
        pictures: files of any kind.
        sound: what they are to say.
        folder: where the videos go, numbered.
    """
    outcomes: Counter[str] = Counter()
    for number, source in enumerate(pictures):
        try:
            cli.make_video(
                studio, options("--source", source, "--audio", sound, "--emotion", "happy", "--out", folder / f"{number:02d}.mp4")
            )
        except PipelineError as error:
            outcomes[f"refused: {reason_of(error.message, source)}"] += 1
        except Exception as error:  # counted, so that one does not hide the others; the caller fails
            outcomes[f"CRASHED: {type(error).__name__}: {error}"] += 1
        else:
            outcomes["ran"] += 1
    return outcomes


# ------------------------------------------------------------------------------------------------------------------- the page


def _ci(found: Mapping[str, Any], digits: int = 2) -> str:
    if np.isnan(found["value"]):
        return "-"
    value = f"{found['value']:.{digits}f}"
    return f"{value} ({found['ci'][0]:.{digits}f} to {found['ci'][1]:.{digits}f})" if found["ci"] else value


def _share(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.0f} %"


def markdown(found: Mapping[str, Any], picture: str) -> str:
    """The page, from what was measured alone."""
    videos, people, parts, memory, tried = (found.get(name) for name in ("videos", "people", "parts", "memory", "photographs"))
    text = [
        "# A face that talks: `flowvqtalker animate`",
        f"Written by `python -m pipeline.tools.animate_sheet`; the same numbers are in `animate.json`. {found['note']}".rstrip(),
    ]
    if videos:
        text += [
            f"Portrait: first frame of the enrolment video of test person {found['identity']}. Speech: a sentence of test person {found['voice']}, {videos['speech_s']:.2f} s. "
            f"Eight emotions, seeds {' and '.join(map(str, SEEDS))}: {videos['videos']} videos, {videos['frames']} frames.",
            f"![rows: emotions; columns: seeds, three moments each]({picture})",
            "## Videos",
            "| what | number |\n|---|---|\n"
            f"| length of a file against its frames, largest difference | {videos['most_frames_off']:.2f} frames |\n"
            f"| length of a file against the speech, largest difference | {videos['most_speech_off']:.2f} frames |\n"
            f"| every frame is in the file, every file says that it is synthetic | {'yes' if videos['all_frames_shown'] else 'NO'}, {'yes' if videos['all_say_synthetic'] else 'NO'} |\n"
            f"| sound in the file against the sound given, smallest correlation (AAC) | {videos['least_sound_correlation']:.4f}, at most {videos['most_sound_lag_ms']:.1f} ms apart |\n"
            f"| frames in which the run's landmark back end finds a face | {videos['frames_with_face']} of {videos['frames']} |\n"
            f"| frames a second, portrait to mp4, models loaded before, {parts['threads'] if parts else 1} thread | {videos['wall_fps']:.1f} by the clock, {videos['cpu_fps']:.1f} by CPU time |",
            "Seeds 1 and 2 of each emotion. Lips: correlation of the lip opening, of coefficients and of landmarks found in the videos. Head: median angle between the two heads, and root mean "
            "square of what their motions differ by. Blinks: of both seeds together. Closed: of the frames in which one of the two has closed eyes, the share in which both have.",
            "| emotion | lips | lips in the videos | head [deg] | head motion [deg] | blinks | closed in both |\n|---|---:|---:|---:|---:|---:|---:|\n"
            + "\n".join(
                f"| {row['emotion']} | {row['lip_correlation']:.2f} | {row['shown_lip_correlation']:.2f} | {row['head_deg']:.1f} | {row['head_motion_deg']:.1f} | "
                f"{row['blinks']:.0f} | {_share(row['closed_shared'])} |"
                for row in videos["pairs"]
            ),
        ]
    if people:
        text += [
            "## The same, for every test person",
            f"{people['people']} portraits, each with the next person's voice, eight emotions: {people['n']} pairs of seeds, {people['seconds']:.0f} s of motion. Mean over pairs; 95 % intervals resample people.",
            "| what | number |\n|---|---|\n"
            f"| lips: correlation of the lip opening between seeds | {_ci(people['lip_correlation'])} |\n"
            f"| head: median angle between seeds | {_ci(people['head_deg'])} deg; more than 1 deg in {100 * people['head_apart_share']:.0f} % of the pairs |\n"
            f"| head: root mean square difference of the motions | {_ci(people['head_motion_deg'])} deg |\n"
            f"| blinks | {people['blinks_per_s']:.2f} a second |\n"
            f"| frames with closed eyes in one of the two that are closed in both | {_ci(people['closed_shared'])} ({people['closed_shared']['n']} pairs with any) |",
        ]
    if parts:
        text += [
            "## Time",
            f"One video of {parts['frames']} frames at {parts['size_px']} px, {parts['threads']} thread, best of {parts['times']} (models are loaded once).",
            "| part | each | by the clock [ms] | CPU time [ms] |\n|---|---|---:|---:|\n"
            + "\n".join(f"| {row['part']} | {row['each']} | {row['wall_ms']:.1f} | {row['cpu_ms']:.1f} |" for row in parts["rows"]),
        ]
    if memory:
        growth = memory["long_mb"] / memory["short_mb"]
        text += [
            "## Memory",
            f"Peak resident memory of the command, each in a process of its own: {memory['short_mb']:.0f} MB for {memory['short_s']:g} s, {memory['long_mb']:.0f} MB for {memory['long_s']:g} s of speech: "
            f"{growth:.3f} times as much (bound {MOST_GROWTH}: {'holds' if growth <= MOST_GROWTH else 'DOES NOT HOLD'}).",
        ]
    if tried:
        text += [
            "## Photographs",
            f"{tried['n']} pictures of a folder `{tried['folder']}`, most of them photographs, with these models, which know only rendered heads ({TRIED_S:g} s of speech each). "
            "That it runs says nothing about quality. Outputs are not kept in the repository.",
            "| outcome | pictures |\n|---|---:|\n"
            + "\n".join(f"| {name} | {count} |" for name, count in sorted(tried["outcomes"].items())),
        ]
    return "\n\n".join(text) + "\n"


@contextlib.contextmanager
def _folder(wanted: Path | None) -> Iterator[Path]:
    if wanted is not None:
        wanted.mkdir(parents=True, exist_ok=True)
        yield wanted
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def _plain(value: Any) -> Any:
    """Values as JSON has them: no NaN, no numpy."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float | np.floating):
        return None if np.isnan(value) else float(value)
    return value


def run(args: argparse.Namespace) -> None:
    """Make, measure, print and write."""
    out, videos = args.out.resolve(), None if args.videos is None else args.videos.resolve()
    photographs, configs = None if args.photographs is None else args.photographs.resolve(), [path.resolve() for path in args.config]
    parts = set(args.only)
    if photographs is None:
        parts.discard("photographs")
    elif not photographs.is_dir():
        print(f"photographs: skipped, there is no folder {args.photographs}")
        parts.discard("photographs")
    with contextlib.chdir(args.root), _folder(videos) as folder:
        config = read_config("params.yaml", *configs)
        studio, scenes = cli.Studio(config), read_scenes(config)
        scenes = [Scene(one.identity, one.portrait.resolve(), one.voice, one.sound.resolve()) for one in scenes]
        scene = next((one for one in scenes if one.identity == args.identity), scenes[0])
        stamps = [run_root(config) / stamp_path(name, config["generate"][f"{name}_variant"]) for name in ("flow", "imagegen")]
        codes = [f"{path.name.split('.')[0]} {read_json(path)['code'][:12]}" for path in stamps if path.is_file()]
        note = " ".join(part for part in (f"Code of the stages: {', '.join(codes)}." if codes else "", args.note) if part)
        found: dict[str, Any] = {"note": note, "identity": scene.identity, "voice": scene.voice}
        if "videos" in parts:
            rows = make_videos(studio, scene, folder)
            found["videos"] = judge_videos(studio, rows)
            draw_sheet(rows, out.parent / "figures" / f"{out.name}_sheet.png")
        if "people" in parts:
            found["people"] = over_people(studio, scenes)
        if "parts" in parts:
            found["parts"] = time_parts(config, scene)
        if "memory" in parts:
            short, long = (peak_of(scene, seconds, configs) for seconds in (SHORT_S, LONG_S))
            found["memory"] = {"short_s": SHORT_S, "short_mb": short, "long_s": LONG_S, "long_mb": long}
        if "photographs" in parts and photographs is not None:
            speech = folder / "tried.wav"
            write_sound(speech, cli.read_speech(scene.sound)[: round(TRIED_S * SAMPLE_RATE_HZ)])
            pictures = sorted(path for path in photographs.iterdir() if path.is_file())
            outcomes = try_pictures(studio, pictures, speech, folder)
            speech.unlink()
            found["photographs"] = {"n": len(pictures), "folder": photographs.name, "outcomes": dict(outcomes)}
    page = markdown(found, f"figures/{out.name}_sheet.png")
    print(page)
    if parts == set(PARTS) or args.write:
        write_json(out.with_suffix(".json"), _plain(found))
        write_text(out.with_suffix(".md"), page)
    crashed = [name for name in found.get("photographs", {}).get("outcomes", {}) if name.startswith("CRASHED")]
    if crashed:
        raise PipelineError("; ".join(crashed), "animate may refuse a picture, it may not crash: mend pipeline/cli/animate.py")


PARTS = ("videos", "people", "parts", "memory", "photographs")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--root", type=Path, default=Path("."), help="folder of a finished run")
    parser.add_argument("--config", type=Path, nargs="*", default=[], help="overlays of the run")
    parser.add_argument("--identity", default="", help="test person of the portrait; the first when not given")
    parser.add_argument("--videos", type=Path, help="folder to keep the videos in, to look at; a temporary one when not given")
    parser.add_argument("--photographs", type=Path, help="folder of pictures to try")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure")
    parser.add_argument("--write", action="store_true", help="write the page although it lacks parts")
    parser.add_argument("--note", default="", help="sentence about the run, for the page")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--out", type=Path, default=Path("docs/animate"), help="path of the page without suffix")
    args = parser.parse_args()
    limit_threads(args.threads)
    guarded(lambda: run(args))


if __name__ == "__main__":
    main()
