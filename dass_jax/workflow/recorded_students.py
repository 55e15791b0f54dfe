"""The students of a task that the database has measured: a search is compared with them."""

from typing import Any

import numpy as np

from dass_jax import database as db
from dass_jax.baselines.recorded import RECORDED
from dass_jax.console import console
from dass_jax.data.tasks import TaskSpec
from dass_jax.experiment import Experiment
from dass_jax.metrics import correlate
from dass_jax.teacher import TeacherResult
from dass_jax.workdir import Workdir
from dass_jax.workflow import prepare
from dass_jax.workflow.predictors import TrainedPredictor
from dass_jax.workflow.prepare import TaskImages
from dass_jax.workflow.recipes import student_recipe
from dass_jax.workflow.scorer import predict_students


def recorded_students(
    experiment: Experiment, workdir: Workdir, spec: TaskSpec
) -> list[db.StudentRecord]:
    """The task's measured students, if the database has any.

    Raises:
      UserError: If they were measured with other settings, or a file is damaged.
    """
    records = db.first_replicate(db.read_records(workdir.database, spec.name))
    if records:
        recipe = student_recipe(experiment, spec, experiment.kd)
        db.check_task(workdir.database, spec.name, recipe)
    return records


def compare_recorded(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    images: TaskImages,
    teacher: TeacherResult,
    predictor: TrainedPredictor,
) -> dict[str, Any] | None:
    """How the predictor and the baselines rank the task's measured students.

    Args:
      experiment: The settings.
      workdir: Where the database lies.
      spec: The task.
      images: Its images.
      teacher: Its teacher.
      predictor: The predictor.

    Returns:
      Measured test accuracies, predictions and rank correlations; None without two students of
      this teacher and its images.
    """
    records = recorded_students(experiment, workdir, spec)
    if len(records) < 2:
        return None
    origin = prepare.saved_origin(workdir, spec)
    if note := db.foreign(workdir.database, {spec.name: origin}):
        console.print(note)
        return None
    measured = db.column(records, "test_accuracy")
    architectures = db.architectures_of(experiment.space, records)
    ids = db.column(records, "student_id").astype(np.int32)
    predicted = predict_students(predictor, spec, images, teacher, architectures, ids)
    scores = {"predictor": predicted.mean} | {
        name: baseline(records) for name, baseline in RECORDED.items()
    }
    return {
        "students": len(records),
        "measured": measured.tolist(),
        "predicted": predicted.mean.tolist(),
        "half_width": predicted.half_width.tolist(),
        "spearman": {name: correlate(s, measured).spearman for name, s in scores.items()},
        "kendall": {name: correlate(s, measured).kendall for name, s in scores.items()},
    }
