"""The official KD loss, and three official KD training steps of one student."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax import interop, remapping, resnet, training
from dass_jax.distillation import KDLoss, kd_loss
from dass_jax.search_space import ResNetSpace
from dass_jax.training import SGDConfig, TrainState

DATA = pathlib.Path(__file__).parent / "data"


def assert_close(ours, theirs, tolerance=1e-4):
    """Relative to the largest magnitude of the array."""
    theirs = np.asarray(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize("case", range(5))
def test_kd_loss_and_gradient(case):
    with np.load(DATA / "kd_loss.npz") as fixture:
        case = {k.split("/")[1]: v for k, v in fixture.items() if k.startswith(f"{case}/")}
    value, gradient = jax.value_and_grad(kd_loss)(
        jnp.asarray(case["student_logits"]),
        jnp.asarray(case["teacher_logits"]),
        jnp.asarray(case["labels"].astype(np.int32)),
        alpha=float(case["alpha"]),
        temperature=float(case["temperature"]),
    )
    assert_close(value, case["loss"])
    assert_close(gradient, case["grad_student_logits"])


def subtree(fixture, prefix):
    return {k.removeprefix(prefix): v for k, v in fixture.items() if k.startswith(prefix)}


def assert_trees_close(ours, theirs):
    paths = jax.tree_util.tree_leaves_with_path(theirs)
    for (path, expected), leaf in zip(paths, jax.tree.leaves(ours), strict=True):
        scale = max(float(np.abs(expected).max()), 1e-6)
        error = float(np.abs(np.asarray(leaf) - np.asarray(expected)).max()) / scale
        assert error < 1e-4, (jax.tree_util.keystr(path), error)


def test_three_training_steps():
    with np.load(DATA / "kd_training.npz") as loaded:
        fixture = dict(loaded)
    widths = tuple(int(w) for w in fixture["teacher/stage_widths"])
    space = ResNetSpace(widths, int(fixture["teacher/stage_depth"]))
    teacher = interop.import_resnet(subtree(fixture, "teacher/state/"), space)
    student = space.architecture(fixture["student/depths"], fixture["student/widths"])
    loss = KDLoss(float(fixture["alpha"]), float(fixture["temperature"]))
    config = SGDConfig(
        epochs=1, momentum=float(fixture["momentum"]), weight_decay=float(fixture["weight_decay"])
    )
    rates = jnp.asarray(fixture["learning_rates"], jnp.float32)
    optimizer = training.sgd_optimizer(config, lambda step: rates[step])

    @jax.jit
    def step(state, images, labels):
        logits = resnet.apply(space, teacher, space.full(), images, train=False)[0]
        return training.train_step(space, optimizer, loss, state, student, images, labels, logits)

    def gradient(state, images, labels):
        # from the step itself: v1 = g + weight_decay * p, so g is what one plain step subtracts
        plain = training.sgd_optimizer(
            SGDConfig(epochs=1, momentum=0.0, weight_decay=0.0), lambda step: 1.0
        )
        start = state._replace(opt_state=plain.init(state.params))
        logits = resnet.apply(space, teacher, space.full(), images, train=False)[0]
        after, _ = training.train_step(space, plain, loss, start, student, images, labels, logits)
        return jax.tree.map(jnp.subtract, state.params, after.params)

    with jax.default_matmul_precision("highest"):
        variables = remapping.remap(space, teacher, student, "copy_paste_first")
        params = variables["params"]
        state = TrainState(params, variables["batch_stats"], optimizer.init(params))
        images = jnp.asarray(fixture["images"]).transpose(0, 1, 3, 4, 2)
        labels = jnp.asarray(fixture["labels"], jnp.int32)
        first = jax.jit(gradient)(state, images[0], labels[0])
        losses = []
        for index in range(3):
            state, value = step(state, images[index], labels[index])
            losses.append(value)

    assert_close(np.asarray(losses), fixture["losses"])
    official = fixture_gradient(subtree(fixture, "student/first_gradient/"), space, student)
    assert_trees_close(resnet.cut(space, {"params": first}, student)["params"], official)
    after = interop.import_resnet(
        subtree(fixture, "student/state_after_3_steps/"), space, architecture=student
    )
    assert_trees_close(resnet.cut(space, training.variables_of(state), student), after)


def fixture_gradient(arrays, space, student):
    """Gradients have no running statistics: zeros stand in, so that the importer takes them."""
    for name in [n for n in arrays if ".bn" in n or n.startswith("bn")]:
        if name.endswith(".weight"):
            for statistic in ("running_mean", "running_var"):
                arrays[name.replace("weight", statistic)] = np.zeros_like(arrays[name])
    return interop.import_resnet(arrays, space, architecture=student)["params"]
