"""Adapter `hdtf`: HDTF (Zhang et al., CVPR 2021), speeches and interviews of several hundred people from the web.

Reads clips as HDTF's own scripts name them: ``WRA_AdamKinzinger0_000.mp4`` (with the list's prefix RD, WDA or WRA, by download.py) or
``AdamKinzinger0_0.mp4`` (by the README), and pieces of them ``WRA_AdamKinzinger0_000#12.mp4``. The number after a name counts videos of one
person, so it does not make a person; a `Radio` video has no name, so each counts as a person of its own. No emotions are labelled.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.adapters.datasets import Dataset, LeftOut, Named, Tree, UnreadableNameError, dataset_items, process, unlabelled_emotion
from pipeline.clipstage import Item
from pipeline.context import Context
from pipeline.params.corpus import Source

__all__ = ["DATASET", "make_items", "process", "read_name"]

_NAME = re.compile(r"(?:(?P<list>RD|WDA|WRA)_)?(?P<name>[A-Za-z][A-Za-z-]*?)(?P<video>\d*)_(?P<clip>\d{1,3})(?:#(?P<piece>\d+))?")
#: One person under two names: both entries of the list lead to the same video.
_ALIASES = {"whipjimclyburn": "jamesclyburn"}
#: Folder in which download.py keeps the videos that the clips were cut from.
_WHOLE_VIDEOS = "_videos_raw"


def read_name(path: Path, source: Source, tree: Tree) -> Named:
    """Person, recording and piece of one clip.

    Raises:
        UnreadableNameError: the name does not end in the clip's number.
        LeftOut: a whole video that download.py kept.
    """
    if _WHOLE_VIDEOS in path.parts:
        raise LeftOut(f"a whole video in {_WHOLE_VIDEOS}")
    match = _NAME.fullmatch(path.stem)
    if not match:
        raise UnreadableNameError("the name is not <list>_<person><video>_<clip>")
    radio = match["name"].lower() == "radio"
    name = match["name"].lower().replace("-", "_")
    person = f"radio{match['video']}" if radio else _ALIASES.get(name, name)
    clip = f"{match['list'] + '_' if match['list'] else ''}{match['name']}{match['video']}_{match['clip']}"
    stem = path.with_suffix("")
    return Named(
        identity=person,
        emotion=unlabelled_emotion(source),
        recording=f"{name}{match['video']}",
        listed=(path.stem,) if match["piece"] else (clip,),
        sounds=tuple(
            place.with_suffix(suffix).as_posix()
            for place in (stem, stem.parent / "audio" / stem.name, stem.parent.parent / "audio" / stem.name)
            for suffix in (".wav", ".m4a")
        ),
    )


DATASET = Dataset("hdtf", read_name, "WRA_AdamKinzinger0_000.mp4")


def make_items(ctx: Context, source: Source) -> list[Item]:
    """One item per clip of the source."""
    return dataset_items(ctx, source, DATASET)
