"""Distils chosen students with several seeds and keeps the trained networks."""

import hashlib
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dass_jax import checkpoints, cost, resnet, training
from dass_jax.data.tasks import TaskSpec
from dass_jax.distillation import Assignment, distil_population
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.search_space import Architecture, stack
from dass_jax.workdir import Workdir, read_json, write_json
from dass_jax.workflow import prepare
from dass_jax.workflow.console import console, count, duration, percent, print_table, progress_bar


class Distilled(NamedTuple):
    """Accuracies of one student over seeds, fractions.

    Attributes:
      valid: Validation accuracy of each seed.
      test: Test accuracy of each seed.
      seconds: Time spent.
    """

    valid: list[float]
    test: list[float]
    seconds: float


def student_name(architecture: dict[str, Any]) -> str:
    """A short stable name of an architecture, used for its folder."""
    return hashlib.sha256(json.dumps(architecture, sort_keys=True).encode()).hexdigest()[:10]


def distil_students(
    experiment: Experiment,
    assignment: Assignment,
    architectures: Sequence[Architecture],
    replicates: int,
    title: str,
    folder: pathlib.Path | None = None,
) -> list[Distilled]:
    """Distils students as one population per seed.

    Args:
      experiment: The settings; ``final`` says how to distil.
      assignment: Images and teacher.
      architectures: The students.
      replicates: How many seeds.
      title: What the progress bar says.
      folder: Where to keep the trained networks, at their own size; nowhere if None.

    Returns:
      Accuracies of each student.
    """
    begin = time.monotonic()
    population = stack(architectures)
    ids = np.arange(len(architectures), dtype=np.int32)
    results = []
    with progress_bar(title, replicates * experiment.final.sgd.epochs) as advance:

        def on_epoch(report: training.EpochReport) -> None:
            advance(f"loss {np.mean(report.loss):.3f}")

        for replicate in range(replicates):
            result = distil_population(
                experiment.space, experiment.final, experiment.augmentation, assignment,
                population, ids, replicate, on_epoch,
            )  # fmt: skip
            results.append(result)
            if folder is not None:
                _keep(experiment, folder, result.variables, architectures, replicate)
    seconds = (time.monotonic() - begin) / len(architectures)
    return [
        Distilled(
            [float(result.final[row]) for result in results],
            [float(result.test[row]) for result in results],
            seconds,
        )
        for row in range(len(architectures))
    ]


def _keep(
    experiment: Experiment,
    folder: pathlib.Path,
    variables: resnet.Variables,
    architectures: Sequence[Architecture],
    replicate: int,
) -> None:
    """Saves each student at its own size."""
    for row, architecture in enumerate(architectures):
        student = jax.tree.map(lambda leaf, row=row: leaf[row], variables)
        description = experiment.space.to_json(architecture)
        path = folder / student_name(description) / f"replicate{replicate}"
        if not checkpoints.exists(path):
            dense = resnet.cut(experiment.space, student, architecture)
            checkpoints.save(path, 0, dense, {"architecture": description})


def read_architecture(experiment: Experiment, path: pathlib.Path) -> Architecture:
    """Reads a student from JSON: its own file, or the first choice of a ``search.json``.

    Raises:
      UserError: If the file is missing or no architecture of the space.
    """
    data = read_json(path)
    if isinstance(data, dict) and data.get("top"):
        data = data["top"][0]["architecture"]
    if not isinstance(data, dict):
        raise UserError(f"{path} holds no architecture: give depths and widths")
    return experiment.space.from_json(data)


def run_distillation(
    experiment: Experiment, workdir: Workdir, spec: TaskSpec, architecture: Architecture
) -> None:
    """Distils one student with every seed, saves the networks and prints a summary.

    Args:
      experiment: The settings.
      workdir: Where the teacher lies and the students go.
      spec: The task.
      architecture: The student.
    """
    description = experiment.space.to_json(architecture)
    folder = workdir.student(spec.name) / student_name(description)
    summary_path = folder / "summary.json"
    recipe = repr((experiment.final, experiment.search.replicates, experiment.seed, spec))
    if summary_path.exists():
        summary = read_json(summary_path)
        if summary["recipe"] != recipe:
            raise UserError(f"{folder} was distilled with other settings: remove it first")
        console.print(f"student {folder.name}: done before, in {folder}")
    else:
        summary = _distil_one(experiment, workdir, spec, architecture) | {"recipe": recipe}
        write_json(summary_path, summary)
    test = np.asarray(summary["test_accuracies"])
    spread = f"{percent(test.mean())} ± {100 * test.std():.1f}"
    rows = [
        ["depths", summary["architecture"]["depths"]],
        ["widths", summary["architecture"]["widths"]],
        ["multiply-adds", count(summary["flops"])],
        ["parameters", count(summary["num_params"])],
        ["teacher's test accuracy", percent(summary["teacher_test_accuracy"])],
        [f"test accuracy over {len(test)} seeds", spread],
        ["time", duration(summary["seconds"])],
        ["networks", str(folder)],
    ]
    print_table(f"Student of {spec.name}", ["", ""], rows)


def _distil_one(
    experiment: Experiment, workdir: Workdir, spec: TaskSpec, architecture: Architecture
) -> dict[str, Any]:
    images = prepare.load_images(experiment, spec)
    teacher = prepare.ensure_teacher(experiment, workdir, spec, images)
    replicates = experiment.search.replicates
    assignment = prepare.make_assignment(
        experiment, workdir, spec, images, teacher, experiment.final, replicates
    )
    folder = workdir.student(spec.name)
    (result,) = distil_students(
        experiment, assignment, [architecture], replicates, f"distilling {spec.name}", folder
    )
    space, classes = experiment.space, images.num_classes
    flops = cost.num_flops(
        space, architecture, image_size=experiment.image_size, num_classes=classes
    )
    return {
        "task": spec.name,
        "architecture": space.to_json(architecture),
        "flops": int(flops),
        "num_params": int(cost.num_params(space, architecture, num_classes=classes)),
        "valid_accuracies": result.valid,
        "test_accuracies": result.test,
        "teacher_test_accuracy": prepare.teacher_test_accuracy(workdir, spec),
        "seconds": result.seconds,
    }
