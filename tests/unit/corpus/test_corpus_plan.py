"""The plan of the embedded corpus: balance, disjoint splits, ids."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from flowvqtalker.constants import EMOTIONS
from flowvqtalker.corpus.plan import CorpusSize, make_plan
from flowvqtalker.speech.sentences import SENTENCES

DEFAULT = CorpusSize(24, 4, 8, 10, 5, 6, 2, 300, 16, 0.05)
SMOKE = CorpusSize(2, 1, 2, 2, 2, 2, 2, 4, 4, 0.25)


@pytest.mark.parametrize("size", [DEFAULT, SMOKE, CorpusSize(1, 1, 2, 60, 30, 30, 3, 0, 1, 0.0)])
def test_ids_are_unique_and_well_formed(size):
    plan = make_plan(size, 1)
    assert len({spec.clip for spec in plan}) == len(plan)
    assert all(re.fullmatch(r"[a-z0-9_]+", spec.clip) for spec in plan)
    assert plan == make_plan(size, 1)


@pytest.mark.parametrize("size", [DEFAULT, SMOKE])
def test_identities_and_test_sentences_are_disjoint(size):
    plan = make_plan(size, 1)
    splits = {}
    for spec in plan:
        assert splits.setdefault(spec.identity, spec.split) == spec.split
    texts = {split: {s.text for s in plan if s.split == split and s.role == "talk"} for split in ("train", "val", "test")}
    assert not texts["test"] & (texts["train"] | texts["val"])
    assert texts["test"] <= set(SENTENCES["test"])
    assert all(spec.uses == ("test",) for spec in plan if spec.split == "test")
    assert all("test" not in spec.uses for spec in plan if spec.split != "test")
    numbers = {spec.identity: spec.number for spec in plan}
    assert len(set(numbers.values())) == len(numbers)


def test_every_identity_has_one_neutral_enrolment_clip():
    plan = make_plan(DEFAULT, 1)
    enrol = Counter(spec.identity for spec in plan if spec.role == "enrol")
    assert set(enrol) == {spec.identity for spec in plan if spec.kind == "video"} and set(enrol.values()) == {1}
    assert all(spec.emotion == "neutral" and spec.intensity == 0 for spec in plan if spec.role == "enrol")


def test_the_scored_test_clips_fill_every_cell_evenly():
    scored = [spec for spec in make_plan(DEFAULT, 1) if spec.split == "test" and spec.role == "talk" and spec.take == 1]
    cells = Counter((spec.emotion, spec.level) for spec in scored)
    assert len(scored) == 48
    assert cells.pop(("neutral", 0)) == 6
    assert set(cells) == {(emotion, level) for emotion in EMOTIONS[1:] for level in (1, 2, 3)} and set(cells.values()) == {2}
    for identity in {spec.identity for spec in scored}:
        assert len({spec.emotion for spec in scored if spec.identity == identity}) == 6
    sentences = Counter(spec.sentence for spec in scored)
    assert len(sentences) == len(SENTENCES["test"]) and max(sentences.values()) - min(sentences.values()) <= 1


def test_training_cells_are_even_and_sentences_not_repeated_within_an_identity():
    talk = [spec for spec in make_plan(DEFAULT, 1) if spec.split == "train" and spec.role == "talk"]
    cells = Counter((spec.emotion, spec.level) for spec in talk if spec.emotion != "neutral")
    assert max(cells.values()) - min(cells.values()) <= 1 and len(cells) == 21
    for identity in {spec.identity for spec in talk}:
        own = [spec.sentence for spec in talk if spec.identity == identity]
        assert len(set(own)) == len(own)


def test_takes_share_everything_but_the_take():
    plan = [spec for spec in make_plan(DEFAULT, 1) if spec.split == "test" and spec.role == "talk"]
    groups: dict[str, list] = {}
    for spec in plan:
        groups.setdefault(spec.performance, []).append(spec)
    for takes in groups.values():
        assert [spec.take for spec in takes] == [1, 2]
        assert len({(spec.text, spec.emotion, spec.level, spec.identity) for spec in takes}) == 1
    assert len(groups) == 48


def test_stills_have_validation_people():
    stills = [spec for spec in make_plan(DEFAULT, 1) if spec.kind == "stills"]
    assert Counter(spec.split for spec in stills) == {"train": 285, "val": 15}
