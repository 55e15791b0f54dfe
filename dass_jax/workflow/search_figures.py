"""Plots of a search. Every function takes what ``search.json`` holds."""

import itertools
from typing import Any

import numpy as np

# a figure without pyplot needs no display and leaves no state behind
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

Search = dict[str, Any]
_Fractions = float | list[float] | np.ndarray

_TEACHER, _CHOSEN, _RIVAL, _OTHER = "tab:green", "tab:red", "tab:orange", "tab:gray"
_BASELINES = ("tab:blue", "tab:purple", "tab:brown", "tab:pink", "tab:olive", "tab:cyan")
# what an axis shows: factor and label
_AXES = {
    "flops": (1e-6, "multiply-adds per image [M]"),
    "params": (1e-3, "parameters [k]"),
    "bytes": (1e-3, "size [kB]"),
    "latency": (1e3, "latency of a batch [ms]"),
}


def _finished(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _tests(results: list[dict[str, Any]]) -> np.ndarray:
    return 100 * np.asarray([result["test_accuracy"] for result in results])


def _interval(prediction: _Fractions, half_width: _Fractions) -> np.ndarray:
    """How far intervals reach to either side, in percent, [2, N]; accuracies end at 100."""
    mean, reach = (np.atleast_1d(100 * np.asarray(value)) for value in (prediction, half_width))
    below, above = mean - np.maximum(mean - reach, 0), np.minimum(mean + reach, 100) - mean
    return np.maximum([below, above], 0)


def _teacher_label(search: Search) -> str:
    """Where the teacher's accuracy among those on validation images comes from."""
    return f"teacher ({'as given' if search['teacher']['accuracy_given'] else 'validation'})"


def plot_candidates(search: Search) -> Figure:
    """Predicted accuracy of all candidates against their cost, the Pareto front and the choice."""
    pool, chosen, teacher = search["candidates"], search["top"][0], search["teacher"]
    factor, label = _AXES[pool["cost"]]
    cost = factor * np.asarray(pool[pool["cost"]])
    predicted = 100 * np.asarray(pool["prediction"])
    figure = Figure((6, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.scatter(cost, predicted, s=9, color=_OTHER, alpha=0.5, label="scored candidates")
    front = np.asarray(pool["front"], int)
    front = front[np.argsort(cost[front])]
    axes.plot(
        cost[front], predicted[front], "o-", color="tab:blue", markersize=3.5,
        drawstyle="steps-post",
        label="Pareto front",
    )  # fmt: skip
    axes.errorbar(
        factor * chosen[pool["cost"]], 100 * chosen["prediction"],
        _interval(chosen["prediction"], chosen["half_width"]),
        fmt="*", color=_CHOSEN, markersize=14, capsize=4, label="chosen student, 90 % interval",
    )  # fmt: skip
    axes.plot(
        factor * teacher[pool["cost"]], 100 * teacher["valid_accuracy"], "s", color=_TEACHER,
        markersize=9, label=_teacher_label(search),
    )  # fmt: skip
    limit = search["budget"][pool["cost"]]
    if limit is not None:
        axes.axvline(factor * limit, color="black", linestyle="--", linewidth=1, label="budget")
    axes.set(xlabel=label, ylabel="predicted accuracy after KD [%]")
    axes.set_title(f"{search['task']}: {pool['count']} candidates", fontsize=10)
    _finished(axes)
    return figure


# how the choice and its rivals are drawn
_STYLES: dict[str, dict[str, Any]] = {
    "chosen student": {"fmt": "*", "color": _CHOSEN, "markersize": 12},
    "rivals": {"fmt": "o", "color": _RIVAL},
}


def _distilled(search: Search) -> dict[str, tuple[list[dict[str, Any]], np.ndarray]]:
    """The choice and its rivals, but for diverged ones, each with its test accuracy in percent."""
    winner = _tests([result for result in search["winner"] if not result["diverged"]])
    rivals = [rival for rival in search["rivals"] if not rival["diverged"]]
    found = {}
    if len(winner):
        found["chosen student"] = (search["top"][:1], winner.mean(keepdims=True))
    if rivals:
        found["rivals"] = (rivals, _tests(rivals))
    return found


def _plot_verified(axes: Axes, search: Search, verified: list[dict[str, Any]]) -> None:
    before, reach, after = (
        np.asarray([entry[name] for entry in verified])
        for name in ("prediction", "half_width", "verified_accuracy")
    )
    how = search["verification"]
    images = f"validation, {how['epochs']} epochs" if how["shortened"] else "validation"
    axes.errorbar(
        100 * before, 100 * after, xerr=_interval(before, reach), fmt="D", color=_CHOSEN,
        elinewidth=0.6, label=f"verified candidates ({images})",
    )  # fmt: skip


def plot_predicted_measured(search: Search) -> Figure | None:
    """Predicted against measured accuracy; None if all that was measured diverged."""
    measured = search["measured"]
    verified = [entry for entry in search["top"] if entry.get("diverged") is False]
    distilled = _distilled(search)
    if measured is None and not verified and not distilled:
        return None
    figure = Figure((5, 4.2), layout="constrained")
    axes = figure.subplots()
    title = search["task"]
    if measured is not None:
        axes.errorbar(
            100 * np.asarray(measured["predicted"]), 100 * np.asarray(measured["measured"]),
            xerr=_interval(measured["predicted"], measured["half_width"]), fmt="o",
            color="tab:blue", alpha=0.7, elinewidth=0.6, label="students of the database (test)",
        )  # fmt: skip
        rho = measured["spearman"]["predictor"]
        title += f": Spearman {rho:.2f} over {measured['students']} students"
    if verified:
        _plot_verified(axes, search, verified)
    for name, (entries, tests) in distilled.items():
        before, reach = (
            np.asarray([one[key] for one in entries]) for key in ("prediction", "half_width")
        )
        axes.errorbar(
            100 * before, tests, xerr=_interval(before, reach), elinewidth=0.6,
            label=f"{name} (test)", **_STYLES[name],
        )  # fmt: skip
    axes.axline((50, 50), slope=1, color="black", linewidth=0.8, linestyle=":", label="equal")
    _fit_to_points(axes)
    axes.set(xlabel="predicted accuracy [%]", ylabel="measured accuracy after KD [%]")
    axes.set_title(title, fontsize=10)
    _finished(axes)
    return figure


def _fit_to_points(axes: Axes) -> None:
    """The line of equality does not stretch the axes."""
    points = np.concatenate([np.asarray(line.get_xydata()) for line in axes.lines[:-1]])
    low, high = points.min(0), points.max(0)
    margin = 0.08 * np.maximum(high - low, 1.0)
    axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
    axes.set_ylim(low[1] - margin[1], high[1] + margin[1])


def plot_distilled(search: Search) -> Figure:
    """Test accuracies after distillation against multiply-adds: the choice, rivals, the teacher."""
    figure = Figure((6, 4.2), layout="constrained")
    axes = figure.subplots()
    groups: dict[str, list[dict[str, Any]]] = {}
    for rival in search["rivals"]:
        if rival["diverged"]:
            continue
        groups.setdefault(rival["chosen_by"], []).append(rival)
    colours = itertools.cycle(_BASELINES)
    for name, rivals in groups.items():
        if name == "random":
            colour, marker, label = _RIVAL, "o", "random students"
        else:
            colour, marker, label = next(colours), "^", f"choice of {name}"
        flops = [1e-6 * rival["flops"] for rival in rivals]
        axes.scatter(flops, _tests(rivals), label=label, color=colour, marker=marker)
    winner = _tests([result for result in search["winner"] if not result["diverged"]])
    if len(winner):
        flops = 1e-6 * search["top"][0]["flops"]
        axes.errorbar(
            flops, winner.mean(), winner.std(ddof=1) if len(winner) > 1 else None, fmt="*",
            markersize=14, color=_CHOSEN, capsize=4, label=f"chosen student, {len(winner)} seed(s)",
        )  # fmt: skip
    teacher = search["teacher"]
    axes.plot(
        1e-6 * teacher["flops"], 100 * teacher["test_accuracy"], "s", color=_TEACHER, markersize=9,
        label="teacher",
    )  # fmt: skip
    axes.set(xlabel="multiply-adds per image [M]", ylabel="test accuracy [%]")
    axes.set_title(f"{search['task']}: after distillation", fontsize=10)
    _finished(axes)
    return figure


def plot_curves(search: Search) -> Figure:
    """Validation accuracy during the distillation of the choice and of its rivals."""
    figure = Figure((6, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, rival in enumerate(search["rivals"]):
        epochs, accuracy = np.transpose(rival["curve"])
        label = "rivals" if number == 0 else None
        axes.plot(epochs, 100 * accuracy, color=_RIVAL, alpha=0.6, linewidth=1, label=label)
    for seed, result in enumerate(search["winner"]):
        epochs, accuracy = np.transpose(result["curve"])
        label = "chosen student, each seed" if seed == 0 else None
        axes.plot(epochs, 100 * accuracy, "o-", color=_CHOSEN, markersize=3, label=label)
    axes.axhline(
        100 * search["teacher"]["valid_accuracy"], color=_TEACHER, linestyle="--",
        label=_teacher_label(search),
    )  # fmt: skip
    axes.set(xlabel="epoch", ylabel="validation accuracy [%]")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"{search['task']}: distillation", fontsize=10)
    _finished(axes)
    return figure


def plot_student(search: Search) -> Figure:
    """The chosen student drawn into its teacher: a bar for every block, as wide as the block."""
    student, teacher = search["top"][0]["architecture"], search["teacher"]["architecture"]
    stages = len(teacher["depths"])
    figure = Figure((8, 0.7 + 0.19 * sum(teacher["depths"]) / 2), layout="constrained")
    panels = figure.subplots(1, stages, squeeze=False)[0]
    for stage, axes in enumerate(panels):
        full = teacher["widths"][stage]
        for block, width in enumerate(full):
            own = student["widths"][stage]
            outline: dict[str, Any] = {"fill": False, "edgecolor": _TEACHER, "linewidth": 1.2}
            axes.add_patch(Rectangle((0, block + 0.1), width, 0.8, **outline))
            if block < len(own):
                axes.add_patch(
                    Rectangle((0, block + 0.1), own[block], 0.8, color=_CHOSEN, alpha=0.6)
                )
                axes.text(own[block] / 2, block + 0.5, str(own[block]), ha="center", va="center",
                          fontsize=7)  # fmt: skip
        axes.set(xlim=(0, 1.05 * max(full)), ylim=(len(full), 0), yticks=[], xticks=[0, full[0]])
        axes.set_title(f"stage {stage + 1}: {len(student['widths'][stage])} of {len(full)} blocks",
                       fontsize=8)  # fmt: skip
        axes.tick_params(labelsize=7)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
    figure.supxlabel("channels; outlines: teacher, filled: student", fontsize=8)
    return figure


def all_figures(search: Search) -> dict[str, Figure]:
    """Every plot of a search by the name of its file."""
    figures = {
        "candidates": plot_candidates(search),
        "student": plot_student(search),
        "distilled": plot_distilled(search),
        "curves": plot_curves(search),
    }
    if (compared := plot_predicted_measured(search)) is not None:
        figures["predicted_measured"] = compared
    return figures
