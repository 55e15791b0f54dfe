"""The level of a task, foretold from its facts."""

import numpy as np
import pytest

from dass_jax.level import Level, fit_level


def test_nothing_is_extrapolated():
    facts = np.arange(10.0)[:, None]
    level, _ = fit_level(facts, 0.1 * facts[:, 0], np.arange(10))
    assert level(np.array([4.0])) < level(np.array([9.0]))
    np.testing.assert_allclose(level(np.array([[9.0], [-5.0]])), level(np.array([[90.0], [0.0]])))


def test_a_level_that_facts_tell_is_foretold():
    rng = np.random.default_rng(0)
    facts = rng.normal(3, 2, (40, 3))
    true = 0.2 + facts @ [0.1, -0.05, 0.0]
    level, left_out = fit_level(facts, true + 0.01 * rng.normal(size=40), np.arange(40))
    np.testing.assert_allclose(left_out, true, atol=0.1)
    others = rng.uniform(facts.min(0), facts.max(0), (9, 3))
    np.testing.assert_allclose(level(others), 0.2 + others @ [0.1, -0.05, 0.0], atol=0.1)
    assert level(others[0]) == pytest.approx(level(others)[0])


@pytest.mark.parametrize("seed", range(5))
def test_levels_that_facts_do_not_tell_do_no_harm(seed):
    rng = np.random.default_rng(seed)
    facts, levels = rng.normal(size=(12, 5)), rng.normal(size=12)
    _, left_out = fit_level(facts, levels, np.arange(12))
    assert np.mean((levels - left_out) ** 2) <= np.mean(levels**2)


def test_a_level_that_all_tasks_share_needs_no_facts():
    rng = np.random.default_rng(0)
    levels = 0.3 + 0.01 * rng.normal(size=20)
    level, left_out = fit_level(np.ones((20, 2)), levels, np.arange(20))
    np.testing.assert_allclose(left_out, 0.3, atol=0.03)
    np.testing.assert_allclose(level(np.full(2, 7.0)), 0.3, atol=0.03)


@pytest.mark.parametrize("groups", [[0] * 30, [0, 1], list(range(9)) * 2])
def test_few_groups_say_nothing_of_new_tasks(groups):
    """Even if all of their levels are the same."""
    count = len(groups)
    level, left_out = fit_level(np.ones((count, 2)), np.ones(count), np.array(groups))
    assert level == Level()
    np.testing.assert_array_equal(left_out, 0)
    assert level(np.ones(2)) == 0


def test_tasks_that_are_alike_do_not_foretell_each_other():
    """Pairs with the same facts and the same level, which no other pair tells anything of."""
    rng = np.random.default_rng(0)
    facts, levels = rng.normal(size=(12, 10)), rng.normal(size=12)
    twice = np.repeat(facts, 2, axis=0), np.repeat(levels, 2)

    def error(groups):
        return np.mean((twice[1] - fit_level(*twice, groups)[1]) ** 2)

    assert error(np.arange(24)) < 0.5 * np.mean(levels**2)
    assert error(np.repeat(np.arange(12), 2)) > 0.9 * np.mean(levels**2)
