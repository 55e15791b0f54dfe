"""Meta-trains the predictor and selects a checkpoint by rank correlation.

As in DaSS (ICLR 2023), every few episodes the Spearman correlation on the selecting tasks decides
which parameters are kept. These tasks are neither trained on nor the unseen ones of the evaluation.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from dass_jax.errors import UserError
from dass_jax.meta_learning import (
    MetaConfig,
    MetaState,
    Params,
    init_meta_state,
    predict,
    run_episodes,
)
from dass_jax.meta_tasks import TaskBatch, check_tasks, map_tasks
from dass_jax.metrics import correlate


class MetaProgress(NamedTuple):
    """All that an interrupted run needs to go on: a pytree of arrays.

    Attributes:
      state: State after the last finished chunk of episodes.
      best_params: Parameters of the best evaluation so far.
      best_inner_lr: Inner learning rates of the best evaluation so far.
      best_score: Its mean Spearman correlation; minus infinity before the first evaluation.
      best_step: Episodes done at that evaluation.
    """

    state: MetaState
    best_params: Params
    best_inner_lr: Params
    best_score: Float[Array, ""]
    best_step: Int[Array, ""]


class MetaResult(NamedTuple):
    """The outcome of meta-training.

    Attributes:
      params: Parameters of the best evaluation.
      inner_lr: Inner learning rates of the best evaluation.
      score: Its mean Spearman correlation on the selecting tasks.
      episode: Episodes done at that evaluation.
      history: One entry for each evaluation: ``episode``, ``loss`` (mean outer loss of the
        episodes since the one before), ``spearman`` (mean) and ``spearman_per_task``.
    """

    params: Params
    inner_lr: Params
    score: float
    episode: int
    history: list[dict[str, Any]]


def init_progress(predictor: nn.Module, tasks: TaskBatch, config: MetaConfig) -> MetaProgress:
    """Returns the progress before the first episode; the tasks give only the shapes."""
    state = init_meta_state(predictor, tasks, config)
    score = jnp.full((), -jnp.inf, jnp.float32)
    return MetaProgress(state, state.params, state.inner_lr, score, state.step)


def spearman_per_task(
    predictions: Float[Array | np.ndarray, "T N"],
    accuracies: Float[Array | np.ndarray, "T N"],
    valid: Bool[Array | np.ndarray, "T N"],
) -> Float[np.ndarray, "T"]:
    """Returns the rank correlation of predictions and accuracies over each task's valid students.

    A correlation with a constant is undefined. It counts as 0.0 here, no ranking at all, so that
    a predictor that answers the same for every student loses to any that ranks better than chance.

    Args:
      predictions: Predicted accuracies.
      accuracies: Accuracies after distillation.
      valid: Which students are real.

    Returns:
      Spearman's rho for each task, in [-1, 1].
    """
    rows = zip(np.asarray(predictions), np.asarray(accuracies), np.asarray(valid), strict=True)
    scores = [correlate(guess[real], truth[real]).spearman for guess, truth, real in rows]
    return np.array(scores, np.float64)


@functools.partial(jax.jit, static_argnames=("predictor", "task_batch"))
def predict_tasks(
    predictor: nn.Module,
    params: Params,
    inner_lr: Params,
    tasks: TaskBatch,
    task_batch: int | None = None,
) -> Float[Array, "T N"]:
    """Predicts the accuracies of all students of several tasks, each after its own adaptation."""
    return map_tasks(functools.partial(predict, predictor, params, inner_lr), tasks, task_batch)


def _run_chunk(
    predictor: nn.Module,
    progress: MetaProgress,
    tasks: tuple[TaskBatch, TaskBatch],
    config: MetaConfig,
) -> tuple[MetaProgress, dict[str, Any]]:
    """Trains up to the next evaluation and evaluates; returns the history's entry for it too."""
    training, selecting = tasks
    done = int(progress.state.step)
    num = min(config.eval_every - done % config.eval_every, config.episodes - done)
    state, losses = run_episodes(predictor, progress.state, training, config, num)
    loss = float(jnp.mean(losses))
    predictions = predict_tasks(
        predictor, state.params, state.inner_lr, selecting, config.task_batch
    )
    if not (np.isfinite(loss) and np.isfinite(predictions).all()):
        raise UserError(
            f"meta-training diverged before episode {done + num}: lower learning_rate or inner_lr"
        )
    scores = spearman_per_task(predictions, selecting.accuracies, selecting.valid)
    # Compared in the precision that a checkpoint keeps, so that a resumed run breaks ties alike.
    score = np.float32(np.mean(scores))
    entry = {
        "episode": done + num,
        "loss": loss,
        "spearman": float(score),
        "spearman_per_task": scores.tolist(),
    }
    if score > progress.best_score:
        best = MetaProgress(state, state.params, state.inner_lr, jnp.asarray(score), state.step)
        return best, entry
    return progress._replace(state=state), entry


def meta_train(
    predictor: nn.Module,
    training: TaskBatch,
    selecting: TaskBatch,
    config: MetaConfig,
    *,
    progress: MetaProgress | None = None,
    history: Sequence[dict[str, Any]] = (),
    on_chunk: Callable[[MetaProgress, list[dict[str, Any]]], None] | None = None,
) -> MetaResult:
    """Meta-trains a predictor and keeps the best checkpoint, the earliest on ties.

    A run that goes on from a saved progress and history ends with the numbers of one that was
    never interrupted.

    Args:
      predictor: A module from ``PredictorInputs`` to predicted accuracies.
      training: Tasks to train on.
      selecting: Tasks whose mean Spearman correlation selects the checkpoint.
      config: Hyperparameters.
      progress: Where to go on from; None starts anew.
      history: Entries of the evaluations before ``progress``.
      on_chunk: Called after every evaluation with the progress and the history so far, for
        example to save both and to draw a progress bar.

    Returns:
      The best parameters and inner learning rates, and the history.

    Raises:
      UserError: The arrays of the tasks do not fit each other, or training diverged.
    """
    check_tasks(training, "training")
    check_tasks(selecting, "selecting")
    if progress is None:
        progress = init_progress(predictor, training, config)
    entries = list(history)
    while int(progress.state.step) < config.episodes:
        progress, entry = _run_chunk(predictor, progress, (training, selecting), config)
        entries.append(entry)
        if on_chunk is not None:
            on_chunk(progress, list(entries))
    return MetaResult(
        params=progress.best_params,
        inner_lr=progress.best_inner_lr,
        score=float(progress.best_score),
        episode=int(progress.best_step),
        history=entries,
    )
