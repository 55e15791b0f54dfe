"""Distils chosen students with several seeds and keeps the trained networks."""

import contextlib
import dataclasses
import math
import pathlib
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from dass_jax import checkpoints, cost, resnet
from dass_jax.console import (
    console,
    count,
    duration,
    percent,
    print_table,
)
from dass_jax.data.tasks import TaskSpec
from dass_jax.distillation import (
    Assignment,
    DistillConfig,
    PopulationResult,
    distil_population,
)
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.recipe import Recipe, digest, plain
from dass_jax.search_space import stack
from dass_jax.snapshots import Snapshots
from dass_jax.workdir import Workdir, write_json
from dass_jax.workflow import prepare
from dass_jax.workflow.assignments import make_assignment
from dass_jax.workflow.chosen_student import Student
from dass_jax.workflow.search_tables import reached
from dass_jax.workflow.training_bar import training_bar

Result = dict[str, Any]


def _path(
    experiment: Experiment,
    config: DistillConfig,
    folder: pathlib.Path,
    student: Student,
    replicate: int,
) -> pathlib.Path:
    """Where a distilled network is kept: another schedule makes another network."""
    # who inherits weights is the same student, however a search or a file numbers it
    number = student.student_id if config.remapping == "random_init" else 0
    schedule = plain(dataclasses.replace(config, networks_per_step=None))
    name = digest([experiment.space.to_json(student.architecture), number, schedule])
    return folder / name / f"replicate{replicate}"


def distil_students(
    experiment: Experiment,
    config: DistillConfig,
    recipe: Recipe,
    assignment: Assignment,
    students: Sequence[Student],
    replicate: int,
    folder: pathlib.Path,
    title: str,
) -> list[Result]:
    """Distils students as one population with one seed; done before, it only reads the results.

    Args:
      experiment: The settings.
      config: How to distil.
      recipe: What the networks depend on: the ``distilled_recipe`` of the task.
      assignment: The task's images and teacher.
      students: Whom to distil.
      replicate: The seed.
      folder: Where the trained networks are kept, each at its own size, with their results.
      title: What the progress bar says.

    Returns:
      For each student its validation and test accuracies, learning curve and seconds.

    Raises:
      UserError: If kept networks were made with other settings, of other images or another teacher.
    """
    paths = [_path(experiment, config, folder, student, replicate) for student in students]
    for path in filter(checkpoints.exists, paths):
        checkpoints.require_recipe(path, "the student", recipe)
    wanted = dict(zip(paths, students, strict=True))
    missing = {path: one for path, one in wanted.items() if not checkpoints.exists(path)}
    snapshots, together = _snapshots(recipe, folder, wanted, replicate), wanted
    # all are trained already if a run was killed while it kept them one by one
    if missing and not snapshots.exist():
        snapshots, together = _snapshots(recipe, folder, missing, replicate), missing
    if missing:
        trained = list(together.values())
        result = _distil(experiment, config, assignment, trained, replicate, snapshots, title)
        seconds = snapshots.seconds / len(together)
        for row, (path, student) in enumerate(together.items()):
            if path not in missing:
                continue
            metadata = _describe(experiment, student, result, row)
            metadata |= {"recipe": recipe, "seconds": seconds}
            masked = jax.tree.map(lambda leaf, row=row: leaf[row], result.variables)
            dense = resnet.cut(experiment.space, masked, student.architecture)
            checkpoints.save(path, 0, dense, metadata)
    # also what a run left that was killed when it had kept the last one
    snapshots.remove()
    with contextlib.suppress(OSError):  # of other students, there is more
        (folder / "unfinished").rmdir()
    return [checkpoints.read_metadata(path) for path in paths]


def _snapshots(
    recipe: Recipe, folder: pathlib.Path, students: Iterable[pathlib.Path], replicate: int
) -> Snapshots:
    """Where students in training are saved; a folder for each set, others may come in between."""
    names = [str(path.relative_to(folder)) for path in students]
    own = recipe | {"students": names, "replicate": replicate}
    return Snapshots(folder / "unfinished" / digest(own), "the unfinished students", own)


def _distil(
    experiment: Experiment,
    config: DistillConfig,
    assignment: Assignment,
    students: Sequence[Student],
    replicate: int,
    snapshots: Snapshots,
    title: str,
) -> PopulationResult:
    architectures = stack([student.architecture for student in students])
    ids = np.asarray([student.student_id for student in students], np.int32)
    num_images = len(assignment.train.labels)
    with training_bar(title, config.sgd, num_images, len(students)) as watchers:
        return distil_population(
            experiment.space, config, experiment.augmentation, assignment,
            architectures, ids, replicate, snapshots, watchers.on_epoch, watchers.on_steps,
            experiment.devices,
        )  # fmt: skip


def _describe(
    experiment: Experiment, student: Student, result: PopulationResult, row: int
) -> Result:
    loss = float(result.loss[row])
    return {
        "architecture": experiment.space.to_json(student.architecture),
        "student_id": student.student_id,
        "initial_accuracy": float(result.initial[row]),
        "final_accuracy": float(result.final[row]),
        "best_accuracy": float(result.best[row]),
        "test_accuracy": float(result.test[row]),
        "curve": [
            [int(epoch), float(accuracy)]
            for epoch, accuracy in zip(result.epochs, result.curve[:, row], strict=True)
        ],
        "loss": loss if math.isfinite(loss) else None,
        "diverged": not math.isfinite(loss),
    }


def distil_winner(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    assignment: Assignment,
    student: Student,
) -> list[Result]:
    """Distils one student with every seed; finished seeds are not repeated."""
    recipe = prepare.distilled_recipe(experiment, workdir, spec, experiment.final)
    results: list[Result] = []
    for replicate in range(experiment.search.replicates):
        title = f"distilling for {spec.name}, seed {replicate}"
        results += distil_students(
            experiment, experiment.final, recipe, assignment, [student], replicate,
            workdir.student(spec.name), title,
        )  # fmt: skip
    return results


def kept_student(
    experiment: Experiment, workdir: Workdir, spec: TaskSpec, student: Student, replicate: int
) -> tuple[pathlib.Path, Result] | None:
    """Where the network of one seed is kept, with its results; None if it is not distilled yet.

    Raises:
      UserError: If it was made with other settings, of other images or another teacher.
    """
    path = _path(experiment, experiment.final, workdir.student(spec.name), student, replicate)
    if not checkpoints.exists(path):
        return None
    recipe = prepare.distilled_recipe(experiment, workdir, spec, experiment.final)
    return path, checkpoints.require_recipe(path, "the student", recipe)


def best_on_validation(results: Sequence[Result]) -> int:
    """The seed whose network is the best on the validation images; its test accuracy has no say."""
    accuracies = [-1 if result["diverged"] else result["final_accuracy"] for result in results]
    return int(np.argmax(accuracies))


def run_distillation(
    experiment: Experiment, workdir: Workdir, spec: TaskSpec, student: Student
) -> None:
    """Distils one student with every seed, saves the networks and prints a summary.

    Args:
      experiment: The settings.
      workdir: Where the teacher lies and the students go.
      spec: The task.
      student: The student.
    """
    replicates = range(experiment.search.replicates)
    found = [kept_student(experiment, workdir, spec, student, one) for one in replicates]
    kept = [result for _, result in filter(None, found)]
    if len(kept) == len(replicates):
        console.print(f"student of {spec.name}: done before")
        results = kept
    else:
        images = prepare.load_images(experiment, spec)
        teacher = prepare.ensure_teacher(experiment, workdir, spec, images)
        assignment = make_assignment(
            experiment, workdir, spec, images, teacher, experiment.final, len(replicates)
        )
        results = distil_winner(experiment, workdir, spec, assignment, student)
    _summarise(experiment, workdir, spec, student, results)


def _summarise(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    student: Student,
    results: list[Result],
) -> None:
    """Writes the summary of a student's seeds and prints it."""
    home = workdir.student(spec.name)
    folder = _path(experiment, experiment.final, home, student, 0).parent
    space = experiment.space
    classes = resnet.num_classes(prepare.load_teacher(experiment, workdir, spec).variables)
    flops = cost.num_flops(
        space, student.architecture, image_size=experiment.image_size, num_classes=classes
    )
    params = cost.num_params(space, student.architecture, num_classes=classes)
    teacher_test = prepare.teacher_test_accuracy(workdir, spec)
    best = best_on_validation(results)
    tests = [result["test_accuracy"] for result in results if not result["diverged"]]
    if not tests:
        raise UserError(
            f"all seeds of the student of {spec.name} diverged: lower the learning_rate"
        )
    summary = {
        "task": spec.name,
        "flops": int(flops),
        "num_params": int(params),
        "teacher_test_accuracy": teacher_test,
        "test_accuracy": {
            "mean": statistics.mean(tests),
            "deviation": statistics.stdev(tests) if len(tests) > 1 else None,
        },
        "diverged": len(results) - len(tests),
        "best_on_validation": best,
        "replicates": results,
    }
    write_json(folder / "summary.json", summary)
    rows = [
        ["depths", results[0]["architecture"]["depths"]],
        ["widths", results[0]["architecture"]["widths"]],
        ["multiply-adds", count(int(flops))],
        ["parameters", count(int(params))],
        ["teacher's test accuracy", percent(teacher_test)],
        ["test accuracy", reached(results)],
        ["best on validation", f"seed {best}, {percent(results[best]['final_accuracy'])} there"],
        ["time", duration(sum(result["seconds"] for result in results))],
        ["networks", str(folder)],
    ]
    print_table(f"Student of {spec.name}, {len(results)} seed(s)", ["", ""], rows)
