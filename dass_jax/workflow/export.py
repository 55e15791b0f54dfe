"""Exports a distilled student, by default the best of its seeds on the validation images."""

import dataclasses
import pathlib
from collections.abc import Collection

from dass_jax import cost
from dass_jax.console import console, count, percent, print_table
from dass_jax.data.tasks import TaskSpec, load_task
from dass_jax.deployment.exporting import CHECKED_IMAGES, DEFAULT_FORMATS, export_student
from dass_jax.deployment.kept import read_kept
from dass_jax.deployment.student_config import TeacherSummary
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.workdir import Workdir
from dass_jax.workflow import distill, prepare
from dass_jax.workflow.chosen_student import Student, chosen_student


def run_export(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    student: Student | None = None,
    *,
    replicate: int | None = None,
    formats: Collection[str] = DEFAULT_FORMATS,
    output: pathlib.Path | None = None,
    overwrite: bool = False,
) -> pathlib.Path:
    """Writes a distilled student into one folder and prints what is there.

    Args:
      experiment: The settings.
      workdir: Where the distilled networks lie.
      spec: The task.
      student: The student; the choice of the task's search if None.
      replicate: The seed whose network is exported; the best on the validation images if None.
      formats: Names of formats.
      output: The folder; that of the work directory if None.
      overwrite: Whether it may hold another exported student before.

    Returns:
      The folder.

    Raises:
      UserError: If the student is not distilled yet, or cannot be exported there.
    """
    student = student or chosen_student(experiment, workdir, spec)
    output = output or workdir.export(spec.name)
    chosen, folder = _choose(experiment, workdir, spec, student, replicate)
    config, variables = read_kept(folder)
    config = dataclasses.replace(
        config,
        replicate=chosen,
        class_names=_class_names(experiment, workdir, spec),
        teacher=_teacher(experiment, workdir, spec, config.num_classes),
    )
    console.print(f"exporting the student of {spec.name}: {', '.join(formats)}")
    exported = export_student(output, config, variables, formats, overwrite=overwrite)
    why = "the best on validation" if replicate is None else "as asked"
    print_table(
        f"Student of {spec.name}, seed {chosen} ({why}): {percent(config.valid_accuracy)} on "
        f"validation, {percent(config.test_accuracy)} on test images",
        ["format", "file", "size", f"logits on {CHECKED_IMAGES} images differ by at most"],
        [
            [one.format, one.file, f"{count(one.num_bytes)}B", f"{one.difference:.1e}"]
            for one in exported
        ],
        text_columns=2,
    )
    console.print(f"Files: {output}")
    return output


def _choose(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    student: Student,
    replicate: int | None,
) -> tuple[int, pathlib.Path]:
    """The seed to export and where its network is kept."""
    distilled = range(experiment.search.replicates)
    if replicate is not None and replicate not in distilled:
        more = max(replicate, len(distilled)) + 1
        raise UserError(
            f"there is no seed {replicate}: give a number from 0 to {len(distilled) - 1}, or "
            f"distil and export with --config.search.replicates={more}"
        )
    seeds = distilled if replicate is None else [replicate]
    folders, results = [], []
    for seed in seeds:
        kept = distill.kept_student(experiment, workdir, spec, student, seed)
        if kept is None:
            raise UserError(
                f"this student of {spec.name} is not distilled with seed {seed} yet: run "
                "bin/distill.py with the same flags"
            )
        folders.append(kept[0])
        results.append(kept[1])
    best = distill.best_on_validation(results)
    if results[best]["diverged"]:
        raise UserError(f"the student of {spec.name} diverged: distil it at a lower learning_rate")
    return seeds[best], folders[best]


def _class_names(
    experiment: Experiment, workdir: Workdir, spec: TaskSpec
) -> tuple[str, ...] | None:
    """The names of the task's classes, if the images that the teacher saw are at hand."""
    try:
        data = load_task(spec, experiment.image_size)
        prepare.load_teacher(experiment, workdir, spec, prepare.on_device(data))
    except UserError as error:
        console.print(f"Note: the names of the classes are left out: {error}.")
        return None
    return data.class_names


def _teacher(
    experiment: Experiment, workdir: Workdir, spec: TaskSpec, num_classes: int
) -> TeacherSummary:
    space, full = experiment.space, experiment.space.full()
    sizes = {"image_size": experiment.image_size, "num_classes": num_classes}
    return TeacherSummary(
        stage_widths=space.stage_widths,
        stage_depth=space.stage_depth,
        valid_accuracy=prepare.load_teacher(experiment, workdir, spec).accuracy,
        accuracy_given=spec.teacher_accuracy is not None,
        test_accuracy=prepare.teacher_test_accuracy(workdir, spec),
        flops=int(cost.num_flops(space, full, **sizes)),
        num_params=int(cost.num_params(space, full, num_classes=num_classes)),
    )
