"""The files of a search: plots that people look at."""

import pathlib
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes


def _finish(figure: plt.Figure, path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def plot_predicted_measured(
    path: pathlib.Path, task: str, predicted: np.ndarray, measured: np.ndarray, spearman: float
) -> None:
    """Plots predicted against measured accuracy of the task's measured students.

    Args:
      path: The PNG to write.
      task: The task's name.
      predicted: Predicted accuracies, fractions.
      measured: Measured test accuracies, fractions.
      spearman: Their rank correlation.
    """
    figure, axes = plt.subplots(figsize=(5, 4.2))
    axes.scatter(100 * predicted, 100 * measured, color="tab:blue", alpha=0.8)
    axes.set(
        xlabel="predicted accuracy [%]",
        ylabel="measured test accuracy after KD [%]",
        title=f"{task}: Spearman {spearman:.2f} over {len(measured)} students",
    )
    axes.grid(alpha=0.3)
    _finish(figure, path)


def _scatter(axes: Axes, points: Sequence[tuple[float, float]], **style: object) -> None:
    if points:
        axes.scatter(*np.transpose(points), **style)  # type: ignore[arg-type]


def plot_accuracy_flops(
    path: pathlib.Path,
    task: str,
    *,
    teacher: tuple[int, float],
    winner: tuple[int, float],
    rivals: Sequence[tuple[int, float]],
    pool: tuple[np.ndarray, np.ndarray],
    max_flops: int | None,
) -> None:
    """Plots accuracy against FLOPs; predictions of the pool have their own axis.

    Args:
      path: The PNG to write.
      task: The task's name.
      teacher: Flops (multiply-adds) and test accuracy.
      winner: The same of the chosen student, after distillation.
      rivals: The same of random students under the same budget.
      pool: Flops and predicted accuracies of the scored candidates.
      max_flops: The budget, if there is one.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2))
    scale = 1e-6
    left.scatter(scale * pool[0], 100 * pool[1], s=8, color="tab:gray", alpha=0.5)
    left.set(ylabel="predicted accuracy [%]", title=f"{task}: the scored pool")
    _scatter(
        right,
        [(scale * flops, 100 * accuracy) for flops, accuracy in rivals],
        color="tab:orange",
        label="random students",
    )
    points = {"teacher": (teacher, "s", "tab:green"), "chosen student": (winner, "*", "tab:red")}
    for label, ((flops, accuracy), marker, color) in points.items():
        right.scatter(scale * flops, 100 * accuracy, marker=marker, s=110, color=color, label=label)
    right.set(ylabel="measured test accuracy [%]", title=f"{task}: after distillation")
    for axes in (left, right):
        if max_flops is not None:
            axes.axvline(scale * max_flops, color="black", linestyle="--", linewidth=1)
        axes.set_xlabel("multiply-adds per image [M]")
        axes.grid(alpha=0.3)
    right.legend()
    _finish(figure, path)
