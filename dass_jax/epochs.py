"""A whole training: epochs cut into calls of a second or so, evaluated now and then.

Dimension letters: K networks, N images, B batch.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from dass_jax import parallel, resnet
from dass_jax.evaluation import Split, evaluate
from dass_jax.pace import Pace
from dass_jax.randomness import fold_in
from dass_jax.search_space import Architecture
from dass_jax.training import (
    Batches,
    Plan,
    Teacher,
    TrainState,
    init_states,
    steps_per_epoch,
    train_steps,
    variables_of,
)


class Progress(NamedTuple):
    """Where a training stands; with it, it continues to the same numbers.

    Attributes:
      states: The population.
      losses: Sum of each network's losses since its epoch began, [K].
      step: Steps done since the run began.
      epochs: Epochs that are over and evaluated; one whose steps are all done may not be yet.
    """

    states: TrainState
    losses: Float[Array, " K"]
    step: Int[Array, ""]
    epochs: Int[Array, ""]


class EpochReport(NamedTuple):
    """What is known after an epoch.

    Attributes:
      epoch: How many epochs are done.
      progress: Where the training stands; valid only until the next epoch begins, which takes its
        buffers.
      loss: Mean training loss of each network, [K].
      accuracy: Validation accuracy of each network, [K], or None between evaluations.
    """

    epoch: int
    progress: Progress
    loss: np.ndarray
    accuracy: np.ndarray | None


class Epochs(NamedTuple):
    """Where the epochs of a run take images, views and teacher logits from.

    Attributes:
      train: Training images.
      valid: Validation images.
      order_key: Key of the image orders; the epoch is folded in.
      view_key: Key of the views.
      view: Epoch -> number of its view.
      teacher: Epoch -> where that epoch's teacher logits come from.
    """

    train: Split
    valid: Split
    order_key: Key[Array, ""]
    view_key: Key[Array, ""]
    view: Callable[[int], int]
    teacher: Callable[[int], Teacher]


def begin(plan: Plan, variables: resnet.Variables) -> Progress:
    """The start of a run from a population's variables (leading K axis)."""
    size = jax.tree.leaves(variables)[0].shape[0]
    nothing = jnp.zeros((), jnp.int32)
    return Progress(init_states(plan, variables), jnp.zeros(size), nothing, nothing)


def epoch_order(key: Key[Array, ""], num_images: int, batch_size: int) -> Int[Array, "steps B"]:
    """A permutation of the images, cut into complete batches."""
    steps = steps_per_epoch(num_images, batch_size)
    return jax.random.permutation(key, num_images)[: steps * batch_size].reshape(steps, -1)


def run_epochs(
    plan: Plan,
    progress: Progress,
    architectures: Architecture,
    epochs: Epochs,
    on_steps: Callable[[Progress], None] = lambda progress: None,
) -> Iterator[EpochReport]:
    """Trains a population, one epoch per iteration.

    Args:
      plan: The static side.
      progress: From ``begin``, or from where another run stopped; its buffers are taken.
      architectures: K architectures.
      epochs: Images, views and teacher logits.
      on_steps: Called about every second, while an epoch is trained and evaluated; may raise to
        stop.

    Yields:
      A report after each epoch.
    """
    steps = steps_per_epoch(len(epochs.train.labels), plan.sgd.batch_size)
    layout = plan.layout
    architectures = parallel.place(layout, architectures, networks=True)
    on_devices = parallel.place(layout, (epochs.train, epochs.valid, epochs.view_key))
    epochs = epochs._replace(train=on_devices[0], valid=on_devices[1], view_key=on_devices[2])
    states, losses = parallel.place(layout, (progress.states, progress.losses), networks=True)
    progress = progress._replace(states=states, losses=losses)
    pace = Pace()
    for epoch in range(int(progress.epochs), plan.sgd.epochs):
        for after_call in _run_epoch(plan, progress, architectures, epochs, epoch, steps, pace):
            progress = after_call
            on_steps(progress)
        loss, done = np.asarray(progress.losses) / steps, epoch + 1
        accuracy = None
        if done % plan.sgd.eval_every == 0 or done == plan.sgd.epochs:
            between = functools.partial(on_steps, progress)
            accuracy = _accuracy(plan, progress, architectures, epochs.valid, between)
        progress = progress._replace(
            losses=jnp.zeros_like(progress.losses), epochs=jnp.asarray(done, jnp.int32)
        )
        yield EpochReport(done, progress, loss, accuracy)


def _run_epoch(
    plan: Plan,
    progress: Progress,
    architectures: Architecture,
    epochs: Epochs,
    epoch: int,
    steps: int,
    pace: Pace,
) -> Iterator[Progress]:
    """The rest of an epoch, in calls of about a second."""
    start = int(progress.step) - epoch * steps
    if start == steps:
        return
    key = fold_in(epochs.order_key, epoch)
    order = epoch_order(key, len(epochs.train.labels), plan.sgd.batch_size)
    teacher, view = epochs.teacher(epoch), np.int32(epochs.view(epoch))
    teacher, order, view = parallel.place(plan.layout, (teacher, order, view))
    batches = Batches(epochs.train, teacher, order, epochs.view_key, view)
    for begin, end in pace.calls(start, steps):
        bounds = parallel.place(plan.layout, (np.int32(begin), np.int32(end)))
        # an accidental copy from the host would cost more than a step
        with jax.transfer_guard_host_to_device("disallow"):
            states, losses = train_steps(
                plan, progress.states, progress.losses, architectures, batches, *bounds
            )
        jax.block_until_ready(losses)
        step = jnp.asarray(epoch * steps + end, jnp.int32)
        progress = Progress(states, losses, step, progress.epochs)
        yield progress


def _accuracy(
    plan: Plan,
    progress: Progress,
    architectures: Architecture,
    valid: Split,
    between: Callable[[], None],
) -> np.ndarray:
    accuracies = evaluate(
        plan.space, variables_of(progress.states), architectures, valid,
        layout=plan.layout, networks_per_step=plan.networks_per_step, on_call=between,
    )  # fmt: skip
    return np.asarray(accuracies)
