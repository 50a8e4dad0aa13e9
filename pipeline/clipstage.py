"""Harness of the per-clip stages: shards, per-clip cache, failures as rows, merge.

A shard job processes its clips one by one. Each finished clip is kept in ``.cache/clips/<stage>/<key>/`` where the key hashes
parameters, code and the clip's inputs; an interrupt loses at most the clip in work, and an unchanged clip is never made twice.
The merge job lays the files of all rows into ``<stage folder>/clips/``, removes what no row names, and writes the index last.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from pipeline import context as house
from pipeline.context import Context
from pipeline.errors import ClipError, PipelineError
from pipeline.io import file_sha256, read_json, text_sha256, write_index, write_json, write_text

__all__ = ["ClipCache", "ClipError", "ClipStage", "Item", "main"]

#: Columns whose values are names of files that ``process`` wrote.
FILE_COLUMNS = ("file", "video", "sound", "landmarks", "truth", "coefficients", "sidecar")

#: A clip that its worker died of so many times is left out.
MAX_DEATHS = 2


@dataclass(frozen=True)
class Item:
    """One unit of work.

    Attributes:
        clip: id; names the cache entry and the row of a failure.
        inputs: checksums of everything the result depends on beside parameters and code.
        row: whatever ``process`` needs; its label columns (identity, emotion, ...) are copied into the row of a failed clip.
    """

    clip: str
    inputs: tuple[str, ...] = ()
    row: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ClipStage:
    """A per-clip stage; see docs/architecture.md for the contract of the three functions."""

    name: str
    items: Callable[[Context], list[Item]]
    setup: Callable[[Context], Any]
    process: Callable[[Item, Any, Context, Path], list[dict[str, Any]]]


class ClipCache:
    """Finished clips of one stage, addressed by what they depend on.

    Args:
        ctx: the step's context.
        scope: further texts that belong to every key (e.g. a method's name or the hash of a model).
    """

    def __init__(self, ctx: Context, *scope: str) -> None:
        self.folder = ctx.cache / "clips" / ctx.stage
        self.scope = (ctx.cache_text, *scope)

    def entry(self, item: Item) -> Path:
        """Folder of an item's result, present or not."""
        return self.folder / f"{item.clip[:60]}-{text_sha256(*self.scope, item.clip, *item.inputs)[:20]}"

    def get(self, item: Item) -> list[dict[str, Any]] | None:
        """Rows of a finished item, or None."""
        done = self.entry(item) / "rows.json"
        return read_json(done) if done.exists() else None

    @contextmanager
    def attempt(self, item: Item) -> Iterator[None]:
        """Count the attempts that ended with the death of the process: a file that kills its worker must not stop all the others for ever.

        Raises:
            ClipError: the process died ``MAX_DEATHS`` times while it worked on this clip.
        """
        note = self.entry(item).with_suffix(".deaths")
        deaths = int(note.read_text() or 0) if note.exists() else 0
        if deaths >= MAX_DEATHS:
            raise ClipError(
                f"the process died {deaths} times while it worked on this clip (killed, out of memory, or a decoder that crashed); "
                f"to try again remove {note}"
            )
        write_text(note, str(deaths + 1))
        try:
            yield
        finally:  # reached by every error and by an interrupt, but not by a death
            note.unlink(missing_ok=True)

    @contextmanager
    def put(self, item: Item) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
        """Temporary folder and row list; both become the entry when the block ends well."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".work-", dir=self.folder))
        rows: list[dict[str, Any]] = []
        try:
            yield temporary, rows
            write_json(temporary / "rows.json", rows)
            final = self.entry(item)
            if final.exists():  # a left-over without rows.json, or another process was quicker
                shutil.rmtree(final)
            os.replace(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def process_item(stage: ClipStage, item: Item, loaded: Callable[[], Any], ctx: Context, cache: ClipCache) -> list[dict[str, Any]]:
    """Rows of one item, from the cache or made now. A clip that cannot be processed becomes a row, and is tried again next time."""
    rows = cache.get(item)
    if rows is not None:
        return rows
    try:
        with cache.attempt(item), cache.put(item) as (folder, rows):
            for row in stage.process(item, loaded(), ctx, folder):
                files = {column: row[column] for column in FILE_COLUMNS if row.get(column) and (folder / str(row[column])).is_file()}
                checksums = [file_sha256(folder / str(name)) for _, name in sorted(files.items())]
                rows.append(
                    {"status": "ok", "reason": "", **row, "sha256": text_sha256(*checksums) if checksums else row.get("sha256", "")}
                )
        return rows
    except ClipError as error:
        status, reason = ("rejected" if error.rejected else "failed"), error.message
    except PipelineError as error:
        if "no space left" in error.message:
            raise
        status, reason = "failed", error.message
    except (OSError, MemoryError):
        raise  # the machine's trouble, not the clip's: stop, keep what is done
    except Exception as error:
        ctx.log.exception("%s: unexpected", item.clip)
        status, reason = "failed", f"unexpected {type(error).__name__}: {error}"
    ctx.log.warning("%s: %s: %s", item.clip, status, reason)
    labels = {key: value for key, value in item.row.items() if key in _LABELS}
    return [{**labels, "clip": item.clip, "status": status, "reason": " ".join(reason.split())}]


_LABELS = (
    "kind",
    "identity",
    "emotion",
    "level",
    "sentence",
    "take",
    "split",
    "uses",
    "role",
    "source",
    "source_clip",
    "n_frames",
    "fps_hz",
    "seconds",
)


def run_shard(stage: ClipStage, ctx: Context, shard: int, shards: int, out: Path) -> None:
    """Process every clip of one shard (items by turn, so shards are even) and write its rows with their cache entries."""
    items = sorted(stage.items(ctx), key=lambda item: item.clip)[shard::shards]
    cache = ClipCache(ctx)
    loaded = _once(lambda: stage.setup(ctx))
    table: list[dict[str, Any]] = []
    for item in tqdm(items, desc=f"{stage.name} {shard + 1}/{shards}", disable=None, mininterval=2):
        entry = str(cache.entry(item))
        table.extend(
            {**row, "cache_entry": entry if row["status"] == "ok" else ""} for row in process_item(stage, item, loaded, ctx, cache)
        )
    made = sum(row["status"] == "ok" for row in table)
    ctx.log.info("shard %d of %d: %d items, %d rows ok, %d not", shard + 1, shards, len(items), made, len(table) - made)
    columns = sorted({key for row in table for key in row}) or ["clip"]
    write_text(out, pd.DataFrame(table, columns=columns).to_csv(index=False, lineterminator="\n"))


def _once(make: Callable[[], Any]) -> Callable[[], Any]:
    made: list[Any] = []

    def get() -> Any:
        if not made:
            made.append(make())
        return made[0]

    return get


def link_or_copy(source: Path, target: Path) -> None:
    """Lay a cached file into an output folder: a hard link where the file system allows, else a copy; never a partial file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)


def run_merge(ctx: Context, shards: list[Path], out: Path) -> None:
    """Join the shards' tables, lay out the files and write the index; the stage fails when too many clips did."""
    tables = [pd.read_csv(path, keep_default_na=False, dtype=str) for path in shards]
    rows = (
        pd.concat([table for table in tables if len(table)], ignore_index=True).fillna("")
        if any(len(table) for table in tables)
        else pd.DataFrame(columns=["clip"])
    )
    doubles = rows["clip"][rows["clip"].duplicated()].unique()
    if len(doubles):
        raise PipelineError(f"stage '{ctx.stage}': clip id '{doubles[0]}' is made twice", "give the source files different names or paths")
    folder = out.parent
    out.unlink(missing_ok=True)  # the old index must not vouch for files that are being replaced
    kept: set[Path] = set()
    records = rows.to_dict("records")
    for row in records:
        entry = row.pop("cache_entry", "")
        for column in FILE_COLUMNS if row["status"] == "ok" and entry else ():
            name = row.get(column, "")
            if not name or not (Path(entry) / name).is_file():
                continue
            target = folder / "clips" / name if "/" not in name else folder / name
            link_or_copy(Path(entry) / name, target)
            kept.add(target)
            row[column] = str(target.relative_to(folder))
    for stray in sorted(path for path in folder.rglob("*") if path.is_file() and path not in kept and path != out):
        stray.unlink()
    write_index(out, records, ctx.stage)
    check_failed_share(records, getattr(ctx.cfg, "max_failed_share", 1.0), ctx)


def check_failed_share(records: list[dict[str, Any]], limit: float, ctx: Context) -> None:
    """Raise when more than ``limit`` of the rows are not ok, or when none is."""
    bad = [row for row in records if row["status"] != "ok"]
    if not records or len(bad) == len(records) or len(bad) > limit * len(records):
        ctx.out.unlink(missing_ok=True)
        first = f"; first: {bad[0]['clip']}: {bad[0]['reason']}" if bad else ""
        raise PipelineError(f"stage '{ctx.stage}': {len(bad)} of {len(records)} clips failed or were rejected{first}",
                            f"mend or remove those clips, or raise {ctx.stage}.max_failed_share; the reasons are in logs/{ctx.stage}/")  # fmt: skip


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive file lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main(stage: ClipStage) -> None:
    """Entry point of a stage's module: ``python -m pipeline.<stage> shard --shard 0 --shards 4 ...``."""
    parser = argparse.ArgumentParser(description=stage.process.__doc__, allow_abbrev=False)
    shard = parser.add_subparsers(dest="verb", required=True).add_parser("shard", parents=[house.base_parser("")], add_help=False)
    shard.add_argument("--shard", type=int, required=True)
    shard.add_argument("--shards", type=int, required=True)
    args = parser.parse_args()
    house.set_up_logging()
    house.limit_threads(args.threads)
    house.guarded(lambda: run_shard(stage, house.make_context(args), args.shard, args.shards, args.out))
    house.leave()


def main_merge() -> None:
    """Entry point of this module, ``python -m pipeline.clipstage --from a.csv b.csv ...``: the merge of any per-clip stage.

    Nothing of the stage itself is needed for it; without torch it is done before that would be loaded, and all cores wait for it.
    """
    parser = house.base_parser("Join the tables of a stage's shards and lay out its files.")
    parser.add_argument("--from", dest="tables", type=Path, nargs="+", required=True)
    args = parser.parse_args()
    house.set_up_logging()

    def action() -> None:
        ctx = house.make_context(args)
        run_merge(ctx, args.tables, args.out)

    house.guarded(action)


if __name__ == "__main__":
    main_merge()
