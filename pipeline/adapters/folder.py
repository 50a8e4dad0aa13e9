"""Adapter `folder`: ordinary talking-head videos, wherever they lie, as clips of the corpus.

Every video below the root becomes a clip; nothing is copied. Identity is the parent folder, emotion neutral, split the hash of the path,
unless an ``index.csv`` in the root says otherwise (columns file, identity, emotion, level, split; all but file may be missing or empty);
the source's `labels` names such a table elsewhere. A parent folder that only says what it holds (``anna/video/1.mp4``) names nobody: the
folder above it does. A split by clip is not disjoint by identity, and the rows say so.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from pathlib import Path
from typing import Any, cast

from flowvqtalker.constants import EMOTIONS
from flowvqtalker.seeding import derive_seed
from pipeline import media
from pipeline.clipstage import Item
from pipeline.context import Context
from pipeline.contracts import SPLITS
from pipeline.errors import PipelineError
from pipeline.io import file_sha256, text_sha256
from pipeline.params.corpus import CorpusParams, FolderSource, Source

VIDEO_SUFFIXES = frozenset(
    [".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"]
)
#: Folders, beside the video's or inside it, where a wav of the same name serves as sound.
SOUND_FOLDERS = ("wav", "audio")
#: Folders that say what they hold, not whom.
GENERIC_FOLDERS = frozenset({"video", "videos", "clips", "mp4", "crops", "raw"})
NOT_DISJOINT = "split by clip: identities may be shared between splits"


def make_id(path: Path) -> str:
    """Clip id from a path below the root: [a-z0-9_]+, accents written without them.

    >>> make_id(Path("M003/Été à Paris.mp4"))
    'm003_ete_a_paris'
    """
    plain = unicodedata.normalize("NFKD", str(path.with_suffix("")))
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter)).lower()
    words = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    lost = any(letter.isalnum() and not letter.isascii() for letter in plain)  # scripts without a Latin form
    return f"{words}_{text_sha256(str(path))[:8]}".strip("_") if lost or not words else words


def make_ids(paths: list[Path]) -> dict[Path, tuple[str, str]]:
    """Unique id of each path, and in words what happened to it where two paths share one ("" else)."""
    owners: dict[str, list[Path]] = {}
    for path in paths:
        owners.setdefault(make_id(path), []).append(path)
    ids: dict[Path, tuple[str, str]] = {}
    for name, same in owners.items():
        for path in same:
            others = ", ".join(f"'{other}'" for other in same if other != path)
            unique = name if len(same) == 1 else f"{name}_{text_sha256(str(path))[:8]}"
            ids[path] = (unique, f"same clip id as {others}: a hash was appended" if others else "")
    return ids


def split_clips(paths: list[Path], params: FolderSource) -> dict[Path, str]:
    """Split of each path by its hash; of three or more clips at least one is for testing, one for validation, one for training."""
    shares = {path: derive_seed("folder split", path.as_posix()) / 2**63 for path in paths}
    order = sorted(paths, key=lambda path: (shares[path], str(path)))
    splits = {
        path: "test" if shares[path] < params.test_share else "val" if shares[path] < params.test_share + params.val_share else "train"
        for path in order
    }
    if len(order) >= 3:
        for wanted, index in (("test", 0), ("val", 1), ("train", -1)):
            if wanted not in splits.values():
                splits[order[index]] = wanted
    return splits


def read_labels(root: Path, table: str = "") -> dict[str, dict[str, str]]:
    """Rows of a table of labels by file: of the named one, else of the root's index.csv; {} without one.

    Raises:
        PipelineError: the named table is not there; a row names no file, an unknown emotion, level or split, or a file twice.
    """
    path = Path(table).expanduser() if table else root / "index.csv"
    if table and not path.is_file():
        raise PipelineError(f"{path}: there is no such table of labels", "set corpus.sources[].labels, or leave it out")
    if not path.exists():
        return {}
    with open(path, newline="", encoding="utf-8-sig") as handle:
        reader = csv.DictReader(handle)
        if "file" not in (reader.fieldnames or ()):
            raise PipelineError(
                f"{path}: has no column 'file'", "the columns are file, identity, emotion, level, split; only file is needed"
            )
        labels: dict[str, dict[str, str]] = {}
        for number, row in enumerate(reader, start=2):
            values = {key: (value or "").strip() for key, value in row.items() if key}
            file = Path(values["file"]).as_posix()
            allowed = {"emotion": ("", *EMOTIONS), "level": ("", "0", "1", "2", "3"), "split": ("", *SPLITS)}
            for column, choices in allowed.items():
                if values.get(column, "") not in choices:
                    raise PipelineError(
                        f"{path}, line {number}: {column} '{values[column]}' is not known",
                        f"use one of: {', '.join(filter(None, choices))}",
                    )
            if file in labels:
                raise PipelineError(f"{path}, line {number}: file '{file}' is listed twice", "keep one of the two lines")
            labels[file] = values
    return labels


def find_sidecar(path: Path, root: Path) -> Path | None:
    """A wav of the same name beside the video, or in a folder `wav` or `audio` inside or beside the video's folder."""
    places = [path.parent, *(path.parent / name for name in SOUND_FOLDERS)]
    if path.parent != root:
        places += [path.parent.parent / name for name in SOUND_FOLDERS]
    for place in places:
        for suffix in (".wav", ".WAV"):
            if (place / (path.stem + suffix)).is_file():
                return place / (path.stem + suffix)
    return None


def find_videos(root: Path, source: str) -> list[Path]:
    """Videos below the root as relative paths, sorted; hidden files and folders are left alone."""
    if not root.is_dir():
        raise PipelineError(f"source '{source}': there is no folder {root}", "set corpus.sources[].root, or ROOT=<folder> of `make clips`")
    found = [path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()]
    found = sorted(path for path in found if not any(part.startswith(".") for part in path.parts))
    if not found:
        raise PipelineError(f"source '{source}': {root} holds no video", f"known endings: {' '.join(sorted(VIDEO_SUFFIXES))}")
    return found


def make_items(ctx: Context, source: Source) -> list[Item]:
    """One item per video; size and time of the files stand in for their content until they are read."""
    root = Path(source.root).expanduser()
    paths = find_videos(root, source.name)
    labels = read_labels(root, source.labels)
    absent = sorted(set(labels) - {path.as_posix() for path in paths})
    ids, splits = make_ids(paths), split_clips(paths, ctx.cfg.folder)
    flat = [path for path in paths if path.parent == Path(".") and not labels.get(path.name, {}).get("identity")]
    if len(flat) > 1:
        ctx.log.warning(
            "%s: %d videos lie in the folder itself and count as one person; an index.csv with columns file, identity says otherwise",
            root,
            len(flat),
        )
    items = []
    for path in paths:
        clip, note = ids[path]
        row = _labels(path, labels.get(path.as_posix(), {}), splits[path], source)
        if note:
            ctx.log.warning("%s: %s", path, note)
        sidecar = find_sidecar(root / path, root)
        files = [root / path, *([sidecar] if sidecar else [])]
        stamps = tuple(f"{file.relative_to(root).as_posix()} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files)
        row |= {
            "source": source.name,
            "file": f"{source.name}:{path.as_posix()}",
            "sidecar": f"{source.name}:{sidecar.relative_to(root).as_posix()}" if sidecar else "",
            "reason": "; ".join(filter(None, [note, row["reason"]])),
        }
        items.append(Item(clip, (*stamps, repr(sorted(row.items()))), row))
    for file in absent:
        # listed but not there: a row, so that nobody wonders where the clip went
        row = _labels(Path(file), labels[file], "train", source) | {"source": source.name, "file": f"{source.name}:{file}", "sidecar": ""}
        items.append(Item(f"{make_id(Path(file))}_{text_sha256(file)[:8]}", ("absent",), row))
    return items


def _folder_of_person(path: Path, root: Path) -> str:
    """Name of the innermost folder that is not generic; the root's where there is none."""
    named = [part for part in path.parts[:-1] if part.lower() not in GENERIC_FOLDERS]
    return named[-1] if named else path.parent.name or root.resolve().name


def _labels(path: Path, given: dict[str, str], split: str, source: Source) -> dict[str, Any]:
    emotion = given.get("emotion") or "neutral"
    level = int(given.get("level") or (0 if emotion == "neutral" else 2))
    chosen = given.get("split") or split
    uses = [use for use in source.uses if use != "landmarker" and (use == "test") == (chosen == "test")]
    return {
        "kind": "video",
        "identity": given.get("identity") or make_id(Path(_folder_of_person(path, Path(source.root).expanduser()))),
        "emotion": emotion,
        "level": 0 if emotion == "neutral" else level,
        "sentence": "",
        "take": 1,
        "split": chosen,
        "uses": "+".join(uses),
        "role": "talk",
        "reason": "" if given.get("split") and not source.shared_identities else NOT_DISJOINT,
    }


def process(item: Item, loaded: Any, ctx: Context, folder: Path) -> list[dict[str, Any]]:
    """Row of one video: what it holds, and the checksum of its content.

    Raises:
        PipelineError: the file cannot be read as video; the harness makes it a row with status failed.
    """
    from pipeline.adapters import resolve_source

    row, corpus = item.row, cast(CorpusParams, ctx.params["corpus"])
    path = resolve_source(corpus, row["file"], folder)
    info = media.probe(path)
    checksums = [file_sha256(path)]
    if row["sidecar"]:
        sidecar = resolve_source(corpus, row["sidecar"], folder)
        media.read_sound(sidecar)
        checksums.append(file_sha256(sidecar))
    seconds = info.duration_s or 0.0
    return [
        row
        | {
            "clip": item.clip,
            "fps_hz": info.fps_hz,
            "seconds": seconds,
            "n_frames": round(seconds * info.fps_hz),
            "sha256": text_sha256(*checksums),
        }
    ]
