"""Speed and memory of the image generator: ``python -m benchmarks.render``, alone on the machine, about 4 minutes on two cores.

Frames per second of ``VQIG.render_clip`` from coefficients to bytes of colour, beside the same generator without codebook and its warp
alone; milliseconds of every part of it; the encoder to mp4; peak memory. Weights are random: they change no cost. Sizes are those of
params.yaml and configs/paper.yaml, the portrait is a clay head. Each number is the best of some rounds and of 1 and 2 threads.

The renderer of somebody else is measured outside this repository; ``--peer FILE`` puts its rows into the tables (see PEER_NOTE).
Writes `benchmarks/render.{json,md}`.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks.flow import forget_peak, resident_mb
from benchmarks.run import FOLDER, hardware
from flowvqtalker.constants import FPS_HZ, SAMPLE_RATE_HZ
from flowvqtalker.corpus.make import project_landmarks
from flowvqtalker.corpus.redraw import draw_motion, make_studio
from flowvqtalker.face import make_face_model
from flowvqtalker.face.camera import crop_camera
from flowvqtalker.image import vqig as vqig_module
from flowvqtalker.image.codebook import Codebook, CodebookConfig
from flowvqtalker.image.geometry import unit_points
from flowvqtalker.image.layers import channels_last
from flowvqtalker.image.vqig import POSE_DIM, VQIG, SourceState, VQIGConfig
from flowvqtalker.precision import PRECISIONS, computes_bf16
from pipeline.errors import PipelineError
from pipeline.io import write_json, write_text
from pipeline.params import read_config, validate
from pipeline.synthesis import write_synthetic

#: Overlay of params.yaml and number of expression coefficients of each configuration (clay and ICT: 53; Deep3D: 64).
CONFIGURATIONS: dict[str, tuple[str, int]] = {"default": ("", 53), "paper-size": ("configs/paper.yaml", 64)}
FULL, NO_CODEBOOK, WARP = "full", "no_codebook", "warp only"
THREADS = (1, 2)


@dataclass(frozen=True)
class Case:
    """What is rendered.

    Attributes:
        configuration: name of CONFIGURATIONS.
        model: ``full``, ``no_codebook`` (D_h gets the Transformer's vectors) or ``warp only`` (the frame is the warped portrait).
        size_px: side of the frames.
        batch: frames rendered together.
        frames: of the clip.
        rounds: timings at most; a slow case needs no more than one.
    """

    configuration: str
    model: str
    size_px: int
    batch: int
    frames: int
    rounds: int = 100


CASES = (
    *(Case("default", FULL, 128, batch, frames) for batch, frames in ((1, 16), (4, 32), (16, 48))),
    *(Case("default", model, 128, 16, 48) for model in (NO_CODEBOOK, WARP)),
    Case("default", FULL, 64, 16, 96),
    Case("default", FULL, 256, 16, 16),
    Case("paper-size", FULL, 256, 1, 2, 1),
)
#: Asked by the issue: least frames per second in batch, by configuration, model, side and batch.
ASKED = {("default", FULL, 128, 16): 25.0}
#: The case whose parts are timed.
PARTS_OF = Case("default", FULL, 128, 16, 48)
#: Side [px] and batch of the clips whose peak memory is measured, frames of them.
MEMORY_OF, MEMORY_FRAMES = ((64, 16), (128, 1), (128, 16), (256, 16)), 32
#: Sides of the videos that are encoded [px], frames of them.
ENCODED_PX, ENCODED_FRAMES = (128, 256), 75
#: Keys of a row of a peer's file.
PEER_ROW = {"model", "size_px", "batch", "precision", "frames", "parameters", "by_threads", "cpu_by_threads"}
PEER_NOTE = """\
The renderer of somebody else runs outside this repository, with random weights, and nothing of it is kept here. To repeat it: check the
repository out at the commit named below, write a script that builds its generator in evaluation mode, and time it with this benchmark's
own loop, from this repository's root with both folders on PYTHONPATH:

    from benchmarks.render import THREADS, fastest
    generator = ...                          # built from the repository's own configuration
    picture = 2 * torch.rand(batch, 3, size_px, size_px) - 1
    @torch.inference_mode()
    def work():                              # frames / batch calls, then bytes as its writer of videos makes them
        for _ in range(frames // batch):
            image = generator(picture, coefficients)["fake_image"].clamp(-1, 1)
            ((image + 1) * 127.5).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    wall, cpu = fastest(work, rounds, THREADS)

It writes `{"source": ..., "how": ..., "load": [before, after], "rows": [{"model", "size_px", "batch", "precision", "frames", "parameters",
"by_threads": wall, "cpu_by_threads": cpu}]}` to a file, and `python -m benchmarks.render --peer FILE` takes it from there."""


@dataclass(frozen=True)
class Speed:
    """Rendering of one clip.

    Attributes:
        configuration: name of CONFIGURATIONS, or ``peer``.
        model: see ``Case``, or the peer's name.
        device: ``cpu`` or ``cuda``.
        precision: number format of convolutions and matrix products.
        size_px: side of the frames.
        batch: frames rendered together.
        frames: of the clip.
        parameters: numbers that the renderer holds.
        threads: the faster number of threads.
        by_threads: wall seconds of the best round by number of threads.
        cpu_by_threads: CPU seconds of this process, least of all rounds, by number of threads.
        frames_per_s: frames per wall second.
        asked: least frames per second that are asked for; None where nothing is.
    """

    configuration: str
    model: str
    device: str
    precision: str
    size_px: int
    batch: int
    frames: int
    parameters: int
    threads: int
    by_threads: dict[str, float]
    cpu_by_threads: dict[str, float]
    frames_per_s: float
    asked: float | None


@dataclass(frozen=True)
class Parts:
    """Where the time of a frame goes.

    Attributes:
        precision: number format.
        threads: number of threads.
        ms: wall milliseconds a frame by part, of the round with the least sum.
        cpu_ms: CPU milliseconds a frame by part, of the round with the least sum.
        whole_ms: wall milliseconds a frame of the same clip without stopwatch, best round.
        whole_cpu_ms: CPU milliseconds a frame without stopwatch, best round.
        source_ms: wall milliseconds of preparing the source, once per clip.
    """

    precision: str
    threads: int
    ms: dict[str, float]
    cpu_ms: dict[str, float]
    whole_ms: float
    whole_cpu_ms: float
    source_ms: float


@dataclass(frozen=True)
class Encoder:
    """Writing frames with sound as mp4, on one thread, as `generate` and `animate` do.

    Attributes:
        size_px: side of the frames.
        frames: written.
        ms: wall milliseconds a frame, best round.
        cpu_ms: CPU milliseconds a frame, least of all rounds.
        kb_per_s: size of a second of video [kB].
    """

    size_px: int
    frames: int
    ms: float
    cpu_ms: float
    kb_per_s: float


@dataclass(frozen=True)
class Memory:
    """Peak memory of a process that renders one clip on one thread.

    Attributes:
        size_px: side of the frames.
        batch: frames rendered together.
        frames: of the clip.
        precision: number format.
        before_mb: resident before rendering starts, weights included [MB].
        peak_mb: peak while rendering [MB].
        output_mb: size of the frames that come out [MB].
    """

    size_px: int
    batch: int
    frames: int
    precision: str
    before_mb: float
    peak_mb: float
    output_mb: float


@dataclass(frozen=True, eq=False)
class Clip:
    """A clay portrait and its motion.

    Attributes:
        image: (3, S, S) portrait in [0, 1].
        landmarks_px: (68, 2) of the portrait.
        beta: (T, E) expression; the first frame is the portrait's.
        pose: (T, 6) [rad, cm].
        drawn: (n, S, S, 3) uint8, the first frames as the clay renderer draws them, repeated forth and back.
    """

    image: Tensor
    landmarks_px: Tensor
    beta: Tensor
    pose: Tensor
    drawn: np.ndarray


@functools.cache
def shape(configuration: str) -> tuple[CodebookConfig, VQIGConfig]:
    """Shapes of codebook and generator as their trainings would make them."""
    overlay, expressions = CONFIGURATIONS[configuration]
    cfg: dict[str, Any] = validate(read_config("params.yaml", overlay) if overlay else read_config("params.yaml"))
    codebook = CodebookConfig(**cfg["codebook"].model.model_dump())
    return codebook, VQIGConfig(expression_dim=expressions, **cfg["imagegen"].model.model_dump())


def precisions() -> tuple[str, ...]:
    """Number formats that this processor computes in; the others would be emulated (flowvqtalker/precision.py)."""
    return tuple(name for name in PRECISIONS[::-1] if name != "bf16" or computes_bf16("cpu"))


@functools.cache
def clay_clip(size_px: int, expressions: int, frames: int, drawn: int = 8) -> Clip:
    """A person of the embedded corpus who moves every coefficient and the head slowly.

    Args:
        size_px: side of the frames.
        expressions: E that the generator wants; clay's own coefficients are cut or filled up with zeros.
        frames: length of the motion.
        drawn: frames that the clay renderer draws.
    """
    head, generator = make_face_model("clay"), np.random.default_rng(1)
    time_s = np.arange(frames)[:, None] / FPS_HZ
    rate, phase = generator.uniform(0.4, 2.0, head.n_expression), generator.uniform(0, 2 * np.pi, head.n_expression)
    beta = (0.15 * (1 + np.sin(2 * np.pi * rate * time_s + phase))).astype(np.float32)
    swing = np.sin(2 * np.pi * generator.uniform(0.2, 0.6, POSE_DIM) * time_s + generator.uniform(0, 2 * np.pi, POSE_DIM))
    pose = (swing * np.array([0.08, 0.12, 0.05, 0.3, 0.3, 0.3])).astype(np.float32)
    studio = make_studio("te01", head, 1, size_px)
    pictures = list(draw_motion(studio, head, beta[:drawn], pose[:drawn]))
    image = torch.from_numpy(pictures[0]).permute(2, 0, 1).float() / 255
    places = project_landmarks(head, studio.person, beta[:1], pose[:1], crop_camera(size_px))[0]
    fitted = np.zeros((frames, expressions), np.float32)
    common = min(expressions, head.n_expression)
    fitted[:, :common] = beta[:, :common]
    return Clip(image, torch.from_numpy(places), torch.from_numpy(fitted), torch.from_numpy(pose), np.stack(pictures + pictures[-2:0:-1]))


def random_generator(configuration: str, model: str, clip: Clip, device: str = "cpu") -> VQIG:
    """A generator with random weights whose frames show the portrait moving.

    The codes start from the clip's own patches, the maps of expression ratio and mouth are small noise, and the branches that start at zero get a
    little noise, so that points and pixels do move.
    """
    torch.manual_seed(0)
    codebook_config, config = shape(configuration)
    if model == NO_CODEBOOK:
        config = replace(config, codes=False)
    codebook = Codebook(codebook_config)
    with torch.no_grad():
        codebook.train().encode(torch.from_numpy(clip.drawn[: 2 if configuration != "default" else 4]).permute(0, 3, 1, 2).float() / 255)
    codebook = codebook.freeze().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    made = VQIG(config, codebook)
    for parameter in made.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    if made.ratio is not None:
        made.ratio.face.copy_(unit_points(clip.landmarks_px, clip.image.shape[-1]))
        made.ratio.maps.normal_(std=0.05)
    if made.mouth is not None:
        made.mouth.face.copy_(unit_points(clip.landmarks_px, clip.image.shape[-1]))
        made.mouth.maps.uniform_(0, 0.1)
        made.mouth.is_fitted.fill_(True)
    made = channels_last(made.requires_grad_(False).to(device)).eval()
    if model == WARP:
        made.refine = lambda warped, *_: vqig_module.Refined(warped, None, None)  # type: ignore[method-assign]
        made.decode = lambda refined, warped: warped  # type: ignore[method-assign]
    return made


def parameters_of(vqig: VQIG, model: str) -> int:
    """Numbers that rendering a frame uses: psi and warp, or all of VQIG with codes and D_h."""
    held: list[torch.nn.Module | None] = [vqig.psi, vqig.warp, vqig.point_motion]
    modules = held if model == WARP else [vqig, vqig.codebook.decoder]
    numbers = sum(value.numel() for module in modules if module is not None for value in module.parameters())
    numbers += sum(layer.maps.numel() for layer in (vqig.ratio, vqig.mouth) if layer is not None)
    return numbers + (vqig.codebook.quantizer.embedding.numel() if model == FULL else 0)


def prepared(vqig: VQIG, clip: Clip, precision: str, device: str = "cpu") -> SourceState:
    """What depends on the portrait alone."""
    parts = (clip.image, clip.beta[0], clip.pose[0], clip.landmarks_px)
    return vqig.prepare_source(*(part.to(device) for part in parts), precision=precision)


def fastest(work: Callable[[], object], rounds: int, threads: Sequence[int]) -> tuple[dict[str, float], dict[str, float]]:
    """Time a piece of work; numbers of threads take turns, so that a busy moment of the machine does not hit one of them alone.

    Args:
        work: what is timed.
        rounds: timings with each number of threads.
        threads: numbers of threads.

    Returns:
        Least wall seconds and least CPU seconds of this process, by number of threads.
    """
    wall, cpu = (dict.fromkeys(map(str, threads), float("inf")) for _ in range(2))
    for _ in range(rounds):
        for count in threads:
            torch.set_num_threads(count)
            used, started = time.process_time(), time.perf_counter()
            work()
            wall[str(count)] = min(wall[str(count)], time.perf_counter() - started)
            cpu[str(count)] = min(cpu[str(count)], time.process_time() - used)
    return wall, cpu


def speed_row(configuration: str, device: str, row: dict[str, Any], asked: float | None) -> Speed:
    """A row of the table from what was timed (keys as in PEER_ROW)."""
    known = {name: row[name] for name in PEER_ROW}
    threads, seconds = min(row["by_threads"].items(), key=lambda item: item[1])
    return Speed(
        configuration=configuration, device=device, threads=int(threads), frames_per_s=row["frames"] / seconds, asked=asked, **known
    )


def speed(case: Case, precision: str, rounds: int, threads: Sequence[int] = THREADS, device: str = "cpu") -> Speed:
    """Frames per second of a case, from coefficients to bytes in memory."""
    clip = clay_clip(case.size_px, CONFIGURATIONS[case.configuration][1], case.frames)
    vqig = random_generator(case.configuration, case.model, clip, device)
    source = prepared(vqig, clip, precision, device)
    beta, pose = clip.beta.to(device), clip.pose.to(device)

    def work() -> None:
        vqig.render_clip(source, beta, pose, batch_size=case.batch, precision=precision)

    torch.set_num_threads(1)
    vqig.render_clip(source, beta[:1], pose[:1], batch_size=case.batch, precision=precision)
    wall, cpu = fastest(work, min(rounds, case.rounds), threads if device == "cpu" else (1,))
    row = {
        "model": case.model, "size_px": case.size_px, "batch": case.batch, "precision": precision, "frames": case.frames,
        "parameters": parameters_of(vqig, case.model), "by_threads": wall, "cpu_by_threads": cpu,
    }  # fmt: skip
    asked = ASKED.get((case.configuration, case.model, case.size_px, case.batch)) if device == "cpu" else None
    return speed_row(case.configuration, device, row, asked)


def read_peer(path: Path) -> dict[str, Any]:
    """A peer's file: who it is, how it was run, its rows.

    Raises:
        PipelineError: the file is missing, is no JSON or lacks a key.
    """
    cure = "write it as benchmarks/render.md describes under 'A peer'"
    try:
        peer = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path}: cannot be read as JSON ({error})", cure) from error
    for name in ("source", "how", "load", "rows"):
        if name not in peer:
            raise PipelineError(f"{path}: has no '{name}'", cure)
    for number, row in enumerate(peer["rows"]):
        if missing := PEER_ROW - set(row):
            raise PipelineError(f"{path}: row {number} has no {', '.join(sorted(missing))}", cure)
    return peer


class Stopwatch:
    """Time spent in named calls, each without the named calls inside it.

    Args:
        clock: seconds, growing.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0

    def _charge(self) -> None:
        now = self.clock()
        if self._open:
            self.seconds[self._open[-1]] = self.seconds.get(self._open[-1], 0.0) + now - self._since
        self._since = now

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, timed under a name."""

        @functools.wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._charge()
            self._open.append(name)
            try:
                return call(*args, **kwargs)
            finally:
                self._charge()
                self._open.pop()

        return timed


#: Name of what ``render_clip`` does beside its parts.
BYTES = "windows, bytes"


def part_calls(vqig: VQIG) -> list[tuple[Any, str, str]]:
    """(owner, attribute, name of the part) of the calls that make a frame, in their order."""
    fine = [vqig.fine, *vqig.fine_blocks, vqig.last, vqig.gate, vqig.blend]
    quantizer = vqig.codebook.quantizer
    calls: list[tuple[Any, str, str]] = [
        (vqig.psi, "forward", "psi"),
        (vqig, "_move_points", "point motion"),
        (vqig.warp, "forward", "warp network"),
        (vqig_module, "spread_shift", "field of the moved points"),
        (vqig_module, "warp_image", "warp of the picture"),
        (vqig.ratio, "forward", "expression ratio"),
        (vqig.mouth, "forward", "inside of the mouth"),
        (vqig.encoder, "forward", "E_w"),
        (vqig.phi, "forward", "phi"),
        (vqig.mhca, "forward", "MHCA"),
        (vqig, "refine", "T, merged tokens"),
        *((module, "forward", "T, all tokens") for module in fine),
        (quantizer, "nearest", "code look-up"),
        (quantizer, "lookup", "code look-up"),
        (vqig.codebook, "decode", "D_h"),
        (vqig_module, "recolour", "recolouring"),
        (vqig, "decode", "rest"),
        (vqig, "render", "rest"),
        (vqig, "render_clip", BYTES),
    ]
    return [call for call in calls if call[0] is not None]


@contextmanager
def watched(vqig: VQIG, clock: Callable[[], float]) -> Iterator[Stopwatch]:
    """While open, the calls of ``part_calls`` are timed; afterwards the generator is as it was."""
    watch = Stopwatch(clock)
    with ExitStack() as stack:
        for owner, attribute, name in part_calls(vqig):
            stack.enter_context(mock.patch.object(owner, attribute, watch.around(name, getattr(owner, attribute))))
        yield watch


def parts(case: Case, precision: str, rounds: int, threads: Sequence[int] = THREADS) -> list[Parts]:
    """Milliseconds of every part, for each number of threads; rounds with and without stopwatch take turns."""
    clip = clay_clip(case.size_px, CONFIGURATIONS[case.configuration][1], case.frames)
    vqig = random_generator(case.configuration, case.model, clip)
    source = prepared(vqig, clip, precision)

    def work() -> None:
        vqig.render_clip(source, clip.beta, clip.pose, batch_size=case.batch, precision=precision)

    clocks = {"wall": time.perf_counter, "cpu": time.process_time}
    found = []
    for count in threads:
        best: dict[str, dict[str, float]] = {name: {} for name in clocks}
        whole, whole_cpu = float("inf"), float("inf")
        for _ in range(rounds):
            wall, cpu = fastest(work, 1, (count,))
            whole, whole_cpu = min(whole, wall[str(count)]), min(whole_cpu, cpu[str(count)])
            for name, clock in clocks.items():
                with watched(vqig, clock) as watch:
                    work()
                if not best[name] or sum(watch.seconds.values()) < sum(best[name].values()):
                    best[name] = watch.seconds
        once, _ = fastest(lambda: prepared(vqig, clip, precision), rounds, (count,))
        order = dict.fromkeys(name for _, _, name in part_calls(vqig))
        ms, cpu_ms = ({name: 1e3 * best[kind].get(name, 0.0) / case.frames for name in order} for kind in clocks)
        found.append(Parts(precision, count, ms, cpu_ms, 1e3 * whole / case.frames, 1e3 * whole_cpu / case.frames, 1e3 * once[str(count)]))
    return found


def encoder(size_px: int, frames: int, rounds: int) -> Encoder:
    """Write a clay clip with a tone as mp4."""
    cycle = clay_clip(size_px, CONFIGURATIONS["default"][1], frames).drawn
    cfg: dict[str, Any] = validate(read_config("params.yaml"))
    sound = (0.2 * np.sin(0.2 * np.arange(frames * SAMPLE_RATE_HZ // FPS_HZ))).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        wall, cpu = fastest(
            lambda: write_synthetic(path, (cycle[i % len(cycle)] for i in range(frames)), sound, crf=cfg["generate"].crf, by="benchmark"),
            rounds,
            (1,),
        )
        size = path.stat().st_size
    return Encoder(size_px, frames, 1e3 * wall["1"] / frames, 1e3 * cpu["1"] / frames, size / 1000 * FPS_HZ / frames)


def memory_here(size_px: int, batch: int, precision: str) -> Memory:
    """Render one clip in this process."""
    torch.set_num_threads(1)
    clip = clay_clip(size_px, CONFIGURATIONS["default"][1], MEMORY_FRAMES)
    vqig = random_generator("default", FULL, clip)
    vqig.render_clip(prepared(vqig, clip, precision), clip.beta[:1], clip.pose[:1], batch_size=1, precision=precision)
    forget_peak()
    before = resident_mb("VmRSS")
    made = vqig.render_clip(prepared(vqig, clip, precision), clip.beta, clip.pose, batch_size=batch, precision=precision)
    return Memory(size_px, batch, len(made), precision, before, resident_mb("VmHWM"), made.numel() / 2**20)


def memory(size_px: int, batch: int, precision: str) -> Memory:
    """Render one clip in a process of its own.

    Raises:
        RuntimeError: it failed; its last lines are in the message.
    """
    command = [sys.executable, "-m", "benchmarks.render", "--memory-of", str(size_px), str(batch), precision]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise RuntimeError("\n".join(done.stderr.splitlines()[-6:]))
    return Memory(**json.loads(done.stdout.splitlines()[-1]))


def _ms(row: dict[str, Any], key: str, threads: int) -> str:
    """Milliseconds a frame, empty where that number of threads was not timed."""
    value = row[key].get(str(threads))
    return "" if value is None else f"{1e3 * value / row['frames']:.1f}"


def _header(columns: Sequence[str], words: int) -> list[str]:
    """Head of a markdown table; all columns but the given number of first ones are numbers."""
    return ["| " + " | ".join(columns) + " |", "|" + "---|" * words + "---:|" * (len(columns) - words)]


def _speed_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    columns = (
        "configuration", "model", "device", "precision", "parameters [M]", "side [px]", "batch", "1 thread [ms]", "CPU [ms]",
        "2 threads [ms]",
        "frames/s", "frames/CPU s", "asked", "met",
    )  # fmt: skip
    lines = _header(columns, 4)
    for row in rows:
        met = "" if row["asked"] is None else "yes" if row["frames_per_s"] >= row["asked"] else "no"
        cells = (
            row["configuration"], row["model"], row["device"], row["precision"], f"{row['parameters'] / 1e6:.2f}", f"{row['size_px']}",
            f"{row['batch']}", _ms(row, "by_threads", 1), _ms(row, "cpu_by_threads", 1), _ms(row, "by_threads", 2),
            f"{row['frames_per_s']:.2f}", f"{row['frames'] / min(row['cpu_by_threads'].values()):.2f}",
            "" if row["asked"] is None else f"{row['asked']:g}", met,
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _parts_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    counts = list(dict.fromkeys(row["threads"] for row in rows))
    heads = [head for n in counts for head in (f"{n} thread{'s' if n > 1 else ''} [ms]", "CPU [ms]")]
    lines = _header(("precision", "part", *heads), 2)
    for precision in dict.fromkeys(row["precision"] for row in rows):
        columns = [row for row in rows if row["precision"] == precision]
        lines += [
            f"| {precision} | {part} | " + " | ".join(f"{c['ms'][part]:.2f} | {c['cpu_ms'][part]:.2f}" for c in columns) + " |"
            for part in columns[0]["ms"]
        ]
        sums = [(sum(c["ms"].values()), sum(c["cpu_ms"].values())) for c in columns]
        lines.append(f"| {precision} | sum of the parts | " + " | ".join(f"{wall:.2f} | {cpu:.2f}" for wall, cpu in sums) + " |")
        lines.append(
            f"| {precision} | whole, no stopwatch | " + " | ".join(f"{c['whole_ms']:.2f} | {c['whole_cpu_ms']:.2f}" for c in columns) + " |"
        )
        apart = (
            f"{100 * (wall / c['whole_ms'] - 1):+.1f} % | {100 * (cpu / c['whole_cpu_ms'] - 1):+.1f} %"
            for (wall, cpu), c in zip(sums, columns, strict=True)
        )
        lines.append(f"| {precision} | sum against whole | " + " | ".join(apart) + " |")
        lines.append(f"| {precision} | source, once per clip | " + " | ".join(f"{c['source_ms']:.2f} | " for c in columns) + " |")
    return lines


def to_markdown(results: dict[str, Any]) -> str:
    """The results as a page for people."""
    machine, load, case = results["hardware"], results["load"], results["parts_of"]
    missing = [name for name in PRECISIONS if name not in results["precisions"]]
    lines = [
        "# Speed of the image generator", "",
        "Written by `python -m benchmarks.render`: random weights, from coefficients of one portrait to bytes of colour in memory, "
        f"best of {results['rounds']} rounds and of numbers of threads ({', '.join(map(str, results['threads']))}). Milliseconds are "
        "of a frame. CPU: time that the process itself used, which other work on the machine makes worse by less than wall time; in the "
        "first table on one thread.", "",
        f"{machine['cpu']}, {machine['cores_usable']} usable cores, GPU: {machine['gpu']}, Python {machine['python']}, torch "
        f"{machine['torch']}; load before {load[0]:.2f}, after {load[1]:.2f}. Other work on the machine makes every number worse.", "",
        "`full` is the generator of `imagegen.variants.full`; `no_codebook` the same without look-up; `warp only` shows the warped "
        "portrait, by the same weights. Parameters are those that a frame needs. `paper-size` is configs/paper.yaml; it has no "
        "expression ratio and no layer of the mouth.",
    ]  # fmt: skip
    if missing:
        lines += [
            f"Not measured: {', '.join(missing)}; this processor has no arithmetic for it, and `precision: bf16` computes in float32 here."
        ]
    lines += ["", *_speed_lines(results["speeds"]), "", "## Parts of a frame", ""]
    lines += [
        f"{case['size_px']} px, batch {case['batch']}, {case['frames']} frames. A stopwatch around the calls inside `VQIG.render_clip`; "
        "each part without the parts inside it. `T, merged tokens` holds the AdaIN block, the Transformer and the marks of the landmarks; "
        "`T, all tokens` the blocks behind it.", "",
        *_parts_lines(results["parts"]), "",
        "## Encoder", "", "H.264 and AAC as `generate` and `animate` write them, one thread, a clay clip with a tone.", "",
        "| side [px] | frames | frame [ms] | CPU [ms] | frames/s | a second of video [kB] |", "|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    lines += [
        f"| {row['size_px']} | {row['frames']} | {row['ms']:.2f} | {row['cpu_ms']:.2f} | {1e3 / row['ms']:.0f} | {row['kb_per_s']:.0f} |"
        for row in results["encoder"]
    ]
    lines += [
        "", "## Peak memory of a process that renders one clip", "",
        "| side [px] | precision | batch | frames | before [MB] | peak [MB] | rendering adds [MB] | of it frames [MB] |",
        "|---:|---|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    lines += [
        f"| {row['size_px']} | {row['precision']} | {row['batch']} | {row['frames']} | {row['before_mb']:.0f} | {row['peak_mb']:.0f} "
        f"| {row['peak_mb'] - row['before_mb']:.0f} | {row['output_mb']:.1f} |"
        for row in results["memory"]
    ]
    lines += ["", "## A peer", "", PEER_NOTE]
    for peer in results["peers"]:
        lines += ["", f"**{peer['source']}.** {peer['how']} Load before {peer['load'][0]:.2f}, after {peer['load'][1]:.2f}."]
    if not results["peers"]:
        lines += ["", "No peer was given to this run."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=3, help="timings of each number")
    parser.add_argument(
        "--threads", type=int, nargs="+", choices=THREADS, default=THREADS, help="numbers of threads; two wait on a busy machine"
    )
    parser.add_argument(
        "--peer", type=Path, action="append", default=[], metavar="FILE", help="JSON with rows of another renderer; may be repeated"
    )
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for render.json and render.md")
    parser.add_argument("--memory-of", nargs=3, metavar=("PX", "BATCH", "PRECISION"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of is not None:
        size, batch, precision = args.memory_of
        print(json.dumps(asdict(memory_here(int(size), int(batch), precision))))
        return
    try:
        peers = [read_peer(path) for path in args.peer]
    except PipelineError as error:
        sys.exit(str(error))
    before, formats = os.getloadavg()[0], precisions()
    found = [speed(case, precision, args.rounds, args.threads) for case in CASES for precision in formats]
    if torch.cuda.is_available():
        found += [speed(case, precision, args.rounds, device="cuda") for case in CASES if case.batch > 1 for precision in PRECISIONS]
    found += [speed_row("peer", "cpu", row, None) for peer in peers for row in peer["rows"]]
    results: dict[str, Any] = {
        "hardware": hardware(),
        "rounds": args.rounds,
        "threads": list(args.threads),
        "precisions": list(formats),
        "speeds": [asdict(row) for row in found],
        "parts_of": asdict(PARTS_OF),
        "parts": [asdict(row) for precision in formats for row in parts(PARTS_OF, precision, args.rounds, args.threads)],
        "encoder": [asdict(encoder(size, ENCODED_FRAMES, args.rounds)) for size in ENCODED_PX],
        "memory": [asdict(memory(size, batch, precision)) for size, batch in MEMORY_OF for precision in formats],
        "peers": [{name: peer[name] for name in ("source", "how", "load")} for peer in peers],
    }
    results["load"] = [before, os.getloadavg()[0]]
    write_json(args.out / "render.json", results)
    write_text(args.out / "render.md", to_markdown(results))
    print(to_markdown(results))


if __name__ == "__main__":
    main()
