"""References and known answers of the statistics: intervals, paired differences, seeds, noise of FID, likelihood, identity, blink events, flicker."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from flowvqtalker.checks import ShapeError
from flowvqtalker.metrics.blinks import (
    BlinkF1,
    BlinkStatistics,
    blink_events,
    closure_from_landmarks,
    interval_distance_s,
    match_events,
)
from flowvqtalker.metrics.bootstrap import TOO_FEW, Estimate, cluster_bootstrap, over_seeds, paired_difference, verdict
from flowvqtalker.metrics.compensated import CompensatedFlicker, compensated_flicker
from flowvqtalker.metrics.distribution import ClusteredDistances, fid, half_split_fid, smallest_difference
from flowvqtalker.metrics.diversity import ExpressionOverSeeds, ExpressionOverTime, expression_over_time
from flowvqtalker.metrics.identity import IdentitySimilarity, identity_similarity, mean_face, pairwise_auc, verification_auc
from flowvqtalker.metrics.likelihood import HeldOutLikelihood, bits_per_dim, listening_gap


def test_cluster_bootstrap_equals_scipy_when_every_clip_is_its_own_person():
    values = np.random.default_rng(0).gamma(2.0, size=40)
    ours = cluster_bootstrap(values, np.arange(40), np.random.default_rng(1), n_resamples=20000)
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(2))
    assert ours.value == pytest.approx(values.mean())
    # Two independent sets of draws: each end of the interval is itself a random number with a spread of about 0.006 here.
    np.testing.assert_allclose(ours.ci, theirs.confidence_interval, atol=0.03)


def test_paired_differences_pair_clip_by_clip_and_say_what_they_show():
    generator = np.random.default_rng(3)
    people = np.repeat(np.arange(10), 3)
    hard = generator.normal(size=30)
    estimate = paired_difference(hard + 0.1 + 0.01 * generator.normal(size=30), hard, people, generator)
    assert estimate.n == 30 and estimate.n_clusters == 10 and estimate.ci[0] > 0.08 and estimate.ci[1] < 0.12
    assert verdict(estimate) == "better" and verdict(estimate, higher_is_better=False) == "worse"
    assert verdict(paired_difference(hard, hard[::-1], people, generator)) == "undecided"
    gaps = np.where(np.arange(30) % 3 == 0, np.nan, hard)
    assert paired_difference(gaps, hard, people, generator).n == 20
    assert verdict(paired_difference(hard[:6], hard[:6] + 1, people[:6], generator)) == TOO_FEW
    assert verdict(Estimate(float("nan"), None, 0, 0, "no data")) == "no data"
    both_perfect = paired_difference(np.full(10, np.inf), np.full(10, np.inf), np.arange(10), generator)
    assert both_perfect.n == 0 and both_perfect.reason == "no data"
    with pytest.raises(ShapeError):
        paired_difference(hard, hard[:3], people, generator)


def test_seeds_are_averaged_within_clips_and_their_spread_is_told():
    values = np.array([1.0, 3.0, 5.0, 7.0, np.nan, 9.0])
    means, clips, spread = over_seeds(values, ["a", "a", "b", "b", "c", "c"], [0, 1, 0, 1, 0, 1])
    assert clips == ["a", "b", "c"] and means.tolist() == [2.0, 6.0, 9.0]
    assert spread == pytest.approx(np.std([3.0, 19 / 3], ddof=1))
    assert math.isnan(over_seeds(np.array([1.0, 2.0]), ["a", "b"], [0, 0])[2])


def test_fid_equals_torchmetrics_on_the_same_features():
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Passed(torch.nn.Module):
        num_features = 6

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    generator = np.random.default_rng(3)
    a, b = generator.normal(size=(70, 6)), generator.normal(size=(90, 6)) @ generator.normal(size=(6, 6)) + 1.0
    theirs = FrechetInceptionDistance(feature=Passed(), normalize=False, input_img_size=(6,)).set_dtype(torch.float64)
    theirs.update(torch.from_numpy(b), real=True)
    theirs.update(torch.from_numpy(a), real=False)
    assert fid(a, b) == pytest.approx(float(theirs.compute()), rel=1e-4)


def test_halves_of_the_real_clips_lie_closer_than_a_shifted_set():
    generator = np.random.default_rng(5)
    people = np.repeat(np.arange(8), 4)
    units = [generator.normal(size=(20, 5)) + 0.5 * person for person in people]
    halves = half_split_fid(units, list(people), np.random.default_rng(0), halves=50)
    shifted = fid(np.concatenate(units) + 1.0, np.concatenate(units))
    assert halves.shape == (50,) and 0 < halves.mean() < 0.1 * shifted
    # Divided by people instead of within them, the halves show different people and lie further apart.
    across = half_split_fid(units, list(np.arange(len(units))), np.random.default_rng(0), halves=50)
    assert across.mean() > 1.5 * halves.mean()
    assert half_split_fid(units[:1], [0], generator).size == 0


def test_smallest_difference_knows_paired_noise():
    generator = np.random.default_rng(0)
    common = generator.normal(size=500)
    rows = np.stack([common, common + 1, common + 2]) + 0.01 * generator.normal(size=(3, 500))
    # The rows' own intervals are about 3.9 wide; what they share leaves the differences with 0.01 sqrt(2) of noise each.
    assert smallest_difference(rows) == pytest.approx(1.96 * 0.01 * math.sqrt(2), rel=0.2)
    assert math.isnan(smallest_difference(rows[:1]))
    assert ClusteredDistances([np.zeros((2, 2))] * 3, [np.zeros((2, 2))] * 3).n_clusters == 3


def test_likelihood_of_a_known_density():
    x = np.random.default_rng(0).normal(size=(20000, 4))
    log_prob = scipy.stats.norm.logpdf(x).sum(axis=1)
    entropy = 0.5 * math.log2(2 * math.pi * math.e)
    assert bits_per_dim(log_prob, 4).mean() == pytest.approx(entropy, abs=0.02)
    metric, other = HeldOutLikelihood(4), HeldOutLikelihood(4)
    metric.update(log_prob[:3000])
    other.update(log_prob[3000:])
    metric.merge(other)
    assert metric.compute() == pytest.approx(bits_per_dim(log_prob, 4).mean())
    wrong = scipy.stats.norm.logpdf(x, loc=1.0).sum(axis=1)
    # A wrong mean of one standard deviation costs 1 / (2 ln 2) bits per dimension.
    assert listening_gap(bits_per_dim(log_prob, 4), bits_per_dim(wrong, 4)) == pytest.approx(0.5 / math.log(2), abs=0.03)
    with pytest.raises(ValueError, match="cannot be mixed"):
        metric.merge(HeldOutLikelihood(5))
    with pytest.raises(ShapeError):
        bits_per_dim(log_prob, 0)
    assert math.isnan(HeldOutLikelihood(2).compute())


def test_identity_similarity_of_known_faces():
    red, blue = np.zeros((3, 3, 16, 16), np.uint8), np.zeros((2, 3, 16, 16), np.uint8)
    red[:, 0], blue[:, 2] = 200, 200
    faces = [mean_face(red), mean_face(blue)]
    assert faces[0].shape == (192,) and faces[0][:64].tolist() == [200 / 255] * 64 and faces[0][64:].sum() == 0
    centre = np.mean(faces, axis=0)
    assert identity_similarity(faces[0], faces[0], centre) == pytest.approx(1.0)
    assert identity_similarity(faces[0], faces[1], centre) == pytest.approx(-1.0)
    assert identity_similarity(faces[0], faces[1]) == pytest.approx(0.0)
    assert math.isnan(identity_similarity(centre, faces[0], centre))
    metric = IdentitySimilarity("mean face", centre)
    metric.update(faces[0], faces[0])
    metric.update(faces[0], faces[1])
    assert metric.compute() == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match="cannot be mixed"):
        metric.merge(IdentitySimilarity("arcface"))
    with pytest.raises(ShapeError):
        mean_face(np.zeros((0, 3, 16, 16), np.uint8))


def test_identity_similarity_falls_as_two_faces_are_blended():
    generator = np.random.default_rng(0)
    a, b = generator.uniform(size=192), generator.uniform(size=192)
    values = [identity_similarity((1 - t) * a + t * b, a, 0.5 * (a + b)) for t in (0.0, 0.3, 0.6, 0.9)]
    assert np.all(np.diff(values) <= 1e-12) and values[0] == pytest.approx(1.0) and values[-1] < 0


def test_area_under_the_curve():
    assert verification_auc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1.0
    assert verification_auc(np.array([1.0]), np.array([1.0])) == 0.5
    assert math.isnan(verification_auc(np.zeros(0), np.ones(2)))
    generator = np.random.default_rng(1)
    same, different = generator.normal(1.0, size=300), generator.normal(0.0, size=400)
    statistic = scipy.stats.mannwhitneyu(same, different).statistic
    assert verification_auc(same, different) == pytest.approx(statistic / (300 * 400))
    rows = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    assert pairwise_auc(rows, np.array(["a", "a", "b", "b"]), rows.mean(axis=0)) == 1.0


def test_events_are_matched_one_to_one():
    truth = np.array([[10, 14], [30, 33], [60, 64]])
    match = match_events(np.array([[11, 13], [12, 15], [40, 42], [58, 66]]), truth)
    assert (match.hits, match.misses, match.false_alarms) == (2, 1, 2) and match.f1 == pytest.approx(4 / 7)
    assert match_events(np.array([[15, 16]]), truth, slack=1).hits == 1 and match_events(np.array([[16, 17]]), truth, slack=1).hits == 0
    assert match_events(truth, truth).f1 == 1.0 and math.isnan(match_events(np.zeros((0, 2)), np.zeros((0, 2))).f1)
    metric, other = BlinkF1(), BlinkF1()
    metric.update(truth, truth)
    other.update(np.zeros((0, 2)), truth[:1])
    metric.merge(other)
    assert metric.compute() == pytest.approx(6 / 7)


def test_blink_completeness_and_interval_distance():
    metric, real = BlinkStatistics(25), BlinkStatistics(25)
    closure = np.zeros(200)
    closure[[20, 70, 120]] = (0.9, 0.6, 1.0)
    metric.update(closure)
    assert metric.completeness_pct() == pytest.approx(200 / 3) and math.isnan(real.completeness_pct())
    real.update(np.roll(closure, 5))
    assert metric.interval_distance_s(real) == 0.0
    slower = BlinkStatistics(25)
    closure = np.zeros(300)
    closure[[20, 95, 170]] = 1.0
    slower.update(closure)
    assert slower.interval_distance_s(metric) == pytest.approx(1.0)
    generator = np.random.default_rng(0)
    a, b = generator.gamma(2.0, size=50), generator.gamma(3.0, size=70)
    assert interval_distance_s(a, b) == pytest.approx(scipy.stats.wasserstein_distance(a, b))
    assert math.isnan(interval_distance_s(a, np.zeros(0)))


def eyes(opening_px: np.ndarray) -> np.ndarray:
    """(T, 68, 2) landmarks whose eyes are 20 px wide and as far open as told."""
    points = np.zeros((len(opening_px), 68, 2))
    half = opening_px / 2
    for first in (36, 42):
        points[:, first + 3, 0] = 20
        for upper, lower, u in ((1, 5, 6), (2, 4, 14)):
            points[:, first + upper], points[:, first + lower] = (np.stack([np.full(len(half), u), sign * half], -1) for sign in (-1, 1))
    return points


def test_blinks_from_landmarks_alone():
    opening = np.full(120, 7.0)
    opening[30:34] = (3, 1, 1, 4)
    opening[80:83] = (2, 0.5, 3)
    points = eyes(opening + 0.2 * np.random.default_rng(0).normal(size=120))
    points[31] = np.nan
    events = blink_events(closure_from_landmarks(points))
    assert events.tolist() == [[30, 33], [80, 82]] or match_events(events, np.array([[30, 34], [80, 83]])).f1 == 1.0
    assert not blink_events(closure_from_landmarks(eyes(np.full(50, 7.0)))).size
    assert not closure_from_landmarks(np.full((5, 68, 2), np.nan)).any()


def texture(seed: int = 0, size: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(size, size)).astype(np.uint8)


def test_compensated_flicker_forgives_motion_but_not_flashes():
    still = texture()
    moving = np.stack([np.roll(still, 2 * t, axis=1)[8:56, 16:48] for t in range(5)])
    # Blocks at the side where the texture enters find no partner; all others do.
    plain = np.abs(np.diff(moving.astype(float), axis=0)).mean()
    assert compensated_flicker(moving).mean() < 0.35 * plain
    inner = compensated_flicker(np.stack([np.roll(still, 2 * t, axis=1) for t in range(3)])[:, :, 8:])
    assert inner.shape == (2,) and inner.max() < 25
    assert not compensated_flicker(np.repeat(still[None], 4, axis=0)).any()
    flat = np.stack([np.full((32, 32), level, np.uint8) for level in (100, 110, 100)])
    assert compensated_flicker(flat).tolist() == [10.0, 10.0]
    noise = np.random.default_rng(1).normal(size=(6, 64, 64))
    levels = [compensated_flicker(128 + sigma * noise).mean() for sigma in (0, 2, 5, 12)]
    assert levels[0] == 0 and np.all(np.diff(levels) > 0)
    assert compensated_flicker(moving, every=2).tolist() == compensated_flicker(moving)[::2].tolist()
    metric = CompensatedFlicker()
    metric.update(flat)
    assert metric.compute() == 10.0
    with pytest.raises(ShapeError):
        compensated_flicker(still[None])


def test_expression_diversity():
    beta = np.zeros((50, 4))
    assert expression_over_time(beta) == 0.0
    beta[:, 0] = np.where(np.arange(50) % 2, 0.3, -0.3)
    beta[:, 1] = np.where(np.arange(50) % 2, 0.4, -0.4)
    assert expression_over_time(beta) == pytest.approx(0.5)
    over_time, seeds = ExpressionOverTime(), ExpressionOverSeeds()
    over_time.update(np.stack([beta, 0 * beta]))
    seeds.update(np.stack([beta, beta]))
    assert over_time.compute() == pytest.approx(0.25) and seeds.compute() == 0.0
