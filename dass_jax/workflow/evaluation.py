"""Runs an evaluation: reads predictors, scores unseen tasks, writes the report."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

import dass_jax
from dass_jax import checkpoints
from dass_jax import database as db
from dass_jax.baselines.registry import BASELINES
from dass_jax.console import console, progress_bar
from dass_jax.data.tasks import TaskSpec
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.latency import device_name
from dass_jax.recipe import digest
from dass_jax.retest import retest_correlation
from dass_jax.workdir import Workdir
from dass_jax.workflow import evaluate, prepare
from dass_jax.workflow import evaluation_report as report
from dass_jax.workflow.candidates import PROBE_IMAGES
from dass_jax.workflow.comparison import compare
from dass_jax.workflow.evaluate import Scores, UnseenTask
from dass_jax.workflow.given_teacher import weights_digest
from dass_jax.workflow.kept_scores import keep_scores, read_scores
from dass_jax.workflow.predictors import TrainedPredictor, load_predictor
from dass_jax.workflow.recipes import student_recipe

# groups of methods in the files of kept scores
_BASELINES = "baselines"
_PREDICTOR = "predictor "


def run_evaluation(
    experiment: Experiment,
    workdir: Workdir,
    *,
    predictors: Mapping[str, pathlib.Path],
    database: pathlib.Path,
    output: pathlib.Path,
    task: str | None = None,
) -> None:
    """Evaluates predictors on the unseen tasks that have measured students.

    The scores of each task are kept beside the report. What a predictor or the baselines say is not
    asked again where it is of the same records, teacher and settings, and of the same predictor.

    Tasks whose test-retest correlation is too low to rank anything are reported, but left out of
    the means.

    Args:
      experiment: The settings.
      workdir: Where the teachers lie.
      predictors: Folders of predictors by name; the first is the one that margins are about.
      database: Where the records lie.
      output: Where the report goes.
      task: Only this task, if given.

    Raises:
      UserError: If nothing is measured, or a predictor, teacher or record is missing or was made
        with other settings.
    """
    adapted = {evaluate.adapted_name(name) for name in predictors}
    for name in predictors.keys() & (BASELINES.keys() | adapted):
        raise UserError(f"{name!r} is the name of another method: give the predictor another one")
    loaded = {name: load_predictor(path, experiment) for name, path in predictors.items()}
    specs = (experiment.task(task),) if task else experiment.with_role("meta_test")
    measured = [spec for spec in specs if db.read_records(database, spec.name)]
    for spec in specs:
        if spec not in measured:
            console.print(f"{spec.name} has no measured students and is left out")
        for name, predictor in loaded.items():
            if spec.name in predictor.recipe["roles"]:
                console.print(f"Note: {spec.name} is no unseen task, {name} was made with it.")
    if not measured:
        raise UserError(f"no unseen task has students in {database}: run bin/build_database.py")
    tasks = [_scored(experiment, workdir, spec, loaded, database, output) for spec in measured]
    clear, unclear = report.split_by_retest(tasks)
    rows, summaries = compare(clear) if clear else ([], [])
    if unclear:
        names = ", ".join(unseen.name for unseen in unclear)
        console.print(f"Left out of the means, test-retest below {report.LEAST_RETEST}: {names}")
        rows = rows + compare(unclear)[0]
    report.print_report([*clear, *unclear], rows, summaries)
    provenance = _provenance(loaded, [db.read_records(database, task.name) for task in tasks])
    report.write_report(output, [*clear, *unclear], rows, summaries, provenance)


def _scored(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    predictors: Mapping[str, TrainedPredictor],
    database: pathlib.Path,
    output: pathlib.Path,
) -> UnseenTask:
    """A task's scores; of an earlier run where they depend on nothing that has changed since."""
    db.check_task(database, spec.name, student_recipe(experiment, spec, experiment.kd))
    records = db.read_records(database, spec.name)
    replicates = evaluate.by_replicate(records)
    if len(replicates[0]) < 3:
        raise UserError(f"task {spec.name} has fewer than three measured students")
    if note := db.foreign(database, spec.name, prepare.saved_origin(workdir, spec)):
        console.print(note)
    scores = _scores(experiment, workdir, spec, predictors, records, output)
    return UnseenTask(
        spec.name,
        evaluate.test_accuracies(replicates),
        retest_correlation(records, spec.role),
        prepare.teacher_test_accuracy(workdir, spec),
        1 / checkpoints.read_metadata(workdir.teacher(spec.name) / "checkpoint")["num_classes"],
        scores,
    )


def _scores(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    predictors: Mapping[str, TrainedPredictor],
    records: Sequence[db.StudentRecord],
    output: pathlib.Path,
) -> dict[str, Scores]:
    """What all methods say of a task's students; each group is kept as soon as it is scored."""
    path = output / "scores" / f"{spec.name}.json"
    recipe = prepare.distilled_recipe(experiment, workdir, spec, experiment.kd)
    recipe |= _circumstances([records])
    recipes = {_PREDICTOR + name: recipe | _identity(found) for name, found in predictors.items()}
    recipes[_BASELINES] = recipe | {
        "baselines": list(evaluate.BASELINES),
        "probe_images": PROBE_IMAGES,
    }
    kept = {group: read_scores(path, group, wanted) for group, wanted in recipes.items()}
    missing = [group for group, scores in kept.items() if scores is None]
    if len(missing) < len(kept):
        old = ", ".join(group for group in kept if group not in missing)
        console.print(f"{spec.name}: scored before by {old}, in {path}")
    if not missing:
        return _joined(kept)
    students = evaluate.measured_students(experiment, workdir, spec, records)
    steps = len(missing) - 1 + (len(evaluate.BASELINES) if _BASELINES in missing else 1)
    with progress_bar(f"scoring {spec.name}", steps) as advance:
        for group in missing:
            if group == _BASELINES:
                scores = evaluate.score_baselines(students, advance)
            else:
                name = group.removeprefix(_PREDICTOR)
                advance(name)
                scores = evaluate.score_predictor(name, predictors[name], students)
            kept[group] = scores
            # a baseline that was left out is tried again, and its reason told
            if group != _BASELINES or len(scores) == len(evaluate.BASELINES):
                keep_scores(path, group, scores, recipes[group])
    return _joined(kept)


def _joined(groups: Mapping[str, dict[str, Scores] | None]) -> dict[str, Scores]:
    return {name: found for scores in groups.values() for name, found in (scores or {}).items()}


def _identity(predictor: TrainedPredictor) -> dict[str, str]:
    """What a predictor's scores depend on, beside the task."""
    return {
        "predictor": digest(predictor.recipe),
        "weights": weights_digest((predictor.learned, predictor.calibration)),
    }


def _circumstances(records: Sequence[Sequence[db.StudentRecord]]) -> dict[str, str]:
    """With what, where and of what students figures were made."""
    return {
        "dass_jax": dass_jax.__version__,
        "jax": jax.__version__,
        "device": device_name(),
        "records": digest([db.records_digest(of_task) for of_task in records]),
    }


def _provenance(
    predictors: Mapping[str, TrainedPredictor], records: Sequence[Sequence[db.StudentRecord]]
) -> dict[str, Any]:
    """What figures were made of, for whoever makes them again."""
    return _circumstances(records) | {
        f"predictor {name}": digest(found.recipe) for name, found in predictors.items()
    }
