"""Adapter `mead`: MEAD (Wang et al., ECCV 2020), people acting eight emotions at three levels before seven cameras.

Reads the authors' tree ``M003/video/front/angry/level_1/001.mp4`` with ``M003/audio/angry/level_1/001.m4a``, and flat copies named
``M003_front_angry_level3_001``, ``M003_level_1_happy_024``, ``M003#angry#level_1#001`` or ``M003_ang_1_001``. Test people are those of
EAT, EDTalk and others: M003, M030, W009, W015. A number names a sentence of one person and emotion only: the order differs between people.
"""

from __future__ import annotations

import re
from pathlib import Path

from flowvqtalker.constants import EMOTIONS
from pipeline.adapters.datasets import Dataset, LeftOut, Named, Tree, UnreadableNameError, dataset_items, process
from pipeline.clipstage import Item
from pipeline.context import Context
from pipeline.params.corpus import Source

__all__ = ["DATASET", "TEST_IDENTITIES", "make_items", "process", "read_name"]

#: Test people of the published protocol (paper-facts 4.2; EAT issue 17).
TEST_IDENTITIES = frozenset({"M003", "M030", "W009", "W015"})
VIEWS = ("front", "top", "down", "left_30", "left_60", "right_30", "right_60")
_SHORT = {
    "ang": "angry",
    "con": "contempt",
    "dis": "disgusted",
    "fea": "fear",
    "hap": "happy",
    "neu": "neutral",
    "sad": "sad",
    "sur": "surprised",
}
_WORDS = {**{name: name for name in EMOTIONS}, **_SHORT}
_PERSON = re.compile(r"[MW]\d{3}")
_FLAT = re.compile(
    rf"(?P<person>[MW]\d{{3}})[_#](?:(?P<view>{'|'.join(VIEWS)})[_#])?(?:level_?(?P<before>[123])[_#])?(?P<emotion>[a-z]+)"
    r"(?:[_#](?:level_?)?(?P<after>[123]))?[_#](?P<number>\d{3})"
)


def read_name(path: Path, source: Source, tree: Tree) -> Named:
    """Labels of one clip; the innermost folder that looks like a person, a view, an emotion or a level counts.

    Raises:
        UnreadableNameError: neither place nor name says who feels what.
        LeftOut: a camera that the source does not read.
    """
    flat = _FLAT.fullmatch(path.stem)
    if flat and flat["emotion"] in _WORDS:
        person, view, emotion, number = flat["person"], flat["view"] or "front", _WORDS[flat["emotion"]], flat["number"]
        level = flat["before"] or flat["after"]
    else:
        folders = list(reversed(path.parts[:-1]))
        person = next((part for part in folders if _PERSON.fullmatch(part)), "")
        view = next((part for part in folders if part in VIEWS), "")
        emotion = next((_WORDS[part] for part in folders if part in EMOTIONS), "")
        level = next((part[-1] for part in folders if re.fullmatch(r"level_[123]", part)), "")
        number = path.stem if re.fullmatch(r"\d{3}", path.stem) else ""
        for what, value in (("person (M003)", person), ("camera", view), ("emotion", emotion), ("number", number)):
            if not value:
                raise UnreadableNameError(f"no {what} in the path")
    if not level:
        raise UnreadableNameError("no level (level_1 to level_3) in the path")
    if view not in source.views:
        raise LeftOut(f"camera '{view}' is not in views")
    return Named(
        identity=person.lower(),
        emotion=emotion,
        level=0 if emotion == "neutral" else int(level),
        sentence=f"{emotion}_{number}",
        recording=f"{person.lower()}_{emotion}_{level}_{number}",
        split="test" if person in TEST_IDENTITIES else "train",
        listed=(f"{person}#{emotion}#level_{level}#{number}", path.with_suffix("").as_posix(), path.stem),
        sounds=tuple(_beside(path, person, emotion, level, number)),
    )


def _beside(path: Path, person: str, emotion: str, level: str, number: str) -> list[str]:
    """Where MEAD keeps the sound: beside `video`, without the camera."""
    if person not in path.parts:
        return []
    base = Path(*path.parts[: path.parts.index(person) + 1], "audio", emotion, f"level_{level}", number)
    return [base.with_suffix(suffix).as_posix() for suffix in (".m4a", ".wav")]


DATASET = Dataset("mead", read_name, "M003/video/front/angry/level_1/001.mp4", enrol=True)


def make_items(ctx: Context, source: Source) -> list[Item]:
    """One item per clip of the cameras that the source reads."""
    return dataset_items(ctx, source, DATASET)
