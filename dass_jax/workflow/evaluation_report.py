"""The result of an evaluation: tables for a terminal, CSV, Markdown, and a figure."""

import csv
import io
import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from dass_jax.console import console, print_table
from dass_jax.ranking import Interval
from dass_jax.workdir import write_atomically
from dass_jax.workflow.evaluate import TOP, Row, Summary, UnseenTask

# Below it, the labels hardly rank the students themselves.
LEAST_CEILING = 0.6

_TASK_HEADER = [
    "task", "method", "Spearman", "90 % interval", "Kendall", "Pearson", f"precision at {TOP}",
    "regret [points]", "covered", "s/student",
]  # fmt: skip
_SUMMARY_HEADER = [
    "method", "Spearman", "90 % interval", "regret [points]", "predictor's margin", "90 % interval",
]  # fmt: skip


def _between(interval: Interval) -> str:
    return f"{interval.low:.2f} to {interval.high:.2f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g}"


def _task_cells(row: Row) -> list[str]:
    covered = "-" if row.coverage is None else f"{100 * row.coverage:.0f} %"
    ranking = row.ranking
    return [
        row.task, row.method, f"{ranking.spearman:.2f}", _between(row.spearman_interval),
        f"{ranking.kendall:.2f}", f"{ranking.pearson:.2f}", f"{ranking.precision:.2f}",
        f"{100 * ranking.regret:.1f}", covered, _seconds(row.seconds),
    ]  # fmt: skip


def _summary_cells(summary: Summary) -> list[str]:
    return [
        summary.method, f"{summary.spearman:.2f}", _between(summary.interval),
        f"{100 * summary.regret:.1f}", f"{summary.margin:+.2f}", _between(summary.margin_interval),
    ]  # fmt: skip


def _described(task: UnseenTask) -> str:
    ceiling = "unknown" if task.ceiling is None else f"{task.ceiling:.2f}"
    students, mean = task.measured.shape[1], task.measured.mean(0)
    return (
        f"{task.name}: {students} students of {100 * mean.min():.1f} to {100 * mean.max():.1f} %, "
        f"teacher {100 * task.teacher_accuracy:.1f} %, chance {100 * task.chance:.1f} %, "
        f"test-retest {ceiling}"
    )


def split_by_ceiling(tasks: Sequence[UnseenTask]) -> tuple[list[UnseenTask], list[UnseenTask]]:
    """Tasks whose labels rank their own students, or that do not say, and the others."""
    clear = [t for t in tasks if t.ceiling is None or t.ceiling >= LEAST_CEILING]
    return clear, [t for t in tasks if t not in clear]


def print_report(
    tasks: Sequence[UnseenTask], rows: Sequence[Row], summaries: Sequence[Summary]
) -> None:
    """Prints a table for each task, and one of all methods over the tasks."""
    for task in tasks:
        own = [_task_cells(row)[1:] for row in rows if row.task == task.name]
        print_table(_described(task), _TASK_HEADER[1:], own)
    if summaries:
        cells = [_summary_cells(summary) for summary in summaries]
        print_table("Mean over the tasks", _SUMMARY_HEADER, cells)


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def markdown(tasks: Sequence[UnseenTask], rows: Sequence[Row], summaries: Sequence[Summary]) -> str:
    """All tables as Markdown."""
    lines: list[str] = []
    if summaries:
        lines += ["Mean over the tasks:", ""]
        lines += _markdown_table(_SUMMARY_HEADER, [_summary_cells(s) for s in summaries])
        lines.append("")
    for task in tasks:
        own = [_task_cells(row)[1:] for row in rows if row.task == task.name]
        lines += [_described(task), "", *_markdown_table(_TASK_HEADER[1:], own), ""]
    return "\n".join(lines)


def as_csv(tasks: Sequence[UnseenTask], rows: Sequence[Row]) -> str:
    """One line for every task and method, numbers in full, accuracies as fractions."""
    ceilings = {task.name: task.ceiling for task in tasks}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["task", "method", *rows[0].ranking._fields, "spearman_low", "spearman_high",
         "test_retest", "coverage", "seconds_per_student"]
    )  # fmt: skip
    for row in rows:
        writer.writerow(
            [row.task, row.method, *row.ranking, *row.spearman_interval, ceilings[row.task],
             row.coverage, row.seconds]
        )  # fmt: skip
    return buffer.getvalue()


def figure(tasks: Sequence[UnseenTask], rows: Sequence[Row]) -> Figure:
    """Spearman correlations with intervals, a panel for each task, the ceiling as a line."""
    methods = list(dict.fromkeys(row.method for row in rows))
    drawn = Figure(figsize=(1.5 + 2.6 * len(tasks), 1.2 + 0.28 * len(methods)), layout="tight")
    panels = drawn.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    for axes, task in zip(panels, tasks, strict=True):
        own = {row.method: row for row in rows if row.task == task.name}
        for place, method in enumerate(methods):
            if method not in own:
                continue
            value, (low, high) = own[method].ranking.spearman, own[method].spearman_interval
            color = "tab:blue" if own[method].coverage is not None else "tab:gray"
            axes.barh(place, value, color=color, alpha=0.75)
            axes.plot([low, high], [place, place], color="black", linewidth=1)
        if task.ceiling is not None:
            axes.axvline(task.ceiling, color="tab:red", linestyle="--", label="test-retest")
            axes.legend(fontsize=7, loc="lower left")
        axes.axvline(0, color="black", linewidth=0.6)
        axes.set(title=task.name, xlabel="Spearman", xlim=(-1, 1))
        axes.set_yticks(np.arange(len(methods)), methods, fontsize=8)
        axes.grid(axis="x", alpha=0.3)
    panels[0].invert_yaxis()
    return drawn


def write_report(
    folder: pathlib.Path,
    tasks: Sequence[UnseenTask],
    rows: Sequence[Row],
    summaries: Sequence[Summary],
) -> None:
    """Writes ``evaluation.csv``, ``evaluation.md`` and ``evaluation.png``.

    Args:
      folder: Where to.
      tasks: The evaluated tasks.
      rows: Every method on every task.
      summaries: Every method over the tasks.

    Raises:
      UserError: If a file cannot be written.
    """
    image = io.BytesIO()
    figure(tasks, rows).savefig(image, format="png", dpi=130)
    contents = {
        "evaluation.csv": as_csv(tasks, rows).encode(),
        "evaluation.md": markdown(tasks, rows, summaries).encode(),
        "evaluation.png": image.getvalue(),
    }
    for name, content in contents.items():
        write_atomically(folder / name, content)
    console.print(f"{', '.join(contents)} in {folder}")
