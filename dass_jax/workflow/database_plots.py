"""Plots of a database: one panel per task."""

import functools
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# a figure without pyplot needs no display and leaves no state behind
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dass_jax import database as db
from dass_jax.console import count
from dass_jax.metrics import rank_correlation
from dass_jax.retest import accuracy_pairs, reported_accuracy, retest_correlation
from dass_jax.workflow.measured_tasks import MeasuredTask

# colour and legend of a task's students, by the task's role
_ROLES = {
    "meta_train": ("tab:blue", "students of tasks that train the predictor"),
    "meta_valid": ("tab:orange", "students of tasks that select it"),
    "meta_test": ("tab:green", "students of unseen tasks"),
}
_TEACHER = "tab:red"
_COST_LABELS = {"flops": "multiply-adds per image", "num_params": "parameters"}
_MAX_COLUMNS = 4
_MAX_NAME = 18


def _style(task: MeasuredTask) -> dict[str, Any]:
    color, label = _ROLES.get(task.role or "", ("tab:gray", "students"))
    return {"color": color, "label": label}


def _short(name: str) -> str:
    """A task's name as a panel has room for it."""
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"


def _title(axes: Axes, task: MeasuredTask, spearman: float | None = None) -> None:
    coefficient = "" if spearman is None else f": Spearman {spearman:.2f}"
    axes.set_title(_short(task.name) + coefficient, fontsize=9)


def _draw_teacher(axes: Axes, task: MeasuredTask) -> None:
    if task.teacher_accuracy is not None:
        axes.axhline(
            100 * task.teacher_accuracy,
            color=_TEACHER,
            linestyle="--",
            linewidth=1.2,
            label="teacher",
        )


def _draw_cost(axes: Axes, task: MeasuredTask, *, field: str) -> None:
    """Accuracy against one cost."""
    cost = db.column(task.labels, field).astype(float)
    accuracies = db.column(task.labels, "final_accuracy").astype(float)
    axes.scatter(cost, 100 * accuracies, s=14, alpha=0.7, **_style(task))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    _draw_teacher(axes, task)
    _title(axes, task, rank_correlation(cost, accuracies))


def _draw_curves(axes: Axes, task: MeasuredTask) -> None:
    """Learning curves; epoch 0 is the remapped student."""
    curves = [
        {0: record.initial_accuracy} | dict(zip(record.curve_epochs, record.curve, strict=True))
        for record in task.labels
    ]
    lines = [[(epoch, 100 * curve[epoch]) for epoch in curve] for curve in curves]
    axes.add_collection(LineCollection(lines, linewidths=0.7, alpha=0.4, **_style(task)))
    epochs = sorted({epoch for curve in curves for epoch in curve})
    means = [np.mean([100 * curve[epoch] for curve in curves if epoch in curve])
             for epoch in epochs]  # fmt: skip
    axes.plot(epochs, means, color="black", linewidth=2, label="mean of the students")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    _draw_teacher(axes, task)
    _title(axes, task)


def _draw_replicates(axes: Axes, task: MeasuredTask) -> None:
    """The second distillation of each student against the first."""
    pairs = 100 * accuracy_pairs(task.records, reported_accuracy(task.role))
    axes.scatter(pairs[:, 0], pairs[:, 1], s=14, alpha=0.7, **_style(task))
    middle = float(pairs.mean())
    axes.axline(
        (middle, middle), slope=1, color="black", linestyle="--", linewidth=1, label="equal"
    )
    axes.set_aspect("equal", adjustable="datalim")
    _title(axes, task, retest_correlation(task.records, task.role))


def _panels(
    tasks: Sequence[MeasuredTask], draw: Callable[[Axes, MeasuredTask], None], *, xlabel: str,
    ylabel: str, title: str,
) -> Figure:  # fmt: skip
    """One panel per task, with one legend."""
    rows = math.ceil(len(tasks) / _MAX_COLUMNS)
    columns = math.ceil(len(tasks) / rows)
    size = (max(2.9 * columns, 6), max(2.4 * rows + 1.2, 4.5))
    figure = Figure(figsize=size, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for index, (axes, task) in enumerate(zip(panels, tasks, strict=False)):
        draw(axes, task)
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8)
        # at the left of each row and below each column
        if index % columns == 0:
            axes.set_ylabel(ylabel, fontsize=9)
        if index + columns >= len(tasks):
            axes.set_xlabel(xlabel, fontsize=9)
    for axes in panels[len(tasks) :]:
        axes.set_axis_off()
    figure.suptitle(title, fontsize=12)
    _legend(figure)
    return figure


def _legend(figure: Figure) -> None:
    """What any of the panels shows, once."""
    entries = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    # students first, whatever the panels began with
    labels = sorted(entries, key=lambda label: not label.startswith("students"))
    figure.legend(
        [entries[label] for label in labels], labels, loc="outside lower center", fontsize=9,
        ncols=int(figure.get_figwidth() // 2.7),
    )  # fmt: skip


def _distributions(tasks: Sequence[MeasuredTask]) -> Figure:
    """A box and all students of each task."""
    figure = Figure(figsize=(max(0.8 * len(tasks) + 1.5, 6), 5.2), layout="constrained")
    axes = figure.subplots()
    shift = np.random.default_rng(0)
    for place, task in enumerate(tasks):
        accuracies = 100 * db.column(task.labels, "final_accuracy").astype(float)
        axes.boxplot(accuracies, positions=[place], widths=0.6, showfliers=False,
                     medianprops={"color": "black"})  # fmt: skip
        places = place + shift.uniform(-0.2, 0.2, len(accuracies))
        axes.scatter(places, accuracies, s=12, alpha=0.6, **_style(task))
        if task.teacher_accuracy is not None:
            axes.scatter(
                place, 100 * task.teacher_accuracy, marker="_", s=500, color=_TEACHER,
                linewidths=2, label="teacher",
            )  # fmt: skip
    names = [_short(task.name) for task in tasks]
    axes.set_xticks(range(len(tasks)), names, rotation=35, ha="right")
    axes.set_xlim(-1, len(tasks))
    axes.set(ylabel="final validation accuracy [%]", title="Students after distillation")
    axes.grid(axis="y", alpha=0.3)
    _legend(figure)
    return figure


def draw(tasks: Sequence[MeasuredTask]) -> dict[str, Figure]:
    """Draws all plots that the database has students for; diverged ones are left out.

    Args:
      tasks: The tasks of a database.

    Returns:
      Figures by the name of their file; those without anything to show are missing.
    """
    measured = [task for task in tasks if task.labels]
    repeated = [task for task in tasks if len(accuracy_pairs(task.records, "final_accuracy"))]
    validation = "final validation accuracy [%]"
    figures = {}
    if measured:
        for field, label in _COST_LABELS.items():
            figures[f"accuracy_{field}.png"] = _panels(
                measured, functools.partial(_draw_cost, field=field), xlabel=label,
                ylabel=validation, title=f"Accuracy against {label}",
            )  # fmt: skip
        figures["learning_curves.png"] = _panels(
            measured, _draw_curves, xlabel="epochs (0: remapped, not trained)",
            ylabel="validation accuracy [%]", title="Learning curves",
        )  # fmt: skip
        figures["accuracies.png"] = _distributions(measured)
    if repeated:
        figures["replicates.png"] = _panels(
            repeated, _draw_replicates, xlabel="accuracy in replicate 0 [%]",
            ylabel="accuracy in replicate 1 [%]",
            title="The same students distilled twice (unseen tasks: test accuracies)",
        )  # fmt: skip
    return figures


def render(tasks: Sequence[MeasuredTask]) -> dict[str, bytes]:
    """Draws all plots as PNG files.

    Args:
      tasks: The tasks of a database.

    Returns:
      Contents by file name, see ``draw``.
    """
    files = {}
    for name, figure in draw(tasks).items():
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=130, format="png")
        files[name] = buffer.getvalue()
    return files
