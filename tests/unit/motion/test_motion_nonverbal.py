"""Blinks, gaze, brows and head follow the distributions they declare."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from flowvqtalker.constants import EMOTIONS, FPS_HZ
from flowvqtalker.face.expressions import EXPRESSION_INDEX
from flowvqtalker.face.model import GAZE_PITCH_RAD, GAZE_YAW_RAD
from flowvqtalker.motion import nonverbal
from flowvqtalker.motion.distributions import DECLARED, Distributions


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_blink_rate_interval_and_duration(emotion):
    rate = DECLARED.blink_rate_hz[emotion]
    seconds = 4000.0
    events = nonverbal.blink_events(np.random.default_rng(5), seconds, rate)
    intervals, lengths = np.diff(events[:, 0]), (events[:, 1] - events[:, 0])[1:-1]
    spread = intervals.std() / np.sqrt(len(intervals)) * rate * rate  # standard error of a renewal rate
    assert abs(len(events) / seconds - rate) < 4 * spread
    shape, extra = DECLARED.blink_gamma_shape, 1 / rate - DECLARED.blink_refractory_s
    assert stats.kstest(intervals[1:] - DECLARED.blink_refractory_s, stats.gamma(shape, scale=extra / shape).cdf).pvalue > 1e-3
    low, high = DECLARED.blink_duration_range_s
    assert lengths.min() >= low - 1e-9 and lengths.max() <= high + 1e-9
    whole = stats.lognorm(DECLARED.blink_duration_log_sd, scale=DECLARED.blink_duration_median_s)
    inside = whole.cdf(high) - whole.cdf(low)
    assert stats.kstest(lengths, lambda x: (whole.cdf(x) - whole.cdf(low)) / inside).pvalue > 1e-3


def test_blinks_keep_the_refractory_time_and_never_overlap():
    events = nonverbal.blink_events(np.random.default_rng(1), 3000, 0.43)
    assert np.diff(events[:, 0]).min() >= DECLARED.blink_refractory_s
    assert (events[1:, 0] > events[:-1, 1]).all()


def test_short_clips_blink_at_the_same_rate_as_long_ones():
    """A clip is a window of a process that has run for long: no blink debt at its start."""
    n, seconds = 4000, 2.4
    starts = [nonverbal.blink_events(np.random.default_rng(i), seconds, 0.36) for i in range(n)]
    onsets = np.concatenate([e[e[:, 0] > 0, 0] for e in starts])
    expected = n * seconds * 0.36
    assert abs(len(onsets) - expected) < 4 * np.sqrt(expected)
    assert stats.kstest(onsets, stats.uniform(0, seconds).cdf).pvalue > 1e-3


def test_a_clip_that_must_start_with_open_eyes_does():
    for seed in range(200):
        events = nonverbal.blink_events(np.random.default_rng(seed), 2.0, 0.43, open_until_s=0.3)
        assert not len(events) or events[0, 0] >= 0.3


def test_every_whole_blink_shows_a_closed_frame():
    rng = np.random.default_rng(0)
    events = nonverbal.blink_events(rng, 600, 0.36)
    closure = nonverbal.blink_closure(rng, events, 600 * FPS_HZ)
    for start, end in events[1:-1]:
        part = closure[int(start * FPS_HZ) : int(np.ceil(end * FPS_HZ)) + 1]
        assert part.max() >= DECLARED.blink_depth_range[0] - 1e-9
        assert 2 <= (part > 0.5).sum() <= 10
    outside = np.ones(len(closure), bool)
    for start, end in events:
        outside[int(np.floor(start * FPS_HZ)) : int(np.ceil(end * FPS_HZ)) + 1] = False
    assert closure[outside].max() == 0


def test_declared_rates_lie_in_the_band_of_talking_people():
    assert all(0.28 <= rate <= 0.45 for rate in DECLARED.blink_rate_hz.values())
    assert DECLARED.blink_duration_range_s[0] >= 0.1 and DECLARED.blink_duration_range_s[1] <= 0.4


def test_impossible_declarations_are_refused():
    with pytest.raises(ValueError, match="blink_refractory_s"):
        Distributions(blink_refractory_s=3.0)
    with pytest.raises(ValueError, match="before the last one ended"):
        Distributions(blink_duration_range_s=(0.1, 0.6))
    with pytest.raises(ValueError, match="refractory"):
        nonverbal.blink_events(np.random.default_rng(0), 10, 2.5)


def test_smooth_noise_has_the_declared_spread_and_correlation_time():
    noise = nonverbal.smooth_noise(np.random.default_rng(0), 200_000, [1.5, 0.2], 1.0, smoothing_frames=3.0)
    assert noise.std(0) == pytest.approx([1.5, 0.2], rel=0.04)
    lag = np.corrcoef(noise[:-FPS_HZ, 0], noise[FPS_HZ:, 0])[0, 1]
    assert 0.33 < lag < 0.45  # exp(-1) of the process, a little more by smoothing
    assert np.abs(np.diff(noise[:, 0])).max() < 0.6


def test_gaze_fixates_jumps_and_stays_within_limits():
    gaze = nonverbal.gaze_deg(np.random.default_rng(0), 40_000)
    step = np.linalg.norm(np.diff(gaze, axis=0), axis=1)
    assert (step == 0).mean() > 0.85
    assert np.abs(gaze).max() <= DECLARED.gaze_limit_deg
    moving = step > 0
    shifts = (moving[1:] & ~moving[:-1]).sum() / (40_000 / FPS_HZ)
    assert 0.85 < shifts * DECLARED.saccade_interval_mean_s < 1.1


def test_gaze_shapes_have_the_right_signs_and_scale():
    assert DECLARED.gaze_full_deg == pytest.approx(np.degrees([GAZE_YAW_RAD, GAZE_PITCH_RAD]))
    beta = nonverbal.gaze_to_shapes(np.array([[8.0, -6.5]]))[0]
    value = {
        name: beta[EXPRESSION_INDEX[name]]
        for name in ("eyeLookOut_L", "eyeLookIn_R", "eyeLookIn_L", "eyeLookDown_L", "eyeLookUp_L", "eyeBlink_L")
    }
    assert value["eyeLookOut_L"] == value["eyeLookIn_R"] == pytest.approx(0.25)
    assert value["eyeLookIn_L"] == value["eyeLookUp_L"] == 0
    assert value["eyeLookDown_L"] == pytest.approx(0.25) and 0 < value["eyeBlink_L"] < 0.1


def test_brow_flashes_happen_on_stressed_syllables_as_often_as_declared():
    stressed = np.arange(1, 2000) * 1.0
    raised = nonverbal.brow_flashes(np.random.default_rng(0), stressed, 2000 * FPS_HZ)
    at = raised[(stressed * FPS_HZ).astype(int)] > 0
    assert at.mean() == pytest.approx(DECLARED.brow_flash_probability, abs=4 * np.sqrt(0.16 * 0.84 / len(at)))
    low, high = DECLARED.brow_flash_amplitude
    assert raised.max() <= high and raised[(stressed * FPS_HZ).astype(int)][at].min() > 0.8 * low
    between = raised[((stressed[:-1] + 0.5) * FPS_HZ).astype(int)]
    assert between.max() == 0


def test_rotation_matrices_follow_the_conventions():
    nod, turn, tilt = nonverbal.rotation_matrices(np.eye(3) * 0.1)
    nose, crown = np.array([0, 0, 1.0]), np.array([0, 1.0, 0])
    assert (nod @ nose)[1] < 0  # rx > 0 nods down
    assert (turn @ nose)[0] > 0  # ry > 0 turns to the subject's left
    assert (tilt @ crown)[0] < 0  # rz > 0 tilts the crown to the viewer's left
    all_three = nonverbal.rotation_matrices(np.array([[0.3, -0.2, 0.1]]))[0]
    assert all_three @ all_three.T == pytest.approx(np.eye(3))
    single = [nonverbal.rotation_matrices(np.array([v]))[0] for v in ([0.3, 0, 0], [0, -0.2, 0], [0, 0, 0.1])]
    assert all_three == pytest.approx(single[2] @ single[1] @ single[0])


def test_head_turns_about_the_neck():
    pose = nonverbal.head_pose(np.random.default_rng(0), [], 2000)
    pivots = np.einsum("tij,j->ti", nonverbal.rotation_matrices(pose[:, :3]), nonverbal.NECK_PIVOT_CM) + pose[:, 3:]
    assert np.abs(pivots - nonverbal.NECK_PIVOT_CM).max() < 5 * max(DECLARED.head_translation_sd_cm)


def test_head_nods_down_on_stress():
    moments = np.arange(1, 400) * 1.0
    with_stress = nonverbal.head_pose(np.random.default_rng(3), moments, 400 * FPS_HZ)[:, 0]
    at = np.degrees(with_stress[(moments * FPS_HZ).astype(int)]).mean()
    away = np.degrees(with_stress[((moments[:-1] + 0.5) * FPS_HZ).astype(int)]).mean()
    low, high = DECLARED.nod_amplitude_deg
    assert at - away == pytest.approx(DECLARED.nod_probability * (low + high) / 2, rel=0.35)
