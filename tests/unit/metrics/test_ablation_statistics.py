"""Comparison of variants over people and trainings: known answers."""

import numpy as np
import pytest

from flowvqtalker.checks import ShapeError
from flowvqtalker.metrics.ablation import Scores, all_hold, claim_verdict, contrast, paired, pooled, spread
from flowvqtalker.metrics.bootstrap import Estimate, cluster_bootstrap

PEOPLE = [f"p{number // 4}" for number in range(40)]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_one_training_equals_the_cluster_bootstrap():
    values = generator(1).normal(size=40)
    ours, plain = pooled(Scores(values[None]), PEOPLE, generator(2), 4000), cluster_bootstrap(values, PEOPLE, generator(3), None, 4000)
    assert ours.value == pytest.approx(plain.value) and (ours.n, ours.n_clusters) == (40, 10)
    assert ours.ci == pytest.approx(plain.ci, abs=0.03)


def test_a_rate_is_all_events_over_all_seconds_of_all_trainings():
    events, seconds = np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([[2.0, 4.0], [10.0, 4.0]])
    rate = pooled(Scores(events / seconds, seconds), ["a", "b"], generator())
    assert rate.value == pytest.approx(6 / 20) and rate.ci is None and rate.reason == "n too small"


def test_trainings_that_differ_widen_the_interval_and_people_do_too():
    same = np.zeros((3, 40))
    trainings = same + np.array([[-1.0], [0.0], [1.0]])
    people = same + np.repeat(np.linspace(-1, 1, 10), 4)
    widths = [np.ptp(pooled(Scores(values), PEOPLE, generator()).ci) for values in (same, trainings, people)]
    assert widths[0] == 0 and widths[1] > 1.0 and widths[2] > 0.4
    assert spread(Scores(trainings)) == pytest.approx(1.0) and spread(Scores(people)) == 0 and np.isnan(spread(Scores(same[:1])))


def test_a_constant_difference_is_certain_however_far_people_and_trainings_lie_apart():
    base = generator(4).normal(size=(3, 40)) * 5
    apart = paired(Scores(base + 0.5), Scores(base), PEOPLE, generator())
    assert apart.value == pytest.approx(0.5) and apart.ci == pytest.approx((0.5, 0.5)) and apart.n == 40


def test_noise_without_a_difference_is_seldom_called_one():
    found = 0
    for seed in range(60):
        draws = generator(seed)
        apart = paired(Scores(draws.normal(size=(3, 40))), Scores(draws.normal(size=(3, 40))), PEOPLE, draws, 400)
        found += not apart.ci[0] <= 0 <= apart.ci[1]
    assert found <= 8


def test_a_training_that_went_wrong_keeps_a_difference_undecided():
    """Two of three trainings are much better for every person: people alone would call that certain."""
    change = np.array([[2.0], [2.0], [-3.0]]) + np.zeros((3, 40))
    low, high = paired(Scores(change), Scores(np.zeros((3, 40))), PEOPLE, generator()).ci
    assert low < 0 < high


def test_clips_that_one_side_lacks_are_left_out_of_both():
    values, baseline = np.full((1, 40), 2.0), np.full((1, 40), 1.0)
    values[0, :4], baseline[0, 4:8] = np.nan, 100.0
    baseline[0, 8] = np.nan
    apart = paired(Scores(values), Scores(baseline), PEOPLE, generator())
    assert apart.n == 35 and apart.n_clusters == 9 and apart.value == pytest.approx((31 * 1 - 4 * 98) / 35)
    assert np.isnan(paired(Scores(values * np.nan), Scores(baseline), PEOPLE, generator()).value)


def test_near_real_numbers_are_compared_by_their_distance():
    real = Scores(np.full((1, 40), 1.0))
    closer, farther = Scores(np.full((2, 40), 1.2)), Scores(np.full((2, 40), 0.5))
    assert paired(closer, farther, PEOPLE, generator(), real=real).value == pytest.approx(0.2 - 0.5)
    assert paired(farther, closer, PEOPLE, generator(), real=real).ci == pytest.approx((0.3, 0.3))


def losses(loss_a: float, loss_b: float, noise: float = 0.0, seed: int = 5) -> list[tuple[float, Scores]]:
    """Variants A and B under two conditions, as the terms of (A1 - A0) - (B1 - B0); people, trainings and conditions differ widely."""
    draws = generator(seed)
    people, trainings = 5 * np.repeat(draws.normal(size=(1, 10)), 4, 1), 3 * draws.normal(size=(3, 1))
    a0 = people + trainings + noise * draws.normal(size=(3, 40))
    b0 = -2 * people + trainings + noise * draws.normal(size=(3, 40))
    a1, b1 = a0 + loss_a + noise * draws.normal(size=(3, 40)), b0 + loss_b + noise * draws.normal(size=(3, 40))
    return [(1.0, Scores(a1)), (-1.0, Scores(a0)), (-1.0, Scores(b1)), (1.0, Scores(b0))]


def test_a_difference_of_differences_is_what_one_loses_more_than_the_other():
    apart = contrast(losses(0.2, 0.5), PEOPLE, generator())
    assert apart.value == pytest.approx(-0.3) and apart.ci == pytest.approx((-0.3, -0.3)) and (apart.n, apart.n_clusters) == (40, 10)
    assert contrast(losses(0.4, 0.4), PEOPLE, generator()).ci == pytest.approx((0.0, 0.0), abs=1e-12)
    low, high = contrast(losses(0.2, 0.5, noise=0.2), PEOPLE, generator()).ci
    assert low < -0.3 < high < 0 and high - low > 0.05


def test_a_shift_of_one_condition_that_all_share_cancels_in_a_difference_of_differences():
    shifted = [(weight, Scores(scores.values + 7.0 * (number in (0, 2)))) for number, (weight, scores) in enumerate(losses(0.2, 0.5))]
    assert contrast(shifted, PEOPLE, generator()).value == pytest.approx(-0.3)


def test_equal_losses_are_seldom_called_different():
    found = 0
    for seed in range(60):
        low, high = contrast(losses(0.3, 0.3, noise=0.5, seed=seed), PEOPLE, generator(seed), 400).ci
        found += not low <= 0 <= high
    assert found <= 8


def test_a_contrast_leaves_out_clips_that_any_side_lacks_and_is_a_paired_difference_with_two_terms():
    terms = losses(0.2, 0.5)
    terms[3][1].values[:, 7] = np.nan
    assert contrast(terms, PEOPLE, generator()).n == 39
    values, baseline = generator(8).normal(size=(2, 3, 40))
    two = contrast([(1.0, Scores(values)), (-1.0, Scores(baseline))], PEOPLE, generator(9))
    assert two == paired(Scores(values), Scores(baseline), PEOPLE, generator(9))
    assert two.value == pytest.approx(values.mean() - baseline.mean())


def test_a_contrast_of_near_real_numbers_is_one_of_distances():
    real = Scores(np.full((1, 40), 1.0))
    a1, a0, b1, b0 = (Scores(np.full((2, 40), value)) for value in (0.4, 0.9, 1.3, 1.1))
    terms = [(1.0, a1), (-1.0, a0), (-1.0, b1), (1.0, b0)]
    assert contrast(terms, PEOPLE, generator(), real=real).value == pytest.approx((0.6 - 0.1) - (0.3 - 0.1))


def test_shapes_are_checked():
    with pytest.raises(ShapeError):
        contrast([], PEOPLE, generator())
    with pytest.raises(ShapeError):
        Scores(np.zeros(4))
    with pytest.raises(ShapeError):
        paired(Scores(np.zeros((2, 4))), Scores(np.zeros((1, 4))), ["a"] * 4, generator())
    with pytest.raises(ShapeError):
        paired(Scores(np.zeros((2, 4))), Scores(np.zeros((2, 4))), ["a"] * 4, generator(), real=Scores(np.zeros((2, 4))))


@pytest.mark.parametrize(
    ("ci", "higher", "expected"),
    [
        ((-2, -1), True, "confirmed"), ((1, 2), True, "refuted"), ((-1, 1), True, "undecided"), ((1, 2), False, "confirmed"),
        ((-2, -1), False, "refuted"), (None, True, "n too small"),
    ],
)  # fmt: skip
def test_a_claim_is_judged_by_the_side_of_the_interval(ci, higher, expected):
    assert claim_verdict(Estimate(0.0, ci, 9, 9, "" if ci else "n too small"), higher) == expected


def test_verdicts_combine():
    assert all_hold(["confirmed", "confirmed"]) == "confirmed" and all_hold(["confirmed", "undecided"]) == "undecided"
    assert all_hold(["confirmed", "refuted", "undecided"]) == "refuted" and all_hold(["n too small"]) == "n too small"
    assert all_hold(["confirmed", "n too small"]) == all_hold([]) == "undecided"
