"""Tools that measure a trained flow: long speech, and how often an emotion is inferred right."""

import numpy as np
import pytest
import torch
from tiny_models import _flow, yaml

from flowvqtalker.constants import EMOTIONS
from flowvqtalker.flow.windows import MotionClip
from pipeline.tools import flow_long, flow_transfer


def make_clip(number: int, emotion: int, frames: int = 12) -> MotionClip:
    generator = torch.Generator().manual_seed(number)
    start = 80 * (torch.arange(frames) - 2) // 25
    beta, pose = torch.rand(frames, 53, generator=generator), torch.zeros(frames, 6)
    mel = torch.rand(40, 80, generator=generator) * 8 - 4
    return MotionClip(f"c{number}", f"id{number % 2}", mel, start, beta, pose, beta[0], pose[0], emotion, float(emotion > 0))


@pytest.fixture(scope="module")
def flow():
    with open("params.yaml", encoding="utf-8") as file:
        return _flow(yaml.safe_load(file), "expression")


def test_drift_growth_and_what_leaves_the_range_are_seen(flow):
    rng = np.random.default_rng(0)
    calm = rng.uniform(0, 1, (4000, 53)).astype(np.float32)
    halves = flow_long.compare_halves(flow, calm)
    assert np.abs(halves.shift).max() < 0.2 and np.abs(halves.ratio - 1).max() < 0.1 and halves.beyond == 0 and halves.finite
    drifting = calm * 0.5 + np.linspace(0, 0.5, 4000, dtype=np.float32)[:, None]
    assert np.median(flow_long.compare_halves(flow, drifting).shift) > 0.3
    growing = 0.5 + (calm - 0.5) * np.linspace(0.1, 1, 4000, dtype=np.float32)[:, None]
    assert np.median(flow_long.compare_halves(flow, growing).ratio) > 1.25
    beyond = calm.copy()
    beyond[7, 3] = 1.25
    assert flow_long.compare_halves(flow, beyond).beyond == pytest.approx(0.25)
    beyond[7, 3] = np.nan
    assert not flow_long.compare_halves(flow, beyond).finite


def test_both_halves_of_the_speech_hear_the_same_sounds():
    clips = [make_clip(i, 0) for i in range(3)]
    heard = torch.cat(list(flow_long.speech(clips, 100)))
    assert len(heard) == 100 and torch.equal(heard[:50], heard[50:]) and torch.equal(heard[:12], heard[36:48])
    assert torch.equal(torch.cat(list(flow_long.speech(clips, 100, 70))), heard[:70])


def test_a_long_motion_is_measured(flow):
    values = flow_long.measure(flow, [make_clip(i, 0) for i in range(3)], 90, "happy", 1.0, 1.6, 3)
    assert values["frames"] == 90 and values["finite"] == 1 and values["beyond_bounds"] == 0
    assert values["largest_difference_to_rollout"] < 1e-4 and values["peak_mb_end"] >= 1


def test_inferred_emotions_are_counted(flow):
    table = flow_transfer.judge_clips(flow, [make_clip(i, i) for i in (0, 1, 5)])
    assert list(table["source"]) == list(flow_transfer.SOURCES) * 3 and set(table["inferred"]) <= set(EMOTIONS)
    assert (table["right"] == (table["inferred"] == table["emotion"])).all()
    table["right"] = [True, False, True, True, False, False]
    text = flow_transfer.summary(table)
    assert "66.7 %  (n = 3)" in text and "33.3 %  (n = 3)" in text and "intensity 1.00" in text
