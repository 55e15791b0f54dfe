"""The evaluation's comparison and report, on scores whose quality is known."""

import csv

import numpy as np
import pytest
from scipy import stats

from dass_jax.baselines.measured import SHORT_DISTILLATION
from dass_jax.data.tasks import TaskSpec
from dass_jax.database import StudentRecord
from dass_jax.experiment import Experiment
from dass_jax.predictor.inputs import StudentInputs
from dass_jax.uncertainty import Prediction
from dass_jax.workflow import comparison, evaluate, evaluation, evaluation_report
from dass_jax.workflow.evaluate import Scores, UnseenTask
from dass_jax.workflow.scorer import Scorer


def unseen(name, seed, retest=0.9, replicates=2):
    """A task where the predictor is right, the second method is noisy, the third says nothing."""
    rng = np.random.default_rng(seed)
    accuracy = rng.uniform(0.2, 0.8, 20)
    measured = accuracy + 0.001 * rng.normal(size=(replicates, 20))
    return UnseenTask(
        name,
        measured,
        retest,
        teacher_accuracy=0.85,
        chance=0.1,
        scores={
            "predictor": Scores(accuracy, 0.01, coverage=0.95),
            "noisy": Scores(accuracy + 0.3 * rng.normal(size=20), 0.02),
            "constant": Scores(np.ones(20), 0.0),
            # it was made from the last measurement, and must not be compared with it
            SHORT_DISTILLATION: Scores(measured[-1].copy(), 1.0, saw_last=True),
        },
    )


@pytest.fixture(scope="module")
def tasks():
    return [unseen("birds", 0), unseen("cars", 1), unseen("dots", 2)]


@pytest.fixture(scope="module")
def compared(tasks):
    return comparison.compare(tasks)


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
            assert row.intervals.spearman == (0, 0)
            # whoever says nothing chooses any student
            assert row.ranking.precision == pytest.approx(comparison.TOP / 20)


def test_summaries_are_means_and_margins(compared):
    rows, summaries = compared
    for summary in summaries:
        own = [row.ranking for row in rows if row.method == summary.method]
        assert summary.ranking == pytest.approx(np.mean(own, axis=0))
        for value, (low, high) in zip(summary.ranking, summary.intervals, strict=True):
            assert low - 0.02 <= value <= high + 0.02
        if summary.method != SHORT_DISTILLATION:
            margin = summaries[0].ranking.spearman - summary.ranking.spearman
            assert summary.margin == pytest.approx(margin)
    assert (summaries[0].coverage, summaries[1].coverage) == (pytest.approx(0.95), None)
    assert summaries[0].margin_interval == (0, 0)
    noisy = summaries[1]
    assert noisy.margin_interval.low > 0.05


def test_what_was_measured_is_not_compared_with_itself(tasks):
    swapped = tasks[0].measured.copy()
    swapped[-1] = swapped[-1][::-1]
    short = Scores(swapped[-1].copy(), 1.0, saw_last=True)
    task = tasks[0]._replace(measured=swapped, scores={SHORT_DISTILLATION: short})
    rows, _ = comparison.compare([task])
    assert rows[0].ranking.spearman < 0.9
    # with a single measurement there is no other one
    alone = task._replace(measured=swapped[-1:])
    assert comparison.compare([alone])[0][0].ranking.spearman == pytest.approx(1)


def test_margins_are_on_the_same_measurements(tasks):
    """Who saw a measurement is compared with the predictor on the others alone."""
    task = tasks[0]
    first, short = (task.scores[name].values for name in ("predictor", SHORT_DISTILLATION))
    _, summaries = comparison.compare([task])
    unseen = task.measured[0]
    expected = stats.spearmanr(first, unseen).statistic - stats.spearmanr(short, unseen).statistic
    assert summaries[-1].method == SHORT_DISTILLATION
    assert summaries[-1].margin == pytest.approx(expected)


def test_the_verdict_is_about_the_best_baseline(tasks):
    parameters = Scores(tasks[0].scores["noisy"].values, 0.0)
    named = [task._replace(scores=task.scores | {"parameters": parameters}) for task in tasks]
    _, summaries = comparison.compare(named)
    text = " ".join(evaluation_report.verdict(named, summaries))
    mean = summaries[0].ranking.spearman
    assert f"mean Spearman of {mean:.2f}" in text
    assert f"{mean / 0.9:.2f} of the mean test-retest correlation, 0.90" in text
    assert f"is parameters, {summaries[-1].ranking.spearman:.2f}" in text
    assert "hold 95 %" in text


def test_tasks_with_noisy_labels_are_set_apart(tasks):
    noisy = unseen("noise", 5, retest=0.3)
    unknown = unseen("once", 6, retest=None, replicates=1)
    clear, unclear = evaluation_report.split_by_retest([*tasks, noisy, unknown])
    assert [task.name for task in clear] == ["birds", "cars", "dots", "once"]
    assert [task.name for task in unclear] == ["noise"]


def record(student_id, replicate):
    return StudentRecord(
        "digits", student_id, replicate, [1], [[4]], 1, 1,
        0.1, 0.1, 0.1, 0.1, [1], [0.1], 1.0, False, 1.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("stopped", "counted", "said"),
    [
        (4, [4, 4], []),
        (
            3,
            [3, 3],
            ["replicate 1 of digits lacks 1 of 4 students, and those students are left out"],
        ),
        (1, [4], ["replicate 1 of digits lacks 3 of 4 students, and the replicate is left out"]),
        (0, [4], []),
    ],
)
def test_a_replicate_that_was_stopped_does_not_count(stopped, counted, said, capsys):
    spec = TaskSpec("digits", "meta_test", "digits", students=4, replicates=2)
    experiment = Experiment(tasks=(spec,))
    records = [record(i, 0) for i in range(4)] + [record(i, 1) for i in range(stopped)]
    found = evaluate.by_replicate(evaluation._measured(experiment, spec, records))
    assert [len(row) for row in found] == counted
    printed = " ".join(capsys.readouterr().out.split())
    assert all(text in printed for text in said)
    assert ("Note" in printed) == bool(said)
    # the first one is all that there is, and is said to be unfinished
    found = evaluation._measured(experiment, spec, records[:3])
    assert len(found) == 3
    assert "1 of 4 students of digits are not measured yet" in capsys.readouterr().out


class Interpolator(Scorer):
    """Knows the students that it is adapted to by heart; the widest says how the others do."""

    def __init__(self, known=None):
        object.__setattr__(self, "known", known)

    def adapted_to(self, students, accuracies):
        return Interpolator((students.costs[:, 0], accuracies))

    def predict(self, students):
        widths, labels = self.known
        shares, widest = dict(zip(widths, labels, strict=True)), labels[np.argmax(widths)]
        known = [shares.get(one, widest) for one in students.costs[:, 0]]
        slopes = students.costs[:, 0] / 12
        return Prediction(slopes * widest + np.asarray(known), np.zeros(len(known)))


def test_no_student_is_predicted_from_its_own_label():
    rng = np.random.default_rng(0)
    students = StudentInputs(costs=1.0 + rng.permutation(12)[:, None])
    labels = rng.uniform(size=12)

    def predictions(labels):
        return evaluate._few_shot_predictions(Interpolator(), students, labels)

    before, seen = predictions(labels), 0
    for student in range(12):
        changed = labels.copy()
        changed[student] += 1.0
        after = predictions(changed)
        # its answer is relative to the mean of answers, in which its label is one of twelve
        assert abs(after[student] - before[student]) < 1 / 12 + 1e-9
        seen += np.abs(np.delete(after - before, student)).max() > 0.05
    assert seen == 9  # the eight that others are predicted from, and the one in their place


def test_the_report_says_whose_seconds_it_holds(tasks):
    def measured_on(task, machines):
        scores = {
            method: scores._replace(
                machine="" if scores.saw_last else machines.get(method, "a CPU")
            )
            for method, scores in task.scores.items()
        }
        return task._replace(scores=scores)

    mixed = [measured_on(tasks[0], {}), measured_on(tasks[1], {"predictor": "a GPU"})]
    rows, summaries = comparison.compare(mixed)
    lines = evaluation_report.markdown(mixed, rows, summaries, {}).splitlines()
    found = [line for line in lines if line.startswith("Seconds")]
    assert found == ["Seconds: a CPU", "Seconds: a CPU; of predictor: a GPU"]
    table = csv.DictReader(evaluation_report.as_csv(mixed, rows, summaries).splitlines())
    machines = {(line["task"], line["method"]): line["machine"] for line in table}
    assert machines["cars", "predictor"] == "a GPU"
    assert machines["birds", "predictor"] == machines["cars", "noisy"] == "a CPU"
    assert machines["mean", "predictor"] == machines["cars", SHORT_DISTILLATION] == ""


def test_the_report_is_written(tmp_path, tasks, compared, capsys):
    evaluation_report.print_report(tasks, *compared)
    printed = capsys.readouterr().out
    assert "Mean over the tasks" in printed
    assert "test-retest 0.90" in printed
    evaluation_report.write_report(tmp_path, tasks, *compared, {"records": "0123"})
    with (tmp_path / "evaluation.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["task"] for line in lines].count("mean") == 4
    assert len(lines) == 16
    assert float(lines[0]["spearman"]) == compared[0][0].ranking.spearman
    assert lines[0]["coverage"] == "0.95"
    text = (tmp_path / "evaluation.md").read_text()
    assert text.count("| noisy |") == 4
    assert "* records: 0123" in text
    assert (tmp_path / "evaluation.png").read_bytes().startswith(b"\x89PNG")
