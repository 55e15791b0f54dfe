"""A student that diverges is recorded as such, and its neighbours do not notice."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax import database as db
from dass_jax import resnet
from dass_jax.data.augmentation import Augmentation
from dass_jax.distillation import Assignment, DistillConfig, distil_population
from dass_jax.evaluation import Split
from dass_jax.experiment import Experiment
from dass_jax.search_space import ResNetSpace, stack
from dass_jax.training import CachedTeacher, SGDConfig
from dass_jax.workflow.build_database import to_records

SPACE = ResNetSpace((4,), 2, strides=(2,))
CLASSES = 3
WIDE = SPACE.full()
NARROW = (SPACE.architecture([1], [[2]]), SPACE.architecture([2], [[3, 2]]))


def split(count, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    return Split(jnp.asarray(images), jnp.asarray(np.arange(count, dtype=np.int32) % CLASSES))


@pytest.fixture(scope="module")
def assignment():
    """A teacher whose last channel, which the wide student alone inherits, is far too large."""
    variables = resnet.init(SPACE, jax.random.key(0), CLASSES)
    dense = variables["params"]["dense"]
    kernel = dense["kernel"].at[-1].set(1e30)
    params = variables["params"] | {"dense": dense | {"kernel": kernel}}
    logits = np.random.default_rng(1).normal(size=(16, CLASSES)).astype(np.float16)
    return Assignment(
        "toy", 0, variables | {"params": params}, split(16, 0), split(9, 1), split(9, 2),
        lambda view: CachedTeacher(jnp.asarray(logits)),
    )  # fmt: skip


def distil(assignment, architectures, networks_per_step):
    config = DistillConfig(
        SGDConfig(epochs=2, batch_size=8, eval_every=1), networks_per_step=networks_per_step
    )
    students = stack(list(architectures))
    ids = np.arange(len(architectures), dtype=np.int32)
    result = distil_population(SPACE, config, Augmentation(), assignment, students, ids)
    return students, ids, result


@pytest.mark.parametrize("k", [1, 3])
def test_neighbours_of_a_diverged_student_do_not_notice(assignment, tmp_path, k):
    students, ids, result = distil(assignment, (NARROW[0], WIDE, NARROW[1]), k)
    assert np.isfinite(result.loss).tolist() == [True, False, True]
    healthy = jax.tree.leaves(jax.tree.map(lambda leaf: leaf[np.array([0, 2])], result.variables))
    assert all(np.isfinite(leaf).all() for leaf in healthy)

    # of the same size, as one compiled step of k networks is compared with another
    _, _, without = distil(assignment, (NARROW[0], NARROW[0], NARROW[1]), k)
    assert np.isfinite(without.loss).all()
    for name in ("initial", "loss", "test", "final", "best"):
        np.testing.assert_array_equal(getattr(result, name)[::2], getattr(without, name)[::2])
    np.testing.assert_array_equal(result.curve[:, ::2], without.curve[:, ::2])
    for one, other in zip(
        jax.tree.leaves(result.variables), jax.tree.leaves(without.variables), strict=True
    ):
        np.testing.assert_array_equal(one[::2], other[::2])

    experiment = Experiment(image_size=8, space=SPACE)
    records = to_records(experiment, assignment, students, ids, 0, result, 3.0)
    assert [record.diverged for record in records] == [False, True, False]
    db.write_part(db.part_path(tmp_path, "toy", 0, [0, 1, 2]), records)
    stored = db.read_records(tmp_path, "toy")
    assert not np.isfinite(stored[1].loss)
    assert 0 <= stored[1].final_accuracy <= 1
    # nan differs from itself
    assert [stored[0], stored[2]] == [records[0], records[2]] == db.first_replicate(stored)
    assert dataclasses.replace(stored[1], loss=0.0) == dataclasses.replace(records[1], loss=0.0)
