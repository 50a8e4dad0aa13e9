"""The table of the diffusion baseline: what is compared with what, and how few steps are enough."""

import numpy as np
import pandas as pd
import pytest
import torch

from flowvqtalker.constants import FPS_HZ
from flowvqtalker.flow.windows import MotionClip
from pipeline.tools.diffusion import (
    TIMED_FRAMES,
    Sampled,
    fewest_steps,
    lip_correlations,
    long_request,
    page_of,
    table_of,
)  # fmt: skip


class Stub:
    """What the table needs of a flow."""

    kept = torch.arange(53)
    sd = torch.ones(53)


def make_clip(number, identity):
    rng = np.random.default_rng(number)
    beta = torch.from_numpy(rng.uniform(0, 1, (30, 53)).cumsum(0) / 30).float()
    start = 80 * torch.arange(30) // 25
    return MotionClip(f"c{number}", identity, torch.zeros(100, 80), start, beta, torch.zeros(30, 6), beta[0], torch.zeros(6), 0, 0.0)


CLIPS = [make_clip(i, f"id{i % 9}") for i in range(18)]


def sampled(method, steps, noise):
    rng = np.random.default_rng(0)
    made = [[clip.beta.numpy() + noise * rng.normal(size=(30, 53)) for clip in CLIPS] for _ in range(2)]
    return Sampled(method, steps, 1000, made, 100.0 if steps is None else 1000.0 / steps, 50.0)


def test_real_motion_scores_perfectly_and_noise_worse():
    table = table_of([sampled("ExpFlow", None, 0.1), sampled("diffusion", 1, 0.0), sampled("diffusion", 2, 0.3)], CLIPS, Stub(), 0)
    flow, same, noisy, real = table.to_dict("records")
    assert same["lip_correlation"] == pytest.approx(1) and same["spread_ratio"] == pytest.approx(1) and same["seed_distance"] == 0
    assert same["lip_correlation"] > flow["lip_correlation"] > noisy["lip_correlation"]
    assert noisy["jitter_ratio"] > flow["jitter_ratio"] > 1
    assert same["lips_minus_flow"] == pytest.approx(1 - flow["lip_correlation"])
    assert same["lips_minus_flow_low"] > 0 > noisy["lips_minus_flow_high"]
    assert np.isnan(flow["lips_minus_flow"]) and real["method"] == "real clips" and real["spread_ratio"] == pytest.approx(1)
    page = page_of(table, {"steps": 3, "cpu_s": 1, "best_step": 2, "conditioners": 10}, "full")
    assert "| diffusion | 2 | 1,000 |" in page
    assert "18 of 9 identities" in page
    assert "nan" not in page


def test_correlations_are_clip_by_clip():
    made = [[clip.beta.numpy() for clip in CLIPS[:2]], [CLIPS[0].beta.numpy(), -CLIPS[1].beta.numpy()]]
    values = lip_correlations(made, CLIPS[:2])
    assert values[0] == pytest.approx(1) and values[1] < 1


@pytest.mark.parametrize(
    ("values", "fewest"),
    [({1: 0.90, 2: 0.805, 10: 0.81, 50: 0.80}, 2), ({1: 0.90, 2: 0.805, 10: 0.75, 50: 0.80}, 50), ({1: 0.79, 50: 0.80}, 1)],
)
def test_fewest_steps_hold_for_all_larger_numbers_too(values, fewest):
    rows = [{"method": "ExpFlow", "ddim_steps": None, "lip_correlation": 0.8}]
    rows += [{"method": "diffusion", "ddim_steps": steps, "lip_correlation": value} for steps, value in values.items()]
    assert fewest_steps(pd.DataFrame(rows).astype({"ddim_steps": "Int64"})) == fewest


def test_the_timed_request_has_its_length_and_sound_of_several_clips():
    request = long_request(CLIPS[:2], 1)
    assert len(request.windows) == TIMED_FRAMES == 10 * FPS_HZ
    assert torch.equal(request.windows[:60], request.windows[60:120])
