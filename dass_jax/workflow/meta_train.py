"""Meta-trains the accuracy predictor on the database."""

import hashlib
import shutil
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dass_jax import checkpoints, functional
from dass_jax import database as db
from dass_jax.data.tasks import TaskSpec
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.meta_learning import init_meta_state
from dass_jax.meta_tasks import TaskBatch
from dass_jax.meta_training import MetaProgress, MetaResult, init_progress, meta_train
from dass_jax.metrics import correlate
from dass_jax.predictor.model import AccuracyPredictor
from dass_jax.randomness import Stream, task_key
from dass_jax.search_space import Architecture
from dass_jax.teacher import TeacherResult
from dass_jax.workdir import Workdir, write_json
from dass_jax.workflow import prepare
from dass_jax.workflow.console import console, duration, print_table, progress_bar


class TrainedPredictor(NamedTuple):
    """A predictor as it is saved.

    Attributes:
      module: The network.
      params: Its meta-trained parameters.
      inner_lr: The learned inner learning rates, of the same shape.
    """

    module: AccuracyPredictor
    params: Any
    inner_lr: Any


def task_arrays(
    experiment: Experiment,
    spec: TaskSpec,
    teacher: TeacherResult,
    architectures: Architecture,
    student_ids: np.ndarray,
    accuracies: np.ndarray | None = None,
) -> TaskBatch:
    """One task as the predictor sees it, without the task axis.

    Args:
      experiment: The settings.
      spec: The task.
      teacher: Its teacher.
      architectures: N students.
      student_ids: Their stable ids.
      accuracies: Their measured accuracies, if known.

    Returns:
      Features, encodings and targets; zeros stand for unknown accuracies.
    """
    space, count = experiment.space, len(student_ids)
    image = functional.noise_image(experiment.image_size)
    variables = jax.tree.map(jnp.asarray, teacher.variables)
    features = functional.student_features(
        space, variables, architectures, student_ids, image,
        task_key(experiment.seed, spec.name, Stream.STUDENT_INIT), kind=experiment.kd.remapping,
    )  # fmt: skip
    targets = np.zeros(count) if accuracies is None else accuracies
    return TaskBatch(
        student_features=jnp.asarray(features),
        encodings=jax.vmap(space.encode)(jax.tree.map(jnp.asarray, architectures)),
        accuracies=jnp.asarray(targets, jnp.float32),
        valid=jnp.ones(count, bool),
        teacher_features=jnp.asarray(functional.teacher_features(space, variables, image)),
        teacher_encoding=space.encode(space.full()),
        teacher_accuracy=jnp.asarray(teacher.accuracy, jnp.float32),
    )


def labelled_task(experiment: Experiment, workdir: Workdir, spec: TaskSpec) -> TaskBatch:
    """A task of the database with its measured students.

    Raises:
      UserError: If the database has no student of this task.
    """
    records = db.first_replicate(db.read_records(workdir.database, spec.name))
    if not records:
        raise UserError(
            f"{workdir.database} has no students of task {spec.name}: run bin/build_database.py"
        )
    return task_arrays(
        experiment,
        spec,
        prepare.load_teacher(experiment, workdir, spec),
        db.architectures_of(experiment.space, records),
        db.column(records, "student_id").astype(np.int32),
        db.column(records, experiment.target),
    )


def stack_tasks(tasks: Sequence[TaskBatch]) -> TaskBatch:
    """Stacks tasks, padding those with fewer students."""
    most = max(len(task.valid) for task in tasks)

    def pad(task: TaskBatch) -> TaskBatch:
        missing = most - len(task.valid)
        per_student = ("student_features", "encodings", "accuracies", "valid")
        padded = {
            name: jnp.pad(
                getattr(task, name), ((0, missing), *[(0, 0)] * (getattr(task, name).ndim - 1))
            )
            for name in per_student
        }
        return task._replace(**padded)

    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(pad, tasks))


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
    if checkpoints.exists(folder / "checkpoint"):
        metadata = checkpoints.read_metadata(folder / "checkpoint")
        if metadata["recipe"] != _recipe(experiment, workdir):
            raise UserError(
                f"the predictor in {folder} was made from other settings or another database: "
                "restore them, remove it, or use another work directory"
            )
        console.print(f"predictor: done before, in {folder}")
    else:
        metadata = _train(experiment, workdir)
    rows = [
        ["selecting tasks' Spearman", f"{metadata['score']:.3f}"],
        ["at episode", metadata["episode"]],
        ["the same for parameter counts", f"{metadata['parameter_score']:.3f}"],
        ["time", duration(metadata["seconds"])],
    ]
    print_table("Predictor", ["", ""], rows)


def _interface(experiment: Experiment) -> str:
    """What a task must share with a predictor for it to be of use."""
    return repr(
        (experiment.predictor, experiment.space, experiment.image_size, experiment.kd.remapping)
    )


def _recipe(experiment: Experiment, workdir: Workdir) -> str:
    """A digest of all that the predictor's numbers depend on, measured students included."""
    specs = experiment.with_role("meta_train", "meta_valid")
    records = [db.first_replicate(db.read_records(workdir.database, spec.name)) for spec in specs]
    parts = (_interface(experiment), experiment.meta, experiment.target, experiment.seed, specs)
    return hashlib.sha256(repr((parts, records)).encode()).hexdigest()


def _train(experiment: Experiment, workdir: Workdir) -> dict[str, Any]:
    """Runs the episodes and saves the best predictor; returns what describes it."""
    begin = time.monotonic()
    training, selecting = (_collect(experiment, workdir, r) for r in ("meta_train", "meta_valid"))
    module = AccuracyPredictor(experiment.predictor)
    config = experiment.meta
    recipe = _recipe(experiment, workdir)
    progress, history = _read_progress(workdir, recipe, init_progress(module, training, config))
    done = int(progress.state.step)
    with progress_bar("meta-training", config.episodes, done) as advance:

        def on_chunk(progress: MetaProgress, history: list[dict[str, Any]]) -> None:
            step = int(progress.state.step)
            metadata = {"recipe": recipe, "history": history}
            checkpoints.save(workdir.predictor / "progress", step, progress, metadata)
            before = history[-2]["episode"] if len(history) > 1 else 0
            advance(f"best Spearman {float(progress.best_score):.3f}", step - before)

        result = meta_train(
            module, training, selecting, config,
            progress=progress, history=history, on_chunk=on_chunk,
        )  # fmt: skip
    seconds = time.monotonic() - begin
    return _save(experiment, workdir, recipe, result, seconds)


def _read_progress(
    workdir: Workdir, recipe: str, fresh: MetaProgress
) -> tuple[MetaProgress, list[dict[str, Any]]]:
    """Where a stopped run was, or the beginning."""
    folder = workdir.predictor / "progress"
    if not checkpoints.exists(folder):
        return fresh, []
    if checkpoints.read_metadata(folder)["recipe"] != recipe:
        raise UserError(
            f"{folder} was begun with other settings or another database: remove it or restore them"
        )
    progress, metadata = checkpoints.restore(folder, fresh)
    return jax.tree.map(jnp.asarray, progress), metadata["history"]


def _parameter_score(experiment: Experiment, workdir: Workdir) -> float:
    """What ranking by parameter count reaches on the selecting tasks."""
    scores = []
    for spec in experiment.with_role("meta_valid"):
        records = db.first_replicate(db.read_records(workdir.database, spec.name))
        measured = db.column(records, experiment.target)
        scores.append(correlate(db.column(records, "num_params"), measured).spearman)
    return float(np.mean(scores))


def _save(
    experiment: Experiment, workdir: Workdir, recipe: str, result: MetaResult, seconds: float
) -> dict[str, Any]:
    """Saves the best predictor, then drops the progress; returns what describes it."""
    metadata = {
        "interface": _interface(experiment),
        "recipe": recipe,
        "score": result.score,
        "episode": result.episode,
        "parameter_score": _parameter_score(experiment, workdir),
        "seconds": seconds,
    }
    arrays = {"params": result.params, "inner_lr": result.inner_lr}
    checkpoints.save(workdir.predictor / "checkpoint", result.episode, arrays, metadata)
    write_json(workdir.predictor / "history.json", result.history)
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
    if checkpoints.read_metadata(path)["interface"] != _interface(experiment):
        raise UserError(
            f"the predictor in {path} serves another search space, image size, remapping or set "
            "of inputs: restore them, or meta-train one in another work directory"
        )
    arrays, _ = checkpoints.restore(path, template)
    return TrainedPredictor(module, arrays["params"], arrays["inner_lr"])


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
