"""Runs an evaluation: reads predictors, scores unseen tasks, writes the report."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

import dass_jax
from dass_jax import database as db
from dass_jax.baselines.registry import BASELINES
from dass_jax.console import console
from dass_jax.data.tasks import TaskSpec
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.latency import device_name
from dass_jax.recipe import digest
from dass_jax.workdir import Workdir
from dass_jax.workflow import evaluate, prepare
from dass_jax.workflow import evaluation_report as report
from dass_jax.workflow.comparison import compare
from dass_jax.workflow.evaluate import UnseenTask
from dass_jax.workflow.given_teacher import weights_digest
from dass_jax.workflow.kept_scores import keep_scores, read_scores
from dass_jax.workflow.predictors import TrainedPredictor, load_predictor


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

    The scores of each task are kept beside the report. Where they are of the same records, teacher,
    predictors and settings, they are not made again.

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
    for name in predictors.keys() & BASELINES.keys():
        raise UserError(f"{name!r} is the name of a baseline: give the predictor another one")
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
    """A task's scores, from an earlier run if they depend on nothing that has changed since."""
    recipe = prepare.distilled_recipe(experiment, workdir, spec, experiment.kd)
    recipe |= _provenance(predictors, [db.read_records(database, spec.name)])
    # in their order, since the first one is what the report is about
    recipe["predictors"] = [
        [name, weights_digest((found.learned, found.calibration))]
        for name, found in predictors.items()
    ]
    recipe["baselines"] = list(evaluate.BASELINES)
    path = output / "scores" / f"{spec.name}.json"
    if (kept := read_scores(path, recipe)) is not None:
        console.print(f"{spec.name}: scored before, in {path}")
        return kept
    task = evaluate.evaluate_task(experiment, workdir, spec, predictors, database)
    keep_scores(path, task, recipe)
    return task


def _provenance(
    predictors: Mapping[str, TrainedPredictor], records: Sequence[Sequence[db.StudentRecord]]
) -> dict[str, Any]:
    """What figures were made of, for whoever makes them again."""
    return {
        "dass_jax": dass_jax.__version__,
        "jax": jax.__version__,
        "device": device_name(),
        "records": digest([db.records_digest(of_task) for of_task in records]),
        **{f"predictor {name}": digest(found.recipe) for name, found in predictors.items()},
    }
