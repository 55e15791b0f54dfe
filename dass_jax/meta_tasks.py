"""Tasks as arrays: what meta-learning trains on and selects by.

A task is a dataset with a teacher (DaSS, ICLR 2023). Tasks with fewer students than others are
padded, so that all stack into one array.

Dimension letters: T tasks, N students of a task, Q queries drawn from them, M measured students,
P images, C features of an image, F facts of a task.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from dass_jax.errors import UserError
from dass_jax.population import map_population
from dass_jax.predictor.inputs import PredictorInputs, StudentInputs


class Measured(NamedTuple):
    """Students of a single task with known accuracies, for adapting to it.

    Attributes:
      students: The students.
      accuracies: Their accuracies after distillation, fractions.
      valid: Which of them are real; the others influence nothing.
    """

    students: StudentInputs
    accuracies: Float[Array, "M"]
    valid: Bool[Array, "M"]


class TaskBatch(NamedTuple):
    """Tasks as arrays; without the leading axis T it is a single task.

    Attributes:
      students: The students, untrained, with an axis N.
      accuracies: Accuracies of the students after distillation, fractions in [0, 1].
      valid: Which students are real; the others pad the task and influence nothing.
      teacher: The teacher in the same terms as a student.
      teacher_accuracy: The teacher's accuracy, a fraction.
      chance: The accuracy of guessing, a fraction.
      images: The teacher's pooled features of some images; None if the predictor ignores them.
      facts: What foretells the level of the accuracies, see ``task_facts``; the predictor itself
        does not see it.
    """

    students: StudentInputs
    accuracies: Float[Array, "*T N"]
    valid: Bool[Array, "*T N"]
    teacher: StudentInputs
    teacher_accuracy: Float[Array, "*T"]
    chance: Float[Array, "*T"]
    images: Float[Array, "*T P C"] | None = None
    facts: Float[Array, "*T F"] | None = None

    def queries(self) -> PredictorInputs:
        """Returns the students of a single task as the predictor sees them."""
        return PredictorInputs(self.students, self.teacher, self.images)

    def support(self, measured: Measured | None = None) -> PredictorInputs:
        """Returns what a single task is adapted on: its teacher, then measured students, if any."""
        students = jax.tree.map(lambda leaf: leaf[None], self.teacher)
        if measured is not None:
            students = jax.tree.map(
                lambda *leaves: jnp.concatenate(leaves), students, measured.students
            )
        return PredictorInputs(students, self.teacher, self.images)


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


def take_queries(key: Key[Array, ""], task: TaskBatch, queries: int) -> TaskBatch:
    """Returns a single task cut down to queries, as ``draw_queries`` draws them.

    Args:
      key: Keys the draw.
      task: A task with N students, without the axis T.
      queries: How many to draw, at most.

    Returns:
      The same task with min(queries, N) students.
    """
    chosen = draw_queries(key, task.valid, queries)
    return task._replace(
        students=jax.tree.map(lambda leaf: leaf[chosen], task.students),
        accuracies=task.accuracies[chosen],
        valid=task.valid[chosen],
    )


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
    shape = tasks.valid.shape
    if len(shape) != 2 or 0 in shape:
        raise UserError(f"{purpose} tasks: valid has shape {shape}, not [T, N]")
    count, students = shape
    expected = {"accuracies": shape, "teacher_accuracy": (count,), "chance": (count,)}
    found = {name: getattr(tasks, name).shape for name in expected}
    for name, own in named_leaves(tasks.teacher, "teacher").items():
        expected[name], found[name] = (count, *own.shape[1:]), own.shape
    for name, own in named_leaves(tasks.students, "students").items():
        teacher = expected.get(name.replace("students", "teacher", 1))
        if teacher is None:
            raise UserError(f"{purpose} tasks: {name} is there, but not for the teacher")
        expected[name], found[name] = (count, students, *teacher[1:]), own.shape
    for name, wanted in expected.items():
        if found[name] != wanted:
            raise UserError(f"{purpose} tasks: {name} has shape {found[name]}, expected {wanted}")
    if not bool(jnp.all(jnp.any(tasks.valid, axis=1))):
        raise UserError(f"{purpose} tasks: a task has no valid student")


def named_leaves(tree: StudentInputs | TaskBatch, name: str = "") -> dict[str, Array]:
    """The arrays of a tree, in its order, by their names in it, such as ``.graph.nodes``.

    Args:
      tree: A tree of named tuples.
      name: What the tree is called, the beginning of each name.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {name + jax.tree_util.keystr(path): leaf for path, leaf in leaves}
