"""Adapter `grid`: GRID (Cooke et al., JASA 2006), 34 people, 1,000 six-word sentences each, read without emotion.

Reads ``s1/bbaf2n.mpg`` and ``s1/video/mpg_6000/bbaf2n.mpg``: the folder is the person, the name spells the sentence. Test people are those
of LipNet's unseen-speaker split (arXiv 1611.01599): s1, s2, s20, s22. Clips that lie in no person's folder cannot be told apart by person:
they count as one person of the folder, are split by clip, and say so.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.adapters.datasets import Dataset, Named, Tree, UnreadableNameError, dataset_items, part_matching, process
from pipeline.adapters.folder import make_id
from pipeline.clipstage import Item
from pipeline.context import Context
from pipeline.params.corpus import Source

__all__ = ["DATASET", "TEST_IDENTITIES", "make_items", "process", "read_name", "spell"]

TEST_IDENTITIES = frozenset({"s1", "s2", "s20", "s22"})
_COMMAND = {"b": "bin", "l": "lay", "p": "place", "s": "set"}
_COLOUR = {"b": "blue", "g": "green", "r": "red", "w": "white"}
_PREPOSITION = {"a": "at", "b": "by", "i": "in", "w": "with"}
_DIGIT = dict(zip("z123456789", ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"], strict=True))
_ADVERB = {"a": "again", "n": "now", "p": "please", "s": "soon"}
_NAME = re.compile(r"([blps])([bgrw])([abiw])([a-z])([z1-9])([anps])")
_PERSON = re.compile(r"s\d{1,2}")


def spell(code: str) -> str:
    """Sentence of a clip's name.

    >>> spell("bbaf2n")
    'bin blue at f two now'

    Raises:
        UnreadableNameError: not a code of the six-word grammar.
    """
    match = _NAME.fullmatch(code.lower())
    if not match:
        raise UnreadableNameError("the name is not a six-letter sentence code such as bbaf2n")
    command, colour, preposition, letter, digit, adverb = match.groups()
    return f"{_COMMAND[command]} {_COLOUR[colour]} {_PREPOSITION[preposition]} {letter} {_DIGIT[digit]} {_ADVERB[adverb]}"


def read_name(path: Path, source: Source, tree: Tree) -> Named:
    """Labels of one clip.

    Raises:
        UnreadableNameError: the name is no sentence code.
    """
    code = path.stem.lower()
    text = spell(code)
    person = part_matching(path, _PERSON)
    if not person and _PERSON.fullmatch(Path(source.root).expanduser().resolve().name):
        person = Path(source.root).expanduser().resolve().name  # the root is one person's folder
    folder = make_id(Path(path.parent.name or Path(source.root).expanduser().resolve().name))
    places = [path.parent, path.parent / "audio", path.parent.parent / "audio"]
    return Named(
        identity=person or f"unknown_{folder}",
        emotion="neutral",
        sentence=code,
        text=text,
        recording=f"{person or folder}_{code}",
        split="test" if person in TEST_IDENTITIES else "train" if person else "",
        listed=(f"{person}/{code}", path.with_suffix("").as_posix(), code),
        by_clip=not person,
        sounds=tuple((place / f"{path.stem}.wav").as_posix() for place in places),
    )


DATASET = Dataset("grid", read_name, "s1/bbaf2n.mpg or s1/video/mpg_6000/bbaf2n.mpg", enrol=True)


def make_items(ctx: Context, source: Source) -> list[Item]:
    """One item per clip of the source."""
    return dataset_items(ctx, source, DATASET)
