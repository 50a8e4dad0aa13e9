"""What the embedded corpus contains: identities, emotions, levels, sentences, takes, splits. Nothing random but the choice of sentences.

The design is sparse and balanced, after MEAD's 8 emotions x 3 levels: going through the clips of a split, identity by identity, emotions
take turns and every emotion takes turns through its levels, so that all cells of emotion x level are filled as evenly as the number of clips
allows, and one identity hardly sees an emotion twice. Identities and test sentences are disjoint between the splits.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from flowvqtalker.constants import EMOTIONS, LEVELS, intensity_of
from flowvqtalker.seeding import numpy_generator
from flowvqtalker.speech.sentences import SENTENCES

#: What clips of a split serve; a source of the corpus may allow less.
TALK_USES: dict[str, tuple[str, ...]] = {
    "train": ("codebook", "flow", "imagegen", "judges", "landmarker"),
    "val": ("codebook", "flow", "imagegen", "judges", "landmarker"),
    "test": ("test",),
}
STILL_USES: tuple[str, ...] = ("codebook", "imagegen", "judges", "landmarker")
_PREFIX = {"train": "tr", "val": "va", "test": "te"}


@dataclass(frozen=True)
class CorpusSize:
    """How large the corpus is.

    Attributes:
        train_identities, val_identities, test_identities: people who talk, disjoint.
        train_clips, val_clips, test_clips: talking clips per identity (test: scored ones).
        test_takes: takes of every test clip; only take 1 is scored.
        still_identities, stills_per_identity: further people, seen in single pictures only.
        still_val_share: share of the still identities that belongs to the validation split.
    """

    train_identities: int
    val_identities: int
    test_identities: int
    train_clips: int
    val_clips: int
    test_clips: int
    test_takes: int
    still_identities: int
    stills_per_identity: int
    still_val_share: float


@dataclass(frozen=True)
class ClipSpec:
    """One clip of the plan, with the labels of its index row.

    Attributes:
        clip: unique id, [a-z0-9_]+.
        kind: "video" or "stills".
        identity: e.g. "tr03"; belongs to one split.
        number: running number of the identity over all splits (chooses the voice).
        emotion: one of the eight; "" for stills, which mix them.
        level: 1 to 3, 0 for neutral.
        sentence: id of the sentence, e.g. "test04"; "" for stills.
        text: the sentence.
        take: 1, 2, ...
        split: train, val, test.
        uses: what the clip serves.
        role: "talk", "enrol" (neutral, first frame calm, never scored) or "stills".
    """

    clip: str
    kind: str
    identity: str
    number: int
    emotion: str
    level: int
    sentence: str
    text: str
    take: int
    split: str
    uses: tuple[str, ...]
    role: str

    @property
    def intensity(self) -> float:
        """Strength of the emotion in [0, 1]."""
        return intensity_of(self.emotion, self.level) if self.emotion else 0.0

    @property
    def performance(self) -> str:
        """Name shared by all takes of a clip: what they say and feel derives from it."""
        return self.clip.rsplit("_t", 1)[0] if self.role == "talk" else self.clip


def emotion_cell(slot: int) -> tuple[str, int]:
    """Emotion and level of the n-th clip of a split: emotions take turns, each emotion takes turns through its levels.

    The emotions start at different levels, so that one round mixes levels; 24 slots fill every cell once (neutral three times).

    >>> [emotion_cell(slot) for slot in (0, 1, 2, 9)]
    [('neutral', 0), ('angry', 2), ('contempt', 3), ('angry', 3)]
    """
    number, turn = slot % len(EMOTIONS), slot // len(EMOTIONS)
    emotion = EMOTIONS[number]
    return emotion, 0 if emotion == "neutral" else LEVELS[(number + turn) % len(LEVELS)]


def _choose_sentences(seed: int, split: str, identities: int, clips: int) -> list[list[int]]:
    """Sentence numbers per identity: the least used first, none twice for one identity while others are left."""
    n = len(SENTENCES[split])
    generator = numpy_generator(seed, "corpus", "sentences", split)
    used: Counter[int] = Counter()
    chosen: list[list[int]] = []
    for _ in range(identities):
        own: Counter[int] = Counter()
        for _ in range(clips):
            luck = generator.uniform(size=n)
            sentence = min(range(n), key=lambda s: (own[s], used[s], luck[s]))
            own[sentence] += 1
            used[sentence] += 1
        chosen.append(list(own.elements()))
        generator.shuffle(chosen[-1])
    return chosen


def make_plan(size: CorpusSize, seed: int) -> list[ClipSpec]:
    """All clips of the embedded corpus.

    Args:
        size: numbers of people, clips and pictures.
        seed: of the run; decides which sentence goes where.

    Returns:
        Specs with unique ids: per identity one enrolment clip and its talking clips (test: every take), then one per still identity.
    """
    specs: list[ClipSpec] = []
    number = 0
    for split in ("train", "val", "test"):
        identities, clips = getattr(size, f"{split}_identities"), getattr(size, f"{split}_clips")
        takes = size.test_takes if split == "test" else 1
        sentences = _choose_sentences(seed, split, identities, clips)
        for person in range(identities):
            identity, uses = f"{_PREFIX[split]}{person:02d}", TALK_USES[split]
            specs.append(
                ClipSpec(
                    f"{identity}_enrol", "video", identity, number, "neutral", 0, "enrol00", SENTENCES["enrol"][0], 1, split, uses, "enrol"
                )
            )
            for clip in range(clips):
                emotion, level = emotion_cell(person * clips + clip)
                sentence = sentences[person][clip]
                text = SENTENCES[split][sentence]
                repeat = "" if clips <= len(SENTENCES[split]) else f"n{clip:03d}_"
                for take in range(1, takes + 1):
                    name = f"{identity}_{emotion}_l{level}_s{sentence:02d}_{repeat}t{take}"
                    specs.append(
                        ClipSpec(name, "video", identity, number, emotion, level, f"{split}{sentence:02d}", text, take, split, uses, "talk")
                    )
            number += 1
    n_val = round(size.still_identities * size.still_val_share)
    for person in range(size.still_identities):
        split = "val" if person >= size.still_identities - n_val else "train"
        identity = f"st{person:04d}"
        specs.append(ClipSpec(identity, "stills", identity, number + person, "", 0, "", "", 1, split, STILL_USES, "stills"))
    return specs
