"""A whole training: epochs cut into calls of a second or so, evaluated now and then.

Dimension letters: K networks, N images, B batch.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from dass_jax import parallel, resnet
from dass_jax.evaluation import Split, evaluate
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

# Between two calls a run may be saved or stopped: often enough to exit within seconds of a signal,
# seldom enough that starting them costs nothing.
SECONDS_PER_CALL = 1.0


class Progress(NamedTuple):
    """Where a training stands; with it, it continues to the same numbers.

    Attributes:
      states: The population.
      losses: Sum of each network's losses since its epoch began, [K].
      step: Steps done since the run began.
    """

    states: TrainState
    losses: Float[Array, " K"]
    step: Int[Array, ""]


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
    return Progress(init_states(plan, variables), jnp.zeros(size), jnp.zeros((), jnp.int32))


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
      on_steps: Called within epochs, about every second; may raise to stop.

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
    first, within = divmod(int(progress.step), steps)
    pace = _Pace()
    for epoch in range(first, plan.sgd.epochs):
        calls = _run_epoch(plan, progress, architectures, epochs, epoch, within, steps, pace)
        for after_call in calls:
            progress = after_call
            if int(progress.step) < (epoch + 1) * steps:
                on_steps(progress)
        within, done = 0, epoch + 1
        loss = np.asarray(progress.losses) / steps
        progress = progress._replace(losses=jnp.zeros_like(progress.losses))
        accuracy = None
        if done % plan.sgd.eval_every == 0 or done == plan.sgd.epochs:
            accuracy = _accuracy(plan, progress, architectures, epochs.valid)
        yield EpochReport(done, progress, loss, accuracy)


class _Pace:
    """How many steps a call does; the first calls, which also compile, are short."""

    def __init__(self) -> None:
        self.steps = 1

    def adapt(self, steps: int, seconds: float) -> None:
        """Learns from a call that did so many steps in so many seconds."""
        fitting = round(SECONDS_PER_CALL * steps / max(seconds, 1e-6))
        self.steps = max(1, min(2 * self.steps, fitting))


def _run_epoch(
    plan: Plan,
    progress: Progress,
    architectures: Architecture,
    epochs: Epochs,
    epoch: int,
    start: int,
    steps: int,
    pace: _Pace,
) -> Iterator[Progress]:
    """The rest of an epoch, in calls of about ``SECONDS_PER_CALL``."""
    key = fold_in(epochs.order_key, epoch)
    order = epoch_order(key, len(epochs.train.labels), plan.sgd.batch_size)
    teacher, view = epochs.teacher(epoch), np.int32(epochs.view(epoch))
    teacher, order, view = parallel.place(plan.layout, (teacher, order, view))
    batches = Batches(epochs.train, teacher, order, epochs.view_key, view)
    states, losses, _ = progress
    while start < steps:
        stop = min(start + pace.steps, steps)
        begun = time.monotonic()
        bounds = parallel.place(plan.layout, (np.int32(start), np.int32(stop)))
        # an accidental copy from the host would cost more than a step
        with jax.transfer_guard_host_to_device("disallow"):
            states, losses = train_steps(plan, states, losses, architectures, batches, *bounds)
        jax.block_until_ready(losses)
        pace.adapt(stop - start, time.monotonic() - begun)
        start = stop
        yield Progress(states, losses, jnp.asarray(epoch * steps + start, jnp.int32))


def _accuracy(
    plan: Plan, progress: Progress, architectures: Architecture, valid: Split
) -> np.ndarray:
    variables = variables_of(progress.states)
    return np.asarray(
        evaluate(
            plan.space,
            variables,
            architectures,
            valid,
            layout=plan.layout,
            networks_per_step=plan.networks_per_step,
        )
    )
