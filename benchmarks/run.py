"""Speed and memory of every stage: `make bench`, or `python -m benchmarks.run [--root runs/<name>] [--no-live]`.

Two views, since each can mislead alone:
- **recorded**: what Snakemake measured when the stages last ran (`logs/<stage>/*.benchmark.tsv`). It covers every stage, but a clip that came
  from `.cache` cost next to nothing, so a partly cached run looks too fast.
- **live**: one job of the per-clip stages and one generated method, run now with an empty cache on one thread. The same job is run again with
  a full cache, and the difference is the work itself without start-up.

Writes `benchmarks/results.{json,md}` with the hardware and the load beside the numbers. Nothing of the run itself is changed.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from flowvqtalker.constants import FPS_HZ
from pipeline.io import write_json, write_text
from pipeline.stages import STAGES

FOLDER = Path(__file__).resolve().parent
#: Clips of a live measurement: enough to average over, few enough for a minute.
LIVE_CLIPS = 8
CLIP_STAGES = tuple(name for name, stage in STAGES.items() if stage.kind == "clips")
LIVE_METHOD = "flowvqtalker_free"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Recorded:
    """A stage as Snakemake measured it.

    Attributes:
        stage: name.
        jobs: measured jobs.
        job_seconds: sum of the jobs' wall time [s]; jobs run in parallel, so it is not the stage's duration.
        cpu_seconds: sum of their CPU time [s], None where Snakemake could not tell.
        peak_mb: largest resident memory of one job [MB].
        frames: video frames that the stage handled, None for a training.
        frames_per_s: frames per job second.
    """

    stage: str
    jobs: int
    job_seconds: float
    cpu_seconds: float | None
    peak_mb: float | None
    frames: int | None
    frames_per_s: float | None


@dataclass(frozen=True)
class Live:
    """A job measured now, with an empty cache.

    Attributes:
        stage: name, or name and method.
        frames: frames made.
        seconds: wall time of the whole job [s], start-up included.
        start_up_s: wall time of the same job when everything is in the cache [s].
        frames_per_s: frames / (seconds - start_up_s).
        real_time_factor: job seconds per second of video; below 1 is faster than real time.
        peak_mb: largest resident memory [MB].
    """

    stage: str
    frames: int
    seconds: float
    start_up_s: float
    frames_per_s: float
    real_time_factor: float
    peak_mb: float


def read_number(text: str | None) -> float | None:
    """A finite number of a Snakemake table, where "NA" and "-" mean unknown."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def read_recorded(root: Path) -> list[Recorded]:
    """Measurements of the last run, in the order of the stages; a stage that was never measured is left out."""
    found = []
    for name in STAGES:
        rows = []
        for path in sorted((root / "logs" / name).rglob("*.benchmark.tsv")):
            with path.open(newline="") as handle:
                rows += list(csv.DictReader(handle, delimiter="\t"))
        seconds = [value for row in rows if (value := read_number(row.get("s"))) is not None]
        if not seconds:
            continue
        memory = [value for row in rows if (value := read_number(row.get("max_rss"))) is not None]
        cpu = [value for row in rows if (value := read_number(row.get("cpu_time"))) is not None]
        frames = count_frames(root, name)
        total = sum(seconds)
        rate = frames / total if frames and total > 0 else None
        found.append(Recorded(name, len(seconds), total, sum(cpu) if cpu else None, max(memory, default=None), frames, rate))
    return found


def count_frames(root: Path, stage: str) -> int | None:
    """Frames in the usable rows of a stage's table; `evaluate` scores what `generate` made."""
    source = "generate" if stage == "evaluate" else stage
    if STAGES[source].kind not in {"clips", "methods"}:
        return None
    return frames_of(root / STAGES[source].out)


def frames_of(table: Path) -> int | None:
    """Sum of `n_frames` over rows with status ok, None when there is no such table."""
    if not table.is_file():
        return None
    with table.open(newline="", encoding="utf-8") as handle:
        values = [read_number(row.get("n_frames")) for row in csv.DictReader(handle) if row.get("status") == "ok"]
    return int(sum(value for value in values if value is not None))


def run_job(arguments: list[str], cache: Path) -> tuple[float, float]:
    """Runs a step on one thread and returns its wall time [s] and largest resident memory [MB].

    Raises:
        RuntimeError: the step failed; its last lines are in the message.
    """
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, "1") | {"FVQT_CACHE": str(cache), "FVQT_TRACK": "0"}
    with tempfile.TemporaryFile("w+") as log:
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", *arguments], stdout=log, stderr=subprocess.STDOUT, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise RuntimeError("".join(log.readlines()[-6:]))
    return seconds, usage.ru_maxrss / 1024


def measure(stage: str, arguments: list[str], table: Path, cache: Path) -> Live:
    """Cold and warm run of one job; `arguments` write `table`."""
    seconds, memory = run_job(arguments, cache)
    frames = frames_of(table) or 0
    start_up, _ = run_job(arguments, cache)
    work = max(seconds - start_up, 1e-9)
    return Live(stage, frames, seconds, start_up, frames / work, seconds * FPS_HZ / max(frames, 1), memory)


def measure_live(root: Path) -> tuple[list[Live], list[str]]:
    """Live measurements of the per-clip stages and of one generated method, and sentences on what could not be measured."""
    found, problems = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in (*CLIP_STAGES, "generate"):
            stamp, table = root / ".stamps" / f"{name}.json", Path(folder) / name / "index.csv"
            cache = Path(folder) / "cache" / name
            table.parent.mkdir(parents=True)
            if not stamp.is_file():
                problems.append(f"{name}: no stamp; run the pipeline first")
                continue
            common = ["--stamp", str(stamp), "--root", str(root), "--threads", "1", "--out", str(table)]
            if name == "generate":
                arguments = ["pipeline.generate", "method", "--method", LIVE_METHOD, *common]
            else:
                shards = max(1, clips_of(root / STAGES[name].out) // LIVE_CLIPS)
                arguments = [f"pipeline.{name}", "shard", "--shard", "0", "--shards", str(shards), *common]
            print(f"measuring {name} ...", flush=True)
            try:
                found.append(measure(name if name != "generate" else f"generate {LIVE_METHOD}", arguments, table, cache))
            except RuntimeError as error:
                problems.append(f"{name}: {' '.join(str(error).split())[-300:]}")
    return found, problems


def clips_of(table: Path) -> int:
    """Rows of an index table, 0 without one."""
    if not table.is_file():
        return 0
    with table.open(newline="", encoding="utf-8") as handle:
        return sum(1 for _ in csv.DictReader(handle))


def hardware() -> dict[str, object]:
    """The machine, as far as it bears on speed; no host name."""
    model = platform.processor() or "unknown"
    info = Path("/proc/cpuinfo")
    if info.is_file():
        model = next((line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")), model)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = "none"
    if shutil.which("nvidia-smi"):
        done = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=False)
        gpu = ", ".join(done.stdout.split("\n")).strip(", ") or "none"
    return {
        "cpu": model,
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(memory, 1),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": version("torch"),
        "system": f"{platform.system()} {platform.machine()}",
    }


def to_markdown(results: dict) -> str:
    """The results as a page for people."""
    machine = results["hardware"]
    before, after = (", ".join(f"{value:.2f}" for value in results["load"][when]) for when in ("before", "after"))
    lines = [
        "# Speed and memory", "",
        "Written by `make bench`. One job uses one thread; jobs run in parallel on more cores.", "",
        f"{machine['cpu']}, {machine['cores_usable']} usable cores, {machine['memory_gib']} GiB, GPU: {machine['gpu']}, "
        f"Python {machine['python']}, torch {machine['torch']}, {machine['system']}.",
        f"Load over 1, 5, 15 minutes before: {before}; after: {after}. Other work on the machine makes every number worse.", "",
        "## Live: one job with an empty cache", "",
    ]  # fmt: skip
    if results["live"]:
        lines += [
            "| stage | frames | job [s] | of it start-up [s] | frames/s | real-time factor | peak memory [MB] |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {row['stage']} | {row['frames']} | {row['seconds']:.1f} | {row['start_up_s']:.1f} | {row['frames_per_s']:.1f} "
            f"| {row['real_time_factor']:.2f} | {row['peak_mb']:.0f} |"
            for row in results["live"]
        ]
        lines += ["", "Real-time factor: job seconds, start-up included, per second of video; below 1 is faster than real time."]
    lines += [f"- not measured: {problem}" for problem in results["problems"]]
    lines += ["", "## Recorded: the last run of every stage", ""]
    if results["recorded"]:
        lines += [
            "| stage | jobs | job seconds | CPU seconds | frames | frames per job second | peak memory of a job [MB] |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {row['stage']} | {row['jobs']} | {row['job_seconds']:.1f} | {_number(row['cpu_seconds'], 1)} | {_number(row['frames'], 0)} "
            f"| {_number(row['frames_per_s'], 1)} | {_number(row['peak_mb'], 0)} |"
            for row in results["recorded"]
        ]
        lines += [
            "",
            f"Sum: {sum(row['job_seconds'] for row in results['recorded']):.0f} job seconds. Clips and trainings that came from `.cache` cost next to nothing here.",
        ]
    else:
        lines += ["No stage has been run yet."]
    return "\n".join(lines) + "\n"


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--root", type=Path, default=Path("."), help="folder of the run (runs/<name> for another configuration)")
    parser.add_argument("--no-live", action="store_true", help="only what Snakemake recorded")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for results.json and results.md")
    args = parser.parse_args()
    before = os.getloadavg()
    live, problems = ([], []) if args.no_live else measure_live(args.root)
    results = {
        "hardware": hardware(),
        "load": {"before": list(before), "after": list(os.getloadavg())},
        "live": [asdict(row) for row in live],
        "recorded": [asdict(row) for row in read_recorded(args.root)],
        "problems": problems,
    }
    write_json(args.out / "results.json", results)
    text = to_markdown(json.loads((args.out / "results.json").read_text()))
    write_text(args.out / "results.md", text)
    print(text)
    if problems and not live and not results["recorded"]:
        sys.exit("error: nothing could be measured\n  fix: run `make all` first")


if __name__ == "__main__":
    main()
