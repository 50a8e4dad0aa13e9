"""Adapter `ffhq`: Flickr-Faces-HQ (Karras et al., CVPR 2019), 70,000 aligned portraits, as stills for the codebook.

Reads ``images1024x1024/00000/00000.png`` (or any one folder of pictures named by their index). The published split counts: the first 60,000
pictures train, the others validate. Pictures enter the corpus as the clay stills do: one npz of equal squares for a group of pictures, here
reduced to ``stills.size_px``. Everybody is a stranger without a label, so such a row has no emotion (-1) and serves the codebook only.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import numpy as np

from pipeline.clipstage import Item
from pipeline.context import Context
from pipeline.errors import ClipError, PipelineError
from pipeline.io import write_npz
from pipeline.params.corpus import CorpusParams, Source, StillsParams

__all__ = ["FIRST_VALIDATION", "make_items", "process"]

#: Index of the first picture of the published validation part.
FIRST_VALIDATION = 60_000
#: The authors' folder of aligned pictures; taken alone where it is there, since thumbnails and originals have the same names.
ALIGNED = "images1024x1024"
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
_INDEX = re.compile(r"\d{5}")


def find_pictures(root: Path, source: str) -> tuple[dict[int, Path], list[Path]]:
    """Pictures by index, and those whose name is no index; relative to the root.

    Raises:
        PipelineError: no folder, no picture, or an index twice.
    """
    if not root.is_dir():
        raise PipelineError(f"source '{source}': there is no folder {root}", "set corpus.sources[].root to the folder of FFHQ")
    start = root / ALIGNED if (root / ALIGNED).is_dir() else root
    pictures: dict[int, Path] = {}
    others: list[Path] = []
    for path in sorted(path.relative_to(root) for path in start.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file()):
        if any(part.startswith(".") for part in path.parts):
            continue
        if not _INDEX.fullmatch(path.stem):
            others.append(path)
        elif int(path.stem) in pictures:
            raise PipelineError(
                f"source '{source}': {path} and {pictures[int(path.stem)]} have the same index", "name the folder of one resolution as root"
            )
        else:
            pictures[int(path.stem)] = path
    if not pictures:
        packed = sorted(path.name for path in root.glob("*.zip"))
        raise PipelineError(
            f"source '{source}': {root} holds no picture named by an index (00000.png)",
            f"unpack {packed[0]}" if packed else f"expected {ALIGNED}/00000/00000.png; docs/datasets.md describes the tree",
        )
    return pictures, others


def make_items(ctx: Context, source: Source) -> list[Item]:
    """One item per group of pictures of one split, and one per picture whose name is no index."""
    root = Path(source.root).expanduser()
    pictures, others = find_pictures(root, source.name)
    settings = cast(StillsParams, source.stills)
    groups: dict[tuple[str, int], list[Path]] = {}
    for index, path in sorted(pictures.items()):
        # groups follow the index, not the order of what happens to be there: adding a picture changes one group
        groups.setdefault(("train" if index < FIRST_VALIDATION else "val", index // settings.per_clip), []).append(path)
    items = []
    for (split, number), paths in groups.items():
        clip = f"{source.name}_{split}_{number * settings.per_clip:05d}"
        row = {
            "kind": "stills", "identity": clip, "emotion": "", "level": "", "sentence": "", "take": 1, "split": split, "role": "stills",
            "uses": "+".join(source.uses), "sidecar": "", "files": [f"{source.name}:{path.as_posix()}" for path in paths], "size_px": settings.size_px,
        }  # fmt: skip
        stamps = [f"{path.as_posix()} {(root / path).stat().st_size} {(root / path).stat().st_mtime_ns}" for path in paths]
        items.append(Item(clip, (*stamps, str(settings.size_px)), row))
    for path in others:
        problem = f"{source.name}:{path.as_posix()}: the name is no index of five digits; expected {ALIGNED}/00000/00000.png"
        name = re.sub(r"[^a-z0-9]+", "_", path.as_posix().lower()).strip("_")
        items.append(Item(f"{source.name}_unread_{name}", (problem,), {"kind": "stills", "split": "", "uses": "", "problem": problem}))
    return items


def process(item: Item, loaded: Any, ctx: Context, folder: Path) -> list[dict[str, Any]]:
    """``stills/<clip>.npz`` of one group: frames (n, S, S, 3) uint8 RGB, emotion (n,) int64 -1, intensity (n,) float32 0.

    Raises:
        ClipError: the name is no index, or no picture of the group can be read.
    """
    from pipeline.adapters import resolve_source

    if "problem" in item.row:
        raise ClipError(item.row["problem"], rejected=True)
    row = {key: value for key, value in item.row.items() if key not in ("files", "size_px")}
    corpus = cast(CorpusParams, ctx.params["corpus"])
    frames, bad = [], []
    for name in item.row["files"]:
        try:
            frames.append(read_square(resolve_source(corpus, name, folder), item.row["size_px"]))
        except (OSError, SyntaxError, ValueError) as error:
            bad.append(f"{name} ({error})")
    if not frames:
        raise ClipError(f"no picture of the group can be read, first {bad[0]}: download it again")
    (folder / "stills").mkdir()
    file = f"stills/{item.clip}.npz"
    arrays = {"frames": np.stack(frames), "emotion": np.full(len(frames), -1, np.int64), "intensity": np.zeros(len(frames), np.float32)}
    write_npz(folder / file, arrays, compress=True)
    reason = f"{len(bad)} of {len(item.row['files'])} pictures cannot be read and are left out: {', '.join(bad[:3])}" if bad else ""
    return [row | {"clip": item.clip, "file": file, "n_frames": len(frames), "reason": reason}]


def read_square(path: Path, size_px: int) -> np.ndarray:
    """Picture (size_px, size_px, 3) uint8 RGB, reduced or enlarged.

    Raises:
        OSError, SyntaxError: not a readable picture.
        ValueError: the picture is not square, so it is none of the aligned ones.
    """
    from PIL import Image

    with Image.open(path) as image:
        if image.width != image.height:
            raise ValueError(f"{image.width} x {image.height} px, not square: the aligned pictures are wanted")
        picture = image.convert("RGB")
        if picture.width != size_px:
            picture = picture.resize((size_px, size_px), Image.Resampling.LANCZOS)
        return np.asarray(picture)
