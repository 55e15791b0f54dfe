"""Ranking measures by hand, and bootstrap intervals that hold what they promise."""

import itertools

import numpy as np
import pytest
from scipy import stats

from dass_jax import ranking

MEASURED = np.array([[0.1, 0.5, 0.3, 0.4], [0.2, 0.4, 0.3, 0.5]])


def test_measures_by_hand():
    found = ranking.rank(np.array([1.0, 4.0, 3.0, 2.0]), MEASURED, k=2)
    rhos = [stats.spearmanr([1, 4, 3, 2], row).statistic for row in MEASURED]
    assert found.spearman == pytest.approx(np.mean(rhos))
    # chosen are 1 and 2; the best two are 1 and 3 in both measurements
    assert found.precision == 0.5
    # of 0.5 and of 0.4, where the best ones have 0.5
    assert found.regret == pytest.approx((0.0 + 0.1) / 2)
    worst = ranking.rank(np.array([9.0, 0.0, 0.0, 0.0]), MEASURED, k=2)
    assert worst.regret == pytest.approx((0.4 + 0.3) / 2)


def test_perfect_scores():
    found = ranking.rank(MEASURED[0], MEASURED[:1], k=3)
    assert found == pytest.approx((1, 1, 1, 1, 0))


def test_scores_that_say_nothing_choose_any_student():
    found = ranking.rank(np.full(4, 0.1), MEASURED, k=1)
    assert found[:3] == (0, 0, 0)
    assert found.precision == pytest.approx(1 / 4)
    assert found.regret == pytest.approx(np.mean(MEASURED.max(1) - MEASURED.mean(1)))


def test_ties_are_broken_in_all_ways_alike():
    """Averages over every order of tied scores and tied labels, which are then all different."""
    scores, measured = np.array([3.0, 1, 3, 1]), np.array([[0.5, 0.5, 0.2, 0.5]])
    shifts = [1e-6 * np.array(order) for order in itertools.permutations(range(4))]
    for k in (1, 2, 3):
        found = ranking.rank(scores, measured, k)
        of_scores = [ranking.rank(scores + shift, measured, k) for shift in shifts]
        assert found.regret == pytest.approx(np.mean([r.regret for r in of_scores]), abs=1e-5)
        precisions = [
            ranking.rank(scores + one, measured + other, k).precision
            for one, other in itertools.product(shifts, shifts)
        ]
        assert found.precision == pytest.approx(np.mean(precisions))


def test_copies_of_a_student_are_no_ties():
    """In samples with replacement, who ranks perfectly is still as precise as can be."""
    values = np.random.default_rng(0).permutation(9) / 9.0
    draws = ranking.resamples(np.random.default_rng(1), 9, 200)
    found = ranking.rank_samples(values, values[None], 3, draws)
    np.testing.assert_allclose(found.precision, 1)
    np.testing.assert_allclose(found.regret, 0, atol=1e-12)
    against = ranking.rank_samples(-values, values[None], 3, draws)
    assert against.precision.mean() < 0.1


def test_scores_that_are_not_finite_rank_last():
    scores = np.array([1.0, np.nan, 3.0, -np.inf])
    expected = ranking.rank(np.array([1.0, 0.0, 3.0, 0.0]), MEASURED, k=2)
    found = ranking.rank(scores, MEASURED, k=2)
    assert found[:2] + found[3:] == pytest.approx(expected[:2] + expected[3:])
    assert np.isfinite(found.pearson)


def test_samples_are_correlated_as_scipy_does():
    rng = np.random.default_rng(0)
    scores, measured = rng.normal(size=12), rng.normal(size=(2, 12)).round(1)
    draws = ranking.resamples(rng, 12, 50)
    found = ranking.rank_samples(scores, measured, 3, draws)
    for field in ("spearman", "kendall", "pearson"):
        function = getattr(stats, {"kendall": "kendalltau"}.get(field, f"{field}r"))
        expected = [
            np.mean([function(scores[draw], row[draw]).statistic for row in measured])
            for draw in draws
        ]
        np.testing.assert_allclose(getattr(found, field), expected, atol=1e-12)
    constant = ranking.rank_samples(np.full(12, 0.1), measured, 3, draws)
    assert not np.any(constant[:3])


def test_intervals_hold_the_true_correlation():
    rng = np.random.default_rng(1)
    truth = 6 / np.pi * np.arcsin(0.7 / 2)  # Spearman's coefficient of normal variables
    inside = []
    for _ in range(100):
        scores = rng.normal(size=80)
        measured = 0.7 * scores + np.sqrt(1 - 0.7**2) * rng.normal(size=80)
        draws = ranking.resamples(rng, 80, 200)
        samples = ranking.rank_samples(scores, measured[None], 5, draws).spearman
        low, high = ranking.interval(samples)
        inside.append(low <= truth <= high)
    assert np.mean(inside) == pytest.approx(ranking.COVERAGE, abs=0.07)


def test_the_mean_over_tasks_varies_with_the_tasks():
    rng = np.random.default_rng(2)
    tasks = [np.full(2000, value) for value in (0.0, 1.0)]
    mean = ranking.bootstrap_mean(rng, tasks)
    assert set(mean) == {0.0, 0.5, 1.0}
    assert mean.mean() == pytest.approx(0.5, abs=0.05)


def test_a_task_drawn_twice_counts_with_two_samples_of_its_students():
    samples = np.random.default_rng(4).normal(size=4000)
    mean = ranking.bootstrap_mean(np.random.default_rng(3), [samples, samples])
    # of two independent samples, not of one
    assert mean.std() == pytest.approx(samples.std() / np.sqrt(2), rel=0.05)
