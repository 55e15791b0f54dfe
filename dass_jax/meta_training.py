"""Meta-trains an ensemble of predictors and selects a checkpoint by rank correlation.

As in DaSS (ICLR 2023), every few episodes the Spearman correlation on the selecting tasks decides
which parameters are kept; of an ensemble, that of the mean prediction of the members that have not
trained on the task. These tasks are not the unseen ones of the evaluation.

Dimension letters: E members of the ensemble, T tasks, N students of a task.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dass_jax import parallel
from dass_jax.adaptation import Learned, predict
from dass_jax.errors import UserError
from dass_jax.folds import Folds, by_judges
from dass_jax.meta_learning import MetaConfig, MetaState, init_meta_state, meta_step
from dass_jax.meta_tasks import TaskBatch, check_tasks, map_tasks
from dass_jax.metrics import correlate
from dass_jax.parallel import ALL_DEVICES, Devices, choose_layout, padded_size
from dass_jax.population import map_population
from dass_jax.predictor.model import AccuracyPredictor


class MetaProgress(NamedTuple):
    """All that an interrupted run needs to go on: a pytree of arrays.

    Attributes:
      states: States after the last finished chunk of episodes, with a leading axis E.
      best: What the best evaluation so far had learned, with a leading axis E.
      best_score: Its mean Spearman correlation; minus infinity before the first evaluation.
      best_step: Episodes done at that evaluation.
    """

    states: MetaState
    best: Learned
    best_score: Float[Array, ""]
    best_step: Int[Array, ""]

    @property
    def step(self) -> int:
        """Episodes done."""
        return int(self.states.step[0])


class MetaResult(NamedTuple):
    """The outcome of meta-training.

    Attributes:
      learned: What the best evaluation had learned, with a leading axis E.
      score: Its mean Spearman correlation on the selecting tasks.
      episode: Episodes done at that evaluation.
      history: One entry for each evaluation: ``episode``, ``loss`` (mean outer loss of the
        episodes since the one before), ``spearman`` (mean) and ``spearman_per_task``.
    """

    learned: Learned
    score: float
    episode: int
    history: list[dict[str, Any]]


@functools.partial(jax.jit, static_argnums=(0, 2))
def init_states(predictor: AccuracyPredictor, tasks: TaskBatch, config: MetaConfig) -> MetaState:
    """The states of all members before the first episode; the tasks give only the shapes."""
    members = jnp.arange(config.ensemble)
    return jax.vmap(lambda member: init_meta_state(predictor, tasks, config, member))(members)


def init_progress(
    predictor: AccuracyPredictor, tasks: TaskBatch, config: MetaConfig
) -> MetaProgress:
    """Returns the progress before the first episode; the tasks give only the shapes."""
    states = init_states(predictor, tasks, config)
    score = jnp.full((), -jnp.inf, jnp.float32)
    return MetaProgress(states, states.learned, score, states.step[0])


def _episodes(
    predictor: AccuracyPredictor,
    config: MetaConfig,
    num: int,
    task_axis: str | None,
    carried: None,
    members: tuple[MetaState, Int[Array, "E F"] | None],
    tasks: TaskBatch,
) -> tuple[MetaState, Float[Array, "E num"]]:
    """Episodes of the members of one device, in one compiled loop."""

    def member(
        one: tuple[MetaState, Int[Array, " F"] | None],
    ) -> tuple[MetaState, Float[Array, "num"]]:
        state, trains = one
        own = tasks if trains is None else jax.tree.map(lambda leaf: leaf[trains], tasks)

        def episode(state: MetaState, _: None) -> tuple[MetaState, Float[Array, ""]]:
            return meta_step(predictor, state, own, config, task_axis)

        return jax.lax.scan(episode, state, None, length=num)

    return map_population(member, members, size=len(members[0].step), requested=None)


def run_episodes(
    predictor: AccuracyPredictor,
    states: MetaState,
    tasks: TaskBatch,
    config: MetaConfig,
    num: int,
    devices: Devices = ALL_DEVICES,
    trains: Int[np.ndarray, "E F"] | None = None,
) -> tuple[MetaState, Float[Array, "E num"]]:
    """Does ``num`` episodes of every member.

    Devices share the members where there are enough of them, else the tasks, with a mean of the
    gradients, where ``devices`` lets a batch be spread; only so many devices are used as divide
    the number of tasks.

    Args:
      predictor: The network.
      states: States before, with a leading axis E.
      tasks: The meta-training tasks.
      config: Hyperparameters.
      num: Number of episodes.
      devices: Which devices to use.
      trains: The tasks of each member; all of them if None.

    Returns:
      The states after them, and the outer loss of each, [E, num].
    """
    members = len(states.step)
    tasks_each = tasks.valid.shape[0] if trains is None else trains.shape[1]
    layout = choose_layout(devices, members, tasks_each)
    seats = padded_size(members, layout, None)
    if seats > members:
        filled = np.minimum(np.arange(seats), members - 1)
        states, trains = jax.tree.map(lambda leaf: leaf[filled], (states, trains))
    run = parallel.compiled(_episodes, (predictor, config, num), layout)
    seated = parallel.place(layout, (states, trains), networks=True)
    result = run(None, seated, parallel.place(layout, tasks))
    return jax.tree.map(lambda leaf: leaf[:members], result)


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


@functools.partial(jax.jit, static_argnames=("predictor", "config"))
def predict_tasks(
    predictor: AccuracyPredictor, learned: Learned, tasks: TaskBatch, config: MetaConfig
) -> Float[Array, "E T N"]:
    """Predicts the accuracies of all students of several tasks, each after its own adaptation.

    Args:
      predictor: The network.
      learned: What meta-training learned, with a leading axis E.
      tasks: The tasks.
      config: Inner steps, and how many tasks are vectorized.

    Returns:
      Every member's predictions, fractions.
    """

    def member(learned: Learned) -> Float[Array, "T N"]:
        def of_task(task: TaskBatch) -> Float[Array, "N"]:
            return predict(predictor, learned, task, steps=config.inner_steps)

        return map_tasks(of_task, tasks, config.task_batch)

    size = len(jax.tree.leaves(learned)[0])
    return map_population(member, learned, size=size, requested=None)


def _run_chunk(
    predictor: AccuracyPredictor,
    progress: MetaProgress,
    tasks: tuple[TaskBatch, TaskBatch],
    config: MetaConfig,
    devices: Devices,
    folds: Folds | None,
) -> tuple[MetaProgress, dict[str, Any]]:
    """Trains up to the next evaluation and evaluates; returns the history's entry for it too."""
    training, selecting = tasks
    done = progress.step
    num = min(config.eval_every - done % config.eval_every, config.episodes - done)
    trains = None if folds is None else folds.trains
    states, losses = run_episodes(
        predictor, progress.states, training, config, num, devices, trains
    )
    loss = float(jnp.mean(losses))
    predictions = np.asarray(predict_tasks(predictor, states.learned, selecting, config))
    if not (np.isfinite(loss) and np.isfinite(predictions[:, selecting.valid]).all()):
        raise UserError(
            f"meta-training diverged before episode {done + num}: lower learning_rate or inner_lr"
        )
    judged = np.nanmean(by_judges(predictions, folds), axis=0)
    scores = spearman_per_task(judged, selecting.accuracies, selecting.valid)
    # Compared in the precision that a checkpoint keeps, so that a resumed run breaks ties alike.
    score = np.float32(np.mean(scores))
    entry = {
        "episode": done + num,
        "loss": loss,
        "spearman": float(score),
        "spearman_per_task": scores.tolist(),
    }
    if score > progress.best_score:
        best = MetaProgress(states, states.learned, jnp.asarray(score), states.step[0])
        return best, entry
    return progress._replace(states=states), entry


def meta_train(
    predictor: AccuracyPredictor,
    training: TaskBatch,
    selecting: TaskBatch,
    config: MetaConfig,
    *,
    progress: MetaProgress | None = None,
    history: Sequence[dict[str, Any]] = (),
    on_chunk: Callable[[MetaProgress, list[dict[str, Any]]], None] | None = None,
    devices: Devices = ALL_DEVICES,
    folds: Folds | None = None,
) -> MetaResult:
    """Meta-trains predictors and keeps the best checkpoint, the earliest on ties.

    A run that goes on from a saved progress and history ends with the numbers of one that was
    never interrupted.

    Args:
      predictor: The network.
      training: Tasks to train on.
      selecting: Tasks whose mean Spearman correlation selects the checkpoint.
      config: Hyperparameters.
      progress: Where to go on from; None starts anew.
      history: Entries of the evaluations before ``progress``.
      on_chunk: Called after every evaluation with the progress and the history so far, for
        example to save both and to draw a progress bar.
      devices: Which devices to use.
      folds: Where both batches are the same tasks: which of them each member trains on, and which
        ones judge it.

    Returns:
      What the best evaluation had learned, and the history.

    Raises:
      UserError: The arrays of the tasks do not fit each other, or training diverged.
    """
    check_tasks(training, "training")
    check_tasks(selecting, "selecting")
    fewest = int(training.valid.sum(axis=1).min())
    if config.support_students >= fewest:
        raise UserError(
            f"support_students is {config.support_students}, but a task has {fewest} students: "
            "leave some to predict"
        )
    if progress is None:
        progress = init_progress(predictor, training, config)
    entries = list(history)
    while progress.step < config.episodes:
        progress, entry = _run_chunk(
            predictor, progress, (training, selecting), config, devices, folds
        )
        entries.append(entry)
        if on_chunk is not None:
            on_chunk(progress, list(entries))
    return MetaResult(
        learned=progress.best,
        score=float(progress.best_score),
        episode=int(progress.best_step),
        history=entries,
    )
