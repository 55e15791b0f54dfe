"""Meta-learns a predictor that adapts to a task from its teacher alone.

Teacher-guided adaptation (DaSS, ICLR 2023): a task's support set is one pair, the teacher as an
architecture with its known accuracy. One gradient step on it, with a learned rate for every
parameter, gives the task's own predictor; parameters and rates are trained so that this predictor
is right about the task's students.

Everything here is a pure function of pytrees. ``dass_jax.meta_training`` holds the loop around it
that selects a checkpoint.

Dimension letters: N students of a task, B students in general.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, Key

from dass_jax.errors import UserError
from dass_jax.meta_tasks import TaskBatch, map_tasks, take_queries
from dass_jax.predictor.model import PredictorInputs

Params = Any  # A pytree of arrays: the predictor's "params" collection, or one rate for each.


@dataclasses.dataclass(frozen=True)
class MetaConfig:
    """How to meta-train; the defaults are the paper's (DaSS, ICLR 2023).

    Attributes:
      episodes: Outer steps.
      queries: Students drawn per task and episode, at most; fewer where a task has fewer.
      learning_rate: Adam's, for the parameters and for the inner learning rates.
      inner_lr: Initial value of every inner learning rate.
      first_order: Whether the outer gradient takes the inner gradient as a constant.
      eval_every: Episodes between two evaluations on the selecting tasks.
      seed: Keys the initial parameters and the draws of queries.
      task_batch: Tasks per vectorized step; by default one on CPU, where a loop is faster, and all
        of them on accelerators.

    Raises:
      UserError: A number is out of range.
    """

    episodes: int = 1000
    queries: int = 50
    learning_rate: float = 5e-4
    inner_lr: float = 0.005
    first_order: bool = False
    eval_every: int = 20
    seed: int = 0
    task_batch: int | None = None

    def __post_init__(self) -> None:
        for name in ("episodes", "queries", "eval_every"):
            if getattr(self, name) < 1:
                raise UserError(f"meta-training {name} must be at least 1")
        if self.learning_rate <= 0:
            raise UserError("meta-training learning_rate must be positive")
        if self.task_batch is not None and self.task_batch < 1:
            raise UserError("meta-training task_batch must be at least 1, or None for all tasks")


class MetaState(NamedTuple):
    """What an episode changes.

    Attributes:
      step: Episodes done.
      params: The predictor's parameters before adaptation.
      inner_lr: A learning rate for every entry of ``params``.
      opt_state: Adam's state for both.
      key: Keys the draws of queries; never changes.
    """

    step: Int[Array, ""]
    params: Params
    inner_lr: Params
    opt_state: optax.OptState
    key: Key[Array, ""]


def predict_with(
    predictor: nn.Module, params: Params, inputs: PredictorInputs
) -> Float[Array, "B"]:
    """Returns the predicted accuracies of students of one task, without adaptation."""
    return predictor.apply({"params": params}, inputs)


def masked_mse(
    predictions: Float[Array, "B"], targets: Float[Array, "B"], valid: Bool[Array, "B"]
) -> Float[Array, ""]:
    """Returns the mean squared error over the valid entries, 0 where there are none."""
    errors = jnp.where(valid, predictions - targets, 0.0)
    return jnp.sum(errors**2) / jnp.maximum(jnp.sum(valid), 1)


def inner_adapt(
    predictor: nn.Module,
    params: Params,
    inner_lr: Params,
    inputs: PredictorInputs,
    accuracies: Float[Array, "B"],
    first_order: bool = False,
) -> Params:
    """Takes the inner step ``params - inner_lr * gradient``, the teacher-guided adaptation of DaSS.

    Args:
      predictor: A module from ``PredictorInputs`` to predicted accuracies.
      params: Parameters before adaptation.
      inner_lr: A learning rate for every entry of ``params``.
      inputs: The support, usually the teacher alone.
      accuracies: Known accuracies of the support.
      first_order: Whether an outer derivative takes the gradient as a constant.

    Returns:
      Adapted parameters, a tree like ``params``.
    """

    def loss(params: Params) -> Float[Array, ""]:
        return jnp.mean((predict_with(predictor, params, inputs) - accuracies) ** 2)

    gradient = jax.grad(loss)(params)
    if first_order:
        gradient = jax.lax.stop_gradient(gradient)
    return jax.tree.map(lambda value, rate, slope: value - rate * slope, params, inner_lr, gradient)


def adapt_to_task(
    predictor: nn.Module,
    params: Params,
    inner_lr: Params,
    task: TaskBatch,
    first_order: bool = False,
) -> Params:
    """Adapts the parameters to a single task by its teacher, without any label of a student."""
    accuracies = task.teacher_accuracy[None]
    return inner_adapt(predictor, params, inner_lr, task.support(), accuracies, first_order)


def predict(
    predictor: nn.Module, params: Params, inner_lr: Params, task: TaskBatch
) -> Float[Array, "N"]:
    """Predicts the accuracies of a single task's students after adaptation to its teacher.

    Args:
      predictor: A module from ``PredictorInputs`` to predicted accuracies.
      params: Meta-trained parameters.
      inner_lr: Meta-trained inner learning rates.
      task: A single task, without the axis T.

    Returns:
      Predicted accuracies, [N], as fractions.
    """
    adapted = adapt_to_task(predictor, params, inner_lr, task)
    return predict_with(predictor, adapted, task.students())


def query_loss(
    predictor: nn.Module,
    params: Params,
    inner_lr: Params,
    task: TaskBatch,
    first_order: bool = False,
) -> Float[Array, ""]:
    """Returns the mean squared error on a single task's valid students after adaptation."""
    adapted = adapt_to_task(predictor, params, inner_lr, task, first_order)
    predictions = predict_with(predictor, adapted, task.students())
    return masked_mse(predictions, task.accuracies, task.valid)


def meta_loss(
    predictor: nn.Module,
    params: Params,
    inner_lr: Params,
    tasks: TaskBatch,
    config: MetaConfig,
) -> Float[Array, ""]:
    """Returns the outer loss: ``query_loss`` averaged over tasks."""
    loss = functools.partial(
        query_loss, predictor, params, inner_lr, first_order=config.first_order
    )
    return jnp.mean(map_tasks(loss, tasks, config.task_batch))


def init_meta_state(predictor: nn.Module, tasks: TaskBatch, config: MetaConfig) -> MetaState:
    """Returns the state before the first episode; the tasks give only the shapes."""
    key = jax.random.key(config.seed)
    example = jax.tree.map(lambda array: array[0], tasks).support()
    params = predictor.init(jax.random.fold_in(key, 0), example)["params"]
    inner_lr = jax.tree.map(lambda value: jnp.full_like(value, config.inner_lr), params)
    return MetaState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        inner_lr=inner_lr,
        opt_state=optax.adam(config.learning_rate).init((params, inner_lr)),
        key=jax.random.fold_in(key, 1),
    )


def meta_step(
    predictor: nn.Module, state: MetaState, tasks: TaskBatch, config: MetaConfig
) -> tuple[MetaState, Float[Array, ""]]:
    """Does one episode: draws queries, then steps parameters and inner learning rates by Adam.

    Args:
      predictor: A module from ``PredictorInputs`` to predicted accuracies.
      state: State before the episode.
      tasks: The meta-training tasks.
      config: Hyperparameters.

    Returns:
      The state after the episode, and the outer loss before its update.
    """
    # The key comes from the episode's number, so that a resumed run draws the same queries.
    drawn = take_queries(jax.random.fold_in(state.key, state.step), tasks, config.queries)

    def loss(learned: tuple[Params, Params]) -> Float[Array, ""]:
        params, inner_lr = learned
        return meta_loss(predictor, params, inner_lr, drawn, config)

    learned = (state.params, state.inner_lr)
    value, gradient = jax.value_and_grad(loss)(learned)
    updates, opt_state = optax.adam(config.learning_rate).update(gradient, state.opt_state)
    params, inner_lr = optax.apply_updates(learned, updates)
    return MetaState(state.step + 1, params, inner_lr, opt_state, state.key), value


@functools.partial(jax.jit, static_argnames=("predictor", "config", "num"))
def run_episodes(
    predictor: nn.Module, state: MetaState, tasks: TaskBatch, config: MetaConfig, num: int
) -> tuple[MetaState, Float[Array, "num"]]:
    """Does ``num`` episodes in one compiled loop.

    Args:
      predictor: A module from ``PredictorInputs`` to predicted accuracies.
      state: State before.
      tasks: The meta-training tasks.
      config: Hyperparameters.
      num: Number of episodes.

    Returns:
      The state after them, and the outer loss of each, [num].
    """

    def episode(state: MetaState, _: None) -> tuple[MetaState, Float[Array, ""]]:
        return meta_step(predictor, state, tasks, config)

    return jax.lax.scan(episode, state, None, length=num)
