"""What people read of a database in a terminal: tables of its tasks and of their students."""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from dass_jax import database as db
from dass_jax.baselines.recorded import RECORDED, RecordedBaseline
from dass_jax.console import count, duration, percent, print_table
from dass_jax.metrics import rank_correlation
from dass_jax.retest import reported_accuracy, retest_correlation
from dass_jax.workflow.measured_tasks import MeasuredTask


def total_depth(records: Sequence[db.StudentRecord]) -> np.ndarray:
    """Active blocks of all stages together."""
    return np.asarray([float(sum(record.depths)) for record in records])


def early_accuracy(records: Sequence[db.StudentRecord], *, share: float) -> np.ndarray:
    """Validation accuracy at the last evaluation within the first part of the epochs.

    Args:
      records: N students.
      share: That part, in (0, 1).

    Returns:
      Fractions, [N]; nan where nothing was evaluated so early.
    """
    return np.asarray([_early_accuracy(record, share) for record in records], float)


def _early_accuracy(record: db.StudentRecord, share: float) -> float:
    early = [
        accuracy
        for epoch, accuracy in zip(record.curve_epochs, record.curve, strict=True)
        if epoch <= share * record.curve_epochs[-1]
    ]
    return early[-1] if early else math.nan


# the images that an accuracy is of
_ACCURACIES = {"final_accuracy": "validation", "test_accuracy": "test"}

# what is known before, during and after the distillation of a student, in this order
QUANTITIES: dict[str, RecordedBaseline] = {
    **RECORDED,
    "depth": total_depth,
    "accuracy at 1/4": functools.partial(early_accuracy, share=1 / 4),
    "accuracy at 1/2": functools.partial(early_accuracy, share=1 / 2),
    "best accuracy": lambda records: db.column(records, "best_accuracy"),
}


def _shown(value: object, show: Callable[..., str] = str) -> str:
    """A value as a table shows it; a dash where there is none."""
    return "-" if value is None else show(value)


def _correlation(value: float | None) -> str:
    return _shown(value, "{:.2f}".format)


def _print_tasks(tasks: Sequence[MeasuredTask]) -> None:
    rows = [
        [
            task.name,
            _shown(task.role),
            _shown(task.num_classes),
            _shown(task.train_images),
            _shown(task.teacher_accuracy, percent),
            len({record.student_id for record in task.records}),
            len({record.replicate for record in task.records}),
            task.num_diverged,
            duration(math.fsum(record.seconds for record in task.records)),
        ]
        for task in tasks
    ]
    header = ["task", "role", "classes", "training images", "teacher", "students", "replicates",
              "diverged", "time"]  # fmt: skip
    print_table("Tasks: teacher's validation accuracy", header, rows, text_columns=2)


def _accuracy_row(task: MeasuredTask) -> list[object]:
    """Statistics of one task's validation accuracies, and whether they come again."""
    labels = db.column(task.labels, "final_accuracy")
    statistics = (
        [percent(f(labels)) for f in (np.min, np.mean, np.max)] if len(labels) else ["-"] * 3
    )
    deviation = percent(labels.std()) if len(labels) > 1 else "-"
    retest = _correlation(retest_correlation(task.records, task.role))
    compared = _ACCURACIES[reported_accuracy(task.role)]
    return [task.name, len(labels), *statistics, deviation, retest, compared]


def _print_accuracies(tasks: Sequence[MeasuredTask]) -> None:
    print_table(
        "Students of replicate 0 that did not diverge: final validation accuracy; test-retest is "
        "the Spearman correlation with replicate 1",
        ["task", "students", "min", "mean", "max", "std", "test-retest", "retest of"],
        [_accuracy_row(task) for task in tasks],
    )


def print_summary(tasks: Sequence[MeasuredTask]) -> None:
    """Prints two tables of all tasks: how they were made, and how accurate their students are."""
    _print_tasks(tasks)
    _print_accuracies(tasks)


def print_correlations(tasks: Sequence[MeasuredTask]) -> None:
    """Prints how what is known before and during distillation ranks the students of each task."""
    rows = []
    for task in tasks:
        final = db.column(task.labels, "final_accuracy").astype(float)
        correlations = [rank_correlation(f(task.labels), final) for f in QUANTITIES.values()]
        rows.append([task.name, *map(_correlation, correlations)])
    print_table(
        "Spearman correlation with the final validation accuracy; accuracies at 1/4 and 1/2 of "
        "the epochs",
        ["task", *QUANTITIES],
        rows,
    )


def print_students(task: MeasuredTask) -> None:
    """Prints every record of a task."""
    rows = [
        [
            record.student_id,
            record.replicate,
            "-".join(map(str, record.depths)),
            " ".join(",".join(map(str, stage)) for stage in record.widths),
            count(record.flops),
            count(record.num_params),
            percent(record.initial_accuracy),
            percent(record.final_accuracy),
            percent(record.best_accuracy),
            percent(record.test_accuracy),
            f"{record.loss:.3g}",
            duration(record.seconds),
            "yes" if record.diverged else "",
        ]
        for record in task.records
    ]
    # short names: a log file is 120 characters wide
    header = ["id", "rep.", "depths", "widths", "FLOPs", "params", "initial", "final", "best",
              "test", "loss", "time", "diverged"]  # fmt: skip
    print_table(
        f"{task.name}: validation accuracies, and test accuracies, which are for reports, not for "
        "choosing",
        header,
        rows,
        text_columns=4,
    )
