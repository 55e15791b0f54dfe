"""Ranking measures by hand, and bootstrap intervals that hold what they promise."""

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
    # the means are 0.15, 0.45, 0.3, 0.45
    assert found.regret == pytest.approx(0.0)
    assert ranking.rank(np.array([9.0, 0.0, 0.0, 0.0]), MEASURED, k=2).regret == pytest.approx(0.3)


def test_perfect_scores():
    found = ranking.rank(MEASURED[0], MEASURED[:1], k=3)
    assert found == pytest.approx((1, 1, 1, 1, 0))


def test_scores_that_say_nothing():
    found = ranking.rank(np.zeros(4), MEASURED, k=10)
    assert found[:3] == (0, 0, 0)
    assert found.precision == 1


def test_rows_are_correlated_as_scipy_does():
    rng = np.random.default_rng(0)
    scores, measured = rng.normal(size=12), rng.normal(size=(2, 12)).round(1)
    draws = ranking.resamples(rng, 12, 50)
    found = ranking.bootstrap_spearman(scores, measured, draws)
    expected = [
        np.mean([stats.spearmanr(scores[draw], row[draw]).statistic for row in measured])
        for draw in draws
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert (ranking.bootstrap_spearman(np.ones(12), measured, draws) == 0).all()


def test_intervals_hold_the_true_correlation():
    rng = np.random.default_rng(1)
    truth = 6 / np.pi * np.arcsin(0.7 / 2)  # Spearman's coefficient of normal variables
    inside = []
    for _ in range(100):
        scores = rng.normal(size=80)
        measured = 0.7 * scores + np.sqrt(1 - 0.7**2) * rng.normal(size=80)
        draws = ranking.resamples(rng, 80, 200)
        low, high = ranking.interval(ranking.bootstrap_spearman(scores, measured[None], draws))
        inside.append(low <= truth <= high)
    assert np.mean(inside) == pytest.approx(ranking.COVERAGE, abs=0.07)


def test_the_mean_over_tasks_varies_with_the_tasks():
    rng = np.random.default_rng(2)
    tasks = [np.full(2000, value) for value in (0.0, 1.0)]
    mean = ranking.bootstrap_mean(rng, tasks)
    assert set(mean) == {0.0, 0.5, 1.0}
    assert mean.mean() == pytest.approx(0.5, abs=0.05)
