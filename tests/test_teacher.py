"""Teacher training: the best evaluation is kept, and a stopped run goes on to the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dass_jax import evaluation, teacher
from dass_jax.data.augmentation import Augmentation
from dass_jax.errors import UserError
from dass_jax.evaluation import Split
from dass_jax.recipe import plain
from dass_jax.search_space import ResNetSpace, stack
from dass_jax.snapshots import Snapshots
from dass_jax.training import SGDConfig

SPACE = ResNetSpace((4, 6), 1, strides=(1, 2))
CONFIG = teacher.TeacherConfig(SGDConfig(epochs=4, batch_size=8, eval_every=1))


def split(count, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count).astype(np.int32)
    images = rng.integers(0, 256, (count, 8, 8, 3)) // 2 + 60 * labels[:, None, None, None]
    return Split(jnp.asarray(images.astype(np.uint8)), jnp.asarray(labels))


TRAIN, VALID = split(24, 0), split(30, 1)


class Killed(Exception):
    """Stands for the process's death."""


def train(folder=None, config=CONFIG, die_after=None, train_split=TRAIN, every_seconds=0.0):
    def on_epoch(report):
        if report.epoch == die_after:
            raise Killed

    # saved at every opportunity
    snapshots = Snapshots(
        folder, "the unfinished teacher", plain(config), every_seconds=every_seconds
    )
    return teacher.train_teacher(
        SPACE, config, Augmentation(), name="toy", seed=0, num_classes=3,
        train=train_split, valid=VALID, snapshots=snapshots, on_epoch=on_epoch,
    )  # fmt: skip


def assert_equal(first, second):
    assert first._replace(variables=0, seconds=0) == second._replace(variables=0, seconds=0)
    for a, b in zip(
        jax.tree.leaves(first.variables), jax.tree.leaves(second.variables), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def uninterrupted():
    return train()


def test_best_evaluation_is_kept(uninterrupted):
    accuracies = [accuracy for _, accuracy in uninterrupted.curve]
    assert uninterrupted.accuracy == max(accuracies)
    assert uninterrupted.epoch == 1 + accuracies.index(max(accuracies))
    population = jax.tree.map(lambda leaf: leaf[None], uninterrupted.variables)
    measured = evaluation.evaluate(SPACE, population, stack([SPACE.full()]), VALID)
    assert uninterrupted.accuracy == pytest.approx(float(measured[0]))


def test_resumed_equals_uninterrupted(tmp_path, uninterrupted):
    for epoch in (1, 3):
        with pytest.raises(Killed):
            train(tmp_path / "progress", die_after=epoch)
    assert_equal(train(tmp_path / "progress"), uninterrupted)


def test_a_trained_teacher_is_saved_before_it_is_tested(tmp_path, uninterrupted):
    # nothing is due
    assert_equal(train(tmp_path / "progress", every_seconds=1e9), uninterrupted)
    # who calls may be stopped now
    assert_equal(train(tmp_path / "progress", die_after=4), uninterrupted)


def test_other_settings_are_refused(tmp_path):
    with pytest.raises(Killed):
        train(tmp_path / "progress", die_after=1)
    other = teacher.TeacherConfig(SGDConfig(epochs=4, batch_size=8, eval_every=1, momentum=0.8))
    with pytest.raises(UserError, match=r"sgd\.momentum was 0\.9 and is now 0\.8"):
        train(tmp_path / "progress", config=other)


def test_saved_teacher_is_read_back(tmp_path, uninterrupted):
    teacher.save_teacher(tmp_path / "teacher", uninterrupted, {"note": "x"})
    result, metadata = teacher.load_teacher(tmp_path / "teacher", SPACE)
    assert_equal(result, uninterrupted)
    assert (metadata["note"], metadata["num_classes"]) == ("x", 3)
    with pytest.raises(UserError, match="does not fit"):
        teacher.load_teacher(tmp_path / "teacher", ResNetSpace((4, 8), 1, strides=(1, 2)))


def test_label_smoothing_loss():
    logits = jax.random.normal(jax.random.key(0), (4, 3))
    labels = jnp.asarray([0, 2, 1, 1])
    plain = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    uniform = -jax.nn.log_softmax(logits).mean()
    value = teacher.LabelSmoothingLoss(0.1)(logits, labels, None)
    np.testing.assert_allclose(value, 0.9 * plain + 0.1 * uniform, rtol=1e-6)


def test_divergence_is_an_error():
    rate = 1e20
    config = teacher.TeacherConfig(SGDConfig(epochs=4, batch_size=8, learning_rate=rate))
    with pytest.raises(UserError, match="diverged"):
        train(config=config)
