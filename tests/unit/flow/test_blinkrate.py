"""Blink rates: how many blinks there are afterwards, and that nothing but the lids has moved."""

import numpy as np
import pytest

from flowvqtalker.constants import FPS_HZ
from flowvqtalker.face.expressions import EXPRESSION_INDEX
from flowvqtalker.flow.blinkrate import (
    LONGEST_BLINK,
    closure_of,
    donor_seed,
    donors_needed,
    find_blinks,
    lid_columns,
    scale_blinks,
)
from flowvqtalker.metrics.blinks import blink_events
from flowvqtalker.motion.nonverbal import blink_closure
from flowvqtalker.motion.nonverbal import blink_events as draw_events

LIDS = [EXPRESSION_INDEX["eyeBlink_L"], EXPRESSION_INDEX["eyeBlink_R"]]
OTHERS = [i for i in range(53) if i not in LIDS]


def face(seed, seconds=400, rate_hz=0.35, rest=0.12):
    """Blinks as the corpus declares them, over resting lids that are never quite still."""
    rng = np.random.default_rng(seed)
    frames = seconds * FPS_HZ
    closure = blink_closure(rng, draw_events(rng, seconds, rate_hz), frames)
    beta = rng.uniform(0, 1, (frames, 53)).astype(np.float32)
    for column in LIDS:
        beta[:, column] = np.clip(rest + (1 - rest) * closure + rng.normal(0, 0.02, frames), 0, 1)
    return beta


def count(beta):
    return len(blink_events(beta[:, LIDS].mean(1)))


def scaled(seed, rate, beta=None, draws=0):
    beta = face(seed) if beta is None else beta
    return scale_blinks(beta, [face(seed + 100 + k) for k in range(donors_needed(rate))], rate, draws)


def test_a_rate_of_one_is_what_was_sampled_bit_for_bit():
    beta = face(1)
    made = scale_blinks(beta, [], 1.0, 5)
    assert np.array_equal(made, beta) and made is not beta


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.8, 1.4, 2.0, 3.0])
def test_other_coefficients_and_lids_between_blinks_stay_bit_for_bit(rate):
    beta = face(1)
    kept = beta.copy()
    made = scaled(1, rate, beta)
    assert np.array_equal(beta, kept)  # the sample itself is not touched
    assert made.dtype == beta.dtype and np.array_equal(made[:, OTHERS], beta[:, OTHERS])
    changed = (made != beta).any(1)
    assert changed.any() and changed.mean() < 0.6
    if rate < 1:
        own = np.zeros(len(beta), bool)
        for blink in find_blinks(closure_of(beta)):
            own[blink.first : blink.last] = True
        assert not changed[~own].any()


def test_a_rate_of_zero_leaves_no_blink_and_lids_at_rest():
    made = scaled(1, 0.0)
    assert count(made) == 0 and made[:, LIDS].max() < 0.35


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.75, 1.5, 2.0, 2.5, 3.0])
def test_the_number_of_blinks_is_the_rates_multiple(rate):
    totals = np.array([(count(beta), count(scaled(seed, rate, beta, draws=seed))) for seed in range(4) for beta in [face(seed)]]).sum(0)
    n = totals[0]
    assert n > 450
    # Binomial for the draws; donors have a number of their own (nearly Poisson, hence the wider band above 1).
    sd = np.sqrt(n * rate * (1 - rate)) if rate < 1 else np.sqrt(n * (rate - 1) * 1.2)
    assert abs(totals[1] - rate * n) < 4 * sd + 0.03 * rate * n


def test_added_blinks_look_like_blinks():
    beta = face(3)
    made = scaled(3, 2.0, beta)
    closure = made[:, LIDS].mean(1)
    lengths = np.diff(blink_events(closure), axis=1)
    before = np.diff(blink_events(beta[:, LIDS].mean(1)), axis=1)
    assert abs(lengths.mean() - before.mean()) < 0.1 * before.mean() and lengths.max() < 15
    peaks = [closure[a:b].max() for a, b in blink_events(closure)]
    assert min(peaks) > 0.8 and made[:, LIDS].max() <= 1 and made[:, LIDS].min() >= 0
    steps = [np.abs(np.diff(lids[:, LIDS], axis=0)).max() for lids in (beta, made)]
    assert steps[1] <= steps[0] + 0.1  # no jump that a blink does not have


def test_blinks_do_not_run_into_each_other():
    events = blink_events(scaled(2, 3.0)[:, LIDS].mean(1))
    assert (events[1:, 0] - events[:-1, 1]).min() >= 3


def test_a_smaller_rate_keeps_a_part_of_what_a_larger_one_keeps():
    beta = face(4)
    kept = [{tuple(e) for e in blink_events(scale_blinks(beta, [], rate, 7)[:, LIDS].mean(1))} for rate in (0.0, 0.3, 0.6, 0.9)]
    assert kept[0] < kept[1] < kept[2] < kept[3]
    other = {tuple(e) for e in blink_events(scale_blinks(beta, [], 0.6, 8)[:, LIDS].mean(1))}
    assert other != kept[2] and np.array_equal(scale_blinks(beta, [], 0.6, 7), scale_blinks(beta, [], 0.6, 7))


def test_lowered_lids_are_no_blink():
    beta = face(5, seconds=20, rate_hz=0.3)
    beta[100:200, LIDS] = 0.7
    for rate in (0.0, 2.0):
        made = scaled(5, rate, beta) if rate < 1 else scale_blinks(beta, [face(9, seconds=20)], rate, 0)
        assert np.array_equal(made[105:195], beta[105:195])
    assert all(blink.last - blink.first < LONGEST_BLINK + 20 for blink in find_blinks(closure_of(beta)))


def test_blinks_at_the_edges_and_closed_clips_survive():
    beta = np.zeros((12, 53), np.float32)
    beta[:3, LIDS] = beta[-2:, LIDS] = 0.9
    assert scale_blinks(beta, [], 0.0, 0)[:, LIDS].max() == 0
    assert np.array_equal(scale_blinks(beta[:2], [], 0.0, 0), beta[:2])  # nothing tells how open eyes look
    for frames in (1, 2, 5):
        short = beta[:frames]
        assert scale_blinks(short, [short, short], 3.0, 0).shape == short.shape


def test_donors_have_seeds_of_their_own():
    assert [donors_needed(rate) for rate in (0.0, 1.0, 1.01, 2.0, 2.2, 3.0)] == [0, 0, 1, 1, 2, 2]
    assert len({donor_seed(seed, k) for seed in range(3) for k in range(3)}) == 9


def test_what_cannot_be_scaled_is_refused():
    with pytest.raises(ValueError, match=r"factor in \[0, 3\], got 3.5"):
        scale_blinks(face(1, 2), [], 3.5, 0)
    with pytest.raises(ValueError, match="expected 1 for a blink rate of 2"):
        scale_blinks(face(1, 2), [], 2.0, 0)
    with pytest.raises(ValueError, match="ARKit expressions, got 64"):
        lid_columns(64)
    with pytest.raises(ValueError, match="donor"):
        scale_blinks(face(1, 2), [face(1, 3)], 2.0, 0)
