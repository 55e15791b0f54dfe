"""Compares predictors with baselines on the measured students of unseen tasks.

Every score is compared with test accuracies after distillation. Where a task's students were
distilled more than once, a score is compared with each measurement and the results are averaged,
which is what the test-retest correlation, the ceiling, is, too: one measurement against another.
"""

import functools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from dass_jax import database as db
from dass_jax import ranking
from dass_jax.baselines.candidates import Candidates
from dass_jax.baselines.measured import MEASURED_STUDENTS, SHORT_DISTILLATION
from dass_jax.baselines.registry import BASELINES, MEASURING
from dass_jax.console import console, progress_bar
from dass_jax.data.tasks import TaskSpec
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.ranking import Interval, Ranking
from dass_jax.retest import retest_correlation
from dass_jax.workdir import Workdir
from dass_jax.workflow import prepare
from dass_jax.workflow.candidates import baseline_candidates
from dass_jax.workflow.predictors import TrainedPredictor
from dass_jax.workflow.recipes import student_recipe
from dass_jax.workflow.scorer import predict_students

SAMPLES = 1000
TOP = 5
# the share of its epochs that short distillation takes
_SHORT = 1 / 3


class Scores(NamedTuple):
    """What one method says of the students of a task.

    Attributes:
      values: Higher is better, [N].
      seconds: Per student, after compilation.
      coverage: Share of the students whose test accuracy the interval of the prediction holds;
        None without intervals.
    """

    values: np.ndarray
    seconds: float
    coverage: float | None = None


class UnseenTask(NamedTuple):
    """The measured students of one task.

    Attributes:
      name: The task's.
      measured: Test accuracies, a row for every replicate, fractions, [R, N].
      ceiling: The test-retest correlation, None if students were distilled once.
      teacher_accuracy: The teacher's test accuracy, a fraction.
      chance: The accuracy of guessing, a fraction.
      scores: What every method says.
    """

    name: str
    measured: np.ndarray
    ceiling: float | None
    teacher_accuracy: float
    chance: float
    scores: dict[str, Scores]


class Row(NamedTuple):
    """One method on one task.

    Attributes:
      task: The task's name.
      method: The method's name.
      ranking: How it ranks the students.
      spearman_interval: Of its Spearman correlation, over students.
      seconds: Per student.
      coverage: As in ``Scores``.
    """

    task: str
    method: str
    ranking: Ranking
    spearman_interval: Interval
    seconds: float
    coverage: float | None


class Summary(NamedTuple):
    """One method over tasks.

    Attributes:
      method: The method's name.
      spearman: Mean over the tasks.
      interval: Of this mean, over tasks and students.
      regret: Mean over the tasks, a fraction.
      margin: Mean difference in Spearman of the first predictor to this method.
      margin_interval: Of this difference.
    """

    method: str
    spearman: float
    interval: Interval
    regret: float
    margin: float
    margin_interval: Interval


def _replicates(records: Sequence[db.StudentRecord]) -> list[list[db.StudentRecord]]:
    """The records of students that every replicate has and none lost, by replicate."""
    numbers = sorted({record.replicate for record in records})
    valid = [
        {r.student_id: r for r in records if r.replicate == number and not r.diverged}
        for number in numbers
    ]
    shared = sorted(set.intersection(*(set(found) for found in valid)))
    return [[found[student] for student in shared] for found in valid]


Result = TypeVar("Result")


def _timed(function: Callable[[], Result]) -> tuple[Result, float]:
    """A result, and the seconds that it takes once everything is compiled."""
    function()
    begin = time.perf_counter()
    return function(), time.perf_counter() - begin


def _measuring_seconds(name: str, records: Sequence[db.StudentRecord]) -> float:
    """Seconds of distillation that a measuring baseline spends for each student."""
    seconds = float(np.mean([record.seconds for record in records]))
    if name == SHORT_DISTILLATION:
        return _SHORT * seconds
    return (MEASURED_STUDENTS + 1) * seconds / len(records)


def _baseline_scores(candidates: Candidates, advance: Callable[[str], None]) -> dict[str, Scores]:
    records = candidates.records or []
    scores = {}
    for name, baseline in BASELINES.items():
        advance(name)
        try:
            if name in MEASURING:
                seconds = _measuring_seconds(name, records)
                scores[name] = Scores(baseline(candidates), seconds)
            else:
                values, seconds = _timed(functools.partial(baseline, candidates))
                scores[name] = Scores(np.asarray(values), seconds / len(records))
        except UserError as error:
            console.print(f"{name} is left out: {error}")
    return scores


def evaluate_task(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    predictors: Mapping[str, TrainedPredictor],
    database: pathlib.Path,
) -> UnseenTask:
    """Scores the measured students of one task by all methods.

    Baselines that look at measurements see the last replicate, and are compared with the others if
    there are any.

    Args:
      experiment: The settings.
      workdir: Where the teacher lies.
      spec: The task.
      predictors: By name.
      database: Where the records lie.

    Raises:
      UserError: If the task has fewer than three students or was made otherwise.
    """
    db.check_task(database, spec.name, student_recipe(experiment, spec, experiment.kd))
    records = db.read_records(database, spec.name)
    replicates = _replicates(records)
    if len(replicates[0]) < 3:
        raise UserError(f"task {spec.name} has fewer than three measured students")
    images = prepare.load_images(experiment, spec)
    teacher = prepare.load_teacher(experiment, workdir, spec, images)
    architectures = db.architectures_of(experiment.space, replicates[0])
    ids = db.column(replicates[0], "student_id").astype(np.int32)
    candidates = baseline_candidates(
        experiment, spec, images, teacher, architectures, ids, replicates[-1]
    )
    measured = np.stack([db.column(row, "test_accuracy").astype(float) for row in replicates])
    scores = {}
    with progress_bar(f"scoring {spec.name}", len(predictors) + len(BASELINES)) as advance:
        for name, predictor in predictors.items():
            advance(name)
            predict = functools.partial(predict_students, predictor, spec, teacher)
            prediction, seconds = _timed(functools.partial(predict, architectures, ids))
            inside = np.abs(prediction.mean - measured) <= prediction.half_width
            scores[name] = Scores(prediction.mean, seconds / len(ids), float(inside.mean()))
        scores |= _baseline_scores(candidates, advance)
    return UnseenTask(
        spec.name,
        measured,
        retest_correlation(records, spec.role),
        prepare.teacher_test_accuracy(workdir, spec),
        1 / images.num_classes,
        scores,
    )


def _fair(task: UnseenTask, method: str) -> np.ndarray:
    """The measurements that a method has not seen, if there are any."""
    seen = method in MEASURING and len(task.measured) > 1
    return task.measured[:-1] if seen else task.measured


def compare(tasks: Sequence[UnseenTask], seed: int = 0) -> tuple[list[Row], list[Summary]]:
    """Ranks all methods on all tasks, and over the tasks.

    Args:
      tasks: Scored tasks; the first method of the first one is the one that margins are about.
      seed: Of the bootstrap.

    Returns:
      A row for every task and method, and a summary of every method that all tasks have.
    """
    rng = np.random.default_rng(seed)
    draws = [ranking.resamples(rng, task.measured.shape[1], SAMPLES) for task in tasks]
    rows, samples = [], {}
    for task, draw in zip(tasks, draws, strict=True):
        for method, scores in task.scores.items():
            measured = _fair(task, method)
            drawn = ranking.bootstrap_spearman(scores.values, measured, draw)
            samples[task.name, method] = drawn
            rows.append(
                Row(
                    task.name, method, ranking.rank(scores.values, measured, TOP),
                    ranking.interval(drawn), scores.seconds, scores.coverage,
                )
            )  # fmt: skip
    shared = [m for m in tasks[0].scores if all(m in task.scores for task in tasks)]
    return rows, [_summary(m, shared[0], tasks, rows, samples, seed) for m in shared]


def _summary(
    method: str,
    first: str,
    tasks: Sequence[UnseenTask],
    rows: Sequence[Row],
    samples: Mapping[tuple[str, str], np.ndarray],
    seed: int,
) -> Summary:
    def mean(name: str) -> float:
        return float(np.mean([row.ranking.spearman for row in rows if row.method == name]))

    own = [samples[task.name, method] for task in tasks]
    difference = [samples[task.name, first] - samples[task.name, method] for task in tasks]
    # the same draws of tasks for every method
    means = [
        ranking.interval(ranking.bootstrap_mean(np.random.default_rng(seed), drawn))
        for drawn in (own, difference)
    ]
    regret = float(np.mean([row.ranking.regret for row in rows if row.method == method]))
    return Summary(method, mean(method), means[0], regret, mean(first) - mean(method), means[1])
