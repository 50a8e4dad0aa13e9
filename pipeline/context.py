"""What a step gets: parameters from its stamp, paths of its inputs and output, seed, logger."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.io import file_sha256, text_sha256
from pipeline.params import validate_section
from pipeline.params.base import Section
from pipeline.stages import reads_of, stamp_json

UNEXPECTED, EXPECTED = 1, 2


@dataclass(frozen=True)
class Context:
    """Everything a step may know. Paths are relative to the repository, where every step runs.

    Attributes:
        stage, variant: what is made.
        stamp_text: parameters and code hash as written by the Snakefile.
        root: folder of the run ("." or runs/<name>).
        out: the hand-over file to write.
        reads: hand-over files by upstream name ("crop", "flow_full", ...); models are the folders of their index.json.
        threads: CPU threads for this job; part of no result except float rounding, and fixed by the rules.
    """

    stage: str
    variant: str
    stamp_text: str
    root: Path
    out: Path
    reads: dict[str, Path]
    threads: int = 1
    params: dict[str, Section] = field(default_factory=dict)

    @property
    def stamp(self) -> dict[str, Any]:
        return json.loads(self.stamp_text)

    @property
    def cfg(self) -> Any:
        """Typed parameters of the stage (of the variant, for a fanned stage)."""
        return self.params[self.stage]

    @property
    def seed(self) -> int:
        return self.stamp["seed"]

    @property
    def cache(self) -> Path:
        """Undeclared cache: shards, clips, trainings. Shared by all runs of this checkout."""
        return Path(os.environ.get("FVQT_CACHE", ".cache"))

    @cached_property
    def log(self) -> logging.Logger:
        return logging.getLogger(f"flowvqtalker.{self.stage}")

    def model_folder(self, upstream: str) -> Path:
        """Folder of a trained model that this stage reads, e.g. ``model_folder("codebook")`` or ``model_folder("flow_full")``."""
        return self.reads[upstream].parent

    @cached_property
    def cache_text(self) -> str:
        """The stamp as it enters keys of the cache: the run's name, which decides folders and no result, reads "default" in every run.

        So runs of any name share what they have in common, and the text of the default run is its stamp.
        """
        return self.stamp_text if self.stamp.get("name", "default") == "default" else stamp_json({**self.stamp, "name": "default"})

    def fingerprint(self, *inputs: str) -> str:
        """Hash of parameters, code, named inputs and all hand-over files read: equal fingerprints mean equal results."""
        checksums = [f"{name}={file_sha256(path)}" for name, path in sorted(self.reads.items())]
        return text_sha256(self.cache_text, *checksums, *inputs)[:24]


def base_parser(description: str) -> argparse.ArgumentParser:
    """Options every step has."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("--stamp", type=Path, required=True, help="stamp file with parameters and code hash")
    parser.add_argument("--root", type=Path, default=Path("."), help="folder of the run")
    parser.add_argument("--out", type=Path, required=True, help="hand-over file to write")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    return parser


def make_context(args: argparse.Namespace, **instead: Path) -> Context:
    """Context from parsed options; the stamp decides stage, variant and parameters. ``instead`` names files read in place of a hand-over."""
    text = args.stamp.read_text()
    stamp = json.loads(text)
    name = stamp["stage"]
    sections = {section: validate_section(section, values) for section, values in stamp["params"].items()}
    config = {**stamp["params"], "name": stamp["name"], "seed": stamp["seed"]}
    config.setdefault("generate", stamp["params"].get("generate", {}))
    reads = {upstream: args.root / path for upstream, path in reads_of(config, name).items()} | instead
    missing = [str(path) for path in reads.values() if not path.exists()]
    if missing:
        raise PipelineError(f"stage '{name}' needs {missing[0]}, which does not exist", f"run `snakemake --cores all {missing[0]}`")
    return Context(name, stamp["variant"], text, args.root, args.out, reads, args.threads, sections)


def limit_threads(threads: int) -> None:
    """One number of threads for torch, BLAS, numba and OpenCV; two torch processes of two threads each crawl on two cores."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[variable] = str(threads)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)


def set_up_logging() -> None:
    """Log lines to stdout, where the rule's tee sends them to logs/<stage>/ too."""
    logging.basicConfig(
        level=os.environ.get("FVQT_LOG", "INFO"),
        format="%(asctime)s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stdout,
        force=True,
    )
    for noisy in ("matplotlib", "numba", "PIL", "alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def guarded(action: Callable[[], None]) -> None:
    """Run a step: an expected error prints two lines and exits 2, any other keeps its traceback and exits 1."""
    try:
        action()
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(EXPECTED) from None
    except KeyboardInterrupt:
        print("interrupted; finished work is kept, run the same command again to go on", file=sys.stderr, flush=True)
        raise SystemExit(130) from None
    except Exception:
        traceback.print_exc()
        raise SystemExit(UNEXPECTED) from None


def leave() -> None:
    """End a finished process without the exit handlers of C++ libraries.

    MediaPipe watches its own: where they take long, as on a machine under load, it kills the process with SIGTRAP, and a shard that was
    done counts as failed (seen once in three runs at load 6 on two cores).
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    if "mediapipe" in sys.modules:
        os._exit(0)


def main(run: Callable[[Context], None]) -> None:
    """Entry point of a plain step: ``python -m pipeline.<stage> --stamp S --root R --out O``."""
    args = base_parser(run.__doc__ or "").parse_args()
    set_up_logging()
    limit_threads(args.threads)

    def action() -> None:
        ctx = make_context(args)
        run(ctx)
        if not args.out.exists():
            raise RuntimeError(f"the step ended without writing {args.out}")

    guarded(action)
