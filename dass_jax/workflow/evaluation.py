"""Runs an evaluation: reads predictors, scores unseen tasks, writes the report."""

import pathlib
from collections.abc import Mapping, Sequence

import jax

import dass_jax
from dass_jax import database as db
from dass_jax.baselines.registry import BASELINES
from dass_jax.console import console
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.latency import device_name
from dass_jax.recipe import digest
from dass_jax.workdir import Workdir
from dass_jax.workflow import evaluation_report as report
from dass_jax.workflow.comparison import compare
from dass_jax.workflow.evaluate import evaluate_task
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
    tasks = [evaluate_task(experiment, workdir, spec, loaded, database) for spec in measured]
    clear, unclear = report.split_by_retest(tasks)
    rows, summaries = compare(clear) if clear else ([], [])
    if unclear:
        names = ", ".join(unseen.name for unseen in unclear)
        console.print(f"Left out of the means, test-retest below {report.LEAST_RETEST}: {names}")
        rows = rows + compare(unclear)[0]
    report.print_report([*clear, *unclear], rows, summaries)
    provenance = _provenance(loaded, [db.read_records(database, task.name) for task in tasks])
    report.write_report(output, [*clear, *unclear], rows, summaries, provenance)


def _provenance(
    predictors: Mapping[str, TrainedPredictor], records: Sequence[Sequence[db.StudentRecord]]
) -> dict[str, str]:
    """What figures were made of, for whoever makes them again."""
    return {
        "dass_jax": dass_jax.__version__,
        "jax": jax.__version__,
        "device": device_name(),
        "records": digest([db.records_digest(of_task) for of_task in records]),
        **{f"predictor {name}": digest(found.recipe) for name, found in predictors.items()},
    }
