"""Choosing students by predicted accuracy (DaSS, ICLR 2023).

Dimension letters: P candidates of the pool, E members of the ensemble of predictors.
"""

import functools
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from dass_jax.adaptation import Learned, Params, adapt_to_task, predict_with
from dass_jax.meta_tasks import Measured, TaskBatch
from dass_jax.predictor.model import AccuracyPredictor
from dass_jax.search_space import Architecture, unstack
from dass_jax.uncertainty import Prediction


class Candidate(NamedTuple):
    """A scored student.

    Attributes:
      architecture: The student.
      student_id: Its place in the pool.
      prediction: Predicted accuracy after distillation, a fraction.
      half_width: Half the width of the interval around it.
      flops: Multiply-adds for one image.
      num_params: Trainable parameters.
    """

    architecture: Architecture
    student_id: int
    prediction: float
    half_width: float
    flops: int
    num_params: int


@functools.partial(jax.jit, static_argnums=(0, 3))
def _adapt(
    predictor: AccuracyPredictor,
    learned: Learned,
    task: TaskBatch,
    steps: int,
    measured: Measured | None,
) -> Params:
    """The parameters of every member, adapted to the task."""
    return jax.vmap(lambda one: adapt_to_task(predictor, one, task, measured, steps=steps))(learned)


@functools.partial(jax.jit, static_argnums=0)
def _predict(predictor: AccuracyPredictor, params: Params, task: TaskBatch) -> Float[Array, "E B"]:
    return jax.vmap(lambda one: predict_with(predictor, one, task))(params)


def score(
    predictor: AccuracyPredictor,
    learned: Learned,
    task: TaskBatch,
    measured: Measured | None = None,
    *,
    steps: int = 1,
    batch_size: int = 256,
) -> Float[np.ndarray, "E P"]:
    """Predicts accuracies after adaptation to the teacher pair, in compiled batches.

    Args:
      predictor: The network.
      learned: What meta-training learned, with a leading axis E of members.
      task: The candidates of one task; their accuracies are not read.
      measured: Measured students of the task that join the teacher in the adaptation.
      steps: Inner steps.
      batch_size: Candidates per compiled call; the last call is filled up.

    Returns:
      Every member's predicted accuracies, fractions, [E, P].
    """
    count = len(task.valid)
    batch_size = min(batch_size, count)

    def part(begin: int) -> TaskBatch:
        chosen = np.arange(begin, begin + batch_size) % count
        return task._replace(
            students=jax.tree.map(lambda leaf: leaf[chosen], task.students),
            accuracies=task.accuracies[chosen],
            valid=task.valid[chosen],
        )

    adapted = _adapt(predictor, learned, part(0), steps, measured)
    predictions = [
        np.asarray(_predict(predictor, adapted, part(begin)))
        for begin in range(0, count, batch_size)
    ]
    return np.concatenate(predictions, axis=1)[:, :count]


def top_candidates(
    pool: Architecture,
    predictions: Prediction,
    flops: np.ndarray,
    num_params: np.ndarray,
    count: int,
) -> list[Candidate]:
    """The best different candidates, best first; the earlier in the pool wins ties.

    Args:
      pool: P architectures.
      predictions: Their predicted accuracies.
      flops: Their multiply-adds, [P].
      num_params: Their parameters, [P].
      count: How many to return, at most.

    Returns:
      Up to ``count`` candidates without repetition.
    """
    architectures = unstack(pool)
    chosen: list[Candidate] = []
    seen: set[bytes] = set()
    for index in np.argsort(-predictions.mean, kind="stable"):
        architecture = architectures[index]
        identity = np.asarray(architecture.widths).tobytes()
        if identity in seen:
            continue
        seen.add(identity)
        chosen.append(
            Candidate(
                architecture,
                int(index),
                float(predictions.mean[index]),
                float(predictions.half_width[index]),
                int(flops[index]),
                int(num_params[index]),
            )
        )
        if len(chosen) == count:
            break
    return chosen
