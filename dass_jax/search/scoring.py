"""Compiled predictions of an ensemble for the students of one task (DaSS, ICLR 2023).

Dimension letters: B students of a batch, E members of the ensemble of predictors.
"""

import functools

import jax
from jaxtyping import Array, Float

from dass_jax.adaptation import Learned, Params, adapt_to_task, predict_with
from dass_jax.meta_tasks import Measured, TaskBatch
from dass_jax.predictor.model import AccuracyPredictor


@functools.partial(jax.jit, static_argnums=(0, 3))
def adapt_members(
    predictor: AccuracyPredictor,
    learned: Learned,
    task: TaskBatch,
    steps: int,
    measured: Measured | None = None,
) -> Params:
    """The parameters of every member, adapted to a task.

    Args:
      predictor: The network.
      learned: What meta-training learned, with a leading axis E.
      task: A single task, of which only the teacher is read.
      steps: Inner steps.
      measured: Measured students of the task that join the teacher.

    Returns:
      Adapted parameters with a leading axis E.
    """
    return jax.vmap(lambda one: adapt_to_task(predictor, one, task, measured, steps=steps))(learned)


@functools.partial(jax.jit, static_argnums=0)
def predict_members(
    predictor: AccuracyPredictor, params: Params, task: TaskBatch
) -> Float[Array, "E B"]:
    """Every member's predicted accuracies, fractions, of a single task's students.

    Args:
      predictor: The network.
      params: From ``adapt_members``.
      task: A single task; its accuracies are not read.
    """
    return jax.vmap(lambda one: predict_with(predictor, one, task))(params)
