"""Measured students of source tasks, as a predictor learns from them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dass_jax import database as db
from dass_jax.console import console, progress_bar
from dass_jax.data.tasks import TaskSpec
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.meta_tasks import TaskBatch
from dass_jax.workdir import Workdir
from dass_jax.workflow import prepare
from dass_jax.workflow.kept_inputs import KeptInputs, keep_inputs, read_inputs
from dass_jax.workflow.recipes import inputs_recipe, student_recipe
from dass_jax.workflow.task_arrays import embed_students, example_task, task_context, task_of


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


def labels_of(
    experiment: Experiment, workdir: Workdir, spec: TaskSpec, records: Sequence[db.StudentRecord]
) -> Float[np.ndarray, " N"]:
    """The accuracies that a predictor learns of a source task's students, fractions.

    Raises:
      UserError: If both splits shall count, and the database does not tell their sizes.
    """
    if experiment.target != "pooled_accuracy":
        return db.column(records, experiment.target).astype(float)
    sizes = db.read_facts(workdir.database, spec.name).get("images")
    if not isinstance(sizes, dict) or not {"valid", "test"} <= set(sizes):
        raise UserError(
            f"{workdir.database} does not tell how many images task {spec.name} has: use the "
            "target final_accuracy"
        )
    accuracies = [db.column(records, name) for name in ("final_accuracy", "test_accuracy")]
    return np.average(accuracies, axis=0, weights=[sizes["valid"], sizes["test"]])


def _unlabelled(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    records: Sequence[db.StudentRecord],
    template: TaskBatch,
) -> KeptInputs:
    """What a predictor sees of a task; kept from an earlier run, or made and kept.

    What is kept serves without the teacher and without images.
    """
    recipe = inputs_recipe(experiment, spec, records)
    folder, here = workdir.inputs(spec.name), prepare.saved_origin(workdir, spec)
    kept = read_inputs(folder, recipe, template)
    if kept is not None and here in (None, kept.origin):
        return kept
    images = prepare.load_images(experiment, spec)
    number, wanted = len(images.train.labels), experiment.predictor.probe_images
    if "D" in experiment.predictor.inputs and number < wanted:
        raise UserError(
            f"the predictor's input D takes equally many images of every source task, and "
            f"{spec.name} has {number} of {wanted}: lower predictor.probe_images"
        )
    teacher = prepare.load_teacher(experiment, workdir, spec, images)
    context = task_context(experiment, spec, images, teacher)
    ids = db.column(records, "student_id").astype(np.int32)
    architectures = db.architectures_of(experiment.space, records)
    task = task_of(context, embed_students(experiment, context, architectures, ids))
    keep_inputs(folder, recipe, task, here)
    return KeptInputs(task, here)


def labelled_tasks(
    experiment: Experiment, workdir: Workdir, specs: Sequence[TaskSpec]
) -> TaskBatch:
    """Tasks of the database with their measured students.

    Raises:
      UserError: As ``complete_records``; or a task has no teacher.
    """
    tasks, origins, template = [], {}, example_task(experiment)
    with progress_bar("looking at students of source tasks", len(specs)) as advance:
        for spec in specs:
            records = complete_records(experiment, workdir, spec)
            labels = labels_of(experiment, workdir, spec, records)
            task, origins[spec.name] = _unlabelled(experiment, workdir, spec, records, template)
            tasks.append(task._replace(accuracies=jnp.asarray(labels, jnp.float32)))
            advance(spec.name)
    if note := db.foreign(workdir.database, origins):
        console.print(note)
    return stack_tasks(tasks)


def stack_tasks(tasks: Sequence[TaskBatch]) -> TaskBatch:
    """Stacks tasks, padding those with fewer students."""
    most = max(len(task.valid) for task in tasks)

    def pad(task: TaskBatch) -> TaskBatch:
        missing = most - len(task.valid)
        students, accuracies, valid = jax.tree.map(
            lambda leaf: jnp.pad(leaf, ((0, missing), *[(0, 0)] * (leaf.ndim - 1))),
            (task.students, task.accuracies, task.valid),
        )
        return task._replace(students=students, accuracies=accuracies, valid=valid)

    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(pad, tasks))
