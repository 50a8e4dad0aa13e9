"""Adapter `cremad`: CREMA-D (Cao et al., IEEE TAC 2014), 91 actors, twelve sentences, six emotions, one sentence at three levels.

Reads ``VideoFlash/1001_IEO_HAP_LO.flv`` (any video ending), sound in the video or in ``AudioWAV/``. The list of checksums of the data set's
repository (git-lfs pointers: path, sha256) can be given as `checksums`. There is no published split: people are split by hash.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.adapters.datasets import Dataset, Named, Tree, UnreadableNameError, dataset_items, process
from pipeline.clipstage import Item
from pipeline.context import Context
from pipeline.params.corpus import Source

__all__ = ["DATASET", "EMOTION_OF", "LEVEL_OF", "SENTENCES", "make_items", "process", "read_name"]

EMOTION_OF = {"ANG": "angry", "DIS": "disgusted", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
#: XX means that the actor was given no level.
LEVEL_OF = {"LO": 1, "MD": 2, "HI": 3, "XX": 2}
SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
_NAME = re.compile(r"(?P<actor>1\d{3})_(?P<sentence>[A-Z]{3})_(?P<emotion>[A-Z]{3})_(?P<level>[A-Z]{2})")


def read_name(path: Path, source: Source, tree: Tree) -> Named:
    """Labels of one clip.

    Raises:
        UnreadableNameError: another form, sentence, emotion or level.
    """
    match = _NAME.fullmatch(path.stem)
    if not match:
        raise UnreadableNameError("the name is not <actor>_<sentence>_<emotion>_<level>")
    for part, table in (("sentence", SENTENCES), ("emotion", EMOTION_OF), ("level", LEVEL_OF)):
        if match[part] not in table:
            raise UnreadableNameError(f"{part} '{match[part]}' is none of {', '.join(sorted(table))}")
    emotion = EMOTION_OF[match["emotion"]]
    places = [path.parent.parent / "AudioWAV", path.parent / "AudioWAV", path.parent]
    return Named(
        identity=match["actor"],
        emotion=emotion,
        level=0 if emotion == "neutral" else LEVEL_OF[match["level"]],
        sentence=match["sentence"].lower(),
        text=SENTENCES[match["sentence"]],
        recording=path.stem.lower(),
        listed=(path.stem, path.name),
        sounds=tuple((place / f"{path.stem}.wav").as_posix() for place in places),
    )


DATASET = Dataset("cremad", read_name, "VideoFlash/1001_IEO_HAP_LO.flv", enrol=True)


def make_items(ctx: Context, source: Source) -> list[Item]:
    """One item per clip of the source."""
    return dataset_items(ctx, source, DATASET)
