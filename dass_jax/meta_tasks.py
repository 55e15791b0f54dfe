"""Tasks as arrays: what meta-learning trains on and selects by.

A task is a dataset with a teacher (DaSS, ICLR 2023). Tasks with fewer students than others are
padded, so that all stack into one array.

Dimension letters: T tasks, N students of a task, Q queries drawn from them, h w C activation map,
E length of an encoding.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from dass_jax.errors import UserError
from dass_jax.population import map_population
from dass_jax.predictor.model import PredictorInputs


class TaskBatch(NamedTuple):
    """Tasks as arrays; without the leading axis T it is a single task.

    Attributes:
      student_features: Activation maps of the untrained students on the noise image.
      encodings: Architectures of the students as numbers.
      accuracies: Accuracies of the students after distillation, fractions in [0, 1].
      valid: Which students are real; the others pad the task and influence nothing.
      teacher_features: The teacher's activation map on the noise image.
      teacher_encoding: The teacher's architecture as numbers.
      teacher_accuracy: The teacher's accuracy, a fraction.
    """

    student_features: Float[Array, "*T N h w C"]
    encodings: Float[Array, "*T N E"]
    accuracies: Float[Array, "*T N"]
    valid: Bool[Array, "*T N"]
    teacher_features: Float[Array, "*T h w C"]
    teacher_encoding: Float[Array, "*T E"]
    teacher_accuracy: Float[Array, "*T"]

    def students(self) -> PredictorInputs:
        """Returns the students of a single task as the predictor sees them."""
        return PredictorInputs(self.student_features, self.teacher_features, self.encodings)

    def support(self) -> PredictorInputs:
        """Returns the support of a single task: its teacher as the only student."""
        return PredictorInputs(
            self.teacher_features[None], self.teacher_features, self.teacher_encoding[None]
        )


def draw_queries(key: Key[Array, ""], valid: Bool[Array, "N"], queries: int) -> Int[Array, "Q"]:
    """Draws students without replacement, the valid ones first.

    Args:
      key: Keys the draw; a student's luck depends on the key and its index only, so padding does
        not change it.
      valid: Which students are real.
      queries: How many to draw, at most.

    Returns:
      Distinct indices, [min(queries, N)]. Invalid students fill up what the valid ones leave, and
      stay recognizable by ``valid``.
    """
    count = valid.shape[0]
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(count))
    luck = jnp.where(valid, jax.vmap(jax.random.uniform)(keys), -1.0)
    return jax.lax.top_k(luck, min(queries, count))[1]


def take_queries(key: Key[Array, ""], tasks: TaskBatch, queries: int) -> TaskBatch:
    """Returns tasks cut down to queries, which ``draw_queries`` draws for each task anew.

    Args:
      key: Keys the draws together with each task's index.
      tasks: Tasks with N students each.
      queries: How many to draw per task, at most.

    Returns:
      The same tasks with min(queries, N) students each.
    """

    def take(index: Int[Array, ""], task: TaskBatch) -> TaskBatch:
        chosen = draw_queries(jax.random.fold_in(key, index), task.valid, queries)
        return task._replace(
            student_features=task.student_features[chosen],
            encodings=task.encodings[chosen],
            accuracies=task.accuracies[chosen],
            valid=task.valid[chosen],
        )

    return jax.vmap(take)(jnp.arange(tasks.valid.shape[0]), tasks)


def map_tasks(
    function: Callable[[TaskBatch], Array], tasks: TaskBatch, task_batch: int | None
) -> Array:
    """Maps a function of a single task over tasks.

    Args:
      function: Takes a single task, without the axis T.
      tasks: Tasks to map over.
      task_batch: Tasks per vectorized step; the device's default if None, see ``population``.

    Returns:
      The results, stacked along a leading axis T.
    """
    return map_population(function, tasks, size=tasks.valid.shape[0], requested=task_batch)


def check_tasks(tasks: TaskBatch, purpose: str) -> None:
    """Checks that the arrays of a batch of tasks fit each other.

    Args:
      tasks: The batch, with the leading axis T.
      purpose: What the tasks are for, to be named in a message.

    Raises:
      UserError: A shape contradicts the others, there is no task, or one has no valid student.
    """
    shape = tasks.student_features.shape
    if len(shape) != 5 or 0 in shape:
        raise UserError(f"{purpose} tasks: student_features has shape {shape}, not [T, N, h, w, C]")
    count, students, *maps = shape
    length = tasks.encodings.shape[-1:]
    expected = {
        "encodings": (count, students, *length),
        "accuracies": (count, students),
        "valid": (count, students),
        "teacher_features": (count, *maps),
        "teacher_encoding": (count, *length),
        "teacher_accuracy": (count,),
    }
    for name, wanted in expected.items():
        found = getattr(tasks, name).shape
        if found != wanted:
            raise UserError(f"{purpose} tasks: {name} has shape {found}, expected {wanted}")
    if not bool(jnp.all(jnp.any(tasks.valid, axis=1))):
        raise UserError(f"{purpose} tasks: a task has no valid student")
