"""Which generated video belongs to which real one: by name, or by an index table. Every expected clip stays in the list, found or not."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from flowvqtalker.constants import EMOTIONS
from pipeline.adapters.folder import VIDEO_SUFFIXES
from pipeline.errors import PipelineError

INDEX_COLUMNS = ("real", "generated", "clip", "identity", "emotion", "level", "seed")


@dataclass(frozen=True)
class Pair:
    """One clip that is expected.

    Attributes:
        clip: its name in every table: the real file's path below its folder, without suffix (or what the index says).
        real: the real video, None when the index names a file that is not there.
        generated: the generated video, None when there is none.
        identity: person, the cluster of every interval.
        emotion: intended emotion, "" when not known.
        level: 1 to 3, 0 for neutral, -1 when not known.
        seed: which sample of the method this is, "" for the only one.
        reason: why ``real`` or ``generated`` is None.
    """

    clip: str
    real: Path | None
    generated: Path | None
    identity: str
    emotion: str = ""
    level: int = -1
    seed: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Matching:
    """All expected clips, generated files that nothing asks for, and notes on what was assumed."""

    pairs: list[Pair]
    extra: list[str]
    notes: list[str]


def videos_below(folder: Path) -> list[Path]:
    """All video files below a folder, by path, hidden ones left out."""
    found = [path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()]
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def match(real: Path, generated: Path, index: Path | None) -> Matching:
    """Pair two folders.

    Args:
        real: folder of real videos; without an index every video in it is expected.
        generated: folder of generated videos.
        index: table with the columns real and generated (paths below the two folders), and where known clip, identity, emotion, level, seed.

    Raises:
        PipelineError: a folder or the index is missing, empty or contradictory.
    """
    for folder, option in ((real, "--real"), (generated, "--generated")):
        if not folder.is_dir():
            raise PipelineError(f"{folder}: no such folder", f"name a folder of videos with {option}")
    matching = _by_index(real, generated, index) if index else _by_name(real, generated)
    if not matching.pairs:
        raise PipelineError(f"{index or real}: names no video", "nothing is expected, so nothing can be scored")
    keys = [(pair.clip, pair.seed) for pair in matching.pairs]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice:
        raise PipelineError(f"clip '{twice[0]}' is expected twice", "give the rows of the index different 'clip' or 'seed' values")
    return matching


def _by_name(real: Path, generated: Path) -> Matching:
    notes = ["pairs by name: same path below both folders without suffix, else the same file name where it is unique"]
    expected, offered = videos_below(real), videos_below(generated)
    by_path: dict[str, list[Path]] = defaultdict(list)
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in offered:
        by_path[_key(path, generated)].append(path)
        by_stem[path.stem].append(path)
    stems = [path.stem for path in expected]
    used: set[Path] = set()
    pairs = []
    flat = all(path.parent == real for path in expected)
    if flat:
        notes.append("the real folder has no subfolders: persons are not known, every clip counts as a person of its own in the intervals")
    for path in expected:
        key = _key(path, real)
        found = by_path.get(key) or (by_stem.get(path.stem, []) if stems.count(path.stem) == 1 else [])
        reason = "" if len(found) == 1 else "missing: no generated video of this name"
        if len(found) > 1:
            reason = f"ambiguous: {len(found)} generated videos have this name"
            used.update(found)
        partner = found[0] if len(found) == 1 else None
        used.update(found[:1])
        pairs.append(Pair(key, path, partner, key if flat else path.parent.name, reason=reason))
    return Matching(pairs, [str(path.relative_to(generated)) for path in offered if path not in used], notes)


def _key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _by_index(real: Path, generated: Path, index: Path) -> Matching:
    if not index.is_file():
        raise PipelineError(f"{index}: no such table", "name a csv with the columns real and generated, or leave --index out")
    with index.open(newline="", encoding="utf-8-sig") as handle:
        rows = list(csv.DictReader(handle))
    columns = set(rows[0]) if rows else {"real", "generated"}
    unknown, missing = sorted(str(name) for name in columns - set(INDEX_COLUMNS)), {"real", "generated"} - columns
    if missing:
        raise PipelineError(f"{index}: has no column '{sorted(missing)[0]}'", f"known columns: {', '.join(INDEX_COLUMNS)}")
    notes = [f"pairs by {index.name}"] + ([f"columns not used: {', '.join(unknown)}"] if unknown else [])
    if "identity" not in columns:
        notes.append("the index names no persons: the folder of the real video counts as the person")
    pairs, used = [], set()
    for number, row in enumerate(rows, start=2):
        cell = {name: (row.get(name) or "").strip() for name in INDEX_COLUMNS}
        if not cell["real"]:
            raise PipelineError(f"{index}: line {number} names no real video", "every row is one expected clip")
        if cell["emotion"] and cell["emotion"] not in EMOTIONS:
            raise PipelineError(f"{index}: line {number}: unknown emotion '{cell['emotion']}'", f"known: {', '.join(EMOTIONS)}, or empty")
        if cell["level"] and cell["level"] not in ("0", "1", "2", "3"):
            raise PipelineError(f"{index}: line {number}: level '{cell['level']}' is none of 0, 1, 2, 3", "leave it empty when not known")
        source, target = real / cell["real"], generated / cell["generated"]
        present = bool(cell["generated"]) and target.is_file()
        reason = "" if present else f"missing: {cell['generated'] or 'the index names no generated video'}"
        if not source.is_file():
            reason = f"missing: real video {cell['real']}"
        used.add(target)
        pairs.append(
            Pair(
                cell["clip"] or Path(cell["real"]).with_suffix("").as_posix(), source if source.is_file() else None, target if present else None,
                cell["identity"] or source.parent.name, cell["emotion"], int(cell["level"] or -1), cell["seed"], reason,
            )
        )  # fmt: skip
    return Matching(pairs, [str(path.relative_to(generated)) for path in videos_below(generated) if path not in used], notes)
