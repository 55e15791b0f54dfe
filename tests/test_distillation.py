"""Distilling a population: cached against online teachers, replicates, identities of the loss."""

import dataclasses
import functools
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dass_jax import checkpoints, evaluation, logit_cache, pace, resnet
from dass_jax.compilations import compilations
from dass_jax.data.augmentation import Augmentation
from dass_jax.distillation import (
    Assignment,
    DistillConfig,
    KDLoss,
    distil_population,
    kd_loss,
    view_of_epoch,
    views_needed,
)
from dass_jax.errors import UserError
from dass_jax.evaluation import Split
from dass_jax.inheritance import Origin, Students, inherit
from dass_jax.randomness import Stream, task_key
from dass_jax.search_space import ResNetSpace
from dass_jax.snapshots import Snapshots
from dass_jax.stopping import StoppedError, stop_on_signals
from dass_jax.training import CachedTeacher, OnlineTeacher, SGDConfig

SPACE = ResNetSpace((4, 6), 2, strides=(1, 2))
CLASSES = 3
SGD = SGDConfig(epochs=2, batch_size=8, learning_rate=0.05, eval_every=1)
CONFIG = DistillConfig(SGD, num_views=3)
AUGMENTATION = Augmentation()


def split(count, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count).astype(np.int32)
    images = rng.integers(0, 256, (count, 8, 8, 3)) // 2 + 60 * labels[:, None, None, None]
    return Split(jnp.asarray(images.astype(np.uint8)), jnp.asarray(labels))


TEACHER = resnet.init(SPACE, jax.random.key(0), CLASSES)
TRAIN, VALID, TEST = split(20, 0), split(11, 1), split(13, 2)
VIEW_KEY = task_key(0, "toy", Stream.VIEWS)
ORIGIN = Origin(TEACHER, task_key(0, "toy", Stream.STUDENT_INIT))


def assignment(source):
    return Assignment("toy", 0, TEACHER, TRAIN, VALID, TEST, source)


def online():
    return assignment(lambda view: OnlineTeacher(TEACHER))


@pytest.fixture(scope="module")
def logits():
    views = [
        logit_cache.view_logits(
            SPACE, AUGMENTATION, TEACHER, TRAIN, VIEW_KEY, jnp.asarray(view, jnp.int32),
            batch_size=8,
        )
        for view in range(3)
    ]  # fmt: skip
    return np.stack([np.asarray(view) for view in views])


def cached(logits, dtype):
    return assignment(lambda view: CachedTeacher(jnp.asarray(logits[view].astype(dtype))))


@pytest.fixture(scope="module")
def students():
    keys = jax.random.split(jax.random.key(7), 3)
    return jax.vmap(SPACE.sample)(keys), np.arange(3, dtype=np.int32)


@pytest.fixture(scope="module")
def result(students):
    return distil_population(SPACE, CONFIG, AUGMENTATION, online(), *students)


def test_float32_cache_equals_online(students, logits, result):
    other = distil_population(SPACE, CONFIG, AUGMENTATION, cached(logits, np.float32), *students)
    np.testing.assert_allclose(other.loss, result.loss, rtol=1e-6)
    for a, b in zip(
        jax.tree.leaves(other.variables), jax.tree.leaves(result.variables), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_float16_cache_changes_the_first_loss_by_less_than_a_thousandth(students, logits):
    config = dataclasses.replace(CONFIG, sgd=dataclasses.replace(SGD, epochs=1, batch_size=20))
    first = [
        distil_population(SPACE, config, AUGMENTATION, source, *students).loss
        for source in (online(), cached(logits, np.float16))
    ]
    np.testing.assert_allclose(first[1], first[0], rtol=1e-3)
    assert not np.array_equal(first[0], first[1])


def test_result_describes_the_run(students, result):
    architectures, _ = students
    assert list(result.epochs) == [1, 2]
    assert result.curve.shape == (2, 3)
    np.testing.assert_array_equal(result.final, result.curve[-1])
    np.testing.assert_array_equal(result.best, result.curve.max(0))
    measured = evaluation.evaluate(SPACE, result.variables, architectures, TEST)
    np.testing.assert_array_equal(result.test, measured)


def test_initial_accuracy_is_that_of_the_inherited_student(students, result):
    architectures, ids = students
    inherited = inherit(SPACE, "copy_paste_first", Students(architectures, ids), ORIGIN)
    accuracy = evaluation.evaluate(SPACE, inherited, architectures, VALID)
    np.testing.assert_array_equal(result.initial, accuracy)


class Killed(Exception):
    """Stands for the process's death."""


def assert_same_result(first, second):
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("offers", "step"), [(1, 1), (2, 2), (3, 2), (4, 2), (5, 3)])
def test_resumed_equals_uninterrupted(tmp_path, students, monkeypatch, offers, step, result):
    """Killed within an epoch, before, in and after its evaluation; two steps make an epoch here."""

    class Dying(Snapshots):
        left = offers

        def offer(self, step, take):
            super().offer(step, take)
            self.left -= 1
            if not self.left:
                raise Killed

    def run(kind):
        snapshots = kind(tmp_path / "unfinished", "students", {"x": 1}, every_seconds=0.0)
        return distil_population(
            SPACE, CONFIG, AUGMENTATION, online(), *students, snapshots=snapshots
        )

    # a call of one step, so that the first offer comes within the epoch
    monkeypatch.setattr(pace, "SECONDS_PER_CALL", 0.0)
    with pytest.raises(Killed):
        run(Dying)
    assert checkpoints.latest_step(tmp_path / "unfinished") == step
    assert_same_result(run(Snapshots), result)


def test_students_that_fill_up_a_batch_are_neither_saved_nor_returned(tmp_path, students, result):
    """Two students fill up three places; stopped, they go on in two."""
    architectures, ids = students
    pair = jax.tree.map(lambda leaf: leaf[1:], architectures)

    def run(pad_to, on_epoch):
        snapshots = Snapshots(tmp_path, "students", {"x": 1}, every_seconds=0.0)
        return distil_population(
            SPACE, CONFIG, AUGMENTATION, online(), pair, ids[1:], snapshots=snapshots,
            on_epoch=on_epoch, pad_to=pad_to,
        )  # fmt: skip

    def stop_after_the_second(report):
        places.append(len(report.loss))
        if len(places) == 2:
            raise Killed

    places = []
    with pytest.raises(Killed):
        run(3, stop_after_the_second)
    resumed = run(0, stop_after_the_second)
    # of the first epoch nothing is done again
    assert places == [3, 3, 2]
    np.testing.assert_array_equal(resumed.loss, result.loss[1:])
    np.testing.assert_array_equal(resumed.initial, result.initial[1:])
    np.testing.assert_array_equal(resumed.curve, result.curve[:, 1:])


def test_training_that_is_complete_survives_the_end_of_the_process(
    tmp_path, students, monkeypatch, result
):
    evaluate = evaluation.evaluate

    def run(on_epoch=lambda report: None):
        # nothing is due
        snapshots = Snapshots(tmp_path, "students", {"x": 1})
        return distil_population(
            SPACE, CONFIG, AUGMENTATION, online(), *students, snapshots=snapshots,
            on_epoch=on_epoch,
        )  # fmt: skip

    def killed_in_the_test(space, variables, architectures, split, **options):
        if split is TEST:
            raise Killed
        return evaluate(space, variables, architectures, split, **options)

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "evaluate", killed_in_the_test)
        with pytest.raises(Killed):
            run()
    trained_again = []
    assert_same_result(run(trained_again.append), result)
    assert trained_again == []


def test_snapshot_of_other_students_is_removed(tmp_path, students, result, capsys):
    first = Snapshots(tmp_path, "students", {"x": 1}, every_seconds=0.0)
    run = functools.partial(distil_population, SPACE, CONFIG, AUGMENTATION, online(), *students)
    assert_same_result(run(snapshots=first), result)
    assert checkpoints.exists(tmp_path)
    other = Snapshots(tmp_path, "students", {"x": 2}, every_seconds=0.0)
    assert capsys.readouterr().out == ""
    assert_same_result(run(snapshots=other), result)
    said = f"students in {tmp_path} was made with other settings (x was 1 and is now 2): removed"
    assert " ".join(capsys.readouterr().out.split()) == said
    assert checkpoints.read_metadata(tmp_path)["recipe"] == {"x": 2}


def test_without_a_folder_nothing_is_gathered():
    def fail():
        raise AssertionError

    Snapshots(None, "students", {}, every_seconds=0.0).offer(1, fail)


def test_signal_saves_and_stops(tmp_path, students, monkeypatch, result):
    def run(on_epoch=lambda report: None):
        snapshots = Snapshots(tmp_path, "students", {"x": 1})
        return distil_population(
            SPACE, CONFIG, AUGMENTATION, online(), *students, snapshots=snapshots,
            on_epoch=on_epoch,
        )  # fmt: skip

    monkeypatch.setattr(pace, "SECONDS_PER_CALL", 0.0)
    with stop_on_signals(), pytest.raises(StoppedError, match="SIGTERM"):
        run(lambda report: os.kill(os.getpid(), signal.SIGTERM))
    assert checkpoints.latest_step(tmp_path) == 2
    assert_same_result(run(), result)


def test_a_student_does_not_depend_on_its_population(students, result):
    architectures, ids = students
    pair = jax.tree.map(lambda leaf: leaf[1:], architectures)
    other = distil_population(SPACE, CONFIG, AUGMENTATION, online(), pair, ids[1:])
    np.testing.assert_array_equal(other.loss, result.loss[1:])
    np.testing.assert_array_equal(other.curve, result.curve[:, 1:])


@pytest.mark.parametrize(("k", "order"), [(2, [0, 1, 2]), (2, [2, 0, 1]), (3, [1, 2, 0])])
def test_where_a_student_is_seated_matters_less_than_its_seed(students, result, k, order):
    """Students that are vmapped with others are rounded otherwise, to 1e-5; another seed is more.

    Four epochs: differences grow along the way.
    """
    architectures, ids = students
    moved = jax.tree.map(lambda leaf: leaf[np.asarray(order)], architectures)

    def run(architectures, ids, k, replicate=0):
        sgd = dataclasses.replace(SGD, epochs=4)
        config = dataclasses.replace(CONFIG, sgd=sgd, networks_per_step=k, num_views=8)
        return distil_population(
            SPACE, config, AUGMENTATION, online(), architectures, ids, replicate
        )

    alone, other_seed = run(architectures, ids, 1), run(architectures, ids, 1, replicate=1)
    grouped = run(moved, ids[np.asarray(order)], k)
    expected = alone.loss[np.asarray(order)]
    np.testing.assert_allclose(grouped.loss, expected, rtol=1e-4)
    of_seeds = np.abs(other_seed.loss - alone.loss).mean()
    assert np.abs(grouped.loss - expected).mean() < 0.1 * of_seeds
    differences = np.abs(grouped.curve - alone.curve[:, np.asarray(order)]).mean()
    assert differences <= np.abs(other_seed.curve - alone.curve).mean()


def test_a_smaller_population_compiles_no_training(students, result):
    architectures, ids = students
    run = functools.partial(distil_population, SPACE, CONFIG, AUGMENTATION, online())
    pair = jax.tree.map(lambda leaf: leaf[:2], architectures)
    run(architectures, ids, pad_to=3)
    before = compilations()
    run(pair, ids[:2], pad_to=3)
    # but for what copies two ids to the device
    assert (compilations() - before).number <= 1


def test_replicates_differ_and_repeat(students, result):
    again = distil_population(SPACE, CONFIG, AUGMENTATION, online(), *students)
    np.testing.assert_array_equal(again.loss, result.loss)
    other = distil_population(SPACE, CONFIG, AUGMENTATION, online(), *students, replicate=1)
    assert not np.any(other.loss == result.loss)


def test_student_ids_key_random_init_alone(students):
    architectures, ids = students
    for kind, equal in (("copy_paste_first", True), ("random_init", False)):
        inherited = [
            inherit(SPACE, kind, Students(architectures, each), ORIGIN) for each in (ids, ids + 5)
        ]
        kernels = [variables["params"]["stem_conv"]["kernel"] for variables in inherited]
        assert np.array_equal(*kernels) == equal


def test_views_of_replicates():
    config = dataclasses.replace(CONFIG, sgd=dataclasses.replace(SGD, epochs=4), num_views=10)
    assert [view_of_epoch(config, 0, e) for e in range(4)] == [0, 1, 2, 3]
    assert [view_of_epoch(config, 2, e) for e in range(4)] == [8, 9, 0, 1]
    assert views_needed(config, 1) == 4
    assert views_needed(config, 3) == 10


def random_logits(seed):
    return jax.random.normal(jax.random.key(seed), (6, 5))


def test_loss_with_alpha_one_is_cross_entropy():
    labels = jnp.arange(6) % 5
    expected = optax.softmax_cross_entropy_with_integer_labels(random_logits(0), labels).mean()
    value = kd_loss(random_logits(0), random_logits(1), labels, alpha=1.0)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_loss_with_alpha_zero_is_least_at_the_teacher():
    labels, teacher = jnp.arange(6) % 5, random_logits(1)

    def loss(student):
        return kd_loss(student, teacher, labels, alpha=0.0)

    np.testing.assert_allclose(jax.grad(loss)(teacher), 0, atol=1e-5)
    assert loss(teacher) < loss(random_logits(0))


def test_bad_settings():
    with pytest.raises(UserError, match="num_views"):
        DistillConfig(num_views=0)
    with pytest.raises(UserError, match="temperature positive"):
        KDLoss(temperature=0.0)
    with pytest.raises(UserError, match="alpha must be"):
        KDLoss(alpha=1.5)
