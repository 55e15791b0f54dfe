"""Populations train as their members would alone, with one compilation, over every image."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax import epochs, evaluation, pace, parallel, resnet, training
from dass_jax.compilations import compilations
from dass_jax.data.augmentation import Augmentation, normalize
from dass_jax.errors import UserError
from dass_jax.evaluation import Split
from dass_jax.remapping import remap
from dass_jax.search_space import ResNetSpace, stack, unstack
from dass_jax.teacher import LabelSmoothingLoss
from dass_jax.training import Plan, SGDConfig

SPACE = ResNetSpace((4, 6), 2, strides=(1, 2))
CLASSES = 3
SGD = SGDConfig(epochs=2, batch_size=8, learning_rate=0.05)
LAYOUT = parallel.Layout((jax.devices()[0],))
PLAN = Plan(SPACE, SGD, LabelSmoothingLoss(), Augmentation(), 8, LAYOUT, networks_per_step=1)


def split(count=36, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count).astype(np.int32)
    images = rng.integers(0, 256, (count, 8, 8, 3)) // 2 + 60 * labels[:, None, None, None]
    return Split(jnp.asarray(images.astype(np.uint8)), jnp.asarray(labels))


@pytest.fixture(scope="module")
def population():
    teacher = resnet.init(SPACE, jax.random.key(0), CLASSES)
    architectures = jax.vmap(SPACE.sample)(jax.random.split(jax.random.key(5), 4))
    variables = jax.vmap(lambda a: remap(SPACE, teacher, a))(architectures)
    return architectures, variables


def one_epoch(plan, architectures, variables, data=None, epoch=0, cuts=()):
    data = data or split()
    states, losses, *_ = epochs.begin(plan, variables)
    order = epochs.epoch_order(jax.random.key(epoch), len(data.labels), plan.sgd.batch_size)
    cuts = [0, *cuts, len(order)]
    for start, stop in itertools.pairwise(cuts):
        batches = training.Batches(data, None, order, jax.random.key(9), jnp.asarray(epoch))
        states, losses = training.train_steps(
            plan, states, losses, architectures, batches, jnp.asarray(start), jnp.asarray(stop)
        )
    return states, losses / len(order)


@pytest.fixture(scope="module")
def looped(population):
    return one_epoch(PLAN, *population)


def assert_trees_close(ours, theirs, tolerance):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("k", [2, 4])
def test_networks_per_step_does_not_change_results(population, looped, k):
    plan = dataclasses.replace(PLAN, networks_per_step=k)
    states, losses = one_epoch(plan, *population)
    np.testing.assert_allclose(losses, looped[1], rtol=1e-5)
    assert_trees_close(states.params, looped[0].params, 2e-5)
    assert_trees_close(states.batch_stats, looped[0].batch_stats, 2e-5)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32(population, looped):
    plan = dataclasses.replace(PLAN, compute_dtype="bfloat16")
    states, losses = one_epoch(plan, *population)
    assert all(leaf.dtype != jnp.bfloat16 for leaf in jax.tree.leaves(states))
    np.testing.assert_allclose(losses, looped[1], rtol=0.03)
    # it has eight bits, so it cannot be the same
    assert not np.array_equal(losses, looped[1])


def test_neighbours_have_no_influence(population, looped):
    architectures, variables = population
    shuffled = jnp.asarray([2, 0, 3, 1])
    reordered = jax.tree.map(lambda leaf: leaf[shuffled], (architectures, variables))
    states, losses = one_epoch(PLAN, *reordered)
    np.testing.assert_array_equal(losses, looped[1][shuffled])
    assert_trees_close(
        states.params, jax.tree.map(lambda leaf: leaf[shuffled], looped[0].params), 0
    )


def test_one_compilation_serves_architectures_and_epochs(population):
    architectures, variables = population
    one_epoch(PLAN, architectures, variables)
    before = compilations().number
    one_epoch(PLAN, architectures, variables, epoch=1)
    others = jax.vmap(SPACE.sample)(jax.random.split(jax.random.key(6), 4))
    one_epoch(PLAN, others, variables, split(seed=1), epoch=2)
    assert compilations().number == before


def test_a_compilation_is_counted():
    before = compilations()
    jax.jit(lambda x: x + 1)(jnp.zeros(3))
    assert (compilations() - before).number >= 1
    assert compilations().seconds > before.seconds


def test_no_transfer_inside_an_epoch(population):
    architectures, variables = population
    data = split()
    states, losses, *_ = epochs.begin(PLAN, variables)
    order = epochs.epoch_order(jax.random.key(0), len(data.labels), 8)
    view, start, stop = map(jnp.asarray, (0, 0, 4))
    batches = training.Batches(data, None, order, jax.random.key(9), view)
    with jax.transfer_guard("disallow"):
        training.train_steps(PLAN, states, losses, architectures, batches, start, stop)


@pytest.mark.parametrize("cuts", [[1], [3], [1, 2, 3]])
def test_how_an_epoch_is_cut_changes_nothing(population, looped, cuts):
    before = compilations().number
    states, losses = one_epoch(PLAN, *population, cuts=cuts)
    assert compilations().number == before
    np.testing.assert_array_equal(losses, looped[1])
    assert_trees_close(states.params, looped[0].params, 0)


def test_parameters_outside_of_the_student_stay_zero(population, looped):
    architectures, _ = population
    for row, architecture in enumerate(unstack(architectures)):
        params = jax.tree.map(lambda leaf, row=row: leaf[row], looped[0].params)
        kernel = np.asarray(params["stage2_block0"]["conv1"]["kernel"])
        assert np.abs(kernel).max() > 0
        width = int(architecture.widths[1, 0])
        assert not kernel[..., width:].any()


@pytest.mark.parametrize("batch_size", [4, 7, 36, 1000])
def test_evaluation_counts_every_image(population, batch_size):
    architectures, variables = population
    data = split()
    accuracy = evaluation.evaluate(SPACE, variables, architectures, data, batch_size=batch_size)
    for row, architecture in enumerate(unstack(architectures)):
        student = jax.tree.map(lambda leaf, row=row: leaf[row], variables)
        logits, _ = resnet.apply(
            SPACE, student, jax.tree.map(jnp.asarray, architecture), normalize(data.images),
            train=False,
        )  # fmt: skip
        expected = np.mean(np.argmax(logits, -1) == np.asarray(data.labels))
        assert float(accuracy[row]) == pytest.approx(float(expected), abs=1e-7)


def test_how_an_evaluation_is_cut_changes_nothing(population, monkeypatch):
    architectures, variables = population
    evaluate = functools.partial(evaluation.evaluate, SPACE, variables, architectures, split())
    whole, calls = evaluate(), []
    monkeypatch.setattr(pace, "SECONDS_PER_CALL", 0.0)
    cut = evaluate(batch_size=5, on_call=lambda: calls.append(None))
    np.testing.assert_array_equal(cut, whole)
    assert len(calls) == -(-len(split().labels) // 5)


def test_an_evaluation_can_be_stopped(population):
    def stop():
        raise KeyboardInterrupt

    architectures, variables = population
    with pytest.raises(KeyboardInterrupt):
        evaluation.evaluate(SPACE, variables, architectures, split(), on_call=stop)


def test_epoch_order_is_a_permutation_without_the_incomplete_batch():
    order = np.asarray(epochs.epoch_order(jax.random.key(0), 36, 8))
    assert order.shape == (4, 8)
    assert len(np.unique(order)) == 32
    assert order.max() < 36


def test_too_few_images_for_a_batch():
    with pytest.raises(UserError, match="do not fill one batch of 64"):
        training.steps_per_epoch(63, 64)


def test_a_network_learns_and_the_rate_decays_to_zero():
    plan = dataclasses.replace(PLAN, sgd=dataclasses.replace(SGD, epochs=8), num_steps=32)
    data = split()
    full = stack([SPACE.full()])
    variables = jax.tree.map(
        lambda leaf: leaf[None], resnet.init(SPACE, jax.random.key(1), CLASSES)
    )
    setting = epochs.Epochs(
        data, data, jax.random.key(2), jax.random.key(3), lambda epoch: epoch, lambda epoch: None
    )
    begun = epochs.begin(plan, variables)
    reports = [
        (report.epoch, float(report.loss[0]), report.accuracy)
        for report in epochs.run_epochs(plan, begun, full, setting)
    ]
    assert [epoch for epoch, _, _ in reports] == list(range(1, 9))
    evaluated = [epoch for epoch, _, accuracy in reports if accuracy is not None]
    assert evaluated == [5, 8]
    assert reports[-1][1] < reports[0][1]
    assert reports[-1][2][0] > 0.6
