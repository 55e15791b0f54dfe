"""Tasks as the predictor sees them, made from teachers and measured students."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dass_jax import database as db
from dass_jax import functional
from dass_jax.data.tasks import TaskSpec
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.meta_tasks import TaskBatch
from dass_jax.randomness import Stream, task_key
from dass_jax.search_space import Architecture
from dass_jax.teacher import TeacherResult
from dass_jax.workdir import Workdir
from dass_jax.workflow import prepare
from dass_jax.workflow.recipes import student_recipe


def task_arrays(
    experiment: Experiment,
    spec: TaskSpec,
    teacher: TeacherResult,
    architectures: Architecture,
    student_ids: np.ndarray,
    accuracies: np.ndarray | None = None,
) -> TaskBatch:
    """One task as the predictor sees it, without the task axis.

    Args:
      experiment: The settings.
      spec: The task.
      teacher: Its teacher.
      architectures: N students.
      student_ids: Their stable ids.
      accuracies: Their measured accuracies, if known.

    Returns:
      Features, encodings and targets; zeros stand for unknown accuracies.
    """
    space, count = experiment.space, len(student_ids)
    image = functional.noise_image(experiment.image_size)
    variables = jax.tree.map(jnp.asarray, teacher.variables)
    features = functional.student_features(
        space, variables, architectures, student_ids, image,
        task_key(experiment.seed, spec.name, Stream.STUDENT_INIT), kind=experiment.kd.remapping,
    )  # fmt: skip
    targets = np.zeros(count) if accuracies is None else accuracies
    return TaskBatch(
        student_features=jnp.asarray(features),
        encodings=jax.vmap(space.encode)(jax.tree.map(jnp.asarray, architectures)),
        accuracies=jnp.asarray(targets, jnp.float32),
        valid=jnp.ones(count, bool),
        teacher_features=jnp.asarray(functional.teacher_features(space, variables, image)),
        teacher_encoding=space.encode(space.full()),
        teacher_accuracy=jnp.asarray(teacher.accuracy, jnp.float32),
    )


def complete_records(
    experiment: Experiment, workdir: Workdir, spec: TaskSpec
) -> list[db.StudentRecord]:
    """The labels of a task: its students of replicate 0, but for diverged ones.

    Raises:
      UserError: If students are missing or were made with other settings, or all diverged.
    """
    recipe = student_recipe(experiment, spec, experiment.kd)
    db.check_task(workdir.database, spec.name, recipe)
    records = db.read_records(workdir.database, spec.name)
    if missing := db.missing_students(records, 0, experiment.database_of(spec).students_per_task):
        raise UserError(
            f"{len(missing)} students of task {spec.name} are not measured yet: "
            "run bin/build_database.py"
        )
    labels = db.first_replicate(records)
    if not labels:
        raise UserError(f"all students of task {spec.name} diverged: lower kd.sgd.learning_rate")
    return labels


def labelled_task(experiment: Experiment, workdir: Workdir, spec: TaskSpec) -> TaskBatch:
    """A task of the database with its measured students.

    Raises:
      UserError: As ``complete_records``.
    """
    records = complete_records(experiment, workdir, spec)
    return task_arrays(
        experiment,
        spec,
        prepare.load_teacher(experiment, workdir, spec),
        db.architectures_of(experiment.space, records),
        db.column(records, "student_id").astype(np.int32),
        db.column(records, experiment.target),
    )


def stack_tasks(tasks: Sequence[TaskBatch]) -> TaskBatch:
    """Stacks tasks, padding those with fewer students."""
    most = max(len(task.valid) for task in tasks)

    def pad(task: TaskBatch) -> TaskBatch:
        missing = most - len(task.valid)
        per_student = ("student_features", "encodings", "accuracies", "valid")
        padded = {
            name: jnp.pad(
                getattr(task, name), ((0, missing), *[(0, 0)] * (getattr(task, name).ndim - 1))
            )
            for name in per_student
        }
        return task._replace(**padded)

    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(pad, tasks))
