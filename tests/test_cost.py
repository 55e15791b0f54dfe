"""Costs equal those of the dense network, counted in its own computation and parameters."""

import math

import jax
import numpy as np
import pytest

from dass_jax import cost, resnet
from dass_jax.budget import smallest
from dass_jax.search_space import Architecture, ResNetSpace, unstack

CLASSES = 7
SPACES = {
    "widening": ResNetSpace((4, 6, 8, 8), 3),
    "narrowing": ResNetSpace((9, 6, 3), 2, (1, 2, 1)),
    "halved_at_once": ResNetSpace((5, 7), 2, (2, 2)),
}
IMAGE_SIZE = {"widening": 16, "narrowing": 6, "halved_at_once": 8}
COUNT = 5


def students(space, seed=0):
    """A few random students, batched, the full and the smallest one among them."""
    keys = jax.random.split(jax.random.key(seed), COUNT)
    drawn = unstack(jax.jit(jax.vmap(space.sample))(keys))
    batch = [*drawn, space.full(), smallest(space)]
    return Architecture(*(np.stack(leaves) for leaves in zip(*batch, strict=True)))


def dense_variables(space, architecture):
    """The variables of the student at its own size, all zero: only shapes matter."""
    shapes = jax.eval_shape(lambda: resnet.init(space, jax.random.key(0), CLASSES))
    teacher = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return resnet.cut(space, teacher, architecture)


def count_multiply_adds(jaxpr):
    """Walks a computation: output size times the length of each output's sum."""
    total = 0
    for equation in jaxpr.eqns:
        operand, *_ = shapes = [getattr(v.aval, "shape", None) for v in equation.invars]
        size = math.prod(equation.outvars[0].aval.shape)
        if equation.primitive.name == "conv_general_dilated":
            height, width, inputs, _ = shapes[1]  # HWIO
            assert equation.params["rhs_dilation"] == (1, 1)
            total += size * height * width * inputs
        elif equation.primitive.name == "dot_general":
            (contracting, _), _ = equation.params["dimension_numbers"]
            total += size * math.prod(operand[axis] for axis in contracting)
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                total += count_multiply_adds(inner)
    return total


@pytest.mark.parametrize("name", SPACES)
def test_flops_are_the_multiply_adds_of_the_dense_network(name):
    space, size = SPACES[name], IMAGE_SIZE[name]
    batch = students(space)
    counted = []
    for architecture in unstack(batch):
        variables = dense_variables(space, architecture)
        images = np.zeros((1, size, size, 3), np.float32)
        network = jax.make_jaxpr(lambda v, x: resnet.apply_dense(space, v, x, train=False))
        counted.append(count_multiply_adds(network(variables, images).jaxpr))
    flops = cost.num_flops(space, batch, image_size=size, num_classes=CLASSES)
    assert flops.dtype == np.int64
    np.testing.assert_array_equal(flops, counted)
    assert len(set(counted)) > 3


@pytest.mark.parametrize("name", SPACES)
def test_params_are_the_sizes_of_the_dense_networks_leaves(name):
    space = SPACES[name]
    batch = students(space)
    counted = []
    for architecture in unstack(batch):
        params = dense_variables(space, architecture)["params"]
        counted.append(sum(leaf.size for leaf in jax.tree.leaves(params)))
    params = cost.num_params(space, batch, num_classes=CLASSES)
    assert params.dtype == np.int64
    np.testing.assert_array_equal(params, counted)


def test_teacher_of_the_paper():
    space = ResNetSpace((32, 64, 128, 256), 5)
    assert cost.num_params(space, space.full(), num_classes=200) == pytest.approx(7.5e6, rel=0.01)


def test_batches_equal_one_by_one():
    space = SPACES["widening"]
    batch = students(space)
    sizes = {"image_size": 16, "num_classes": CLASSES}
    flops = cost.num_flops(space, batch, **sizes)
    params = cost.num_params(space, batch, num_classes=CLASSES)
    for index, one in enumerate(unstack(batch)):
        assert cost.num_flops(space, one, **sizes) == flops[index]
        assert cost.num_params(space, one, num_classes=CLASSES) == params[index]
    grid = jax.tree.map(lambda leaf: np.stack([leaf, leaf[::-1]]), batch)
    expected = np.stack([flops, flops[::-1]])
    np.testing.assert_array_equal(cost.num_flops(space, grid, **sizes), expected)


def test_other_image_channels():
    space = SPACES["widening"]
    full = space.full()
    sizes = {"image_size": 16, "num_classes": CLASSES}
    more = cost.num_flops(space, full, image_channels=5, **sizes)
    assert more - cost.num_flops(space, full, **sizes) == 2 * 9 * 16 * 16 * 4
    more = cost.num_params(space, full, num_classes=CLASSES, image_channels=5)
    assert more - cost.num_params(space, full, num_classes=CLASSES) == 2 * 9 * 4


def test_huge_networks_do_not_overflow():
    width, depth, size = 2**14, 50, 2**10
    space = ResNetSpace((width,), depth, (1,))
    flops = cost.num_flops(space, space.full(), image_size=size, num_classes=10)
    expected = 9 * size**2 * (3 * width + 2 * depth * width**2) + 10 * width
    assert 2**32 < expected < 2**63
    assert int(flops) == expected
    params = cost.num_params(space, space.full(), num_classes=10)
    expected = 9 * (3 * width + 2 * depth * width**2) + (2 + 4 * depth) * width + 10 * (width + 1)
    assert expected > 2**32
    assert int(params) == expected


@pytest.mark.parametrize("name", SPACES)
def test_shares_of_the_teacher(name):
    space, size = SPACES[name], IMAGE_SIZE[name]
    batch = students(space)
    shares = cost.log_shares(space, batch, image_size=size)
    # the full one is the second last, the smallest the last
    np.testing.assert_array_equal(shares[-2], 0)
    assert (shares[-1] <= shares.min(0)).all()
    for row, one in enumerate(unstack(batch)):
        np.testing.assert_array_equal(cost.log_shares(space, one, image_size=size), shares[row])
        kernels = np.exp(shares[row, 1]) * cost.num_params(space, space.full(), num_classes=0)
        assert round(kernels) == cost.num_params(space, one, num_classes=0)
