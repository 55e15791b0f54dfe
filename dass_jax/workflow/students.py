"""Which students the database measures, and in which batches."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from dass_jax.data.tasks import TaskSpec
from dass_jax.experiment import DatabaseConfig, Experiment
from dass_jax.randomness import Stream, fold_in, task_key
from dass_jax.search_space import Architecture


def sample_students(experiment: Experiment, spec: TaskSpec) -> Architecture:
    """The students that the database measures for a task; student i depends on i alone."""
    key = task_key(experiment.seed, spec.name, Stream.ARCHITECTURES)
    ids = jnp.arange(experiment.database_of(spec).students_per_task)
    return jax.vmap(lambda i: experiment.space.sample(fold_in(key, i)))(ids)


def population_size(settings: DatabaseConfig) -> int:
    """K: how many students every batch is filled up to, the largest batch of a whole task.

    Those that are measured already count, too, so that nothing depends on where a run was stopped.
    """
    everyone = list(range(settings.students_per_task))
    return len(batches(everyone, settings.students_per_batch)[0])


def batches(student_ids: list[int], at_most: int) -> list[np.ndarray]:
    """Ids of the students that are trained together, batches of nearly equal size."""
    number = math.ceil(len(student_ids) / at_most)
    return np.array_split(np.asarray(student_ids, np.int32), number) if number else []
