"""Adapter `ravdess`: RAVDESS (Livingstone and Russo, PLoS ONE 2018), 24 actors, two sentences, eight feelings at two levels, two takes.

Reads ``Actor_01/01-01-03-02-01-01-01.mp4``: modality (01 sound and picture, 02 picture, 03 sound), channel (01 speech, 02 song), feeling,
intensity, sentence, repetition, actor. Songs are left out, and so is the silent copy of a clip that is there with sound. "Calm" has no
counterpart among the eight emotions: such clips are kept without a label. There is no published split: people are split by hash.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.adapters.datasets import Dataset, LeftOut, Named, Tree, UnreadableNameError, dataset_items, process
from pipeline.clipstage import Item
from pipeline.context import Context
from pipeline.params.corpus import Source

__all__ = ["DATASET", "EMOTION_OF", "LEVEL_OF", "make_items", "process", "read_name"]

EMOTION_OF = {
    "01": "neutral", "02": "", "03": "happy", "04": "sad", "05": "angry", "06": "fear", "07": "disgusted", "08": "surprised",
}  # fmt: skip
#: Normal and strong, of three levels.
LEVEL_OF = {"01": 2, "02": 3}
SENTENCES = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
_NAME = re.compile(r"(0[123])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(\d{2})")


def read_name(path: Path, source: Source, tree: Tree) -> Named:
    """Labels of one clip.

    Raises:
        UnreadableNameError: not seven numbers in their ranges.
        LeftOut: a song, or the silent copy of a clip that is there with sound.
    """
    match = _NAME.fullmatch(path.stem)
    if not match or not 1 <= int(match[7]) <= 24:
        raise UnreadableNameError(
            "the name is not seven numbers <modality>-<channel>-<feeling>-<intensity>-<sentence>-<repetition>-<actor>"
        )
    modality, channel, feeling, intensity, sentence, repetition, actor = match.groups()
    if channel == "02":
        raise LeftOut("a song")
    rest = path.stem[2:]
    if modality == "02" and f"01{rest}{path.suffix}" in tree.by_name:
        raise LeftOut("silent copy of a clip with sound")
    emotion = EMOTION_OF[feeling]
    spoken = f"03{rest}.wav"
    return Named(
        identity=f"actor{actor}",
        emotion=emotion,
        level=0 if emotion in ("neutral", "") else LEVEL_OF[intensity],
        sentence={"01": "kids", "02": "dogs"}[sentence],
        take=int(repetition),
        text=SENTENCES[sentence],
        recording=rest[1:],
        listed=(path.stem, path.name),
        sounds=((path.parent / spoken).as_posix(), *tree.by_name.get(spoken, ())),
        note="'calm' is none of the eight emotions: no label" if feeling == "02" else "",
    )


DATASET = Dataset("ravdess", read_name, "Actor_01/01-01-03-02-01-01-01.mp4", enrol=True)


def make_items(ctx: Context, source: Source) -> list[Item]:
    """One item per clip of the source."""
    return dataset_items(ctx, source, DATASET)
