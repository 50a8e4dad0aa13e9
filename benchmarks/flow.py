"""Speed and memory of the flows' sampler: ``python -m benchmarks.flow``, alone on the machine, under 4 minutes on two cores.

Real-time factors here are seconds of motion per second of work (above 1 is faster than real time), from mel windows to coefficients, for
ExpFlow and PoseFlow together, since a face needs both. Weights are random: they change no cost. Sizes are those of params.yaml and
configs/paper.yaml, with all coefficients kept. Each number is the best of some rounds and of 1 and 2 threads.

Peak memory is that of ExpFlow in a process of its own. The cost of a frame against K and tau is measured on one thread.
Writes `benchmarks/flow.{json,md}` and `docs/figures/flow_cost.png`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.run import FOLDER, hardware
from flowvqtalker.audio.mel import N_MELS, WINDOW_STEPS
from flowvqtalker.constants import FPS_HZ
from flowvqtalker.flow.motionflow import FlowConfig, MotionFlow
from flowvqtalker.flow.sampling import MotionRequest, rollout
from pipeline.flow import flow_config
from pipeline.io import atomic_path, write_json, write_text
from pipeline.params import read_config, validate

FIGURE = Path("docs/figures/flow_cost.png")
#: Overlay of params.yaml and number of expression coefficients of each configuration (clay and ICT: 53; Deep3D: 64).
CONFIGURATIONS: dict[str, tuple[str, int]] = {"default": ("", 53), "paper-size": ("configs/paper.yaml", 64)}
#: Asked by the issue: least real-time factor, by configuration and number of clips.
ASKED = {("default", 1): 10.0, ("default", 32): 60.0, ("paper-size", 1): 3.0, ("paper-size", 32): 12.0}
#: Length of a timed clip [s]; short where a second of motion takes long, since work grows in proportion.
LENGTHS = {("default", 1): 10.0, ("default", 32): 4.0, ("paper-size", 1): 3.0, ("paper-size", 32): 1.0}
#: Lengths whose peak memory is compared [s].
MEMORY_OF = (10.0, 600.0)
THREADS = (1, 2)
STEPS, TAUS = (1, 2, 4, 6, 8, 12, 16), (5, 10, 20, 40)
KINDS = {"expression": "ExpFlow", "pose": "PoseFlow"}


@dataclass(frozen=True)
class Speed:
    """Sampling of some clips.

    Attributes:
        configuration: name of CONFIGURATIONS.
        flow: ``ExpFlow``, ``PoseFlow`` or ``both``.
        clips: clips in one batch.
        clip_s: length of a clip [s].
        threads: the faster number of threads.
        seconds: of work, best round.
        by_threads: seconds of the best round by number of threads.
        real_time_factor: seconds of motion per second of work.
        asked: least factor that is asked for; None where nothing is.
    """

    configuration: str
    flow: str
    clips: int
    clip_s: float
    threads: int
    seconds: float
    by_threads: dict[str, float]
    real_time_factor: float
    asked: float | None


@dataclass(frozen=True)
class Memory:
    """Peak memory of a process that samples one clip with ExpFlow of the default configuration.

    Attributes:
        clip_s: length of the clip [s].
        before_mb: resident before the rollout starts, mel windows included [MB].
        peak_mb: peak during the rollout [MB].
        input_mb: size of the clip's mel windows alone [MB].
        output_mb: size of the coefficients that come out [MB].
        seconds: of work.
    """

    clip_s: float
    before_mb: float
    peak_mb: float
    input_mb: float
    output_mb: float
    seconds: float


@dataclass(frozen=True)
class Cost:
    """Time of one frame step of ExpFlow, on one thread.

    Attributes:
        steps: K.
        tau: frames of recent history.
        clips: clips in the batch.
        ms: milliseconds a frame step, best round.
    """

    steps: int
    tau: int
    clips: int
    ms: float


def shape(configuration: str, kind: str) -> FlowConfig:
    """Shape of a flow as its training would make it when no dimension is dropped."""
    overlay, coefficients = CONFIGURATIONS[configuration]
    cfg = validate(read_config("params.yaml", overlay) if overlay else read_config("params.yaml"))["flow"]
    config = flow_config(cfg, kind, coefficients if kind == "expression" else 6, 0)  # type: ignore[arg-type]
    return replace(config, long_dims=(0, 1)) if kind == "expression" else config


def random_flow(config: FlowConfig) -> MotionFlow:
    """A flow with random weights whose coefficients stay within [-1, 1]."""
    torch.manual_seed(0)
    flow = MotionFlow(config)
    flow.low.fill_(-1.0)
    flow.high.fill_(1.0)
    return flow.eval().requires_grad_(False)


def requests(config: FlowConfig, clips: int, frames: int) -> list[MotionRequest]:
    """Clips of random sound."""
    generator = torch.Generator().manual_seed(1)
    windows = 8 * torch.rand(frames, WINDOW_STEPS, N_MELS, generator=generator) - 4
    beta0 = torch.zeros(config.coefficients if config.kind == "expression" else 53)
    return [MotionRequest(windows, beta0, torch.zeros(6), i % 8, 1.0, i) for i in range(clips)]


def work_seconds(flow: MotionFlow, asked: Sequence[MotionRequest], rounds: int) -> float:
    """Best wall time [s] of a rollout."""
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in rollout(flow, asked, batch=len(asked)):
            pass
        best = min(best, time.perf_counter() - started)
    return best


def frames_of(clip_s: float) -> int:
    """Frames of a clip, at least five."""
    return max(5, round(clip_s * FPS_HZ))


def speeds(configuration: str, clips: int, frames: int, rounds: int) -> list[Speed]:
    """ExpFlow, PoseFlow and both, one after the other."""
    clip_s = frames / FPS_HZ
    found: dict[str, dict[int, float]] = {}
    for kind, name in KINDS.items():
        config = shape(configuration, kind)
        flow, asked = random_flow(config), requests(config, clips, frames)
        work_seconds(flow, requests(config, clips, 3), 1)
        found[name] = {}
        for threads in THREADS:
            torch.set_num_threads(threads)
            found[name][threads] = work_seconds(flow, asked, rounds)
    found["both"] = {threads: sum(found[name][threads] for name in KINDS.values()) for threads in THREADS}
    rows = []
    for name, by_threads in found.items():
        threads = min(by_threads, key=by_threads.__getitem__)
        seconds = by_threads[threads]
        target = ASKED.get((configuration, clips))
        texts = {str(count): value for count, value in by_threads.items()}
        rows.append(Speed(configuration, name, clips, clip_s, threads, seconds, texts, clips * clip_s / seconds, target))
    return rows


def resident_mb(line: str) -> float:
    """Resident memory of this process [MB] by a line of the kernel's status file: VmRSS now, VmHWM at its peak."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(text.split()[1]) for text in status if text.startswith(f"{line}:")) / 1024


def forget_peak() -> None:
    """Set the peak back to what is resident now: imports need more for a moment than a short rollout does."""
    Path("/proc/self/clear_refs").write_text("5")


def memory_here(clip_s: float) -> Memory:
    """Sample one clip in this process."""
    torch.set_num_threads(1)
    config = shape("default", "expression")
    flow, asked = random_flow(config), requests(config, 1, frames_of(clip_s))
    for _ in rollout(flow, requests(config, 1, 3)):
        pass
    forget_peak()
    before, started, size = resident_mb("VmRSS"), time.perf_counter(), 0
    for made in rollout(flow, asked):
        size += made.numel() * made.element_size()
    seconds = time.perf_counter() - started
    return Memory(frames_of(clip_s) / FPS_HZ, before, resident_mb("VmHWM"), asked[0].windows.numel() * 4 / 2**20, size / 2**20, seconds)


def memory(clip_s: float) -> Memory:
    """Sample one clip in a process of its own.

    Raises:
        RuntimeError: it failed; its last lines are in the message.
    """
    command = [sys.executable, "-m", "benchmarks.flow", "--memory-of", str(clip_s)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise RuntimeError("\n".join(done.stderr.splitlines()[-6:]))
    return Memory(**json.loads(done.stdout.splitlines()[-1]))


def costs(frames: int, rounds: int) -> list[Cost]:
    """Time of a frame step against K (tau as in params.yaml) and against tau (K as in params.yaml), one clip and 32."""
    torch.set_num_threads(1)
    base = shape("default", "expression")
    shapes = [replace(base, stack=replace(base.stack, steps=steps)) for steps in STEPS]
    shapes += [replace(base, tau=tau) for tau in TAUS if tau % base.frames_per_token == 0]
    found = []
    for config in dict.fromkeys(shapes):
        flow = random_flow(config)
        for clips in (1, 32):
            short, whole = requests(config, clips, frames // 5), requests(config, clips, frames)
            # The difference of two lengths leaves out what a clip costs whatever its frames.
            seconds = work_seconds(flow, whole, rounds) - work_seconds(flow, short, rounds)
            found.append(Cost(config.stack.steps, config.tau, clips, 1e3 * seconds / (frames - frames // 5)))
    return found


def draw(found: Sequence[Cost], path: Path) -> None:
    """The figure: milliseconds a frame step over K and over tau."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    base = shape("default", "expression")
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), constrained_layout=True, sharey=True)
    for clips, colour in ((1, "#2563eb"), (32, "#c2410c")):
        rows = [row for row in found if row.clips == clips]
        for axis, over, other in ((axes[0], "steps", "tau"), (axes[1], "tau", "steps")):
            fixed = {"tau": base.tau, "steps": base.stack.steps}[other]
            line = sorted((getattr(row, over), row.ms) for row in rows if getattr(row, other) == fixed)
            axis.plot([x for x, _ in line], [y for _, y in line], "o-", ms=4, color=colour, label=f"{clips} clip{'s' if clips > 1 else ''}")
    axes[0].set(xlabel="flow steps K", ylabel="a frame step of the batch [ms]", ylim=(0, None))
    axes[1].set(xlabel="history tau [frames]")
    axes[0].legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png", metadata={"Software": None})
    plt.close(figure)


def to_markdown(results: dict[str, Any]) -> str:
    """The results as a page for people."""
    machine, load = results["hardware"], results["load"]
    lines = [
        "# Speed of the flows", "",
        "Written by `python -m benchmarks.flow`: random weights, from mel windows to coefficients, best of "
        f"{results['rounds']} rounds and of 1 and 2 threads. Factor: seconds of motion per second of work.", "",
        f"{machine['cpu']}, {machine['cores_usable']} usable cores, Python {machine['python']}, torch {machine['torch']}; load before "
        f"{load[0]:.2f}, after {load[1]:.2f}. Other work on the machine makes every number worse.", "",
        "| configuration | flow | clips | of [s] | 1 thread [s] | 2 threads [s] | factor | asked | |", "|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]  # fmt: skip
    for row in results["speeds"]:
        asked, word = (
            ("", "") if row["asked"] is None else (f"{row['asked']:g}", "yes" if row["real_time_factor"] >= row["asked"] else "no")
        )
        one, two = (f"{row['by_threads'][str(threads)]:.2f}" for threads in THREADS)
        lines.append(
            f"| {row['configuration']} | {row['flow']} | {row['clips']} | {row['clip_s']:g} | {one} | {two} | {row['real_time_factor']:.1f} | {asked} | {word} |"
        )
    lines += [
        "", "## Peak memory of a process that samples one clip with ExpFlow", "",
        "| clip [s] | before the rollout [MB] | peak [MB] | rollout adds [MB] | of it coefficients [MB] | mel windows, in both [MB] | work [s] |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    lines += [
        f"| {row['clip_s']:g} | {row['before_mb']:.0f} | {row['peak_mb']:.0f} | {row['peak_mb'] - row['before_mb']:.0f} | {row['output_mb']:.1f} "
        f"| {row['input_mb']:.1f} | {row['seconds']:.1f} |"
        for row in results["memory"]
    ]
    lines += [
        "", "## Cost of a frame step, one thread", "", "`docs/figures/flow_cost.png`.", "",
        "| K | tau | clips | frame step [ms] |", "|---:|---:|---:|---:|",
    ]  # fmt: skip
    lines += [f"| {row['steps']} | {row['tau']} | {row['clips']} | {row['ms']:.2f} |" for row in results["costs"]]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=3, help="timings of each number")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of all clip lengths; below 1 for a trial")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for flow.json and flow.md")
    parser.add_argument("--figure", type=Path, default=FIGURE)
    parser.add_argument("--memory-of", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of is not None:
        print(json.dumps(asdict(memory_here(args.memory_of))))
        return
    before, scale = os.getloadavg()[0], args.scale
    found = [row for (name, clips), clip_s in LENGTHS.items() for row in speeds(name, clips, frames_of(clip_s * scale), args.rounds)]
    results = {
        "hardware": hardware(),
        "rounds": args.rounds,
        "speeds": [asdict(row) for row in found],
        "memory": [asdict(memory(clip_s * scale)) for clip_s in MEMORY_OF],
        "costs": [asdict(row) for row in costs(max(10, round(75 * scale)), args.rounds)],
    }
    results["load"] = [before, os.getloadavg()[0]]
    write_json(args.out / "flow.json", results)
    write_text(args.out / "flow.md", to_markdown(results))
    draw([Cost(**row) for row in results["costs"]], args.figure)
    print(to_markdown(results))


if __name__ == "__main__":
    main()
