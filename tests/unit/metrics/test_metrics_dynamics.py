"""Spectra, velocities, accelerations and split distances against known answers."""

import numpy as np
import pytest
import scipy.signal
import scipy.stats

from flowvqtalker.checks import ShapeError
from flowvqtalker.metrics import dynamics

FPS = 25.0


def noise(seed, frames=64, dims=3):
    return np.random.default_rng(seed).standard_normal((frames, dims))


@pytest.mark.parametrize("segment", [32, 25])
def test_spectrum_is_welchs(segment):
    clip = noise(0, 200)
    ours = dynamics.welch_power(clip, FPS, segment)
    frequencies, theirs = scipy.signal.welch(
        clip, FPS, nperseg=segment, noverlap=segment - segment // 2, window="hann", detrend="constant", axis=0
    )
    assert np.allclose(dynamics.frequencies_hz(FPS, segment), frequencies)
    assert np.allclose(ours.density(), theirs)


def test_power_adds_up_over_clips_and_short_clips_have_none():
    one, two = dynamics.welch_power(noise(1), FPS), dynamics.welch_power(noise(2, 40), FPS)
    both = one + two
    assert both.segments == 4 and np.allclose(both.density(), (3 * one.density() + two.density()) / 4)
    short = dynamics.welch_power(noise(3, 20), FPS)
    assert short.segments == 0 and np.isnan(short.density()).all() and (one + short).segments == 3
    with pytest.raises(ShapeError):
        dynamics.welch_power(noise(1)[:, 0], FPS)


def test_sine_has_its_power_at_its_frequency():
    times = np.arange(400) / FPS
    wave = 3.0 * np.sin(2 * np.pi * 3.125 * times)[:, None]  # a multiple of 25 / 32 Hz
    density = dynamics.welch_power(wave, FPS).density()[:, 0]
    hertz = dynamics.frequencies_hz(FPS)
    assert hertz[density.argmax()] == 3.125
    assert density.sum() * hertz[1] == pytest.approx(4.5, rel=1e-6)  # Parseval: variance of the wave


def test_log_spectral_distance():
    power = dynamics.welch_power(noise(4, 300), FPS).density()
    assert dynamics.log_spectral_distance_db(power, power) == 0.0
    assert dynamics.log_spectral_distance_db(power, 4 * power) == pytest.approx(10 * np.log10(4))
    other = power * np.array([1.0, 4.0, 1.0])
    assert dynamics.log_spectral_distance_db(power, other) == pytest.approx(10 * np.log10(4) / 3)
    changed = power.copy()
    changed[0] *= 100  # 0 Hz is not compared
    assert dynamics.log_spectral_distance_db(power, changed) == 0.0
    assert np.isfinite(dynamics.log_spectral_distance_db(power, 0 * power))
    assert np.isnan(dynamics.log_spectral_distance_db(power, power * np.nan))
    with pytest.raises(ShapeError):
        dynamics.log_spectral_distance_db(power, power[:, :2])


def test_speed_and_head_speed():
    steady = np.outer(np.arange(10), [0.3, 0.4])
    assert np.allclose(dynamics.speed(steady, FPS), 12.5)
    pose = np.zeros((10, 6))
    pose[:, 1] = np.radians(np.arange(10))  # one degree a frame
    pose[:, 3:] = noise(5, 10)  # translation does not count
    assert np.allclose(dynamics.head_speed_deg_per_s(pose, FPS), 25.0)


def test_distribution_distance():
    a = noise(6, 500, 1)[:, 0]
    assert dynamics.distribution_distance(a, a) == 0.0
    assert dynamics.distribution_distance(a, a + 0.7) == pytest.approx(0.7)
    assert dynamics.distribution_distance(a, 2 * a) == pytest.approx(scipy.stats.wasserstein_distance(a, 2 * a))
    assert np.isnan(dynamics.distribution_distance(a, np.zeros(0)))


def test_acceleration():
    times = np.arange(12.0) / FPS
    curve = np.stack([3.0 * times**2, 5.0 * times], 1)  # 6 units/s^2, and a straight line
    assert np.allclose(dynamics.acceleration(curve, FPS), [6.0, 0.0])
    assert np.isnan(dynamics.acceleration(curve[:2], FPS)).all()
    real = np.array([[2.0, 4.0, 0.0], [4.0, 4.0, 0.0]])
    made = np.array([[6.0, 2.0, 9.0]])
    assert dynamics.acceleration_ratio(made, real) == pytest.approx((2.0 + 0.5) / 2)  # what is still in reality is left out
    assert np.isnan(dynamics.acceleration_ratio(made, 0 * real))


def test_low_pass_halves_the_power_at_its_cutoff():
    times = np.arange(2000) / FPS
    for hertz, left in ((3.0, 0.5), (0.1, 1.0), (10.0, 0.0)):
        wave = np.sin(2 * np.pi * hertz * times)[:, None]
        soft = dynamics.low_pass(wave, FPS, 3.0)[100:-100]
        assert np.square(soft).mean() / np.square(wave[100:-100]).mean() == pytest.approx(left, abs=0.02), hertz


def test_low_passed_distance_sees_slow_differences_and_no_jitter():
    still, jitter = np.zeros((200, 4)), np.where(np.arange(200) % 2, 1.0, -1.0)[:, None] * np.ones(4)
    assert dynamics.low_passed_distance(still, jitter, FPS, 3.0) < 0.05  # 2 without the low pass; what is left are the clip's ends
    assert dynamics.low_passed_distance(still, still + 0.5, FPS, 3.0) == pytest.approx(1.0)
    assert dynamics.low_passed_distance(still, still[:50] + 0.5, FPS, 3.0) == pytest.approx(1.0)
    assert np.isnan(dynamics.low_passed_distance(still[:0], still, FPS, 3.0))
    with pytest.raises(ShapeError):
        dynamics.low_passed_distance(still, still[:, :2], FPS, 3.0)


def test_splits_tell_equal_from_different_generators():
    generator = np.random.default_rng(7)
    real = [generator.gamma(2.0, 1.0, 60) for _ in range(41)]
    same = [[generator.gamma(2.0, 1.0, 60) for _ in range(3)] for _ in range(41)]
    wide = [[1.5 * one for one in some] for some in same]
    good = dynamics.split_distances(dynamics.pooled_distance, real, same, np.random.default_rng(0), 100)
    bad = dynamics.split_distances(dynamics.pooled_distance, real, wide, np.random.default_rng(0), 100)
    assert good.real.shape == good.made.shape == (100,) and np.array_equal(good.real, bad.real)
    assert good.value() < good.bound() < bad.value()
    assert 0.5 < good.value() / np.median(good.real) < 2.0
    copies = dynamics.split_distances(dynamics.pooled_distance, real, [[one] for one in real], np.random.default_rng(0), 20)
    assert np.array_equal(copies.real, copies.made)  # the same clips on the same splits
    with pytest.raises(ShapeError):
        dynamics.split_distances(dynamics.pooled_distance, real, same[:-1], np.random.default_rng(0))


def test_splits_of_people_forgive_what_is_a_persons_own():
    """Four people, each with a habit: a generator that knows the habits of others is far by clips and near by people."""
    generator = np.random.default_rng(8)
    habits = {"a": 0.5, "b": 1.0, "c": 1.5, "d": 2.0, "e": 0.7, "f": 1.8}
    names = [name for name in habits for _ in range(10)]
    real = [habits[name] * generator.gamma(2.0, 1.0, 60) for name in names]
    made = [[generator.uniform(0.4, 1.2) * generator.gamma(2.0, 1.0, 60) for _ in range(3)] for _ in names]
    clips = dynamics.split_distances(dynamics.pooled_distance, real, made, np.random.default_rng(0), 100)
    people = dynamics.split_distances(dynamics.pooled_distance, real, made, np.random.default_rng(0), 100, names)
    assert clips.value() > clips.bound() and people.value() < people.bound()
    with pytest.raises(ShapeError, match="groups"):
        dynamics.split_distances(dynamics.pooled_distance, real, made, np.random.default_rng(0), 5, ["a"] * len(names))


def test_splits_without_events_say_nothing():
    empty = [np.zeros(0)] * 6
    found = dynamics.split_distances(dynamics.pooled_distance, empty, [[one] for one in empty], np.random.default_rng(0), 5)
    assert np.isnan(found.value()) and np.isnan(found.bound())


def test_power_distance_pools_before_it_compares():
    loud = [dynamics.welch_power(2.0 * noise(i, 200), FPS) for i in range(10, 14)]
    quiet = [dynamics.welch_power(noise(i, 200), FPS) for i in range(10, 14)]
    assert dynamics.power_distance_db(loud, quiet) == pytest.approx(20 * np.log10(2))
