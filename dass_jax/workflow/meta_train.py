"""Meta-trains the accuracy predictor on the database."""

import shutil
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dass_jax import checkpoints
from dass_jax import database as db
from dass_jax.baselines import num_params
from dass_jax.console import console, duration, print_table, progress_bar
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.meta_learning import init_meta_state
from dass_jax.meta_tasks import TaskBatch
from dass_jax.meta_training import MetaProgress, MetaResult, init_progress, meta_train
from dass_jax.metrics import correlate
from dass_jax.predictor.model import AccuracyPredictor
from dass_jax.recipe import Recipe, digest
from dass_jax.workdir import Workdir, write_json
from dass_jax.workflow.recipes import predictor_interface, predictor_recipe
from dass_jax.workflow.task_arrays import complete_records, labelled_task, stack_tasks


class TrainedPredictor(NamedTuple):
    """A predictor as it is saved.

    Attributes:
      module: The network.
      params: Its meta-trained parameters.
      inner_lr: The learned inner learning rates, of the same shape.
      recipe: What it was made from.
    """

    module: AccuracyPredictor
    params: Any
    inner_lr: Any
    recipe: Recipe


def _collect(experiment: Experiment, workdir: Workdir, role: str) -> TaskBatch:
    specs = experiment.with_role(role)
    if not specs:
        raise UserError(f"no task of this experiment has the role {role}: meta-training needs one")
    return stack_tasks([labelled_task(experiment, workdir, spec) for spec in specs])


def run_meta_training(experiment: Experiment, workdir: Workdir) -> None:
    """Meta-trains on the ``meta_train`` tasks and selects on the ``meta_valid`` tasks.

    Unseen tasks are not read. A stopped run goes on to the same numbers.

    Args:
      experiment: The settings.
      workdir: Where the database lies and the predictor goes.
    """
    folder = workdir.predictor
    recipe = _recipe(experiment, workdir)
    if checkpoints.exists(folder / "checkpoint"):
        metadata = checkpoints.require_recipe(folder / "checkpoint", "the predictor", recipe)
        console.print(f"predictor: done before, in {folder}")
    else:
        metadata = _train(experiment, workdir, recipe)
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


def _train(experiment: Experiment, workdir: Workdir, recipe: Recipe) -> dict[str, Any]:
    """Runs the episodes and saves the best predictor; returns what describes it."""
    begin = time.monotonic()
    training = _collect(experiment, workdir, "meta_train")
    selecting = _collect(experiment, workdir, "meta_valid")
    module = AccuracyPredictor(experiment.predictor)
    config = experiment.meta
    progress, history, past = _read_progress(
        workdir, recipe, init_progress(module, training, config)
    )
    done = int(progress.state.step)
    with progress_bar("meta-training", config.episodes, done) as advance:

        def on_chunk(progress: MetaProgress, history: list[dict[str, Any]]) -> None:
            step = int(progress.state.step)
            seconds = past + time.monotonic() - begin
            metadata = {"recipe": recipe, "history": history, "seconds": seconds}
            checkpoints.save(workdir.predictor / "progress", step, progress, metadata)
            before = history[-2]["episode"] if len(history) > 1 else 0
            advance(f"best Spearman {float(progress.best_score):.3f}", step - before)

        result = meta_train(
            module, training, selecting, config,
            progress=progress, history=history, on_chunk=on_chunk,
        )  # fmt: skip
    seconds = past + time.monotonic() - begin
    return _save(experiment, workdir, recipe, result, seconds)


def _read_progress(
    workdir: Workdir, recipe: Recipe, fresh: MetaProgress
) -> tuple[MetaProgress, list[dict[str, Any]], float]:
    """Where a stopped run was, its history and its seconds; or the beginning."""
    folder = workdir.predictor / "progress"
    if not checkpoints.exists(folder):
        return fresh, [], 0.0
    checkpoints.require_recipe(folder, "the unfinished predictor", recipe)
    progress, metadata = checkpoints.restore(folder, fresh)
    return jax.tree.map(jnp.asarray, progress), metadata["history"], metadata["seconds"]


def _parameter_score(experiment: Experiment, workdir: Workdir) -> float:
    """What ranking by parameter count reaches on the selecting tasks."""
    scores = []
    for spec in experiment.with_role("meta_valid"):
        records = db.first_replicate(db.read_records(workdir.database, spec.name))
        measured = db.column(records, experiment.target)
        scores.append(correlate(num_params(records), measured).spearman)
    return float(np.mean(scores))


def _save(
    experiment: Experiment, workdir: Workdir, recipe: Recipe, result: MetaResult, seconds: float
) -> dict[str, Any]:
    """Saves the best predictor, then drops the progress; returns what describes it."""
    metadata = {
        "interface": predictor_interface(experiment),
        "recipe": recipe,
        "score": result.score,
        "episode": result.episode,
        "parameter_score": _parameter_score(experiment, workdir),
        "seconds": seconds,
    }
    write_json(workdir.predictor / "history.json", result.history)
    arrays = {"params": result.params, "inner_lr": result.inner_lr}
    # the checkpoint marks the predictor as done, so it comes last
    checkpoints.save(workdir.predictor / "checkpoint", result.episode, arrays, metadata)
    shutil.rmtree(workdir.predictor / "progress", ignore_errors=True)
    return metadata


def load_predictor(folder: Any, experiment: Experiment) -> TrainedPredictor:
    """Reads a saved predictor.

    Args:
      folder: What ``Workdir.predictor`` names.
      experiment: Settings whose predictor and search space the file must fit.

    Returns:
      The predictor with its inner learning rates.

    Raises:
      UserError: If there is none, or it was made for other settings.
    """
    path = folder / "checkpoint"
    if not checkpoints.exists(path):
        raise UserError(f"no predictor in {path}: run bin/meta_train.py")
    module = AccuracyPredictor(experiment.predictor)
    template = jax.eval_shape(lambda: _template(experiment, module))
    interface = predictor_interface(experiment)
    metadata = checkpoints.require_recipe(path, "the predictor", interface, "interface")
    arrays, _ = checkpoints.restore(path, template)
    return TrainedPredictor(module, arrays["params"], arrays["inner_lr"], metadata["recipe"])


def _template(experiment: Experiment, module: AccuracyPredictor) -> dict[str, Any]:
    """The shapes of a predictor for this experiment."""
    space = experiment.space
    size = experiment.image_size // int(np.prod(space.strides))
    example = TaskBatch(
        student_features=jnp.zeros((1, 1, size, size, space.stage_widths[-1])),
        encodings=jnp.zeros((1, 1, space.encoding_length)),
        accuracies=jnp.zeros((1, 1)),
        valid=jnp.ones((1, 1), bool),
        teacher_features=jnp.zeros((1, size, size, space.stage_widths[-1])),
        teacher_encoding=jnp.zeros((1, space.encoding_length)),
        teacher_accuracy=jnp.zeros(1),
    )
    state = init_meta_state(module, example, experiment.meta)
    return {"params": state.params, "inner_lr": state.inner_lr}
