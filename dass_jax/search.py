"""Choosing students by predicted accuracy (DaSS, ICLR 2023).

Dimension letters: P candidates of the pool.
"""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from dass_jax.meta_learning import inner_adapt, predict_with
from dass_jax.meta_tasks import TaskBatch
from dass_jax.predictor.model import PredictorInputs
from dass_jax.search_space import Architecture, unstack


class Candidate(NamedTuple):
    """A scored student.

    Attributes:
      architecture: The student.
      student_id: Its place in the pool.
      prediction: Predicted accuracy after distillation, a fraction.
      flops: Multiply-adds for one image.
      num_params: Trainable parameters.
    """

    architecture: Architecture
    student_id: int
    prediction: float
    flops: int
    num_params: int


_adapt = jax.jit(inner_adapt, static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def _predict(module: nn.Module, params: Any, inputs: PredictorInputs) -> Float[Array, " B"]:
    return predict_with(module, params, inputs)


def score(
    module: nn.Module, params: Any, inner_lr: Any, task: TaskBatch, *, batch_size: int = 256
) -> Float[np.ndarray, " P"]:
    """Predicts accuracies after one adaptation step on the teacher pair, in compiled batches.

    Args:
      module: The predictor.
      params: Its meta-trained parameters.
      inner_lr: Its learned inner learning rates.
      task: The candidates of one task; their accuracies are not read.
      batch_size: Candidates per compiled call; the last call is filled up.

    Returns:
      Predicted accuracies, fractions, [P].
    """
    adapted = _adapt(module, params, inner_lr, task.support(), task.teacher_accuracy[None])
    students, count = task.students(), len(task.valid)
    batch_size = min(batch_size, count)
    predictions = []
    for begin in range(0, count, batch_size):
        chosen = np.arange(begin, begin + batch_size) % count
        inputs = students._replace(
            student_features=students.student_features[chosen], encoding=students.encoding[chosen]
        )
        predictions.append(np.asarray(_predict(module, adapted, inputs)))
    return np.concatenate(predictions)[:count]


def top_candidates(
    pool: Architecture,
    predictions: np.ndarray,
    flops: np.ndarray,
    num_params: np.ndarray,
    count: int,
) -> list[Candidate]:
    """The best different candidates, best first; the earlier in the pool wins ties.

    Args:
      pool: P architectures.
      predictions: Their predicted accuracies, [P].
      flops: Their multiply-adds, [P].
      num_params: Their parameters, [P].
      count: How many to return, at most.

    Returns:
      Up to ``count`` candidates without repetition.
    """
    architectures = unstack(pool)
    chosen: list[Candidate] = []
    seen: set[bytes] = set()
    for index in np.argsort(-predictions, kind="stable"):
        architecture = architectures[index]
        identity = np.asarray(architecture.widths).tobytes()
        if identity in seen:
            continue
        seen.add(identity)
        chosen.append(
            Candidate(
                architecture,
                int(index),
                float(predictions[index]),
                int(flops[index]),
                int(num_params[index]),
            )
        )
        if len(chosen) == count:
            break
    return chosen
