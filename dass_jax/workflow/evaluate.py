"""Scores the measured students of unseen tasks by predictors and by baselines."""

import functools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from dass_jax import database as db
from dass_jax.baselines.candidates import Candidates
from dass_jax.baselines.measured import (
    FULL_DISTILLATION,
    MEASURED_STUDENTS,
    REPEATED_REGRESSION,
    SHORT_DISTILLATION,
    early_evaluation,
    few_shot_split,
)
from dass_jax.baselines.registry import BASELINES, MEASURING
from dass_jax.console import console, progress_bar
from dass_jax.data.tasks import TaskSpec
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.predictor.inputs import StudentInputs
from dass_jax.retest import retest_correlation
from dass_jax.search.problem import rows
from dass_jax.search_space import Architecture
from dass_jax.workdir import Workdir
from dass_jax.workflow import prepare
from dass_jax.workflow.candidates import baseline_candidates
from dass_jax.workflow.predictors import TrainedPredictor
from dass_jax.workflow.recipes import student_recipe
from dass_jax.workflow.scorer import Scorer, make_scorer


class Scores(NamedTuple):
    """What one method says of the students of a task.

    Attributes:
      values: Higher is better, [N].
      seconds: Per student, after compilation.
      coverage: Share of the students whose test accuracy the interval of the prediction holds;
        None without intervals.
      saw_last: Whether it was made from the last replicate's measurements.
    """

    values: np.ndarray
    seconds: float
    coverage: float | None = None
    saw_last: bool = False


class UnseenTask(NamedTuple):
    """The measured students of one task.

    Attributes:
      name: The task's.
      measured: Test accuracies, a row for every replicate, fractions, [R, N].
      retest: The test-retest correlation, None if students were distilled once.
      teacher_accuracy: The teacher's test accuracy, a fraction.
      chance: The accuracy of guessing, a fraction.
      scores: What every method says.
    """

    name: str
    measured: np.ndarray
    retest: float | None
    teacher_accuracy: float
    chance: float
    scores: dict[str, Scores]


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
        return seconds * float(np.mean([early_evaluation(record)[0] for record in records]))
    if name in (FULL_DISTILLATION, REPEATED_REGRESSION):
        return seconds  # all splits together measure nearly every student
    return (MEASURED_STUDENTS + 1) * seconds / len(records)


def _baseline_scores(candidates: Candidates, advance: Callable[[str], None]) -> dict[str, Scores]:
    records = candidates.records or []
    scores = {}
    for name, baseline in BASELINES.items():
        advance(name)
        try:
            if name in MEASURING:
                seconds = _measuring_seconds(name, records)
                scores[name] = Scores(baseline(candidates), seconds, saw_last=True)
            else:
                values, seconds = _timed(functools.partial(baseline, candidates))
                scores[name] = Scores(np.asarray(values), seconds / len(records))
        except UserError as error:
            console.print(f"{name} is left out: {error}")
    return scores


def _few_shot_predictions(
    scorer: Scorer, students: StudentInputs, labels: np.ndarray
) -> np.ndarray:
    """Predictions after adaptation to the teacher and a few measured students.

    As in the regression on so many students, every student is scored by others alone. Predictions
    are relative to the mean of what the same adaptation predicts, [N].
    """
    scores = np.zeros(len(labels))
    for known, scored in few_shot_split(len(labels)):
        adapted = scorer.adapted_to(rows(students, known), labels[known])
        predicted = adapted.predict(students).mean
        scores[scored] = (predicted - predicted.mean())[scored]
    return scores


def _predictor_scores(
    name: str,
    scorer: Scorer,
    architectures: Architecture,
    replicates: Sequence[Sequence[db.StudentRecord]],
) -> dict[str, Scores]:
    """What a predictor says, without and with measured students."""
    ids = db.column(replicates[0], "student_id").astype(np.int32)
    measured = np.stack([db.column(row, "test_accuracy").astype(float) for row in replicates])
    prediction, seconds = _timed(functools.partial(scorer, architectures, ids))
    inside = np.abs(prediction.mean - measured) <= prediction.half_width
    scores = {name: Scores(prediction.mean, seconds / len(ids), float(inside.mean()))}
    # without inner steps, measured students would change nothing
    if len(ids) > MEASURED_STUDENTS and scorer.predictor.settings.meta.inner_steps:
        title = f"{name} and {MEASURED_STUDENTS} students"
        labels = db.column(replicates[-1], "final_accuracy").astype(float)
        values = _few_shot_predictions(scorer, scorer.embed(architectures, ids), labels)
        spent = _measuring_seconds(title, replicates[-1])
        scores[title] = Scores(values, spent, saw_last=True)
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
    if note := db.foreign(database, spec.name, prepare.saved_origin(workdir, spec)):
        console.print(note)
    architectures = db.architectures_of(experiment.space, replicates[0])
    ids = db.column(replicates[0], "student_id").astype(np.int32)
    candidates = baseline_candidates(
        experiment, spec, images, teacher, architectures, ids, replicates[-1]
    )
    measured = np.stack([db.column(row, "test_accuracy").astype(float) for row in replicates])
    scores: dict[str, Scores] = {}
    with progress_bar(f"scoring {spec.name}", len(predictors) + len(BASELINES)) as advance:
        for name, predictor in predictors.items():
            advance(name)
            scorer = make_scorer(predictor, spec, teacher, batch_size=len(ids))
            scores |= _predictor_scores(name, scorer, architectures, replicates)
        scores |= _baseline_scores(candidates, advance)
    return UnseenTask(
        spec.name,
        measured,
        retest_correlation(records, spec.role),
        prepare.teacher_test_accuracy(workdir, spec),
        1 / images.num_classes,
        scores,
    )
