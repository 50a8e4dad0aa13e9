"""Landmark distances, lip sync, blinks, diversity, beats, emotion accuracy and intervals: known answers."""

import numpy as np
import pytest

from flowvqtalker.checks import ShapeError
from flowvqtalker.metrics.blinks import BlinkStatistics, blink_events, closed_mask, eye_aspect_ratio
from flowvqtalker.metrics.bootstrap import MIN_CLUSTERS, TOO_FEW, bootstrap_statistic, cluster_bootstrap, draw_counts
from flowvqtalker.metrics.diversity import (
    BeatAlignment,
    PoseOverSeeds,
    PoseOverTime,
    audio_beats,
    beat_alignment,
    expression_distance,
    motion_beats,
    pose_over_seeds_deg,
    pose_over_time_deg,
    seed_distance,
)
from flowvqtalker.metrics.emotion import EmotionAccuracy, confusion_matrix, per_class_accuracy_pct
from flowvqtalker.metrics.landmarks import (
    LMD,
    LipCorrelation,
    correlation,
    faces_found_pct,
    lip_aperture,
    lip_correlation,
    lmd_centred_px,
    lmd_raw_px,
)
from flowvqtalker.metrics.sync import LipSync, shift_distances, sync_score, window_offsets


def points(seed: int = 0, frames: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).uniform(20, 100, size=(frames, 68, 2)).astype(np.float32)


def test_lmd_is_zero_for_identical_landmarks_and_scales_with_the_crop():
    real = points()
    for region in ("mouth", "face"):
        np.testing.assert_allclose(lmd_centred_px(real, real, region, 128), 0.0)
        np.testing.assert_allclose(lmd_raw_px(real, real, region, 128), 0.0)
    # 3 px to the right in a 128 px crop is 6 px at 256; per coordinate half of it; centring removes it.
    shifted = real + np.array([3.0, 0.0], dtype=np.float32)
    np.testing.assert_allclose(lmd_raw_px(shifted, real, "mouth", 128), 3.0, rtol=1e-5)
    np.testing.assert_allclose(lmd_centred_px(shifted, real, "mouth", 128), 0.0, atol=1e-5)


def test_centred_lmd_of_a_scaled_mouth():
    real = points()
    mouth = real[:, 48:68]
    grown = real.copy()
    grown[:, 48:68] = mouth.mean(1, keepdims=True) + 1.5 * (mouth - mouth.mean(1, keepdims=True))
    expected = 0.5 * np.linalg.norm(mouth - mouth.mean(1, keepdims=True), axis=-1).mean(1)
    np.testing.assert_allclose(lmd_centred_px(grown, real, "mouth", 256), expected, rtol=1e-5)


def test_lmd_leaves_out_frames_without_a_face_and_grows_with_noise():
    real = points(frames=20)
    hidden = real.copy()
    hidden[3] = np.nan
    metric = LMD("mouth", "raw", 128)
    metric.update(hidden, real)
    assert metric.compute() == 0.0 and metric.left_out == 1 and metric.count == 19
    assert faces_found_pct(hidden) == pytest.approx(95.0) and np.isnan(faces_found_pct(hidden[:0]))
    noise = np.random.default_rng(1).normal(size=real.shape)
    for function in (lmd_centred_px, lmd_raw_px):
        assert np.all(np.diff([function(real + s * noise, real, "face", 128).mean() for s in (0.5, 1, 3)]) > 0)
    with pytest.raises(ShapeError):
        lmd_raw_px(real[:3], real, "face", 128)


def test_lip_aperture_and_correlation():
    face = points(frames=30)
    face[:, 36], face[:, 45] = (20, 30), (60, 30)
    opening = 4 + 3 * np.sin(np.arange(30) / 3)
    for top, bottom in ((61, 67), (62, 66), (63, 65)):
        face[:, bottom] = face[:, top] + np.stack([np.zeros(30), opening], axis=-1)
    np.testing.assert_allclose(lip_aperture(face), opening / 40, rtol=1e-5)
    assert lip_correlation(face, face) == pytest.approx(1.0)
    assert correlation(np.arange(5.0), -np.arange(5.0)) == pytest.approx(-1.0)
    assert np.isnan(correlation(np.zeros(5), np.arange(5.0)))
    noise = np.random.default_rng(0).normal(size=(3, 30))
    values = [correlation(opening + s * noise[0], opening) for s in (0.3, 2.0, 9.0)]
    assert values[0] > values[1] > values[2]
    metric = LipCorrelation()
    metric.update(face, face)
    assert metric.compute() == pytest.approx(1.0)


@pytest.mark.parametrize("late", [-9, -1, 0, 1, 4, 12])
def test_sound_shifted_by_k_frames_gives_offset_k(late):
    stream = np.random.default_rng(0).normal(size=(200, 16))
    video, audio = stream[40:120], stream[40 - late : 120 - late]
    score = sync_score(video, audio)
    assert score.offset_frames == late
    assert score.lse_d == pytest.approx(0.0, abs=1e-9) and score.lse_c > 1.0
    assert set(window_offsets(video, audio)) == {late}


def test_the_ends_of_the_search_range_are_found():
    stream = np.random.default_rng(0).normal(size=(200, 16))
    assert sync_score(stream[40:120], stream[25:105]).offset_frames == 15
    assert sync_score(stream[40:120], stream[55:135]).offset_frames == -15


def test_sync_gets_worse_with_noise_and_merges():
    generator = np.random.default_rng(1)
    video = generator.normal(size=(60, 16))
    noise = generator.normal(size=(60, 16))
    scores = [sync_score(video, video + s * noise) for s in (0.1, 0.5, 1.5)]
    assert np.all(np.diff([s.lse_d for s in scores]) > 0) and np.all(np.diff([s.lse_c for s in scores]) < 0)
    metric, other = LipSync(), LipSync()
    metric.update(video, video)
    other.update(video[:-2], video[2:])
    metric.merge(other)
    assert metric.count == 2 and metric.within(1) == 0.5 and metric.offset_frames() == -1.0 and metric.lse_c() > 0


def test_shift_distances_mark_what_lies_outside():
    video = np.eye(5)
    distances = shift_distances(video, video, 2)
    assert np.isnan(distances[0, 0]) and np.isnan(distances[4, 4]) and distances[2, 2] == 0.0
    with pytest.raises(ShapeError):
        shift_distances(video, video[:4])
    assert np.isnan(sync_score(np.zeros((0, 4)), np.zeros((0, 4))).lse_d)


def test_blinks_with_hysteresis():
    closure = np.array([0, 0.2, 0.6, 0.9, 0.4, 0.45, 0.2, 0, 0.4, 0.49, 0, 0.7, 0.2])
    assert blink_events(closure).tolist() == [[2, 6], [11, 12]]
    assert closed_mask(np.stack([closure, 0 * closure]))[1].sum() == 0
    statistics = BlinkStatistics(fps_hz=25)
    statistics.update(closure)
    assert statistics.compute() == pytest.approx(2 / (13 / 25))
    assert statistics.mean_duration_s() == pytest.approx(2.5 / 25)
    assert statistics.median_interval_s() == pytest.approx(9 / 25)
    assert statistics.closures == [0.9, 0.7]
    with pytest.raises(ValueError, match="must not exceed"):
        closed_mask(closure, on=0.2, off=0.3)


def test_a_static_frame_has_no_blinks_and_clips_pool_over_time():
    statistics = BlinkStatistics(fps_hz=25)
    statistics.update(np.full(100, 0.1))
    assert statistics.compute() == 0.0 and np.isnan(statistics.mean_duration_s())
    other = BlinkStatistics(fps_hz=25)
    other.update(np.array([[0, 1, 0, 0, 0] * 5, [0] * 25]))
    statistics.merge(other)
    assert statistics.count == 5 and statistics.seconds == pytest.approx(6.0)
    assert np.isnan(BlinkStatistics(25).compute())


def test_eye_aspect_ratio_of_an_ellipse():
    face = np.zeros((68, 2))
    for first in (36, 42):
        face[first : first + 6] = [(0, 0), (3, -2), (7, -2), (10, 0), (7, 2), (3, 2)]
    assert eye_aspect_ratio(face) == pytest.approx(0.4)


def test_pose_diversity():
    still = np.zeros((50, 6))
    assert pose_over_time_deg(still) == 0.0
    swing = still.copy()
    swing[:, 0] = np.radians(3) * np.where(np.arange(50) % 2, 1, -1)
    assert pose_over_time_deg(swing) == pytest.approx(1.0)
    seeds = np.stack([swing, -swing])
    assert pose_over_seeds_deg(seeds) == pytest.approx(3 * np.sqrt(2) / 3)
    assert pose_over_seeds_deg(np.stack([swing, swing])) == 0.0
    with pytest.raises(ShapeError):
        pose_over_seeds_deg(swing[None])
    for metric, value in ((PoseOverTime(), swing), (PoseOverSeeds(), seeds)):
        metric.update(value)
        assert metric.compute() > 0
    noise = np.random.default_rng(0).normal(size=(50, 6))
    assert np.all(np.diff([pose_over_time_deg(s * noise) for s in (0.01, 0.05, 0.2)]) > 0)


def test_expression_distances():
    a = np.zeros((10, 4))
    assert expression_distance(a, np.ones((7, 4))) == pytest.approx(2.0)
    assert seed_distance(np.stack([a, a + 1, a + 2])) == pytest.approx((2 + 4 + 2) / 3)
    with pytest.raises(ShapeError):
        seed_distance(a[None])


def test_beats():
    frames = np.arange(200)
    pose = np.zeros((200, 6))
    pose[:, 0] = 0.1 * np.sin(2 * np.pi * frames / 40)
    beats = motion_beats(pose)
    assert np.all(np.abs((beats - 10 + 10) % 20 - 10) <= 1) and len(beats) >= 8
    loudness = np.zeros(200)
    loudness[[30, 90, 150]] = 1.0
    assert audio_beats(loudness).tolist() == [30, 90, 150]
    assert beat_alignment(np.array([30, 90, 150]), np.array([30, 90, 150])) == 1.0
    worse = [beat_alignment(np.array([30, 90, 150]) + k, np.array([30, 90, 150])) for k in (1, 3, 6)]
    assert worse[0] > worse[1] > worse[2] and worse[1] == pytest.approx(np.exp(-0.5))
    assert beat_alignment(np.zeros(0), np.array([3])) == 0.0 and np.isnan(beat_alignment(np.array([3]), np.zeros(0)))
    metric = BeatAlignment()
    metric.update(pose, loudness)
    assert 0 <= metric.compute() <= 1


def test_emotion_accuracy():
    truth, verdict = np.array([0, 0, 1, 1, 1, 2, -1]), np.array([0, 1, 1, 1, 0, 2, 2])
    level = np.array([0, 0, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(confusion_matrix(truth, verdict, 4), [[1, 1, 0, 0], [1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    metric = EmotionAccuracy(4)
    metric.update(truth[:3], verdict[:3], level[:3])
    other = EmotionAccuracy(4)
    other.update(truth[3:], verdict[3:], level[3:])
    metric.merge(other)
    assert metric.compute() == pytest.approx(100 * 4 / 6)
    assert metric.macro_pct() == pytest.approx(100 * (1 / 2 + 2 / 3 + 1) / 3)
    assert metric.per_level_pct() == pytest.approx({0: 50.0, 1: 100.0, 2: 50.0, 3: 100.0})
    assert np.isnan(per_class_accuracy_pct(metric.confusion())[3])
    assert np.isnan(EmotionAccuracy(4).compute())


def test_cluster_bootstrap_covers_and_is_wider_than_a_naive_interval():
    generator = np.random.default_rng(7)
    covered, widths, naive = 0, [], []
    for _ in range(100):
        centres = generator.normal(size=20)
        values = np.repeat(centres, 10) + 0.1 * generator.normal(size=200)
        estimate = cluster_bootstrap(values, np.repeat(np.arange(20), 10), generator, n_resamples=300)
        assert estimate.ci is not None
        covered += estimate.ci[0] <= 0 <= estimate.ci[1]
        widths.append(estimate.ci[1] - estimate.ci[0])
        naive.append(2 * 1.96 * values.std() / np.sqrt(200))
    assert 84 <= covered <= 100
    assert np.mean(widths) > 2 * np.mean(naive)


def test_bootstrap_says_when_clusters_are_too_few():
    generator = np.random.default_rng(0)
    values = np.arange(14.0)
    estimate = cluster_bootstrap(values, ["a", "b"] * 7, generator)
    assert estimate.ci is None and estimate.reason == TOO_FEW and estimate.value == 6.5 and estimate.n_clusters == 2
    assert cluster_bootstrap(np.array([np.nan]), ["a"], generator).reason == "no data"
    enough = cluster_bootstrap(np.arange(16.0), np.arange(16) % MIN_CLUSTERS, generator)
    assert enough.ci is not None and enough.reason == ""


def test_bootstrap_weights_make_rates():
    events, seconds = np.array([1.0, 0.0, 4.0]), np.array([1.0, 2.0, 1.0])
    estimate = cluster_bootstrap(events / seconds, ["a", "b", "c"], np.random.default_rng(0), weights=seconds)
    assert estimate.value == pytest.approx(5 / 4)


def test_paired_differences_are_sharper_than_two_intervals():
    generator = np.random.default_rng(2)
    clusters = np.arange(10)
    hard = generator.normal(size=10)
    a, b = hard + 1, hard + 1.1 + 0.02 * generator.normal(size=10)
    separate = cluster_bootstrap(a, clusters, generator).ci, cluster_bootstrap(b, clusters, generator).ci
    paired = cluster_bootstrap(b - a, clusters, generator).ci
    assert separate[0][1] > separate[1][0] and paired[0] > 0


def test_draw_counts_and_statistics_on_counts():
    counts = draw_counts(9, 50, np.random.default_rng(0))
    assert counts.shape == (50, 9) and (counts.sum(1) == 9).all()
    estimate = bootstrap_statistic(lambda c: c @ np.arange(9.0) / c.sum(1), 9, 9, np.random.default_rng(0))
    assert estimate.value == 4.0 and estimate.ci[0] < 4 < estimate.ci[1]
