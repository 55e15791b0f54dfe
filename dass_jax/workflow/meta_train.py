"""Meta-trains the accuracy predictor on the database."""

import pathlib
import shutil
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dass_jax import checkpoints
from dass_jax import database as db
from dass_jax.baselines.recorded import num_params
from dass_jax.console import console, duration, print_table, progress_bar
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.meta_learning import MetaConfig
from dass_jax.meta_tasks import TaskBatch
from dass_jax.meta_training import (
    MetaProgress,
    MetaResult,
    init_progress,
    meta_train,
    predict_tasks,
)
from dass_jax.metrics import correlate
from dass_jax.predictor.model import AccuracyPredictor
from dass_jax.recipe import Recipe, digest
from dass_jax.uncertainty import Calibration, calibrate
from dass_jax.workdir import Workdir
from dass_jax.workflow.recipes import predictor_interface, predictor_recipe
from dass_jax.workflow.task_arrays import (
    complete_records,
    labelled_task,
    stack_tasks,
)
from dass_jax.workflow.training_log import event_writer, write_history


def _collect(experiment: Experiment, workdir: Workdir, role: str) -> TaskBatch:
    specs = experiment.with_role(role)
    if not specs:
        raise UserError(f"no task of this experiment has the role {role}: meta-training needs one")
    return stack_tasks([labelled_task(experiment, workdir, spec) for spec in specs])


def run_meta_training(
    experiment: Experiment, workdir: Workdir, folder: pathlib.Path | None = None
) -> None:
    """Meta-trains on the ``meta_train`` tasks and selects on the ``meta_valid`` tasks.

    Unseen tasks are not read. A stopped run goes on to the same numbers.

    Args:
      experiment: The settings.
      workdir: Where the database lies.
      folder: Where the predictor goes; ``workdir.predictor`` if None.
    """
    folder = folder or workdir.predictor
    recipe = _recipe(experiment, workdir)
    if checkpoints.exists(folder / "checkpoint"):
        metadata = checkpoints.require_recipe(folder / "checkpoint", "the predictor", recipe)
        console.print(f"predictor: done before, in {folder}")
    else:
        metadata = _train(experiment, workdir, folder, recipe)
    rows = [
        ["selecting tasks' Spearman", f"{metadata['score']:.3f}"],
        ["at episode", metadata["episode"]],
        ["the same for parameter counts", f"{metadata['parameter_score']:.3f}"],
        ["time", duration(metadata["seconds"])],
    ]
    print_table("Predictor", ["", ""], rows)


def _recipe(experiment: Experiment, workdir: Workdir) -> Recipe:
    """What the predictor depends on; refuses a database that is incomplete or made otherwise."""
    specs = experiment.with_role("meta_train", "meta_valid")
    records = [complete_records(experiment, workdir, spec) for spec in specs]
    return predictor_recipe(experiment, digest([db.records_digest(task) for task in records]))


def _train(
    experiment: Experiment, workdir: Workdir, folder: pathlib.Path, recipe: Recipe
) -> dict[str, Any]:
    """Runs the episodes and saves the best predictor; returns what describes it."""
    begin = time.monotonic()
    training = _collect(experiment, workdir, "meta_train")
    selecting = _collect(experiment, workdir, "meta_valid")
    module = AccuracyPredictor(experiment.predictor)
    config = experiment.meta
    progress, history, past = _read_progress(
        folder, recipe, init_progress(module, training, config)
    )
    done = progress.step
    with (
        progress_bar("meta-training", config.episodes, done) as advance,
        event_writer(folder / "events", done) as write_events,
    ):

        def on_chunk(progress: MetaProgress, history: list[dict[str, Any]]) -> None:
            step = progress.step
            seconds = past + time.monotonic() - begin
            metadata = {"recipe": recipe, "history": history, "seconds": seconds}
            checkpoints.save(folder / "progress", step, progress, metadata)
            write_history(folder / "history.jsonl", history)
            write_events(step, history[-1])
            before = history[-2]["episode"] if len(history) > 1 else 0
            advance(f"best Spearman {float(progress.best_score):.3f}", step - before)

        result = meta_train(
            module, training, selecting, config,
            progress=progress, history=history, on_chunk=on_chunk, devices=experiment.devices,
        )  # fmt: skip
    seconds = past + time.monotonic() - begin
    calibration = _calibrate(module, result, selecting, config)
    metadata = {
        "interface": predictor_interface(experiment),
        "recipe": recipe,
        "score": result.score,
        "episode": result.episode,
        "parameter_score": _parameter_score(experiment, workdir),
        "calibration": calibration._asdict(),
        "seconds": seconds,
    }
    # the checkpoint marks the predictor as done, so it comes last
    checkpoints.save(folder / "checkpoint", result.episode, result.learned, metadata)
    shutil.rmtree(folder / "progress", ignore_errors=True)
    return metadata


def _calibrate(
    module: AccuracyPredictor, result: MetaResult, selecting: TaskBatch, config: MetaConfig
) -> Calibration:
    predictions = predict_tasks(module, result.learned, selecting, config)
    known = (selecting.accuracies, selecting.valid, selecting.teacher_accuracy, selecting.chance)
    return calibrate(*map(np.asarray, (predictions, *known)))


def _read_progress(
    folder: pathlib.Path, recipe: Recipe, fresh: MetaProgress
) -> tuple[MetaProgress, list[dict[str, Any]], float]:
    """Where a stopped run was, its history and its seconds; or the beginning."""
    saved = folder / "progress"
    if not checkpoints.exists(saved):
        return fresh, [], 0.0
    checkpoints.require_recipe(saved, "the unfinished predictor", recipe)
    progress, metadata = checkpoints.restore(saved, fresh)
    return jax.tree.map(jnp.asarray, progress), metadata["history"], metadata["seconds"]


def _parameter_score(experiment: Experiment, workdir: Workdir) -> float:
    """What ranking by parameter count reaches on the selecting tasks."""
    scores = []
    for spec in experiment.with_role("meta_valid"):
        records = db.first_replicate(db.read_records(workdir.database, spec.name))
        measured = db.column(records, experiment.target)
        scores.append(correlate(num_params(records), measured).spearman)
    return float(np.mean(scores))
