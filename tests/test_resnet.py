"""The core property: a masked student is the same network as the student at its own size."""

import functools
import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax import resnet, search_space
from dass_jax.errors import UserError
from dass_jax.layers import BatchNorm
from dass_jax.search_space import ResNetSpace

CLASSES = 5
BATCH = 6
SIZE = 8

WIDENING = ResNetSpace((4, 6, 8), 2, (1, 2, 2))
NARROWING = ResNetSpace((8, 5), 3, (1, 2))
STUDENTS = {
    WIDENING: {
        "full": ([2, 2, 2], [[4, 4], [6, 6], [8, 8]]),
        "shallow": ([1, 1, 1], [[2], [5], [4]]),
        "cropping": ([2, 1, 2], [[4, 2], [6], [3, 8]]),
        "sampled": None,
    },
    NARROWING: {
        "shallow": ([1, 1], [[7], [3]]),
        "cropping": ([3, 2], [[8, 3, 5], [4, 1]]),
    },
}
CASES = [
    pytest.param(space, name, id=f"{kind}-{name}")
    for kind, space in (("widening", WIDENING), ("narrowing", NARROWING))
    for name in STUDENTS[space]
]


class Outputs(NamedTuple):
    """Everything that one network computes."""

    logits_train: Any
    features_train: Any
    batch_stats: Any
    gradient: Any
    logits_eval: Any
    features_eval: Any


def student(space, name):
    if (sizes := STUDENTS[space][name]) is not None:
        return space.architecture(*sizes)
    return space.sample(jax.random.key(3))


@functools.cache
def teacher(space, seed=0):
    """Random variables, none of them at a value that hides a mistake."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: resnet.init(space, jax.random.key(0), CLASSES))

    def draw(path, leaf):
        name = path[-1].key
        if name in ("scale", "var"):
            values = rng.uniform(0.5, 1.5, leaf.shape)
        else:
            fan_in = math.prod(leaf.shape[:-1]) if name == "kernel" else 4
            values = rng.normal(0, fan_in**-0.5, leaf.shape)
        return jnp.asarray(values, jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


IMAGES = jax.random.normal(jax.random.key(1), (BATCH, SIZE, SIZE, 3))
WEIGHTS = jax.random.normal(jax.random.key(2), (BATCH, CLASSES))


def everything(run, variables):
    """Both modes and the gradient of a loss that all outputs of training take part in."""

    def loss(params):
        logits, features, batch_stats = run(variables | {"params": params}, train=True)
        value = jnp.sum(WEIGHTS * jnp.tanh(logits))
        value += sum(jnp.sum(jnp.sin(feature)) for feature in features.values()) / BATCH
        return value, (logits, features, batch_stats)

    (_, training), gradient = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    return Outputs(*training, gradient, *run(variables, train=False))


def masked(space, variables, architecture):
    return everything(
        lambda v, train: resnet.apply(space, v, architecture, IMAGES, train=train), variables
    )


# one compilation of each serves all architectures of a space
run_masked = jax.jit(masked, static_argnums=0)
run_masked_batch = jax.jit(jax.vmap(masked, (None, None, 0)), static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def run_dense(space, variables):
    return everything(lambda v, train: resnet.apply_dense(space, v, IMAGES, train=train), variables)


def assert_close(ours, theirs, tolerance=2e-5):
    """Every leaf, relative to its largest magnitude; the same tree on both sides."""
    chex.assert_trees_all_equal_shapes(ours, theirs)

    def compare(path, one, other):
        one, other = np.asarray(one), np.asarray(other)
        scale = max(np.abs(other).max(), 1e-3)
        error = np.abs(one - other).max() / scale
        assert error < tolerance, f"{jax.tree_util.keystr(path)}: {error}"

    jax.tree_util.tree_map_with_path(compare, ours, theirs)


def outside(space, variables, architecture):
    """Marks all entries that are no part of the student."""
    positions = jax.tree.map(lambda leaf: np.arange(leaf.size).reshape(leaf.shape), variables)
    inside = resnet.cut(space, positions, architecture)

    def mark(leaf, kept):
        marks = np.ones(leaf.size, bool)
        marks[np.ravel(kept)] = False
        return marks.reshape(leaf.shape)

    return {
        collection: {
            name: (
                jax.tree.map(mark, tree, inside[collection][name])
                if name in inside[collection]
                else jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), tree)
            )
            for name, tree in modules.items()
        }
        for collection, modules in variables.items()
    }


def last_widths(space, architecture):
    """Channels of the student's own feature maps, by name."""
    data = space.to_json(architecture)
    widths = {"stem": data["widths"][0][0]}
    return widths | {f"stage{i}": row[-1] for i, row in enumerate(data["widths"], start=1)}


@pytest.mark.parametrize(("space", "name"), CASES)
def test_masked_student_is_the_dense_student(space, name):
    architecture, variables = student(space, name), teacher(space)
    ours = run_masked(space, variables, architecture)
    dense = run_dense(space, resnet.cut(space, variables, architecture))

    assert_close(ours.logits_eval, dense.logits_eval)
    assert_close(ours.logits_train, dense.logits_train)
    assert np.abs(dense.logits_train - dense.logits_eval).max() > 0.01

    widths = last_widths(space, architecture)
    for maps, expected in (
        (ours.features_eval, dense.features_eval),
        (ours.features_train, dense.features_train),
    ):
        assert maps.keys() == expected.keys() == widths.keys()
        for place, width in widths.items():
            assert_close(maps[place][..., :width], expected[place])
            assert not maps[place][..., width:].any()

    # the cut of statistics and gradients reads the number of classes from the dense layer
    updated = resnet.cut(
        space, {"params": ours.gradient, "batch_stats": ours.batch_stats}, architecture
    )
    assert_close(updated["batch_stats"], dense.batch_stats)
    assert_close(updated["params"], dense.gradient, tolerance=1e-4)
    assert all(np.abs(leaf).max() > 1e-5 for leaf in jax.tree.leaves(dense.gradient))


@pytest.mark.parametrize(("space", "name"), CASES)
def test_nothing_outside_of_the_student_has_influence(space, name):
    architecture, variables = student(space, name), teacher(space)
    beyond = outside(space, variables, architecture)
    clean = run_masked(space, variables, architecture)
    for gradient, marks in zip(
        jax.tree.leaves(clean.gradient), jax.tree.leaves(beyond["params"]), strict=True
    ):
        assert not np.asarray(gradient)[marks].any()

    garbage = jax.tree.map(lambda leaf: 1 + 10 * jnp.abs(leaf), teacher(space, seed=1))
    spoilt = jax.tree.map(jnp.where, beyond, garbage, variables)
    other = run_masked(space, spoilt, architecture)
    # the absent channels of a convolution are zero, so that their running mean only decays
    width = last_widths(space, architecture)["stem"]
    before, after = (
        v["stem_norm"]["mean"][width:] for v in (spoilt["batch_stats"], other.batch_stats)
    )
    np.testing.assert_allclose(after, 0.9 * before, rtol=1e-6)
    # running statistics outside keep their garbage, so compare those inside
    kept = [
        resnet.cut(space, {"params": o.gradient, "batch_stats": o.batch_stats}, architecture)
        for o in (clean, other)
    ]
    chex.assert_trees_all_equal(*kept)
    chex.assert_trees_all_equal(clean._replace(batch_stats=0), other._replace(batch_stats=0))


def test_full_architecture_is_the_teacher():
    variables = teacher(WIDENING)
    ours = run_masked(WIDENING, variables, WIDENING.full())
    dense = run_dense(WIDENING, variables)
    assert_close(ours, dense, tolerance=1e-4)
    chex.assert_trees_all_equal(resnet.cut(WIDENING, variables, WIDENING.full()), variables)


def test_vmap_over_architectures_equals_a_loop():
    space, variables = NARROWING, teacher(NARROWING)
    architectures = [student(space, name) for name in STUDENTS[space]]
    together = run_masked_batch(space, variables, search_space.stack(architectures))
    for index, architecture in enumerate(architectures):
        alone = run_masked(space, variables, architecture)
        assert_close(jax.tree.map(lambda leaf, i=index: leaf[i], together), alone, tolerance=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_map_over_architectures_equals_a_loop(batch_size):
    space, variables = NARROWING, teacher(NARROWING)
    architectures = [student(space, name) for name in STUDENTS[space]]

    def logits(architecture):
        return resnet.apply(space, variables, architecture, IMAGES, train=True)[0]

    @jax.jit
    def over_all(architectures):
        return jax.lax.map(logits, architectures, batch_size=batch_size)

    together = over_all(search_space.stack(architectures))
    alone = [run_masked(space, variables, a).logits_train for a in architectures]
    assert_close(together, jnp.stack(alone))


def test_one_compilation_serves_all_architectures():
    space = ResNetSpace((3, 4), 2, (1, 2))
    variables = teacher(space)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def logits(architecture):
        return resnet.apply(space, variables, architecture, IMAGES, train=False)[0]

    keys = jax.random.split(jax.random.key(0), 32)
    architectures = search_space.unstack(jax.vmap(space.sample)(keys))
    results = np.stack([logits(architecture) for architecture in architectures])
    students = np.stack([np.append(a.depths, a.widths.ravel()) for a in architectures])
    distinct = len(np.unique(students, axis=0))
    assert distinct > 16
    assert len(np.unique(results[:, 0, 0])) == distinct


def test_number_of_classes_comes_from_the_dense_layer():
    space = ResNetSpace((3,), 1, (1,))
    variables = teacher(space)
    dense = {"kernel": jnp.ones((3, 11)), "bias": jnp.arange(11.0)}
    wider = variables | {"params": variables["params"] | {"dense": dense}}
    assert resnet.num_classes(variables) == CLASSES
    assert resnet.num_classes(wider) == 11
    logits, features = resnet.apply(space, wider, space.full(), IMAGES[:1], train=False)
    expected = features["stage1"].mean((1, 2)).sum(-1, keepdims=True) + jnp.arange(11.0)
    np.testing.assert_allclose(logits, expected, rtol=1e-5)
    assert resnet.block_widths(wider) == ((3,),)


def test_initial_values_have_the_scale_of_the_students_own_size():
    space = ResNetSpace((64,), 2, (1,))
    student = space.architecture([2], [[16, 32]])
    initialize = jax.jit(resnet.init, static_argnums=(0, 2))
    for architecture, stem, last in ((student, 16, 32), (space.full(), 64, 64)):
        variables = initialize(space, jax.random.key(0), 50, architecture)
        params = variables["params"]
        for name, conv, width in (
            ("stem_conv", None, stem),
            ("stage1_block0", "conv1", stem),
            ("stage1_block0", "conv2", stem),
            ("stage1_block1", "conv1", last),
            ("stage1_block1", "conv2", last),
        ):
            module = params[name] if conv is None else params[name][conv]
            expected = math.sqrt(2 / (9 * width))
            assert np.std(module["kernel"]) == pytest.approx(expected, rel=0.06)
            assert abs(np.mean(module["kernel"])) < 0.1 * expected
        for leaf in params["dense"].values():
            assert np.abs(leaf).max() < 1 / math.sqrt(last)
            assert np.abs(leaf).max() > 0.9 / math.sqrt(last)
            assert np.std(leaf) == pytest.approx(1 / math.sqrt(3 * last), rel=0.2)
        for module in ("norm1", "norm2"):
            norm = params["stage1_block0"][module]
            assert np.all(norm["scale"] == 1)
            assert not np.any(norm["bias"])
            statistics = variables["batch_stats"]["stage1_block0"][module]
            assert not np.any(statistics["mean"])
            assert np.all(statistics["var"] == 1)


def test_default_initial_values_are_the_teachers():
    space = ResNetSpace((6,), 1, (1,))
    initialize = jax.jit(resnet.init, static_argnums=(0, 2))
    ours = initialize(space, jax.random.key(0), 3)
    assert_close(ours, initialize(space, jax.random.key(0), 3, space.full()), tolerance=1e-6)
    other = initialize(space, jax.random.key(1), 3)
    assert not np.allclose(ours["params"]["dense"]["kernel"], other["params"]["dense"]["kernel"])


def test_batch_norm_equals_a_numpy_computation():
    rng = np.random.default_rng(0)
    inputs = rng.normal(2, 3, (3, 2, 2, 5))
    scale, bias, mean = rng.normal(size=(3, 5))
    var = rng.uniform(0.5, 2, 5)
    variables = {
        "params": {"scale": scale, "bias": bias},
        "batch_stats": {"mean": mean, "var": var},
    }
    variables, images = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.float32), (variables, inputs)
    )

    outputs, updates = BatchNorm().apply(variables, images, None, True, mutable=["batch_stats"])
    batch_mean, batch_var = inputs.mean((0, 1, 2)), inputs.var((0, 1, 2))
    expected = (inputs - batch_mean) / np.sqrt(batch_var + 1e-5) * scale + bias
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    unbiased = inputs.var((0, 1, 2), ddof=1)
    updated = updates["batch_stats"]
    np.testing.assert_allclose(updated["mean"], 0.9 * mean + 0.1 * batch_mean, rtol=1e-5)
    np.testing.assert_allclose(updated["var"], 0.9 * var + 0.1 * unbiased, rtol=1e-5)
    assert np.abs(0.1 * unbiased / updated["var"] - 0.1 * batch_var / updated["var"]).max() > 1e-3

    outputs = BatchNorm().apply(variables, images, None, False)
    expected = (inputs - mean) / np.sqrt(var + 1e-5) * scale + bias
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 6, 6, 3), (1, 2, 2, 3), (1, 8, 6, 3), (1, 6, 8, 3)])
def test_image_sizes_that_round_differently_are_refused(shape):
    images = jnp.zeros(shape)
    for run in (
        functools.partial(resnet.apply, WIDENING, teacher(WIDENING), WIDENING.full()),
        functools.partial(resnet.apply_dense, WIDENING, teacher(WIDENING)),
    ):
        with pytest.raises(UserError, match=r"image size [26] is not a multiple of 4"):
            run(images, train=False)


@pytest.mark.parametrize(
    "space",
    [
        ResNetSpace((4, 6, 9), 2, (1, 2, 2)),
        ResNetSpace((4, 6, 8), 3, (1, 2, 2)),
        ResNetSpace((4, 6), 2, (1, 2)),
    ],
)
def test_variables_of_another_space_are_refused(space):
    with pytest.raises(UserError, match="use the stage_widths and stage_depth of this teacher"):
        resnet.apply(space, teacher(WIDENING), space.full(), IMAGES, train=False)


def test_widths_are_read_from_the_parameters():
    architecture = student(NARROWING, "cropping")
    variables = resnet.cut(NARROWING, teacher(NARROWING), architecture)
    assert resnet.block_widths(variables) == ((8, 3, 5), (4, 1))
    assert resnet.num_classes(variables) == CLASSES
