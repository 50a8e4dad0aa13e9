"""Harness of the training stages: a folder that survives crashes, exact resume, publication.

A training lives in ``.cache/train/<stage>-<fingerprint>/``, where the fingerprint hashes parameters, code and inputs. DVC never
deletes it: an interrupted training resumes from its last checkpoint, an unchanged one is published again without training.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline import context as house
from pipeline import tracking
from pipeline.clipstage import link_or_copy, locked
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.io import file_sha256, read_json, read_torch, write_bytes, write_json, write_text, write_torch

__all__ = ["TrainingFolder", "main"]


class TrainingFolder:
    """One training's own folder.

    Attributes:
        path: the folder; free for scratch files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._history: dict[tuple[int, str, str], float] = {}
        if (path / "history.csv").exists():
            with open(path / "history.csv", newline="") as handle:
                self._history = {(int(row["step"]), row["split"], row["name"]): float(row["value"]) for row in csv.DictReader(handle)}

    def log_history(self, step: int, split: str, values: dict[str, float]) -> None:
        """Keep values of one step; the same step logged again (after a resume) replaces itself."""
        for name, value in values.items():
            self._history[step, split, name] = float(value)

    def add_history(self, other: TrainingFolder, prefix: str) -> None:
        """Take over what another training logged under splits that begin with ``prefix``."""
        self._history |= {key: value for key, value in other._history.items() if key[1].startswith(prefix)}

    def write_history(self) -> None:
        """Write history.csv: step, split, name, value, sorted."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["step", "split", "name", "value"])
        writer.writerows([*key, f"{value:.6g}"] for key, value in sorted(self._history.items()))
        write_text(self.path / "history.csv", buffer.getvalue())

    def save_checkpoint(self, name: str, state: dict[str, Any]) -> None:
        """Keep a state under a name, atomically, together with the history so far."""
        write_torch(self.path / f"{name}.checkpoint", state)
        self.write_history()

    def load_checkpoint(self, name: str) -> dict[str, Any] | None:
        """State saved under a name, or None."""
        path = self.path / f"{name}.checkpoint"
        return read_torch(path) if path.exists() else None

    def publish(self, files: dict[str, Any]) -> None:
        """Write the finished training's files (state dicts, plain dicts, bytes or Paths by file name) and mark it finished."""
        result = self.path / "result"
        shutil.rmtree(result, ignore_errors=True)
        for name, content in files.items():
            if isinstance(content, Path):
                link_or_copy(content, result / name)
            elif isinstance(content, bytes):
                write_bytes(result / name, content)
            elif name.endswith(".json"):
                write_json(result / name, content)
            else:
                write_torch(result / name, content)
        self.write_history()
        link_or_copy(self.path / "history.csv", result / "history.csv")
        write_json(self.path / "finished.json", {path.name: file_sha256(path) for path in sorted(result.iterdir())})
        for checkpoint in self.path.glob("*.checkpoint"):
            checkpoint.unlink()


def train_and_publish(run: Callable[[Context, TrainingFolder], None], ctx: Context) -> None:
    """Train unless this very training is finished, then lay its files beside ``ctx.out`` and write the index last."""
    fingerprint = ctx.fingerprint()
    path = ctx.cache / "train" / f"{ctx.stage}{'-' + ctx.variant if ctx.variant else ''}-{fingerprint}"
    with locked(path.with_suffix(".lock")):
        if (path / "finished.json").exists():
            ctx.log.info("already trained with these parameters, code and inputs: %s", path)
        else:
            folder = TrainingFolder(path)
            run(ctx, folder)
            if not (path / "finished.json").exists():
                raise RuntimeError(f"stage '{ctx.stage}' ended without publishing its files")
        checksums = read_json(path / "finished.json")
        ctx.out.unlink(missing_ok=True)
        for name, checksum in checksums.items():
            if file_sha256(path / "result" / name) != checksum:
                shutil.rmtree(path)
                raise PipelineError(
                    f"{path}/result/{name}: damaged since it was trained; this training was dropped from the cache",
                    "run the same command again to train anew",
                )
            link_or_copy(path / "result" / name, ctx.out.parent / name)
    for stray in ctx.out.parent.iterdir():
        if stray.is_file() and stray.name not in checksums and stray != ctx.out:
            stray.unlink()
    write_json(ctx.out, {"stage": ctx.stage, "variant": ctx.variant, "files": checksums})
    tracking.project_training(ctx)


def main(run: Callable[[Context, TrainingFolder], None]) -> None:
    """Entry point: ``python -m pipeline.<stage> --stamp S --root R --out O --threads N``."""
    args = house.base_parser(run.__doc__ or "").parse_args()
    house.set_up_logging()
    house.limit_threads(args.threads)
    house.guarded(lambda: train_and_publish(run, house.make_context(args)))
