"""Activation maps on noise: batched equals one by one, and equals the dense student's own map."""

import jax
import numpy as np
import pytest

from dass_jax import functional, resnet
from dass_jax.randomness import fold_in
from dass_jax.remapping import remap
from dass_jax.search_space import ResNetSpace, unstack
from dass_jax.untrained import Untrained, the_teacher

SPACE = ResNetSpace((4, 6), 2, strides=(1, 2))
TEACHER = resnet.init(SPACE, jax.random.key(0), 3)
KEY = jax.random.key(4)
IMAGE = functional.noise_image(8)
IDS = np.arange(3, dtype=np.int32)


# eagerly, every operation would be compiled on its own
run_remap = jax.jit(remap, static_argnums=(0, 3))
run_dense = jax.jit(resnet.apply_dense, static_argnums=0, static_argnames="train")


@pytest.fixture(scope="module")
def students():
    return jax.jit(jax.vmap(SPACE.sample))(jax.random.split(jax.random.key(1), 3))


@pytest.fixture(scope="module")
def maps(students):
    return functional.noise_maps(Untrained(SPACE, TEACHER, students, IDS, KEY), IMAGE)


def test_maps_are_those_of_the_dense_students(students, maps):
    for row, architecture in enumerate(unstack(students)):
        masked = run_remap(SPACE, TEACHER, architecture, "copy_paste_first")
        dense = resnet.cut(SPACE, masked, architecture)
        expected = run_dense(SPACE, dense, IMAGE, train=False)[1]["stage2"][0]
        width = expected.shape[-1]
        np.testing.assert_allclose(maps[row][..., :width], expected, rtol=1e-5, atol=1e-5)
        assert not maps[row][..., width:].any()


@pytest.mark.parametrize("batch_size", [1, 2])
def test_batch_size_has_no_influence(students, maps, batch_size):
    untrained = Untrained(SPACE, TEACHER, students, IDS, KEY)
    other = functional.noise_maps(untrained, IMAGE, batch_size=batch_size)
    np.testing.assert_allclose(other, maps, rtol=1e-5, atol=1e-6)


def test_the_teacher_is_its_own_full_student():
    _, features = run_dense(SPACE, TEACHER, IMAGE, train=False)
    ours = functional.noise_maps(the_teacher(SPACE, TEACHER), IMAGE)[0]
    np.testing.assert_allclose(ours, features["stage2"][0], rtol=1e-5, atol=1e-6)


def test_random_init_follows_the_student_id(students):
    def features(ids):
        untrained = Untrained(SPACE, TEACHER, students, ids, KEY, "random_init")
        return functional.noise_maps(untrained, IMAGE)

    first, other = features(IDS), features(IDS + 1)
    assert not np.allclose(first, other)
    row = unstack(students)[2]
    variables = run_remap(SPACE, TEACHER, row, "random_init", fold_in(KEY, 2))
    dense = resnet.cut(SPACE, variables, row)
    expected = run_dense(SPACE, dense, IMAGE, train=False)[1]["stage2"][0]
    width = expected.shape[-1]
    np.testing.assert_allclose(first[2][..., :width], expected, rtol=1e-5, atol=1e-5)


def test_noise_is_fixed():
    np.testing.assert_array_equal(functional.noise_image(8), functional.noise_image(8))
    noise = functional.noise_image(64)
    assert noise.shape == (1, 64, 64, 3)
    assert abs(float(noise.mean())) < 0.05
    assert abs(float(noise.std()) - 1) < 0.05
