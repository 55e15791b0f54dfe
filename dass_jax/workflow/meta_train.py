"""Meta-trains the accuracy predictor on the database."""

import pathlib
import shutil
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dass_jax import checkpoints
from dass_jax import database as db
from dass_jax.baselines.recorded import RECORDED
from dass_jax.console import console, duration, print_table, progress_bar
from dass_jax.data.tasks import TaskSpec
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.folds import (
    Folds,
    by_judges,
    judged_together,
    make_folds,
    spearman_of_others_choice,
)
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
from dass_jax.workflow.source_tasks import complete_records, labelled_tasks, labels_of
from dass_jax.workflow.training_log import event_writer, write_history

# validation and test accuracies of the same networks
OTHER_IMAGES = "other images"
# how to have a predictor of these settings beside the one that is there
_OTHERWISE = "choose another folder with --predictor"


class _Tasks(NamedTuple):
    """What a predictor is made from.

    Attributes:
      training: Tasks to train on.
      selecting: Tasks that judge; the same ones if members hold some out.
      judges: The selecting tasks' specifications, in this order.
      folds: Who trains on which tasks, if members hold some out.
    """

    training: TaskBatch
    selecting: TaskBatch
    judges: Sequence[TaskSpec]
    folds: Folds | None


def _judges(experiment: Experiment) -> tuple[TaskSpec, ...]:
    """The tasks that a predictor is judged by, which are no unseen ones."""
    held_out = experiment.meta.held_out
    return experiment.with_role(*(("meta_train", "meta_valid") if held_out else ("meta_valid",)))


def _collect(experiment: Experiment, workdir: Workdir) -> _Tasks:
    meta, judges = experiment.meta, _judges(experiment)
    for role in ("meta_train",) if meta.held_out else ("meta_train", "meta_valid"):
        if not experiment.with_role(role):
            raise UserError(
                f"no task of this experiment has the role {role}: meta-training needs one"
            )
    if meta.held_out:
        folds = make_folds(meta.ensemble, len(judges), meta.held_out)
        tasks = labelled_tasks(experiment, workdir, judges)
        return _Tasks(tasks, tasks, judges, folds)
    training = labelled_tasks(experiment, workdir, experiment.with_role("meta_train"))
    return _Tasks(training, labelled_tasks(experiment, workdir, judges), judges, None)


def run_meta_training(
    experiment: Experiment, workdir: Workdir, folder: pathlib.Path | None = None
) -> None:
    """Meta-trains on the ``meta_train`` tasks and selects on the ``meta_valid`` tasks.

    With ``meta.held_out``, members of the ensemble train on tasks of both roles but for those that
    they hold out. Unseen tasks are not read. A stopped run goes on to the same numbers.

    Args:
      experiment: The settings.
      workdir: Where the database lies.
      folder: Where the predictor goes; ``workdir.predictor`` if None.
    """
    folder = folder or workdir.predictor
    recipe = _recipe(experiment, workdir)
    if checkpoints.exists(folder / "checkpoint"):
        metadata = checkpoints.require_recipe(
            folder / "checkpoint", "the predictor", recipe, otherwise=_OTHERWISE
        )
        console.print(f"predictor: done before, in {folder}")
    else:
        metadata = _train(experiment, workdir, folder, recipe)
    _print_summary(metadata)


def _print_summary(metadata: dict[str, Any]) -> None:
    """Prints how the predictor ranks the tasks that judge it, beside what is free."""
    scores = metadata["spearman"]
    methods = list(next(iter(scores.values())))
    means = {name: float(np.mean([row[name] for row in scores.values()])) for name in methods}
    rows = [
        [task, *(f"{row[name]:.2f}" for name in methods)]
        for task, row in (*scores.items(), ("mean", means))
    ]
    title = (
        f"Predictor of episode {metadata['episode']}, {duration(metadata['seconds'])}: Spearman on "
        "the tasks that judge it, each at the episode that the others choose; "
        f"{OTHER_IMAGES} tell how noisy the labels are"
    )
    print_table(title, ["task", *methods], rows)
    if note := _no_better(means):
        console.print(note)


def _no_better(means: dict[str, float]) -> str | None:
    """A note if something that is free ranks the tasks as well as the predictor; None if not."""
    free = max(RECORDED, key=means.__getitem__)
    if means["predictor"] > means[free]:
        return None
    return (
        f"Note: ranking these tasks by {free} reaches {means[free]:.2f}, the predictor "
        f"{means['predictor']:.2f}: a better one takes more source tasks, or better teachers."
    )


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
    tasks = _collect(experiment, workdir)
    module = AccuracyPredictor(experiment.predictor)
    config = experiment.meta
    progress, history, past = _read_progress(
        folder, recipe, init_progress(module, tasks.training, config)
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
            module, tasks.training, tasks.selecting, config, progress=progress, history=history,
            on_chunk=on_chunk, devices=experiment.devices, folds=tasks.folds,
        )  # fmt: skip
    seconds = past + time.monotonic() - begin
    calibration = _calibrate(module, result, tasks, config)
    metadata = {
        "interface": predictor_interface(experiment),
        "recipe": recipe,
        "episode": result.episode,
        "spearman": _spearman(experiment, workdir, result),
        "calibration": calibration.plain(),
        "seconds": seconds,
    }
    # the checkpoint marks the predictor as done, so it comes last
    checkpoints.save(folder / "checkpoint", result.episode, result.learned, metadata)
    shutil.rmtree(folder / "progress", ignore_errors=True)
    return metadata


def _calibrate(
    module: AccuracyPredictor, result: MetaResult, tasks: _Tasks, config: MetaConfig
) -> Calibration:
    """Intervals that hold what they promise on tasks that a member has not trained on."""
    selecting = tasks.selecting
    predictions = np.asarray(predict_tasks(module, result.learned, selecting, config))
    known = (
        selecting.accuracies, selecting.valid, selecting.teacher_accuracy, selecting.chance,
        selecting.facts, judged_together(len(selecting.valid), tasks.folds),
    )  # fmt: skip
    return calibrate(by_judges(predictions, tasks.folds), *map(np.asarray, known))


def _read_progress(
    folder: pathlib.Path, recipe: Recipe, fresh: MetaProgress
) -> tuple[MetaProgress, list[dict[str, Any]], float]:
    """Where a stopped run was, its history and its seconds; or the beginning."""
    saved = folder / "progress"
    if not checkpoints.exists(saved):
        return fresh, [], 0.0
    checkpoints.require_recipe(saved, "the unfinished predictor", recipe, otherwise=_OTHERWISE)
    progress, metadata = checkpoints.restore(saved, fresh)
    return jax.tree.map(jnp.asarray, progress), metadata["history"], metadata["seconds"]


def _spearman(
    experiment: Experiment, workdir: Workdir, result: MetaResult
) -> dict[str, dict[str, float]]:
    """Rank correlations on the selecting tasks: the predictor's, and those of what is recorded."""
    history = np.asarray([entry["spearman_per_task"] for entry in result.history])
    scores = {}
    judges = _judges(experiment)
    for spec, own in zip(judges, spearman_of_others_choice(history), strict=True):
        records = db.first_replicate(db.read_records(workdir.database, spec.name))
        measured = labels_of(experiment, workdir, spec, records)
        recorded = {name: baseline(records) for name, baseline in RECORDED.items()}
        valid, test = (db.column(records, n) for n in ("final_accuracy", "test_accuracy"))
        scores[spec.name] = (
            {"predictor": float(own)}
            | {name: correlate(values, measured).spearman for name, values in recorded.items()}
            | {OTHER_IMAGES: correlate(valid, test).spearman}
        )
    return scores
