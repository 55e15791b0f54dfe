"""Distils sampled students of every task and records how accurate they became."""

import math
import shutil
import time
from typing import Any

import jax
import numpy as np

from dass_jax import cost, resnet
from dass_jax import database as db
from dass_jax.compilations import compilations
from dass_jax.console import console, duration
from dass_jax.data.tasks import TaskSpec
from dass_jax.distillation import Assignment, PopulationResult, distil_population
from dass_jax.experiment import Experiment
from dass_jax.recipe import digest
from dass_jax.search_space import Architecture
from dass_jax.snapshots import Snapshots
from dass_jax.teacher import TeacherResult
from dass_jax.training import steps_per_epoch
from dass_jax.workdir import Workdir
from dass_jax.workflow import prepare
from dass_jax.workflow.assignments import make_assignment
from dass_jax.workflow.database_tables import print_summary
from dass_jax.workflow.measured_tasks import read_measured_tasks
from dass_jax.workflow.plan import has_work, missing_students, print_plan
from dass_jax.workflow.recipes import student_recipe
from dass_jax.workflow.students import batches, population_size, sample_students
from dass_jax.workflow.training_bar import training_bar


def to_records(
    experiment: Experiment,
    assignment: Assignment,
    architectures: Architecture,
    student_ids: np.ndarray,
    replicate: int,
    result: PopulationResult,
    seconds: float,
) -> list[db.StudentRecord]:
    """Records of distilled students."""
    space, num_classes = experiment.space, resnet.num_classes(assignment.variables)
    size = experiment.image_size
    flops = cost.num_flops(space, architectures, image_size=size, num_classes=num_classes)
    params = cost.num_params(space, architectures, num_classes=num_classes)
    records = []
    for row, student_id in enumerate(student_ids):
        student = jax.tree.map(lambda leaf, row=row: leaf[row], architectures)
        records.append(
            db.StudentRecord(
                task=assignment.name,
                student_id=int(student_id),
                replicate=replicate,
                **space.to_json(student),
                flops=int(flops[row]),
                num_params=int(params[row]),
                initial_accuracy=float(result.initial[row]),
                final_accuracy=float(result.final[row]),
                best_accuracy=float(result.best[row]),
                test_accuracy=float(result.test[row]),
                curve_epochs=[int(epoch) for epoch in result.epochs],
                curve=[float(accuracy) for accuracy in result.curve[:, row]],
                loss=float(result.loss[row]),
                diverged=not math.isfinite(float(result.loss[row])),
                seconds=seconds / len(student_ids),
            )
        )
    return records


def _distil_batch(
    experiment: Experiment,
    spec: TaskSpec,
    assignment: Assignment,
    ids: np.ndarray,
    replicate: int,
    snapshots: Snapshots,
) -> list[db.StudentRecord]:
    """Distils one batch of students; a smaller one is filled up to spare a compilation."""
    settings = experiment.database_of(spec)
    students = jax.tree.map(lambda leaf: leaf[ids], sample_students(experiment, spec))
    title = f"students {spec.name} {ids[0]}-{ids[-1]}"
    if settings.replicates > 1:
        title += f" replicate {replicate}"
    before = compilations()
    sgd, num_images = experiment.kd.sgd, len(assignment.train.labels)
    with training_bar(title, sgd, num_images, len(ids)) as watchers:
        result = distil_population(
            experiment.space, experiment.kd, experiment.augmentation, assignment, students, ids,
            replicate, snapshots, watchers.on_epoch, watchers.on_steps, experiment.devices,
            pad_to=population_size(settings),
        )  # fmt: skip
    # of all runs that it took
    seconds = snapshots.seconds
    images = steps_per_epoch(num_images, sgd.batch_size) * sgd.batch_size * sgd.epochs * len(ids)
    compiled = compilations() - before
    console.print(
        f"  {images / seconds:.0f} student-images/s; {compiled.number} compilations in "
        f"{compiled.seconds:.0f} s included"
    )
    return to_records(experiment, assignment, students, ids, replicate, result, seconds)


def _facts(images: prepare.TaskImages, spec: TaskSpec, teacher: TeacherResult) -> dict[str, Any]:
    """What the manifest says of a task besides its recipe."""
    sizes = {name: len(getattr(images, name).labels) for name in ("train", "valid", "test")}
    return {
        "role": spec.role,
        "num_classes": images.num_classes,
        "images": sizes,
        "teacher_accuracy": teacher.accuracy,
    }


def _build_task(experiment: Experiment, workdir: Workdir, spec: TaskSpec) -> None:
    """Measures the students of one task that are not measured yet."""
    if spec.role == "pretrain" and not prepare.has_teacher(workdir, spec):
        images = prepare.load_images(experiment, spec)
        prepare.ensure_teacher(experiment, workdir, spec, images)
    if spec not in experiment.student_tasks:
        return
    recipe = student_recipe(experiment, spec, experiment.kd)
    db.open_task(workdir.database, spec.name, recipe, {"role": spec.role})
    settings = experiment.database_of(spec)
    missing = missing_students(experiment, workdir, spec)
    unfinished = workdir.database / "unfinished" / spec.name
    if not any(missing):
        shutil.rmtree(unfinished, ignore_errors=True)
        console.print(f"students {spec.name}: done before")
        origin = prepare.saved_origin(workdir, spec)
        if note := db.foreign(workdir.database, {spec.name: origin}):
            console.print(note)
        return
    images = prepare.load_images(experiment, spec)
    teacher = prepare.ensure_teacher(experiment, workdir, spec, images)
    origin = prepare.origin_of(images, teacher)
    db.open_task(workdir.database, spec.name, recipe, _facts(images, spec, teacher), origin)
    assignment = make_assignment(
        experiment, workdir, spec, images, teacher, experiment.kd, settings.replicates
    )
    for replicate, student_ids in enumerate(missing):
        for ids in batches(student_ids, population_size(settings)):
            own = recipe | origin | {"student_ids": ids.tolist(), "replicate": replicate}
            # a folder for each batch: other tasks, or other settings, may come in between
            folder = unfinished / digest(own)
            snapshots = Snapshots(folder, "the unfinished students", own)
            records = _distil_batch(experiment, spec, assignment, ids, replicate, snapshots)
            path = db.part_path(workdir.database, spec.name, replicate, ids.tolist())
            db.write_part(path, records)
            snapshots.remove()
    # those of other settings, too, and of a process that was killed between the lines above
    shutil.rmtree(unfinished, ignore_errors=True)


def build_database(experiment: Experiment, workdir: Workdir, *, dry_run: bool = False) -> None:
    """Measures all students of all tasks, going on where a stopped run was.

    Teachers that are missing are trained first. Finished batches of students are kept whatever
    happens. More tasks, students or replicates may be added to a finished database.

    Args:
      experiment: The settings.
      workdir: Where teachers, logits and the database lie.
      dry_run: Whether to say what it will take, and stop there.

    Raises:
      UserError: If a task's images cannot be used, or the folder holds students of the same task
        that were made with other settings.
    """
    for spec in experiment.tasks:
        # a mistake in the last task shows before hours of training, and is not recorded
        begun = (workdir.database / "records" / spec.name).exists()
        if not begun and has_work(experiment, workdir, spec):
            prepare.check_task(experiment, spec)
    plans = print_plan(experiment, workdir)
    if dry_run:
        return
    started, done = time.monotonic(), 0.0
    work = {plan.spec.name: plan.teacher_work + plan.student_work for plan in plans}
    for spec in experiment.tasks:
        _build_task(experiment, workdir, spec)
        done += work.pop(spec.name, 0.0)
        if done and any(work.values()):
            left = sum(work.values()) * (time.monotonic() - started) / done
            console.print(f"  about {duration(left)} left for the other tasks")
    names = {spec.name for spec in experiment.student_tasks}
    if names:
        measured = read_measured_tasks(workdir.database)
        print_summary([task for task in measured if task.name in names])
