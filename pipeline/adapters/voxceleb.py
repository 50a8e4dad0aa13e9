"""Adapter `voxceleb`: crops of VoxCeleb 1 and 2 (Nagrani et al. 2017, Chung et al. 2018) and of data sets laid out like them.

Reads ``dev/mp4/id00012/21Uxsk56VDQ/00001.mp4`` (person, video, utterance) and the one-file form
``id10280#xRu5dXGwqeE#001012#001211.mp4`` (person, video, first and last frame). A folder `test` or `dev`/`train` on the way is the published
split; without one the people id10270 to id10309 test, as in VoxCeleb 1. No emotions are labelled.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.adapters.datasets import Dataset, Named, Tree, UnreadableNameError, dataset_items, part_matching, process, unlabelled_emotion
from pipeline.clipstage import Item
from pipeline.context import Context
from pipeline.params.corpus import Source

__all__ = ["DATASET", "TEST_IDENTITIES", "make_items", "process", "read_name"]

#: Test people of VoxCeleb 1 (verification).
TEST_IDENTITIES = frozenset(f"id{number}" for number in range(10270, 10310))
_PERSON = re.compile(r"id\d{5}")
_VIDEO = re.compile(r"[A-Za-z0-9_-]{11}")
_FLAT = re.compile(r"(?P<person>id\d{5})#(?P<video>.{11})#(?P<first>\d+)#(?P<last>\d+)")
_PUBLISHED = {"test": "test", "dev": "train", "train": "train"}


def read_name(path: Path, source: Source, tree: Tree) -> Named:
    """Person, video and split of one clip.

    Raises:
        UnreadableNameError: no person (id and five digits) or no video (eleven letters) in the path.
    """
    flat = _FLAT.fullmatch(path.stem)
    person = flat["person"] if flat else part_matching(path, _PERSON)
    video = flat["video"] if flat else path.parent.name
    if not person:
        raise UnreadableNameError("no person (id00012) in the path")
    if not flat and not _VIDEO.fullmatch(video):
        raise UnreadableNameError("the clip's folder is no video (eleven letters) of a person")
    published = next((_PUBLISHED[part] for part in path.parts[:-1] if part in _PUBLISHED), "")
    return Named(
        identity=person,
        emotion=unlabelled_emotion(source),
        recording=f"{person}_{video}",
        split=published or ("test" if person in TEST_IDENTITIES else "train" if "id10001" <= person <= "id11251" else ""),
        listed=(f"{person}/{video}/{path.stem}", path.stem),
        sounds=tuple(path.with_suffix(suffix).as_posix() for suffix in (".wav", ".m4a")),
    )


DATASET = Dataset("voxceleb", read_name, "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4 or id10280#xRu5dXGwqeE#001012#001211.mp4")


def make_items(ctx: Context, source: Source) -> list[Item]:
    """One item per clip of the source."""
    return dataset_items(ctx, source, DATASET)
