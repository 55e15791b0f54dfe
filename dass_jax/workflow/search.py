"""Finds a student for an unseen task, distils it, and compares it with random ones."""

import time
from typing import Any, NamedTuple

import jax
import numpy as np

import dass_jax
from dass_jax import cost
from dass_jax import database as db
from dass_jax.baselines.recorded import RECORDED
from dass_jax.console import console
from dass_jax.cost import Budget
from dass_jax.data.tasks import TaskSpec
from dass_jax.distillation import Assignment
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.metrics import correlate
from dass_jax.randomness import Stream, task_key
from dass_jax.recipe import digest, require_equal
from dass_jax.search import Candidate, score, top_candidates
from dass_jax.search_space import Architecture, unstack
from dass_jax.teacher import TeacherResult
from dass_jax.uncertainty import Prediction, with_intervals
from dass_jax.workdir import Workdir, read_json, write_json
from dass_jax.workflow import prepare
from dass_jax.workflow.distill import Result, Student, distil_students, distil_winner
from dass_jax.workflow.predictors import TrainedPredictor, load_predictor
from dass_jax.workflow.recipes import search_recipe, student_recipe
from dass_jax.workflow.search_report import plot_search, print_search
from dass_jax.workflow.task_arrays import task_arrays


class _Pool(NamedTuple):
    """Scored candidates."""

    architectures: Architecture
    predictions: Prediction
    flops: np.ndarray
    num_params: np.ndarray


def predict_students(
    spec: TaskSpec,
    teacher: TeacherResult,
    predictor: TrainedPredictor,
    architectures: Architecture,
    student_ids: np.ndarray,
) -> Prediction:
    """Predicted accuracies after adaptation to the teacher, with intervals."""
    task = task_arrays(predictor.settings, spec, teacher, architectures, student_ids)
    steps = predictor.settings.meta.inner_steps
    members = score(predictor.module, predictor.learned, task, steps=steps)
    known = float(task.teacher_accuracy), float(task.chance)
    return with_intervals(predictor.calibration, members, *known)


def _costs(
    experiment: Experiment, architectures: Architecture, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    space = experiment.space
    flops = cost.num_flops(
        space, architectures, image_size=experiment.image_size, num_classes=num_classes
    )
    return flops, cost.num_params(space, architectures, num_classes=num_classes)


def _budget(experiment: Experiment, num_classes: int) -> Budget:
    flops, params = _costs(experiment, experiment.space.full(), num_classes)
    return experiment.search.budget(int(flops), int(params))


def _sample(
    experiment: Experiment, spec: TaskSpec, stream: Stream, size: int, num_classes: int
) -> Architecture:
    return cost.sample_within_budget(
        experiment.space,
        task_key(experiment.seed, spec.name, stream),
        size,
        _budget(experiment, num_classes),
        image_size=experiment.image_size,
        num_classes=num_classes,
    )


def _score_pool(
    experiment: Experiment,
    spec: TaskSpec,
    teacher: TeacherResult,
    predictor: TrainedPredictor,
    num_classes: int,
) -> _Pool:
    size = experiment.search.pool_size
    pool = _sample(experiment, spec, Stream.CANDIDATES, size, num_classes)
    ids = np.arange(size, dtype=np.int32)
    predictions = predict_students(spec, teacher, predictor, pool, ids)
    if not np.all(np.isfinite(predictions.mean)):
        raise UserError("the predictor returns values that are not finite: meta-train it again")
    return _Pool(pool, predictions, *_costs(experiment, pool, num_classes))


def _labels(experiment: Experiment, workdir: Workdir, spec: TaskSpec) -> list[db.StudentRecord]:
    """The task's measured students, if the database has any."""
    records = db.first_replicate(db.read_records(workdir.database, spec.name))
    if records:
        recipe = student_recipe(experiment, spec, experiment.kd)
        db.check_task(workdir.database, spec.name, recipe)
    return records


def _measured(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    teacher: TeacherResult,
    predictor: TrainedPredictor,
) -> dict[str, Any] | None:
    """Rank correlations on the task's measured students, if there are any."""
    records = _labels(experiment, workdir, spec)
    if len(records) < 2:
        return None
    measured = db.column(records, "test_accuracy")
    architectures = db.architectures_of(experiment.space, records)
    ids = db.column(records, "student_id").astype(np.int32)
    predicted = predict_students(spec, teacher, predictor, architectures, ids)
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


def run_search(experiment: Experiment, workdir: Workdir, spec: TaskSpec) -> None:
    """Searches a student for one task and writes ``search.json``, a table and plots.

    The teacher is trained if it is missing. A finished search is printed again.

    Args:
      experiment: The settings.
      workdir: Where the predictor lies and the results go.
      spec: The task; it should not be one that the predictor was trained on.
    """
    predictor = load_predictor(workdir.predictor, experiment)
    if spec.name in predictor.recipe["roles"]:
        console.print(f"Note: {spec.name} is no unseen task, the predictor was made with it.")
    records = db.records_digest(_labels(experiment, workdir, spec))
    recipe = search_recipe(experiment, spec, digest(predictor.recipe), records)
    path = workdir.search(spec.name) / "search.json"
    if path.exists():
        result = read_json(path)
        saved = result.get("recipe") if isinstance(result, dict) else None
        require_equal(f"the search in {path}", saved, recipe)
        console.print(f"search {spec.name}: done before, in {path}")
    else:
        result = _search(experiment, workdir, spec, predictor) | {"recipe": recipe}
        write_json(path, result)
    print_search(result)
    console.print(f"Files: {path.parent}")


def _search(
    experiment: Experiment, workdir: Workdir, spec: TaskSpec, predictor: TrainedPredictor
) -> dict[str, Any]:
    images = prepare.load_images(experiment, spec)
    teacher = prepare.ensure_teacher(experiment, workdir, spec, images)
    begin = time.monotonic()
    pool = _score_pool(experiment, spec, teacher, predictor, images.num_classes)
    score_seconds = time.monotonic() - begin
    top = top_candidates(
        pool.architectures, pool.predictions, pool.flops, pool.num_params, experiment.search.top_k
    )
    measured = _measured(experiment, workdir, spec, teacher, predictor)
    assignment = prepare.make_assignment(
        experiment, workdir, spec, images, teacher, experiment.final, experiment.search.replicates
    )
    chosen = Student(top[0].architecture, top[0].student_id)
    winner = distil_winner(experiment, workdir, spec, assignment, chosen)
    rivals = _random_rivals(experiment, workdir, spec, assignment, images.num_classes)
    result = _result(experiment, workdir, spec, images.num_classes, pool, top, winner, rivals)
    result |= {"measured": measured, "score_seconds": score_seconds}
    plot_search(workdir.search(spec.name), result, pool.flops, pool.predictions.mean)
    return result


def _random_rivals(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    assignment: Assignment,
    num_classes: int,
) -> list[Result]:
    """Random students under the same budget, distilled with the winner's first seed."""
    size = experiment.search.random_students
    if size == 0:
        return []
    sampled = _sample(experiment, spec, Stream.RANDOM_STUDENTS, size, num_classes)
    students = [Student(architecture, row) for row, architecture in enumerate(unstack(sampled))]
    results = distil_students(
        experiment, spec, assignment, students, 0, workdir.search(spec.name) / "random_students",
        f"distilling {size} random students",
    )  # fmt: skip
    flops, params = _costs(experiment, sampled, num_classes)
    return [
        result | {"flops": int(flops[row]), "num_params": int(params[row])}
        for row, result in enumerate(results)
    ]


def _result(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    num_classes: int,
    pool: _Pool,
    top: list[Candidate],
    winner: list[Result],
    rivals: list[Result],
) -> dict[str, Any]:
    """What ``search.json`` holds."""
    flops, params = _costs(experiment, experiment.space.full(), num_classes)
    return {
        "task": spec.name,
        "seed": experiment.seed,
        "versions": {"dass_jax": dass_jax.__version__, "jax": jax.__version__},
        "device": str(jax.devices()[0].device_kind),
        "budget": _budget(experiment, num_classes)._asdict(),
        "pool_size": len(pool.flops),
        "teacher": {
            "flops": int(flops),
            "num_params": int(params),
            "test_accuracy": prepare.teacher_test_accuracy(workdir, spec),
        },
        "top": [
            candidate._asdict() | {"architecture": experiment.space.to_json(candidate.architecture)}
            for candidate in top
        ],
        "winner": winner,
        "random_students": rivals,
    }
