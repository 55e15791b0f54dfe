"""Students in one pass of their teacher are the students one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax import functional, resnet, supernet
from dass_jax.compilations import compilations
from dass_jax.search_space import ResNetSpace
from dass_jax.untrained import Untrained, map_forwards, map_students

SPACE = ResNetSpace((4, 6, 8), 3, strides=(1, 2, 2))
STUDENTS = jax.device_get(jax.jit(jax.vmap(SPACE.sample))(jax.random.split(jax.random.key(1), 11)))
IMAGES = jax.random.normal(jax.random.key(2), (5, 8, 8, 3))


@pytest.fixture(scope="module")
def untrained():
    variables = resnet.init(SPACE, jax.random.key(0), 3)
    leaves, structure = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(3), len(leaves))
    # nothing is at its initial value, so that nothing that is mixed up stays unnoticed
    noisy = [x + 0.2 * jax.random.uniform(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    teacher = jax.tree.unflatten(structure, noisy)
    return Untrained(SPACE, teacher, STUDENTS, np.arange(11, dtype=np.int32), jax.random.key(4))


def one_by_one(space, variables, architecture, images):
    """Logits and last maps by running and by batch statistics."""
    results = []
    for train in (False, True):
        logits, maps, *_ = resnet.apply(space, variables, architecture, images, train=train)
        results.append((logits, maps["stage3"]))
    return results


@pytest.mark.parametrize("at_a_time", [1, 4, 11])
def test_together_is_one_by_one(untrained, monkeypatch, at_a_time):
    """In steps of few, the last one incomplete, students are sorted anew at every stage."""
    pixels = at_a_time * IMAGES[..., 0].size
    monkeypatch.setattr(supernet, "_PIXELS_PER_STEP", pixels)
    assert supernet.students_at_a_time(11, IMAGES) == at_a_time
    expected = map_students(one_by_one, untrained, IMAGES)
    for train, (logits, maps) in zip((False, True), expected, strict=True):
        found = jax.jit(supernet.forward, static_argnums=0, static_argnames="train")(
            SPACE, untrained.variables, STUDENTS, IMAGES, train=train
        )
        np.testing.assert_allclose(found[0], logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[1], maps, rtol=1e-4, atol=1e-5)
        assert np.ptp(logits, axis=0).min() > 1e-3


def same_answers(forward, offset):
    return {"logits": forward.logits + offset, "maps": forward.last_map}


@pytest.mark.parametrize("batch_size", [4, 256])
def test_other_kinds_of_inheritance_give_the_same_where_they_are_the_same(untrained, batch_size):
    """All of a full-sized student is inherited by any rule."""
    full = jax.tree.map(lambda leaf: jnp.stack([leaf] * 11), SPACE.full())
    results = [
        map_forwards(
            same_answers, untrained._replace(architectures=full, kind=kind), IMAGES,
            jnp.ones(()), batch_size=batch_size,
        )
        for kind in ("copy_paste_first", "copy_paste_last", "copy_paste_uniform")
    ]  # fmt: skip
    for name, first in results[0].items():
        assert len(first) == 11
        for other in results[1:]:
            np.testing.assert_allclose(other[name], first, rtol=1e-4, atol=1e-5)


def test_many_students_are_one_compilation(untrained):
    image = functional.noise_image(8)
    functional.noise_maps(untrained, image, batch_size=4)
    some = jax.tree.map(lambda leaf: leaf[:6], (STUDENTS, untrained.student_ids))
    before = compilations().number
    fewer = untrained._replace(architectures=some[0], student_ids=some[1])
    assert len(functional.noise_maps(fewer, image, batch_size=4)) == 6
    assert compilations().number == before
