"""Scores the measured students of unseen tasks by predictors and by baselines."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

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
from dass_jax.console import console
from dass_jax.data.tasks import TaskSpec
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.predictor.inputs import StudentInputs
from dass_jax.search.problem import rows
from dass_jax.teacher import TeacherResult
from dass_jax.workdir import Workdir
from dass_jax.workflow import prepare
from dass_jax.workflow.candidates import baseline_candidates
from dass_jax.workflow.predictors import TrainedPredictor
from dass_jax.workflow.scorer import Scorer, make_scorer


class Scores(NamedTuple):
    """What one method says of the students of a task.

    Attributes:
      values: Higher is better, [N].
      seconds: Per student, after compilation.
      coverage: Share of the students whose test accuracy the interval of the prediction holds;
        None without intervals.
      saw_last: Whether it was made from the last replicate's measurements.
      machine: Whose seconds these are, in words; empty if they are of distillation.
    """

    values: np.ndarray
    seconds: float
    coverage: float | None = None
    saw_last: bool = False
    machine: str = ""


class MeasuredStudents(NamedTuple):
    """The measured students of one task, as methods see them.

    Attributes:
      spec: The task.
      images: Its images.
      teacher: Its teacher.
      candidates: The students before training, with the last replicate's records.
      replicates: The records of students that every replicate has.
    """

    spec: TaskSpec
    images: prepare.TaskImages
    teacher: TeacherResult
    candidates: Candidates
    replicates: Sequence[Sequence[db.StudentRecord]]


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


def by_replicate(records: Sequence[db.StudentRecord]) -> list[list[db.StudentRecord]]:
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


def score_baselines(
    students: MeasuredStudents, advance: Callable[[str], None]
) -> dict[str, Scores]:
    """What all baselines say.

    Those that look at measurements see the last replicate, and are compared with the others if
    there are any.

    Args:
      students: From ``measured_students``.
      advance: Called with the name of each baseline before its turn.
    """
    candidates = students.candidates
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


def adapted_name(name: str) -> str:
    """What a predictor is called that was adapted to measured students."""
    return f"{name} and {MEASURED_STUDENTS} students"


def score_predictor(
    name: str, predictor: TrainedPredictor, students: MeasuredStudents
) -> dict[str, Scores]:
    """What a predictor says, without and with measured students.

    Args:
      name: What the report calls it.
      predictor: The predictor.
      students: From ``measured_students``.
    """
    replicates, architectures = students.replicates, students.candidates.students.architectures
    ids = students.candidates.students.student_ids
    scorer = make_scorer(predictor, students.spec, students.images, students.teacher, len(ids))
    measured = test_accuracies(replicates)
    prediction, seconds = _timed(functools.partial(scorer, architectures, ids))
    inside = np.abs(prediction.mean - measured) <= prediction.half_width
    scores = {name: Scores(prediction.mean, seconds / len(ids), float(inside.mean()))}
    # without inner steps, measured students would change nothing
    if len(ids) > MEASURED_STUDENTS and predictor.settings.meta.inner_steps:
        title = adapted_name(name)
        labels = db.column(replicates[-1], "final_accuracy").astype(float)
        values = _few_shot_predictions(scorer, scorer.embed(architectures, ids), labels)
        spent = _measuring_seconds(title, replicates[-1])
        scores[title] = Scores(values, spent, saw_last=True)
    return scores


def test_accuracies(replicates: Sequence[Sequence[db.StudentRecord]]) -> Float[np.ndarray, "R N"]:
    """Test accuracies of N students, a row for each of R replicates, fractions."""
    return np.stack([db.column(row, "test_accuracy").astype(float) for row in replicates])


def measured_students(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    records: Sequence[db.StudentRecord],
) -> MeasuredStudents:
    """Reads a task's images and teacher, and puts its students together.

    Args:
      experiment: The settings.
      workdir: Where the teacher lies.
      spec: The task.
      records: Its students, all replicates.

    Raises:
      UserError: If there is no teacher, or it was made otherwise.
    """
    images = prepare.load_images(experiment, spec)
    teacher = prepare.load_teacher(experiment, workdir, spec, images)
    found = by_replicate(records)
    architectures = db.architectures_of(experiment.space, found[0])
    ids = db.column(found[0], "student_id").astype(np.int32)
    candidates = baseline_candidates(
        experiment, spec, images, teacher, architectures, ids, found[-1]
    )
    return MeasuredStudents(spec, images, teacher, candidates, found)
