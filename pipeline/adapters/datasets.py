"""What the adapters of published data sets share: names to labels, splits by person, checksums, sound beside the video, cutting into pieces.

A data set's module gives a ``Dataset``: how its files are named and whom its authors (or the papers that use it) test on. Here that becomes
items of the step `corpus`. Nothing is copied, except where a source asks for pieces of equal length. A name that cannot be read becomes a row
with its reason; a file that is left out by a rule (another camera, a song, a use that the source does not have) is counted in the log.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from flowvqtalker.constants import FPS_HZ, SAMPLES_PER_FRAME
from flowvqtalker.seeding import derive_seed
from pipeline import media
from pipeline.adapters.folder import NOT_DISJOINT, find_videos, make_ids, split_clips
from pipeline.clipstage import Item
from pipeline.context import Context
from pipeline.errors import ClipError, PipelineError
from pipeline.io import file_sha256, text_sha256
from pipeline.params.corpus import CorpusParams, SegmentParams, Source

#: In the reason of a row whose person may also occur in another split, because the source allows it.
SHARED = "people may be shared between splits, as the source allows"
_LFS_POINTER = b"version https://git-lfs"


class UnreadableNameError(Exception):
    """A file is not named as its data set names files; the text says what was expected."""


class LeftOut(Exception):  # noqa: N818 - it is no error
    """A file is left out by a rule; the text names the rule."""


@dataclass(frozen=True)
class Named:
    """What a file's place and name say.

    Attributes:
        identity: person, unique within the data set.
        emotion: one of EMOTIONS, or "" where the data set does not say.
        level: 1 to 3; 0 for neutral and unlabelled clips.
        sentence: what is said, equal for all takes of it; "" when not known.
        take: counts repetitions of a sentence.
        text: the words, where they are known.
        recording: the video that the clip was cut from; two clips of one recording must not lie in different splits.
        split: "train" or "test" where it is published, else "". A training person may still be drawn for validation.
        listed: names under which published lists know the clip.
        sounds: files relative to the root that may hold the sound, best first; used when the video has none.
        by_clip: the person is not known; the clip is split by its own hash, and the row says so.
        note: goes into the row's reason.
    """

    identity: str
    emotion: str = ""
    level: int = 0
    sentence: str = ""
    take: int = 1
    text: str = ""
    recording: str = ""
    split: str = ""
    listed: tuple[str, ...] = ()
    sounds: tuple[str, ...] = ()
    by_clip: bool = False
    note: str = ""


@dataclass(frozen=True)
class Tree:
    """All files below a source's root.

    Attributes:
        paths: relative paths as text.
        by_name: the same by bare file name, sorted.
    """

    paths: frozenset[str]
    by_name: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, root: Path) -> Tree:
        """List a folder."""
        paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
        by_name: dict[str, list[str]] = {}
        for path in paths:
            by_name.setdefault(Path(path).name, []).append(path)
        return cls(frozenset(paths), {name: tuple(same) for name, same in by_name.items()})


@dataclass(frozen=True)
class Dataset:
    """A published data set.

    Attributes:
        name: prefix of identities, so that people of two data sets never meet.
        read: (path relative to the root, the source, all files) -> Named; raises UnreadableNameError or LeftOut.
        tree: the expected tree in words, for messages.
        enrol: whether one neutral clip of each person becomes the source picture's clip and is never scored.
    """

    name: str
    read: Callable[[Path, Source, Tree], Named]
    tree: str
    enrol: bool = False


def part_matching(path: Path, pattern: Any) -> str:
    """Innermost folder of a path that a compiled pattern matches fully, or ""."""
    return next((part for part in reversed(path.parts[:-1]) if pattern.fullmatch(part)), "")


# ---------------------------------------------------------------------------------------------------------------- splits


def split_identities(names: set[str], val_share: float, test_share: float) -> dict[str, str]:
    """Split of each person by the hash of the name; of three or more people each wanted part gets at least one.

    Args:
        names: people, unique over all data sets.
        val_share: share of the people for validation [1]; 0 leaves the part empty.
        test_share: the same for testing [1].

    Returns:
        "train", "val" or "test" by name.
    """
    shares = {name: derive_seed("identity split", name) / 2**63 for name in names}
    order = sorted(names, key=lambda name: (shares[name], name))
    splits = {name: "test" if shares[name] < test_share else "val" if shares[name] < test_share + val_share else "train" for name in order}
    if len(order) >= 3:
        for wanted, share, index in (("test", test_share, 0), ("val", val_share, 1 if test_share else 0), ("train", 1.0, -1)):
            if share and wanted not in splits.values():
                splits[order[index]] = wanted
    return splits


def read_split_lists(lists: dict[Any, str]) -> dict[str, set[str]]:
    """Splits of each listed name; a name "<clip>#<number>" of a piece also counts for its clip, which may so get two.

    Raises:
        PipelineError: a list is missing or is neither a JSON list nor lines of text, or a name stands in two lists.
    """
    splits: dict[str, str] = {}
    clips: dict[str, set[str]] = {}
    for split, file in sorted(lists.items()):
        path = Path(file).expanduser()
        try:
            text = path.read_text(encoding="utf-8-sig")
            names = json.loads(text) if path.suffix.lower() == ".json" else text.splitlines()
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise PipelineError(
                f"{path}: cannot be read as a list of clips ({error})", "split_lists names JSON lists (.json) or files with a name a line"
            ) from error
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise PipelineError(f"{path}: is not a list of names", 'a JSON list looks like ["M003#angry#level_1#001", ...]')
        for name in filter(None, (name.strip() for name in names)):
            if splits.setdefault(name, split) != split:
                raise PipelineError(f"{path}: '{name}' is also listed for the split '{splits[name]}'", "keep it in one list")
            clips.setdefault(name, set()).add(split)
            clips.setdefault(re.sub(r"#\d+$", "", name), set()).add(split)
    return clips


def listed_split(named: Named, splits: dict[str, set[str]], file: Path) -> str:
    """Split of a clip in published lists; a recording of which pieces are listed counts as listed.

    Raises:
        LeftOut: no list has it.
        PipelineError: its pieces stand in different lists.
    """
    found = set().union(*(splits.get(name, set()) for name in named.listed))
    if len(found) > 1:
        raise PipelineError(
            f"{file}: pieces of this recording are listed for {' and '.join(sorted(found))}", "keep a recording in one list of split_lists"
        )
    if not found:
        raise LeftOut("in none of the split_lists")
    return found.pop()


# ---------------------------------------------------------------------------------------------------------------- checksums


def read_checksums(file: str) -> dict[str, str]:
    """SHA-256 by path, and by bare file name where that is unique, of a CSV list.

    Raises:
        PipelineError: there is no such list, or it lacks the columns.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise PipelineError(f"{path}: there is no such list of checksums", "set corpus.sources[].checksums, or leave it out")
    with open(path, newline="", encoding="utf-8-sig") as handle:
        reader = csv.DictReader(handle)
        if not {"path", "sha256"} <= set(reader.fieldnames or ()):
            raise PipelineError(f"{path}: has no columns 'path' and 'sha256'", "one line a file: path,sha256 (further columns are ignored)")
        sums = {Path(row["path"]).as_posix(): row["sha256"].strip().lower() for row in reader}
    names = Counter(Path(name).name for name in sums)
    return sums | {Path(name).name: value for name, value in sums.items() if names[Path(name).name] == 1}


def verify(path: Path, file: str, expected: str | None, wanted: bool) -> str:
    """SHA-256 of a file, compared with the list's.

    Args:
        path: the file.
        file: how the row calls it.
        expected: checksum of the list, None when the list does not have the file.
        wanted: whether there is a list.

    Raises:
        ClipError: a file that may not be read, a git-lfs pointer in place of the file, a file that is not listed, or another content.
    """
    try:
        with open(path, "rb") as handle:
            is_pointer = handle.read(len(_LFS_POINTER)) == _LFS_POINTER
        found = file_sha256(path)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:  # other trouble is the machine's and stops the stage
        raise ClipError(f"{file}: cannot be read ({error.strerror}): mend its permissions or lay it there again") from error
    if is_pointer:
        raise ClipError(f"{file}: a git-lfs pointer lies in place of the video: run `git lfs pull` in the data set's clone")
    if wanted and expected is None:
        raise ClipError(
            f"{file}: not in the list of checksums: remove the file, or leave `checksums` out for converted copies", rejected=True
        )
    if wanted and found != expected:
        raise ClipError(f"{file}: SHA-256 {found[:12]}… differs from the list's {str(expected)[:12]}…: download the file again")
    return found


# ---------------------------------------------------------------------------------------------------------------- items


def dataset_items(ctx: Context, source: Source, dataset: Dataset) -> list[Item]:
    """One item per clip that the source has a use for, and one per unreadable name."""
    root = Path(source.root).expanduser()
    paths = find_videos(root, source.name)
    tree = Tree.of(root)
    lists = read_split_lists(dict(source.split_lists))
    checksums = read_checksums(source.checksums) if source.checksums else {}
    named: dict[Path, Named] = {}
    unreadable: dict[Path, str] = {}
    left_out: Counter[str] = Counter()
    for path in paths:
        try:
            clip = dataset.read(path, source, tree)
            named[path] = replace(clip, split=listed_split(clip, lists, path)) if lists else clip
        except UnreadableNameError as error:
            unreadable[path] = f"{source.name}:{path.as_posix()}: {error}; expected {dataset.tree}"
        except LeftOut as rule:
            left_out[str(rule)] += 1
    _check_any(named, unreadable, left_out, root, source, dataset)
    splits = assign_splits(named, dataset.name, source, ctx)
    enrolments = choose_enrolments(named) if dataset.enrol else set()
    ids = make_ids(paths)
    items = []
    for path, clip in named.items():
        uses = [use for use in source.uses if use != "landmarker" and (use == "test") == (splits[path] == "test")]
        if not uses:
            left_out[f"split '{splits[path]}' has no use in this source"] += 1
            continue
        role = "enrol" if path in enrolments else "talk"
        row = _row(clip, dataset.name, source, splits[path], role) | {"uses": "+".join(uses), "file": f"{source.name}:{path.as_posix()}"}
        marks = [clip.note, ids[path][1], NOT_DISJOINT if clip.by_clip else SHARED if source.shared_identities else ""]
        row["reason"] = "; ".join(filter(None, marks))
        sound = next((name for name in clip.sounds if name in tree.paths), "")
        hidden = {"sound": f"{source.name}:{sound}" if sound else "", "segment": source.segment, "listed_sums": bool(checksums)}
        hidden["expected"] = checksums.get(path.as_posix()) or checksums.get(path.name)
        files = [path.as_posix(), *filter(None, [sound])]
        stamps = [f"{name} {(root / name).stat().st_size} {(root / name).stat().st_mtime_ns}" for name in files]
        items.append(Item(f"{source.name}_{ids[path][0]}", (*stamps, repr(sorted((row | hidden).items()))), row | {"hidden": hidden}))
    for path, problem in unreadable.items():
        row = {"kind": "video", "identity": "", "emotion": "", "level": "", "split": "", "uses": "", "role": ""}
        items.append(Item(f"{source.name}_{ids[path][0]}", (problem,), row | {"hidden": {"problem": problem}}))
    for rule, count in sorted(left_out.items()):
        ctx.log.info("source '%s': %d files left out: %s", source.name, count, rule)
    absent = sorted(
        name for name in checksums if "/" in name and Path(name).suffix in {path.suffix for path in paths} and name not in tree.paths
    )
    if absent:
        ctx.log.warning("source '%s': %d listed files are not there, e.g. %s", source.name, len(absent), ", ".join(absent[:3]))
    return items


def _check_any(named: dict, unreadable: dict[Path, str], left_out: Counter, root: Path, source: Source, dataset: Dataset) -> None:
    if named:
        return
    packed = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.suffix in (".tar", ".zip"))
    if packed:
        raise PipelineError(
            f"source '{source.name}': {root / packed[0]} is still packed, and nothing unpacked lies beside it",
            "unpack the archives in place",
        )
    first = next(iter(unreadable.values()), "") or f"all {sum(left_out.values())} files were left out: {', '.join(sorted(left_out))}"
    raise PipelineError(
        f"source '{source.name}': no video below {root} is a clip of '{dataset.name}' ({first})",
        f"expected {dataset.tree}; docs/datasets.md describes the trees; for other names use adapter 'folder'",
    )


def _row(clip: Named, dataset: str, source: Source, split: str, role: str) -> dict[str, Any]:
    return {
        "kind": "video",
        "identity": f"{dataset}_{clip.identity}",
        "emotion": clip.emotion,
        "level": clip.level if clip.emotion else "",
        "sentence": clip.sentence,
        "text": clip.text,
        "take": clip.take,
        "split": split,
        "role": role,
        "sidecar": "",
        "recording": f"{dataset}_{clip.recording}" if clip.recording else "",
        "shared": source.shared_identities or clip.by_clip,
    }


def assign_splits(named: dict[Path, Named], dataset: str, source: Source, ctx: Context) -> dict[Path, str]:
    """Split of each clip: the published one where there is one, the rest by person; validation people come out of the training people."""
    shares, splits = ctx.cfg.folder, {path: clip.split for path, clip in named.items()}
    published = {split for split in splits.values() if split}
    strangers = sorted(path for path, clip in named.items() if clip.by_clip and not clip.split)
    if strangers:
        ctx.log.warning(
            "source '%s': %d clips do not say who speaks and are split by clip, e.g. %s", source.name, len(strangers), strangers[0]
        )
        splits |= split_clips(strangers, shares)
    people = {f"{dataset}_{clip.identity}" for path, clip in named.items() if splits[path] in ("", "train") and not clip.by_clip}
    if "val" in published:
        drawn = dict.fromkeys(people, "train")
    else:
        tested = {f"{dataset}_{clip.identity}" for path, clip in named.items() if splits[path] == "test"}
        drawn = dict.fromkeys(people, "train") | split_identities(
            people - tested, shares.val_share, 0.0 if published else shares.test_share
        )
    for path, clip in named.items():
        if splits[path] in ("", "train") and not clip.by_clip:
            splits[path] = drawn[f"{dataset}_{clip.identity}"]
    counts = Counter(splits.values())
    ctx.log.info("source '%s': %s clips", source.name, ", ".join(f"{counts[part]} {part}" for part in ("train", "val", "test")))
    if "test" in source.uses and not counts["test"]:
        ctx.log.warning("source '%s': no clip is for testing; docs/datasets.md says whom '%s' tests on", source.name, dataset)
    return splits


def choose_enrolments(named: dict[Path, Named]) -> set[Path]:
    """The first neutral clip of each person, where the person has other clips too."""
    clips: dict[str, list[Path]] = {}
    for path in sorted(path for path, clip in named.items() if not clip.by_clip):
        clips.setdefault(named[path].identity, []).append(path)
    neutral = {name: [path for path in own if named[path].emotion == "neutral"] for name, own in clips.items()}
    return {neutral[name][0] for name, own in clips.items() if neutral[name] and len(own) > 1}


# ---------------------------------------------------------------------------------------------------------------- one clip


def process(item: Item, loaded: Any, ctx: Context, folder: Path) -> list[dict[str, Any]]:
    """Row of one video, or of each of its pieces.

    Raises:
        ClipError: the name cannot be read, or the content is not what the list of checksums says.
        PipelineError: the file cannot be read as video; the harness makes it a row with status failed.
    """
    from pipeline.adapters import resolve_source

    hidden = item.row["hidden"]
    if "problem" in hidden:
        raise ClipError(hidden["problem"], rejected=True)
    row = {key: value for key, value in item.row.items() if key not in ("hidden", "shared")}
    corpus = cast(CorpusParams, ctx.params["corpus"])
    path = resolve_source(corpus, row["file"], folder)
    checksums = [verify(path, row["file"], hidden["expected"], hidden["listed_sums"])]
    info = media.probe(path)
    if hidden["sound"] and not info.has_sound:
        row["sidecar"] = hidden["sound"]
        sound = resolve_source(corpus, row["sidecar"], folder)
        media.read_sound(sound)
        checksums.append(file_sha256(sound))
    if hidden["segment"] is not None:
        sound_path = resolve_source(corpus, row["sidecar"], folder) if row["sidecar"] else path
        return list(cut_pieces(item.clip, row, path, sound_path, hidden["segment"], folder))
    seconds = info.duration_s or 0.0
    row |= {"clip": item.clip, "fps_hz": info.fps_hz, "seconds": seconds, "n_frames": round(seconds * info.fps_hz)}
    return [row | {"sha256": text_sha256(*checksums)}]


def cut_pieces(clip: str, row: dict[str, Any], path: Path, sound_path: Path, cut: SegmentParams, folder: Path) -> Iterator[dict[str, Any]]:
    """Write a recording as pieces of equal length at 25 fps with their sound as wav; rows of the pieces. Memory does not grow with the length."""
    length, shortest = round(cut.seconds * FPS_HZ), max(1, round(cut.min_seconds * FPS_HZ))
    samples = media.read_sound(sound_path)
    (folder / "pieces").mkdir()
    frames = _Frames(media.iterate_video_at(path))
    number = 0
    while frames.ahead(shortest):
        name = f"{clip}_{number + 1:03d}"
        start = number * length
        media.write_video(folder / "pieces" / f"{name}.mp4", frames.take(length), crf=cut.crf)
        made = frames.done - start
        sidecar = ""
        if samples is not None:
            part = samples[start * SAMPLES_PER_FRAME : (start + made) * SAMPLES_PER_FRAME]
            sidecar = f"pieces/{name}.wav"
            media.write_sound(folder / sidecar, np.pad(part, (0, made * SAMPLES_PER_FRAME - len(part))))
        yield row | {
            "clip": name,
            "file": f"pieces/{name}.mp4",
            "sidecar": sidecar,
            "n_frames": made,
            "fps_hz": FPS_HZ,
            "seconds": made / FPS_HZ,
        }
        number += 1
    if not number:
        raise ClipError(f"{row['file']}: shorter than segment.min_seconds {cut.min_seconds:g}", rejected=True)


class _Frames:
    """Frames of a video, a few ahead of the reader; sides are cut to even numbers of pixels for the encoder."""

    def __init__(self, pieces: Iterator[np.ndarray]) -> None:
        self._pieces = pieces
        self._kept: list[np.ndarray] = []
        self.done = 0

    def ahead(self, count: int) -> bool:
        """Whether at least ``count`` frames are left."""
        while len(self._kept) < count:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._kept.extend(piece[:, : piece.shape[1] // 2 * 2, : piece.shape[2] // 2 * 2])
        return True

    def take(self, count: int) -> Iterator[np.ndarray]:
        """The next frames, at most ``count``."""
        while count and self.ahead(1):
            count, self.done = count - 1, self.done + 1
            yield self._kept.pop(0)


def unlabelled_emotion(source: Source) -> str:
    """Emotion of a clip whose data set has no labels."""
    return "neutral" if source.unlabelled == "neutral" else ""


__all__ = [
    "SHARED",
    "Dataset",
    "LeftOut",
    "Named",
    "Tree",
    "UnreadableNameError",
    "choose_enrolments",
    "dataset_items",
    "part_matching",
    "process",
    "read_checksums",
    "read_split_lists",
    "split_identities",
    "unlabelled_emotion",
]
