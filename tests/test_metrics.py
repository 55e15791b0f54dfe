import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dass_jax.metrics import Correlation, correlate, rank_correlation

RNG = np.random.default_rng(0)
VALUES = RNG.permutation(12) / 12.0


def test_agreement_and_reversal():
    same, reversed_ = correlate(VALUES, VALUES), correlate(VALUES, -3 * VALUES + 1)
    np.testing.assert_allclose(same, [1, 1, 1])
    np.testing.assert_allclose(reversed_, [-1, -1, -1])
    assert same._fields == ("spearman", "kendall", "pearson")
    assert all(type(value) is float for value in same)


@pytest.mark.parametrize("size", [0, 1, 2, 5])
def test_constants_rank_nothing(size):
    nothing = Correlation(0.0, 0.0, 0.0)
    ranked, constant = np.arange(size) + 0.5, np.full(size, 0.25)
    assert correlate(constant, ranked) == nothing
    assert correlate(ranked, constant) == nothing
    assert correlate(constant, constant) == nothing


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=12, unique=True
    )
)
def test_ranks_alone_count(pairs):
    predicted, measured = np.asarray(pairs, float).T
    found = correlate(predicted, measured)
    bent = correlate(np.exp(predicted), measured**3 + measured)
    np.testing.assert_allclose(bent[:2], found[:2], atol=1e-12)
    mirrored = correlate(-predicted, measured)
    np.testing.assert_allclose(mirrored, np.negative(found), atol=1e-12)
    swapped = correlate(measured, predicted)
    np.testing.assert_allclose(swapped, found, atol=1e-12)


@pytest.mark.parametrize("worst", [np.nan, -np.inf])
def test_scores_that_are_not_finite_are_the_worst(worst):
    scores = np.array([0.3, worst, 0.1, 0.2])
    measured = np.array([0.6, 0.1, 0.4, 0.5])
    assert correlate(scores, measured)[:2] == pytest.approx((1, 1))
    assert correlate(np.full(4, worst), measured) == Correlation(0.0, 0.0, 0.0)


def test_a_bent_line_is_ranked_as_well_but_less_linear():
    found = correlate(np.exp(9 * VALUES), VALUES)
    np.testing.assert_allclose(found[:2], [1, 1])
    assert found.pearson < 0.9


def test_ties_count_as_in_scipy():
    predicted = np.asarray([0.1, 0.1, 0.3, 0.2, 0.3, 0.5])
    measured = np.asarray([0.2, 0.1, 0.2, 0.2, 0.6, 0.4])
    found = correlate(predicted, measured)
    # Spearman by hand: the linear correlation of mean ranks
    ranks = [stats.rankdata(values) for values in (predicted, measured)]
    assert found.spearman == pytest.approx(np.corrcoef(*ranks)[0, 1])
    # tau-b by hand: agreeing less disagreeing pairs, over the geometric mean of the untied ones
    upper = np.triu_indices(6, 1)
    first, second = (np.sign(v[:, None] - v)[upper] for v in (predicted, measured))
    untied = np.abs(first).sum() * np.abs(second).sum()
    assert found.kendall == pytest.approx((first @ second) / np.sqrt(untied))
    assert found.kendall == pytest.approx(stats.kendalltau(predicted, measured).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(predicted, measured).statistic)
    assert found.pearson == pytest.approx(np.corrcoef(predicted, measured)[0, 1])


def test_values_that_differ_by_rounding_do_not_warn():
    predicted = 1 + np.asarray([0, 1, 2]) * np.finfo(float).eps
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = correlate(predicted, np.asarray([0.1, 0.2, 0.3]))
    assert found.spearman == pytest.approx(1)


def test_a_report_tells_nothing_from_zero():
    some = np.asarray([0.1, 0.2, 0.3, 0.4])
    assert rank_correlation(some, np.asarray([0.2, 0.1, 0.3, 0.4])) == pytest.approx(0.8)
    assert rank_correlation(some, np.asarray([0.2, 0.4, 0.1, 0.3])) == pytest.approx(0)
    # what was not measured has no rank
    assert rank_correlation(some, np.asarray([0.2, np.nan, 0.3, 0.4])) == pytest.approx(1)
    for nothing in (np.full(4, 0.2), np.full(4, np.nan), np.asarray([np.nan] * 3 + [0.1])):
        assert rank_correlation(some, nothing) is None
        assert rank_correlation(nothing, some) is None
    assert rank_correlation(some[:1], some[:1]) is None
