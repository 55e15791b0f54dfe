"""Adapts a predictor to a task from its teacher.

Teacher-guided adaptation (DaSS, ICLR 2023): a task's support set is one pair, the teacher as an
architecture with its known accuracy. One gradient step on it, with a learned rate for every
parameter, gives the task's own predictor. Measured students of the task may join the teacher.

Dimension letters: N students of a task, B students in general, M measured students.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dass_jax.meta_tasks import Measured, TaskBatch
from dass_jax.predictor.inputs import PredictorInputs
from dass_jax.predictor.model import AccuracyPredictor
from dass_jax.predictor.scale import to_accuracy, to_target

Params = Any  # A pytree of arrays: the predictor's "params" collection, or one rate for each.


class Learned(NamedTuple):
    """What meta-training learns: all that a prediction needs.

    Attributes:
      params: The predictor's parameters before adaptation.
      inner_lr: A learning rate for every entry of ``params``.
    """

    params: Params
    inner_lr: Params


def masked_mse(
    predictions: Float[Array, "B"], targets: Float[Array, "B"], valid: Bool[Array, "B"]
) -> Float[Array, ""]:
    """Returns the mean squared error over the valid entries, 0 where there are none."""
    errors = jnp.where(valid, predictions - targets, 0.0)
    return jnp.sum(errors**2) / jnp.maximum(jnp.sum(valid), 1)


def inner_adapt(
    predictor: AccuracyPredictor,
    learned: Learned,
    inputs: PredictorInputs,
    targets: Float[Array, "B"],
    valid: Bool[Array, "B"],
    *,
    steps: int = 1,
    first_order: bool = False,
) -> Params:
    """Takes inner steps ``params - inner_lr * gradient``, the teacher-guided adaptation of DaSS.

    Args:
      predictor: The network.
      learned: Parameters before adaptation, and a learning rate for every entry of them.
      inputs: The support, usually the teacher alone.
      targets: What the predictor should answer for it.
      valid: Which of the support counts.
      steps: How many steps.
      first_order: Whether an outer derivative takes the gradients as constants.

    Returns:
      Adapted parameters.
    """

    def loss(params: Params) -> Float[Array, ""]:
        return masked_mse(predictor.apply({"params": params}, inputs), targets, valid)

    params = learned.params
    for _ in range(steps):
        gradient = jax.grad(loss)(params)
        if first_order:
            gradient = jax.lax.stop_gradient(gradient)
        params = jax.tree.map(
            lambda value, rate, slope: value - rate * slope, params, learned.inner_lr, gradient
        )
    return params


def adapt_to_task(
    predictor: AccuracyPredictor,
    learned: Learned,
    task: TaskBatch,
    measured: Measured | None = None,
    *,
    steps: int = 1,
    first_order: bool = False,
) -> Params:
    """Adapts the parameters to a single task by its teacher, and by measured students if given.

    The task's own accuracies are not read.
    """
    accuracies, valid = task.teacher_accuracy[None], jnp.ones(1, bool)
    if measured is not None:
        accuracies = jnp.concatenate([accuracies, measured.accuracies])
        valid = jnp.concatenate([valid, measured.valid])
    targets = to_target(predictor.config.scale, accuracies, task.teacher_accuracy, task.chance)
    return inner_adapt(
        predictor, learned, task.support(measured), targets, valid,
        steps=steps, first_order=first_order,
    )  # fmt: skip


def predict_with(
    predictor: AccuracyPredictor, params: Params, task: TaskBatch
) -> Float[Array, "N"]:
    """Predicted accuracies of a single task's students, fractions, without adaptation."""
    answers = predictor.apply({"params": params}, task.queries())
    return to_accuracy(predictor.config.scale, answers, task.teacher_accuracy, task.chance)


def predict(
    predictor: AccuracyPredictor,
    learned: Learned,
    task: TaskBatch,
    measured: Measured | None = None,
    *,
    steps: int = 1,
) -> Float[Array, "N"]:
    """Predicts the accuracies of a single task's students after adaptation to it.

    Args:
      predictor: The network.
      learned: What meta-training learned.
      task: A single task, without the axis T.
      measured: Measured students that join the teacher in the support.
      steps: Inner steps.

    Returns:
      Predicted accuracies, [N], as fractions.
    """
    adapted = adapt_to_task(predictor, learned, task, measured, steps=steps)
    return predict_with(predictor, adapted, task)
