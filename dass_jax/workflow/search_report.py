"""What a search found, as plots and as tables."""

import pathlib
from typing import Any

import numpy as np

from dass_jax.console import console, count, duration, percent, print_table, with_deviation
from dass_jax.workflow import report
from dass_jax.workflow.distill import Result


def plot_search(
    folder: pathlib.Path, result: dict[str, Any], pool_flops: np.ndarray, predictions: np.ndarray
) -> None:
    """Writes the plots of a search.

    Args:
      folder: Where to.
      result: What ``search.json`` holds.
      pool_flops: Multiply-adds of every candidate, [N].
      predictions: Predicted accuracy of every candidate, [N].
    """
    if measured := result["measured"]:
        report.plot_predicted_measured(
            folder / "predicted_measured.png",
            result["task"],
            np.asarray(measured["predicted"]),
            np.asarray(measured["measured"]),
            measured["spearman"]["predictor"],
        )
    report.plot_accuracy_flops(
        folder / "accuracy_flops.png",
        result["task"],
        teacher=(result["teacher"]["flops"], result["teacher"]["test_accuracy"]),
        winner=(result["top"][0]["flops"], float(np.mean(_tests(result["winner"])))),
        rivals=[(rival["flops"], rival["test_accuracy"]) for rival in result["random_students"]],
        pool=(pool_flops, predictions),
        max_flops=result["budget"]["flops"],
    )


def print_search(result: dict[str, Any]) -> None:
    """Prints the closing tables of a search."""
    winner = result["top"][0]
    if measured := result["measured"]:
        rows = [
            [name, f"{measured['spearman'][name]:.2f}", f"{measured['kendall'][name]:.2f}"]
            for name in measured["spearman"]
        ]
        print_table(
            f"{result['task']}: rank correlation with the test accuracy of "
            f"{measured['students']} distilled students",
            ["ranked by", "Spearman", "Kendall"],
            rows,
        )
    teacher = result["teacher"]
    rows = [
        ["teacher", count(teacher["flops"]), count(teacher["num_params"]), "",
         percent(teacher["test_accuracy"])],
        ["chosen student", count(winner["flops"]), count(winner["num_params"]),
         f"{percent(winner['prediction'])} ± {percent(winner['half_width'])}",
         with_deviation(_tests(result["winner"]))],
    ]  # fmt: skip
    if rivals := result["random_students"]:
        accuracies = _tests(rivals)
        best = rivals[int(np.argmax(accuracies))]
        mean_flops = float(np.mean([rival["flops"] for rival in rivals]))
        mean_params = float(np.mean([rival["num_params"] for rival in rivals]))
        rows += [
            [f"mean of {len(rivals)} random students", count(mean_flops), count(mean_params), "",
             percent(float(np.mean(accuracies)))],
            [f"best of {len(rivals)} random students", count(best["flops"]),
             count(best["num_params"]), "", percent(max(accuracies))],
        ]  # fmt: skip
    limits = ", ".join(f"{k} <= {count(v)}" for k, v in result["budget"].items() if v is not None)
    print_table(
        f"{result['task']}: budget {limits or 'unlimited'}",
        ["network", "multiply-adds", "parameters", "predicted", "test accuracy"],
        rows,
    )
    console.print(
        f"Chosen: depths {winner['architecture']['depths']}, "
        f"widths {winner['architecture']['widths']}"
    )
    console.print(f"{result['pool_size']} candidates scored in {duration(result['score_seconds'])}")


def _tests(results: list[Result]) -> list[float]:
    """Test accuracies of distilled students."""
    return [result["test_accuracy"] for result in results]
