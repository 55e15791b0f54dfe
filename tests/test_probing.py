"""Students on images: measures by hand, the teacher agrees with itself, dense equals masked."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax import probing, resnet
from dass_jax.data.augmentation import normalize
from dass_jax.probing import Response
from dass_jax.remapping import remap
from dass_jax.search_space import ResNetSpace, unstack
from dass_jax.untrained import Untrained, the_teacher

SPACE = ResNetSpace((4, 6), 2, strides=(1, 2))
TEACHER = resnet.init(SPACE, jax.random.key(0), 3)
IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3)), jnp.uint8)
NAMES = [measure.__name__ for measure in probing.MEASURES]


def response(seed, classes=4):
    rng = np.random.default_rng(seed)
    logits, pooled = rng.normal(size=(6, classes)), rng.normal(size=(6, 3))
    return Response(jnp.asarray(logits, jnp.float32), jnp.asarray(pooled, jnp.float32))


# eagerly, every operation would be compiled on its own
run_remap = jax.jit(remap, static_argnums=0)


@functools.partial(jax.jit, static_argnames="train")
def measure_dense(variables, teacher, *, train):
    logits, features, *_ = resnet.apply_dense(SPACE, variables, normalize(IMAGES), train=train)
    own = Response(logits, features["stage2"].mean((1, 2)))
    return [measure(own, teacher) for measure in probing.MEASURES], features["stage2"].mean(0)


@pytest.fixture(scope="module")
def teacher():
    return probing.teacher_response(SPACE, TEACHER, IMAGES)


@pytest.fixture(scope="module")
def untrained():
    students = jax.jit(jax.vmap(SPACE.sample))(jax.random.split(jax.random.key(1), 3))
    return Untrained(SPACE, TEACHER, students, np.arange(3, dtype=np.int32), jax.random.key(4))


@pytest.fixture(scope="module")
def probe(untrained, teacher):
    return probing.probe(untrained, IMAGES, teacher)


def test_measures_by_hand():
    student, teacher = response(0), response(1)
    first, second = np.asarray(student.logits), np.asarray(teacher.logits)
    agree = np.mean(first.argmax(1) == second.argmax(1))
    assert float(probing.agreement(student, teacher)) == pytest.approx(agree)
    correlation = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(first, second, strict=True)])
    assert float(probing.logit_correlation(student, teacher)) == pytest.approx(
        correlation, rel=1e-4
    )
    soft = [np.exp(x / 6) / np.exp(x / 6).sum(1, keepdims=True) for x in (second, first)]
    kl = np.mean(np.sum(soft[0] * np.log(soft[0] / soft[1]), axis=1))
    assert float(probing.divergence(student, teacher)) == pytest.approx(
        np.log10(kl + 1e-4) / 4, 1e-3
    )
    features = [np.asarray(r.pooled) - np.asarray(r.pooled).mean(0) for r in (student, teacher)]
    # the usual form of linear CKA, over features instead of images
    cross, *own = (np.linalg.norm(a.T @ b) ** 2 for a, b in (
        features, (features[0],) * 2, (features[1],) * 2
    ))  # fmt: skip
    alignment = cross / np.sqrt(own[0] * own[1])
    assert float(probing.feature_alignment(student, teacher)) == pytest.approx(alignment, rel=1e-4)


def test_scale_and_shift_of_features_do_not_matter():
    student, teacher = response(0), response(1)
    other = student._replace(pooled=3 * student.pooled + 1)
    found, expected = (float(probing.feature_alignment(s, teacher)) for s in (other, student))
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_teacher_is_its_own_student_with_other_statistics(teacher):
    itself = probing.probe(the_teacher(SPACE, TEACHER), IMAGES, teacher)
    batch, _ = measure_dense(TEACHER, teacher, train=True)
    np.testing.assert_allclose(itself.disagreement[0], batch, rtol=1e-3, atol=1e-4)
    running = dict(zip(NAMES, measure_dense(TEACHER, teacher, train=False)[0], strict=True))
    assert running == pytest.approx(
        {"agreement": 1, "divergence": -1, "logit_correlation": 1, "feature_alignment": 1}, abs=1e-3
    )


def test_measures_are_those_of_the_dense_students(untrained, teacher, probe):
    for row, architecture in enumerate(unstack(untrained.architectures)):
        masked = run_remap(SPACE, TEACHER, architecture)
        dense = resnet.cut(SPACE, masked, architecture)
        measures, mean = measure_dense(dense, teacher, train=True)
        np.testing.assert_allclose(probe.disagreement[row], measures, rtol=1e-3, atol=1e-4)
        width = mean.shape[-1]
        np.testing.assert_allclose(probe.image_map[row][..., :width], mean, rtol=1e-4, atol=1e-4)
        assert not probe.image_map[row][..., width:].any()


def test_batches_have_no_influence(untrained, teacher, probe):
    other = probing.probe(untrained, IMAGES, teacher, batch_size=2)
    np.testing.assert_allclose(other.disagreement, probe.disagreement, rtol=1e-4, atol=1e-5)


def test_students_differ(probe):
    assert (probe.disagreement.std(0) > 0).sum() >= 3
