"""The space of students: validity, distributions, encoding and storage of architectures."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dass_jax import search_space
from dass_jax.errors import UserError
from dass_jax.search_space import Architecture, ResNetSpace

SPACE = ResNetSpace((16, 32, 48), 3, (1, 2, 2))
REPEATING = ResNetSpace((4, 6), 2, (1, 2))  # narrow stages: several multipliers, one width
SPACES = [SPACE, REPEATING]
BATCH = 64

seeds = given(seed=st.integers(0, 2**31 - 1))
few_examples = settings(max_examples=25, deadline=None)


@functools.cache
def sampler(space):
    return jax.jit(jax.vmap(space.sample))


@functools.cache
def mutator(space, probability):
    return jax.jit(jax.vmap(functools.partial(space.mutate, probability=probability)))


@functools.cache
def crosser(space):
    return jax.jit(jax.vmap(space.crossover))


def sample(space, seed, count=BATCH):
    return sampler(space)(jax.random.split(jax.random.key(seed), count))


def assert_valid(space, batch):
    depths, widths = np.asarray(batch.depths), np.asarray(batch.widths)
    assert depths.dtype == widths.dtype == np.int32
    assert depths.shape[1:] == (space.num_stages,)
    assert widths.shape[1:] == (space.num_stages, space.stage_depth)
    assert depths.min() >= 1
    assert depths.max() <= space.stage_depth
    active = np.arange(space.stage_depth) < depths[..., None]
    assert np.array_equal(widths > 0, active)
    for stage, choices in enumerate(space.width_choices):
        assert set(widths[:, stage][active[:, stage]]) <= set(choices)


def assert_equal(ours, theirs):
    np.testing.assert_array_equal(ours.depths, theirs.depths)
    np.testing.assert_array_equal(ours.widths, theirs.widths)


def test_space_is_hashable_and_static():
    same = ResNetSpace((16, 32, 48), 3, strides=(1, 2, 2))
    assert same == SPACE
    assert hash(same) == hash(SPACE)
    assert SPACE not in {REPEATING}
    count = jax.jit(lambda space, x: x + space.num_stages, static_argnums=0)
    assert count(SPACE, 1) == 4


def test_space_of_the_paper():
    space = ResNetSpace((32, 64, 128, 256), 5)
    assert space.strides == (1, 2, 2, 2)
    assert space.encoding_length == 4 * 5 * (1 + 9)
    expected = [list(range(w // 2, w + 1, w // 16)) for w in (32, 64, 128, 256)]
    np.testing.assert_array_equal(space.width_choices, expected)


def test_width_choices_are_floored_and_positive():
    space = ResNetSpace((1, 5), 1, (1, 1), (0.1, 0.5, 0.7, 1.0))
    np.testing.assert_array_equal(space.width_choices, [[1, 1, 1, 1], [1, 2, 3, 5]])
    # 0.29 * 100 is a little less than 29 in floating point
    assert ResNetSpace((100,), 1, (1,), (0.29,)).width_choices.tolist() == [[29]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), 1, ()), "stage_widths must be positive"),
        (((4, 0), 1, (1, 1)), "stage_widths must be positive"),
        (((4, 4), 0, (1, 1)), "stage_depth must be at least 1, got 0"),
        (((4, 4), 1, (1, 2, 2)), "strides must give 1 or 2 for each of the 2 stages"),
        (((4, 4), 1, (1, 3)), "strides must give 1 or 2"),
        (((4, 4), 1, (1, 2), ()), "width_multipliers must lie in"),
        (((4, 4), 1, (1, 2), (0.5, 1.5)), "width_multipliers must lie in"),
        (((4, 4), 1, (1, 2), (0.0,)), "width_multipliers must lie in"),
    ],
)
def test_impossible_spaces_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        ResNetSpace(*arguments)


def test_ragged_and_table_forms_agree():
    ragged = SPACE.architecture(depths=(1, 3, 2), widths=((7,), (32, 1, 20), (48, 9)))
    table = np.array([[7, 0, 0], [32, 1, 20], [48, 9, 0]])
    assert_equal(ragged, Architecture(np.array([1, 3, 2]), table))
    assert ragged.depths.dtype == ragged.widths.dtype == jnp.int32
    assert_equal(SPACE.architecture([1, 3, 2], table), ragged)
    assert_equal(SPACE.architecture(np.array([1, 3, 2]), jnp.asarray(table)), ragged)
    assert_equal(SPACE.architecture(ragged.depths, ragged.widths), ragged)


GOOD = [[7], [32, 1, 20], [48, 9]]


@pytest.mark.parametrize(
    ("depths", "widths", "message"),
    [
        ([1, 3], GOOD, "one entry for each of 3 stages"),
        ([1, 3, 2], GOOD[:2], "one entry for each of 3 stages"),
        ([0, 3, 2], GOOD, r"stage 0: depth 0 is not in 1\.\.3"),
        ([1, 4, 2], GOOD, r"stage 1: depth 4 is not in 1\.\.3"),
        ([2, 3, 2], GOOD, "stage 0: depth 2 does not fit the widths"),
        ([1, 3, 1], GOOD, "stage 2: depth 1 does not fit the widths"),
        ([1, 3, 2], [[17], *GOOD[1:]], r"stage 0: width 17 is not in 1\.\.16"),
        ([1, 3, 2], [*GOOD[:2], [48, 0]], r"stage 2: width 0 is not in 1\.\.48"),
        ([1, 3, 2], [*GOOD[:2], [-1, 9]], r"stage 2: width -1 is not in"),
        ([1, 3, 2], [[7.5], *GOOD[1:]], "must be whole numbers"),
        ([1.0, 3, 2], GOOD, "must be whole numbers"),
        ([1, 3, 2], [["seven"], *GOOD[1:]], "must be whole numbers"),
        ([1, 3, 2], [7, 32, 48], "must be whole numbers, one entry per stage"),
        (None, GOOD, "must be whole numbers, one entry per stage"),
    ],
)
def test_architectures_outside_of_the_space_are_refused(depths, widths, message):
    with pytest.raises(UserError, match=message):
        SPACE.architecture(depths, widths)
    with pytest.raises(UserError, match=message):
        SPACE.from_json({"depths": depths, "widths": widths})


def test_full_is_the_teacher():
    full = SPACE.full()
    assert_equal(full, Architecture(np.full(3, 3), np.repeat([[16], [32], [48]], 3, axis=1)))
    assert SPACE.block_mask(full).all()


@pytest.mark.parametrize("space", SPACES)
@few_examples
@seeds
def test_samples_are_valid(space, seed):
    batch = sample(space, seed)
    assert_valid(space, batch)
    active = np.arange(space.stage_depth) < np.asarray(batch.depths)[..., None]
    np.testing.assert_array_equal(space.block_mask(batch), active)


def test_samples_are_uniform_over_depths_and_widths():
    count = 20_000
    batch = jax.tree.map(np.asarray, sample(SPACE, 0, count))

    def assert_uniform(values, choices):
        probability = 1 / len(choices)
        deviation = np.sqrt(probability * (1 - probability) / len(values))
        for choice in choices:
            assert abs(np.mean(values == choice) - probability) < 5 * deviation

    for stage in range(3):
        assert_uniform(batch.depths[:, stage], [1, 2, 3])
        for block in range(3):
            widths = batch.widths[:, stage, block]
            assert_uniform(widths[widths > 0], SPACE.width_choices[stage])
    # independent genes: no correlation beyond chance between any two columns
    columns = np.column_stack([batch.depths, batch.widths[:, :, 0]])
    off_diagonal = np.corrcoef(columns.T) - np.eye(6)
    assert np.abs(off_diagonal).max() < 5 / np.sqrt(count)


@pytest.mark.parametrize("space", SPACES)
@few_examples
@seeds
def test_mutation_stays_inside_and_zero_probability_changes_nothing(space, seed):
    parents = sample(space, seed)
    keys = jax.random.split(jax.random.key(seed + 1), BATCH)
    assert_equal(mutator(space, 0.0)(keys, parents), parents)
    assert_valid(space, mutator(space, 0.3)(keys, parents))


def test_certain_mutation_is_a_fresh_sample():
    keys = jax.random.split(jax.random.key(0), BATCH)
    children = mutator(SPACE, 1.0)(keys, sample(SPACE, 1))
    assert_valid(SPACE, children)
    assert_equal(children, mutator(SPACE, 1.0)(keys, sample(SPACE, 2)))
    assert len(np.unique(np.asarray(children.widths).reshape(BATCH, -1), axis=0)) > BATCH // 2


def test_mutation_redraws_each_gene_with_its_probability():
    count, probability = 4000, 0.3
    parents = sample(SPACE, 0, count)
    keys = jax.random.split(jax.random.key(1), count)
    children = jax.tree.map(np.asarray, mutator(SPACE, probability)(keys, parents))
    parents = jax.tree.map(np.asarray, parents)
    changed = np.mean(children.depths != parents.depths)  # a redraw may repeat the old value
    assert changed == pytest.approx(probability * 2 / 3, abs=0.02)
    both = (children.widths > 0) & (parents.widths > 0)
    changed = np.mean((children.widths != parents.widths)[both])
    assert changed == pytest.approx(probability * 8 / 9, abs=0.02)
    # blocks that a deeper stage added are uniform, not the smallest choice
    added = children.widths[:, 0][(children.widths[:, 0] > 0) & (parents.widths[:, 0] == 0)]
    assert added.size > 300
    assert np.mean(added) == pytest.approx(12, abs=0.6)


def test_mutation_brings_other_widths_to_the_nearest_choice():
    parent = SPACE.architecture([1, 1, 1], [[3], [25], [48]])
    child = SPACE.mutate(jax.random.key(0), parent, 0.0)
    assert child.widths[:, 0].tolist() == [8, 24, 48]


@few_examples
@seeds
def test_crossover_takes_each_stage_from_one_parent(seed):
    first, second = sample(SPACE, seed), sample(SPACE, seed + 1)
    keys = jax.random.split(jax.random.key(seed + 2), BATCH)
    child = crosser(SPACE)(keys, first, second)
    assert_valid(SPACE, child)

    def same(parent):
        equal_widths = (child.widths == parent.widths).all(-1)
        return np.asarray(equal_widths & (child.depths == parent.depths))

    assert (same(first) | same(second)).all()
    assert 0.25 < same(first).mean() < 0.75  # of 192 stages
    assert 0.25 < same(second).mean() < 0.75
    assert same(first).any(axis=0).all()  # each stage decides for itself
    assert not (same(first) == same(first)[:, :1]).all()
    assert_equal(crosser(SPACE)(keys, first, first), first)


def test_encoding_has_the_documented_layout():
    space = ResNetSpace((4, 8), 2, (1, 2), (0.5, 1.0))
    code = space.encode(space.architecture([1, 2], [[2], [8, 4]]))
    depths = [1, 0, 0, 1]
    widths = [1, 0, 0, 0, 0, 1, 1, 0]
    assert code.tolist() == depths + widths
    nearest = space.encode(space.architecture([1, 2], [[1], [7, 5]]))
    np.testing.assert_array_equal(nearest, code)


@pytest.mark.parametrize("space", SPACES)
def test_encoding_is_one_hot_and_injective(space):
    batch = sample(space, 0, 1000)
    codes = np.asarray(jax.jit(jax.vmap(space.encode))(batch))
    assert codes.shape == (1000, space.encoding_length)
    assert set(np.unique(codes)) == {0, 1}
    depth_codes = codes[:, : space.num_stages * space.stage_depth]
    depth_codes = depth_codes.reshape(1000, space.num_stages, space.stage_depth)
    np.testing.assert_array_equal(depth_codes.argmax(-1) + 1, batch.depths)
    np.testing.assert_array_equal(depth_codes.sum(-1), 1)
    np.testing.assert_array_equal(codes.sum(-1), space.num_stages + batch.depths.sum(-1))
    students = np.asarray(batch.widths).reshape(1000, -1)
    distinct = len(np.unique(students, axis=0))
    assert distinct > 100
    assert len(np.unique(codes, axis=0)) == distinct
    assert len(np.unique(np.hstack([codes, students]), axis=0)) == distinct


@few_examples
@seeds
def test_json_round_trip(seed):
    architecture = search_space.unstack(sample(SPACE, seed))[0]
    data = SPACE.to_json(architecture)
    assert [len(row) for row in data["widths"]] == data["depths"]
    assert_equal(SPACE.from_json(json.loads(json.dumps(data))), architecture)


@pytest.mark.parametrize("data", [{}, {"depths": [1, 1, 1]}, {"widths": GOOD}])
def test_incomplete_json_is_refused(data):
    with pytest.raises(UserError, match='needs "depths" and "widths"'):
        SPACE.from_json(data)


def test_stack_and_unstack_are_inverse():
    batch = sample(SPACE, 0, 5)
    single = search_space.unstack(batch)
    assert len(single) == 5
    assert_equal(single[3], Architecture(batch.depths[3], batch.widths[3]))
    assert_equal(search_space.stack(single), batch)


def test_batches_equal_one_by_one():
    count = 4
    keys = jax.random.split(jax.random.key(5), count)
    first, second = sample(SPACE, 6, count), sample(SPACE, 7, count)
    children = mutator(SPACE, 0.3)(keys, first)
    crossed = crosser(SPACE)(keys, first, second)
    codes = jax.jit(jax.vmap(SPACE.encode))(first)
    drawn = sampler(SPACE)(keys)
    for index, key in enumerate(keys):
        one, other = (
            jax.tree.map(lambda leaf, index=index: leaf[index], batch) for batch in (first, second)
        )
        assert_equal(SPACE.sample(key), search_space.unstack(drawn)[index])
        assert_equal(SPACE.mutate(key, one, 0.3), search_space.unstack(children)[index])
        assert_equal(SPACE.crossover(key, one, other), search_space.unstack(crossed)[index])
        np.testing.assert_array_equal(SPACE.encode(one), codes[index])
