"""Budgets: what they say, who respects them, and students sampled under them."""

import jax
import numpy as np
import pytest

from dass_jax import budget as budgets
from dass_jax import cost, resnet
from dass_jax.budget import Budget, CostModel, parse_limit
from dass_jax.errors import UserError
from dass_jax.search.settings import SearchConfig
from dass_jax.search_space import ResNetSpace, stack, unstack

SPACE = ResNetSpace((4, 6, 8, 8), 3)
MODEL = CostModel(SPACE, image_size=16, num_classes=7)


@pytest.fixture(scope="module")
def everyone():
    drawn = jax.jit(jax.vmap(SPACE.sample))(jax.random.split(jax.random.key(9), 400))
    return jax.device_get(drawn)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("flops", "10M", 1e7), ("flops", "250", 250), ("flops", "1.5G", 1.5e9),
        ("params", "300k", 3e5), ("params", "1e6", 1e6), ("bytes", "2MB", 2e6),
        ("bytes", "2 kB", 2e3), ("bytes", "7", 7), ("latency", "3ms", 3e-3),
        ("latency", "0.5 s", 0.5), ("latency", "20us", 2e-5),
    ],
)  # fmt: skip
def test_absolute_limits(name, text, expected):
    limit = parse_limit(name, text)
    assert not limit.is_share
    assert limit.absolute(123.0) == pytest.approx(expected)


@pytest.mark.parametrize(("text", "share"), [("60%", 0.6), ("100 %", 1.0), ("0.5%", 0.005)])
def test_shares_of_the_teacher(text, share):
    limit = parse_limit("params", text)
    assert limit.is_share
    assert limit.absolute(1000) == pytest.approx(1000 * share)


def test_a_share_without_its_sign_is_not_taken_for_a_number():
    with pytest.raises(UserError, match=r"max_flops is '0\.5', less than one: write 50%"):
        parse_limit("flops", "0.5")
    assert parse_limit("flops", "0.5M").absolute(1.0) == 500_000


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("flops", "many"), ("flops", "-3"), ("flops", "0"), ("flops", "101%"), ("flops", "0%"),
        ("flops", "3ms"), ("latency", "3"), ("latency", "3M"), ("params", "2MB"), ("bytes", ""),
        ("flops", "1.2.3"), ("flops", "nan"), ("flops", "1e999"), ("bytes", "9e307MB"),
    ],
)  # fmt: skip
def test_senseless_limits_are_refused(name, text):
    with pytest.raises(UserError, match=f"max_{name} is '{text}': give a share of the teacher's"):
        parse_limit(name, text)


def test_a_budget_is_absolute_in_the_end():
    teacher = MODEL(SPACE.full())
    config = SearchConfig(max_flops="30%", max_params="1k", max_bytes="100%")
    assert config.limited == ("flops", "params", "bytes")
    assert config.budget(teacher) == Budget(int(0.3 * int(teacher.flops)), 1000, int(teacher.bytes))
    assert SearchConfig().budget(teacher) == Budget()
    # as they are written, though 2.01 * 1e6 is less than 2010000
    for text, number in (
        ("2.01M", 2_010_000),
        ("4.1M", 4_100_000),
        ("32.3k", 32_300),
        ("5T", 5 * 10**12),
    ):
        assert SearchConfig(max_flops=text).budget(teacher) == Budget(flops=number)
    assert SearchConfig(max_params="1k", max_latency="50%").budget(teacher) == Budget(params=1000)
    timed = teacher._replace(latency=0.25)
    assert SearchConfig(max_latency="50%").budget(timed) == Budget(latency=0.125)


@pytest.mark.parametrize("names", [(), ("flops",), ("params",), ("bytes",), ("flops", "params")])
def test_limits_are_inclusive_and_each_counts(everyone, names):
    costs = MODEL(everyone)
    limits = {name: int(getattr(costs, name)[row]) for row, name in enumerate(names)}
    allowed = budgets.respects(costs, Budget(**limits))
    expected = [
        all(getattr(costs, name)[row] <= limit for name, limit in limits.items())
        for row in range(len(allowed))
    ]
    assert allowed.tolist() == expected
    assert allowed.all() == (not names)
    assert allowed.any()


def test_costs_of_a_batch_are_those_one_by_one(everyone):
    batch = MODEL(everyone)
    for row, one in enumerate(unstack(everyone)[:20]):
        assert MODEL(one)[:3] == (batch.flops[row], batch.params[row], batch.bytes[row])


def test_latency_is_whatever_the_model_says(everyone):
    model = CostModel(SPACE, 16, 7, lambda students: 1e-3 * np.asarray(students.depths).sum(-1))
    costs = model(everyone)
    np.testing.assert_allclose(costs.latency, 1e-3 * everyone.depths.sum(1))
    found = budgets.sample_within_budget(model, jax.random.key(0), 30, Budget(latency=6.5e-3))
    assert found.depths.sum(1).max() == 6


def test_smallest_is_the_cheapest_student():
    space = ResNetSpace((4, 6), 2, (1, 2), (1.0, 0.5))  # multipliers in any order
    floor = budgets.smallest(space)
    assert floor.widths.tolist() == [[2, 0], [3, 0]]
    drawn = jax.jit(jax.vmap(space.sample))(jax.random.split(jax.random.key(0), 500))
    model = CostModel(space, 8, 7)
    for batch, least in zip(model(drawn)[:3], model(floor)[:3], strict=True):
        assert batch.min() == least


def test_sampled_students_respect_the_budget(everyone):
    costs = MODEL(everyone)
    budget = Budget(int(np.quantile(costs.flops, 0.3)), int(np.quantile(costs.params, 0.3)))
    found = budgets.sample_within_budget(MODEL, jax.random.key(0), 300, budget)
    assert found.depths.shape == (300, 4)
    assert found.widths.shape == (300, 4, 3)
    assert budgets.respects(MODEL(found), budget).all()
    assert len(np.unique(found.widths.reshape(300, -1), axis=0)) > 250
    again = budgets.sample_within_budget(MODEL, jax.random.key(0), 300, budget)
    jax.tree.map(np.testing.assert_array_equal, found, again)
    other = budgets.sample_within_budget(MODEL, jax.random.key(1), 300, budget)
    assert not np.array_equal(found.widths, other.widths)


def test_without_a_budget_students_are_sampled_uniformly():
    found = budgets.sample_within_budget(MODEL, jax.random.key(0), 2000, Budget())
    depths = np.stack([np.bincount(column, minlength=4)[1:] for column in found.depths.T])
    assert np.abs(depths / 2000 - 1 / 3).max() < 0.05


@pytest.mark.parametrize("name", ["flops", "params", "bytes"])
def test_an_impossible_budget_says_the_nearest_possible(name):
    needed = int(getattr(MODEL(budgets.smallest(SPACE)), name))
    message = f"no student fits the budget {name} <= .* nearest possible, has {name} {needed}$"
    with pytest.raises(UserError, match=message):
        budgets.sample_within_budget(MODEL, jax.random.key(0), 3, Budget(**{name: needed - 1}))
    possible = parse_limit(name, str(needed)).absolute(1)
    budgets.require_possible(MODEL, Budget(**{name: int(possible)}))


def test_a_budget_that_only_the_smallest_student_fits_gives_it():
    floor = budgets.smallest(SPACE)
    budget = Budget(params=int(MODEL(floor).params))
    found = budgets.sample_within_budget(MODEL, jax.random.key(0), 5, budget)
    assert 1 <= len(found.depths) <= 5
    for one in unstack(found):
        np.testing.assert_array_equal(one.widths, floor.widths)


def test_a_tight_budget_is_still_filled():
    """The paper's space: one uniform student in a million is so cheap."""
    space = ResNetSpace((32, 64, 128, 256), 5)
    model = CostModel(space, 64, 40)
    budget = Budget(flops=int(0.12 * int(model(space.full()).flops)))
    found = budgets.sample_within_budget(model, jax.random.key(0), 200, budget)
    assert len(found.depths) == 200
    assert budgets.respects(model(found), budget).all()
    assert len(np.unique(found.widths.reshape(200, -1), axis=0)) > 100


def test_small_samples_lie_in_the_space():
    drawn = jax.vmap(SPACE.sample_small)(jax.random.split(jax.random.key(0), 200))
    for one in unstack(drawn):
        assert SPACE.architecture(one.depths, one.widths).widths.tolist() == one.widths.tolist()
        for row, choices in zip(one.widths, SPACE.width_choices, strict=True):
            assert set(row[row > 0].tolist()) <= set(choices.tolist())
    uniform = jax.vmap(SPACE.sample)(jax.random.split(jax.random.key(1), 200))
    assert np.median(MODEL(drawn).flops) < 0.7 * np.median(MODEL(uniform).flops)


def test_bytes_are_those_of_all_arrays():
    student = stack([SPACE.sample(jax.random.key(3))])
    (one,) = unstack(student)
    shapes = resnet.variable_shapes(SPACE, 7)
    teacher = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    dense = resnet.cut(SPACE, teacher, one)
    saved = sum(leaf.nbytes for leaf in jax.tree.leaves(dense))
    assert cost.num_bytes(SPACE, one, num_classes=7) == saved


@pytest.mark.parametrize(
    ("number", "text"),
    [(999, "999"), (999.4, "999"), (999.6, "1k"), (999_499, "999k"), (999_600, "1M"), (1e9, "1G")],
)
def test_costs_are_never_written_as_powers(number, text):
    assert budgets.show("flops", number) == text
