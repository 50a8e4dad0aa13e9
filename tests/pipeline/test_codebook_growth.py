"""The codebook's growth: choice of people, arms against the parameters, the page."""

from __future__ import annotations

import torch

from flowvqtalker.image.codebook import CodebookConfig
from flowvqtalker.image.data import FrameSet
from pipeline.params import read_config
from pipeline.tools import codebook_growth as growth


def frames(people: int = 12, each: int = 3) -> FrameSet:
    identity = torch.arange(people).repeat_interleave(each)
    still = identity >= people // 2
    order = torch.arange(len(identity))
    images = torch.zeros(len(identity), 3, 8, 8, dtype=torch.uint8)
    return FrameSet(images, torch.zeros(len(identity), 68, 2), identity, still, ~still, order, order, order, torch.zeros(len(identity), 7))


def test_people_are_chosen_evenly_from_videos_and_stills():
    whole = frames()
    assert growth.some_people(whole, 1.0) is whole
    half = growth.some_people(whole, 0.5)
    assert half.identity.unique().tolist() == [0, 2, 5, 6, 8, 11] and len(half) == 18
    assert torch.equal(half.is_still, half.identity >= 6)
    few = growth.some_people(whole, 0.01)
    assert few.identity.unique().tolist() == [0, 6]


def test_arms_change_one_thing_that_the_parameters_know():
    model = read_config("params.yaml")["codebook"]["model"]
    assert len({arm.name for arm in growth.ARMS}) == len(growth.ARMS)
    for arm in growth.ARMS:
        changed = [*arm.model, *(["steps"] if arm.steps_factor != 1 else []), *(["people"] if arm.people_share != 1 else [])]
        assert len(changed) == 1, arm
        CodebookConfig(**(model | dict(arm.model)))
        assert all(model[name] != value for name, value in arm.model)


def test_the_page_has_the_run_in_every_table():
    found = dict.fromkeys(growth.COLUMNS, 1.0) | {"people": 7.0, "steps": 9.0}
    rows = [(arm, found) for arm in growth.ARMS]
    about = {"code": "abc", "model": {"downsample": 4, "codes": 1024, "dim": 32}, "test_frames": 5, "test_people": 2, "size_px": 64}
    page = growth.markdown(found, rows, about)
    axes = {arm.axis for arm in growth.ARMS}
    assert page.count("## ") == len(axes) and page.count("| **") == len(axes)
    assert page.count("\n| 1/4 |") == 2 and "| 16 x 16 |" in page
