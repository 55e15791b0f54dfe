"""The evaluation's comparison and report, on scores whose quality is known."""

import csv

import numpy as np
import pytest

from dass_jax.baselines.measured import SHORT_DISTILLATION
from dass_jax.workflow import evaluate, evaluation_report
from dass_jax.workflow.evaluate import Scores, UnseenTask


def unseen(name, seed, ceiling=0.9, replicates=2):
    """A task where the predictor is right, the second method is noisy, the third says nothing."""
    rng = np.random.default_rng(seed)
    accuracy = rng.uniform(0.2, 0.8, 20)
    measured = accuracy + 0.001 * rng.normal(size=(replicates, 20))
    return UnseenTask(
        name,
        measured,
        ceiling,
        teacher_accuracy=0.85,
        chance=0.1,
        scores={
            "predictor": Scores(accuracy, 0.01, coverage=0.95),
            "noisy": Scores(accuracy + 0.3 * rng.normal(size=20), 0.02),
            "constant": Scores(np.ones(20), 0.0),
            # it was made from the last measurement, and must not be compared with it
            SHORT_DISTILLATION: Scores(measured[-1].copy(), 1.0),
        },
    )


@pytest.fixture(scope="module")
def tasks():
    return [unseen("birds", 0), unseen("cars", 1), unseen("dots", 2)]


@pytest.fixture(scope="module")
def compared(tasks):
    return evaluate.compare(tasks)


def test_every_method_is_ranked_on_every_task(tasks, compared):
    rows, summaries = compared
    assert len(rows) == 12
    assert [summary.method for summary in summaries] == list(tasks[0].scores)
    right = [row for row in rows if row.method == "predictor"]
    assert min(row.ranking.spearman for row in right) > 0.98
    assert max(row.ranking.regret for row in right) < 0.005
    for row in rows:
        if row.method == "constant":
            assert row.ranking[:3] == (0, 0, 0)
            assert row.spearman_interval == (0, 0)


def test_summaries_are_means_and_margins(compared):
    rows, summaries = compared
    for summary in summaries:
        own = [row.ranking.spearman for row in rows if row.method == summary.method]
        assert summary.spearman == pytest.approx(np.mean(own))
        assert summary.margin == pytest.approx(summaries[0].spearman - summary.spearman)
        low, high = summary.interval
        assert low - 0.02 <= summary.spearman <= high + 0.02
    assert summaries[0].margin_interval == (0, 0)
    noisy = summaries[1]
    assert noisy.margin_interval.low > 0.05


def test_what_was_measured_is_not_compared_with_itself(tasks):
    swapped = tasks[0].measured.copy()
    swapped[-1] = swapped[-1][::-1]
    short = Scores(swapped[-1].copy(), 1.0)
    task = tasks[0]._replace(measured=swapped, scores={SHORT_DISTILLATION: short})
    rows, _ = evaluate.compare([task])
    assert rows[0].ranking.spearman < 0.9
    # with a single measurement there is no other one
    alone = task._replace(measured=swapped[-1:])
    assert evaluate.compare([alone])[0][0].ranking.spearman == pytest.approx(1)


def test_tasks_with_noisy_labels_are_set_apart(tasks):
    noisy = unseen("noise", 5, ceiling=0.3)
    unknown = unseen("once", 6, ceiling=None, replicates=1)
    clear, unclear = evaluation_report.split_by_ceiling([*tasks, noisy, unknown])
    assert [task.name for task in clear] == ["birds", "cars", "dots", "once"]
    assert [task.name for task in unclear] == ["noise"]


def test_the_report_is_written(tmp_path, tasks, compared, capsys):
    evaluation_report.print_report(tasks, *compared)
    printed = capsys.readouterr().out
    assert "Mean over the tasks" in printed
    assert "test-retest 0.90" in printed
    evaluation_report.write_report(tmp_path, tasks, *compared)
    with (tmp_path / "evaluation.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 12
    assert float(lines[0]["spearman"]) == compared[0][0].ranking.spearman
    assert lines[0]["coverage"] == "0.95"
    text = (tmp_path / "evaluation.md").read_text()
    assert text.count("| noisy |") == 4
    assert (tmp_path / "evaluation.png").read_bytes().startswith(b"\x89PNG")
