"""The result of an evaluation: tables for a terminal, CSV, Markdown, and a figure."""

import csv
import io
import itertools
import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from dass_jax.baselines.registry import BASELINES, MEASURING
from dass_jax.console import console, print_table
from dass_jax.ranking import Interval, Ranking
from dass_jax.workdir import write_atomically
from dass_jax.workflow.comparison import TOP, Intervals, Row, Summary
from dass_jax.workflow.evaluate import UnseenTask

# Below it, the labels hardly rank the students themselves.
LEAST_RETEST = 0.6
# What stands for a task in the lines of the means.
MEAN = "mean"
# tasks side by side in the figure
_PANELS = 5

_MEASURES = ["Spearman", "Kendall", "Pearson", f"precision at {TOP}", "regret [points]"]
_TASK_HEADER = ["method", *_MEASURES, "covered", "s/student"]
_SUMMARY_HEADER = ["method", *_MEASURES, "covered", "predictor's margin"]


def _with_interval(value: float, interval: Interval, text: str) -> str:
    return f"{value:{text}} ({interval.low:{text}} to {interval.high:{text}})"


def _measures(ranking: Ranking, intervals: Intervals) -> list[str]:
    """Every measure with its interval."""
    cells = [
        _with_interval(float(value), interval, ".2f")
        for value, interval in zip(ranking[:-1], intervals[:-1], strict=True)
    ]
    points = Interval(*(100 * end for end in intervals.regret))
    return [*cells, _with_interval(100 * float(ranking.regret), points, ".1f")]


def _covered(coverage: float | None) -> str:
    return "-" if coverage is None else f"{100 * coverage:.0f} %"


def _task_cells(row: Row) -> list[str]:
    measures = _measures(row.ranking, row.intervals)
    return [row.method, *measures, _covered(row.coverage), f"{row.seconds:.2g}"]


def _summary_cells(summary: Summary) -> list[str]:
    measures = _measures(summary.ranking, summary.intervals)
    margin = _with_interval(summary.margin, summary.margin_interval, "+.2f")
    return [summary.method, *measures, _covered(summary.coverage), margin]


def verdict(tasks: Sequence[UnseenTask], summaries: Sequence[Summary]) -> list[str]:
    """What the comparison says about the first predictor, in sentences.

    Args:
      tasks: All tasks.
      summaries: Every method over those that are in the means, the predictor first.
    """
    first, (tasks, _) = summaries[0], split_by_retest(tasks)
    sentences = [f"{first.method} ranks with a mean Spearman of {first.ranking.spearman:.2f}."]
    retests = [task.retest for task in tasks if task.retest is not None]
    if len(retests) == len(tasks):
        mean = float(np.mean(retests))
        sentences.append(
            f"That is {first.ranking.spearman / mean:.2f} of the mean test-retest correlation, "
            f"{mean:.2f}, of one measurement with another one of the same students."
        )
    untrained = [s for s in summaries if s.method in BASELINES and s.method not in MEASURING]
    # what has measured students of the task is another class
    others = [s for s in summaries[1:] if s.method not in BASELINES and s.coverage is not None]
    for what, group in (("baseline without training", untrained), ("other predictor", others)):
        if group:
            best = max(group, key=lambda summary: summary.ranking.spearman)
            sentences.append(
                f"The best {what} is {best.method}, {best.ranking.spearman:.2f}; "
                f"the margin is {_with_interval(best.margin, best.margin_interval, '+.2f')}."
            )
    if first.coverage is not None:
        sentences.append(f"Its 90 % intervals hold {_covered(first.coverage)} of the accuracies.")
    return sentences


def _described(task: UnseenTask) -> str:
    retest = "unknown" if task.retest is None else f"{task.retest:.2f}"
    students, mean = task.measured.shape[1], task.measured.mean(0)
    return (
        f"{task.name}: {students} students of {100 * mean.min():.1f} to {100 * mean.max():.1f} %, "
        f"teacher {100 * task.teacher_accuracy:.1f} %, chance {100 * task.chance:.1f} %, "
        f"test-retest {retest}"
        + ("" if len(task.measured) > 1 else "; what measures is judged by what it measured")
    )


def _machines(rows: Sequence[Row]) -> str:
    """Whose seconds the rows of a task hold, but for those of distillation."""
    methods: dict[str, list[str]] = {}
    for row in rows:
        if row.machine:
            methods.setdefault(row.machine, []).append(row.method)
    by_number = sorted(methods, key=lambda machine: -len(methods[machine]))
    first, *others = by_number or ["of distillation alone"]
    return f"Seconds: {first}" + "".join(f"; of {', '.join(methods[o])}: {o}" for o in others)


def split_by_retest(tasks: Sequence[UnseenTask]) -> tuple[list[UnseenTask], list[UnseenTask]]:
    """Tasks whose labels rank their own students, or that do not say, and the others."""
    clear = [t for t in tasks if t.retest is None or t.retest >= LEAST_RETEST]
    return clear, [t for t in tasks if t not in clear]


def print_report(
    tasks: Sequence[UnseenTask], rows: Sequence[Row], summaries: Sequence[Summary]
) -> None:
    """Prints a table for each task, and one of all methods over the tasks."""
    for task in tasks:
        own = [row for row in rows if row.task == task.name]
        print_table(_described(task), _TASK_HEADER, [_task_cells(row) for row in own])
        console.print(_machines(own))
    if summaries:
        cells = [_summary_cells(summary) for summary in summaries]
        print_table("Mean over the tasks", _SUMMARY_HEADER, cells)
        console.print(" ".join(verdict(tasks, summaries)))


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def markdown(
    tasks: Sequence[UnseenTask],
    rows: Sequence[Row],
    summaries: Sequence[Summary],
    provenance: Mapping[str, str],
) -> str:
    """All tables as Markdown, 90 % bootstrap intervals in brackets, and what they were made of."""
    lines: list[str] = []
    if summaries:
        lines += [" ".join(verdict(tasks, summaries)), ""]
        lines += ["Mean over the tasks, with 90 % bootstrap intervals:", ""]
        lines += _markdown_table(_SUMMARY_HEADER, [_summary_cells(s) for s in summaries])
        lines.append("")
    for task in tasks:
        own = [row for row in rows if row.task == task.name]
        table = _markdown_table(_TASK_HEADER, [_task_cells(row) for row in own])
        lines += [_described(task), "", *table, "", _machines(own), ""]
    lines += [f"* {name}: {value}" for name, value in provenance.items()]
    return "\n".join([*lines, ""])


def as_csv(tasks: Sequence[UnseenTask], rows: Sequence[Row], summaries: Sequence[Summary]) -> str:
    """One line for every task and method, and for the means; accuracies as fractions."""
    retests = {task.name: task.retest for task in tasks}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    ends = [f"{name}_{end}" for name in Intervals._fields for end in Interval._fields]
    writer.writerow(
        ["task", "method", *Ranking._fields, *ends, "test_retest", "coverage", "margin",
         "margin_low", "margin_high", "seconds_per_student", "machine"]
    )  # fmt: skip
    for row in rows:
        writer.writerow(
            [row.task, row.method, *row.ranking, *itertools.chain(*row.intervals),
             retests[row.task], row.coverage, row.margin, *row.margin_interval, row.seconds,
             row.machine]
        )  # fmt: skip
    for one in summaries:
        writer.writerow(
            [MEAN, one.method, *one.ranking, *itertools.chain(*one.intervals), None, one.coverage,
             one.margin, *one.margin_interval, None, None]
        )  # fmt: skip
    return buffer.getvalue()


def figure(tasks: Sequence[UnseenTask], rows: Sequence[Row]) -> Figure:
    """Spearman correlations with intervals, a panel for each task, the ceiling as a line."""
    methods = list(dict.fromkeys(row.method for row in rows))
    lines, columns = math.ceil(len(tasks) / _PANELS), min(len(tasks), _PANELS)
    size = (1.5 + 2.6 * columns, lines * (1.2 + 0.28 * len(methods)))
    drawn = Figure(figsize=size, layout="tight")
    panels = drawn.subplots(lines, columns, sharey=True, squeeze=False).flat
    for axes in panels[len(tasks) :]:
        axes.remove()
    for axes, task in zip(panels, tasks, strict=False):
        own = {row.method: row for row in rows if row.task == task.name}
        for place, method in enumerate(methods):
            if method not in own:
                continue
            value, (low, high) = own[method].ranking.spearman, own[method].intervals.spearman
            color = "tab:blue" if own[method].coverage is not None else "tab:gray"
            axes.barh(place, value, color=color, alpha=0.75)
            axes.plot([low, high], [place, place], color="black", linewidth=1)
        if task.retest is not None:
            axes.axvline(task.retest, color="tab:red", linestyle="--", label="test-retest")
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
    provenance: Mapping[str, str],
) -> None:
    """Writes ``evaluation.csv``, ``evaluation.md`` and ``evaluation.png``.

    Args:
      folder: Where to.
      tasks: The evaluated tasks.
      rows: Every method on every task.
      summaries: Every method over the tasks.
      provenance: What the figures were made of, by name.

    Raises:
      UserError: If a file cannot be written.
    """
    image = io.BytesIO()
    figure(tasks, rows).savefig(image, format="png", dpi=130)
    contents = {
        "evaluation.csv": as_csv(tasks, rows, summaries).encode(),
        "evaluation.md": markdown(tasks, rows, summaries, provenance).encode(),
        "evaluation.png": image.getvalue(),
    }
    for name, content in contents.items():
        write_atomically(folder / name, content)
    console.print(f"{', '.join(contents)} in {folder}")
