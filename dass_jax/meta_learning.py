"""Meta-learns a predictor that adapts to a task from its teacher alone.

Episodes of bi-level training (DaSS, ICLR 2023): in every task the predictor adapts to the teacher,
then parameters and inner learning rates are trained so that the adapted predictor is right about
the task's students.

Everything here is a pure function of pytrees, written for one predictor.
``dass_jax.meta_training`` trains an ensemble of them and holds the loop that selects a checkpoint.

Dimension letters: N students of a task, B students in general.
"""

import dataclasses
import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from dass_jax import parallel
from dass_jax.adaptation import Learned, adapt_to_task, masked_mse
from dass_jax.errors import UserError
from dass_jax.meta_tasks import Measured, TaskBatch, take_queries
from dass_jax.population import sum_population
from dass_jax.predictor.model import AccuracyPredictor
from dass_jax.predictor.scale import to_target


@dataclasses.dataclass(frozen=True)
class MetaConfig:
    """How to meta-train; the defaults are the paper's (DaSS, ICLR 2023).

    Attributes:
      episodes: Outer steps.
      queries: Students drawn per task and episode, at most; fewer where a task has fewer.
      support_students: How many measured students join the teacher in the support of an episode;
        they are drawn with the queries and are none of them.
      optimizer: ``adam``, or ``sgd`` without momentum.
      learning_rate: The optimiser's, for the parameters and for the inner learning rates.
      weight_decay: Decoupled from the gradient, of the parameters.
      inner_lr: Initial value of every inner learning rate.
      inner_steps: Gradient steps of an adaptation; 0 leaves the predictor as it is.
      first_order: Whether the outer gradient takes the inner gradient as a constant.
      correlation_weight: Weight of ``correlation_loss`` beside the squared error.
      ensemble: Predictors trained side by side, from other initial parameters and draws.
      held_out: How many source tasks each member of the ensemble holds out, in turn; it is judged
        by these. Then the selecting tasks train, too. With 0, as in the paper, the selecting tasks
        judge all members.
      eval_every: Episodes between two evaluations on the selecting tasks.
      seed: Keys the initial parameters and the draws of queries.
      task_batch: Tasks per vectorized step; by default one on CPU, where a loop is faster, and all
        of them on accelerators.

    Raises:
      UserError: A number is out of range.
    """

    episodes: int = 1000
    queries: int = 50
    support_students: int = 0
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 5e-4
    weight_decay: float = 0.0
    inner_lr: float = 0.005
    inner_steps: int = 1
    first_order: bool = False
    correlation_weight: float = 0.0
    ensemble: int = 1
    held_out: int = 0
    eval_every: int = 20
    seed: int = 0
    task_batch: int | None = None

    def __post_init__(self) -> None:
        for name in ("episodes", "queries", "eval_every", "ensemble"):
            if getattr(self, name) < 1:
                raise UserError(f"meta-training {name} must be at least 1")
        for name in (
            "support_students", "held_out", "inner_steps", "weight_decay", "correlation_weight",
        ):  # fmt: skip
            if getattr(self, name) < 0:
                raise UserError(f"meta-training {name} must not be negative")
        if self.learning_rate <= 0:
            raise UserError("meta-training learning_rate must be positive")
        if self.task_batch is not None and self.task_batch < 1:
            raise UserError("meta-training task_batch must be at least 1, or None for all tasks")


class MetaState(NamedTuple):
    """What an episode changes.

    Attributes:
      step: Episodes done.
      learned: Parameters and inner learning rates.
      opt_state: The optimiser's state for both.
      key: Keys the draws of queries; never changes.
    """

    step: Int[Array, ""]
    learned: Learned
    opt_state: optax.OptState
    key: Key[Array, ""]


def _optimizer(config: MetaConfig) -> optax.GradientTransformation:
    def decayed(learned: Learned) -> Learned:
        return Learned(
            jax.tree.map(lambda _: True, learned.params),
            jax.tree.map(lambda _: False, learned.inner_lr),
        )

    if config.optimizer == "sgd":
        # without momentum, it is the same whether the gradient or the parameters decay
        decay = optax.add_decayed_weights(config.weight_decay, decayed)
        return optax.chain(decay, optax.sgd(config.learning_rate))
    return optax.adamw(config.learning_rate, weight_decay=config.weight_decay, mask=decayed)


def correlation_loss(
    predictions: Float[Array, "B"], targets: Float[Array, "B"], valid: Bool[Array, "B"]
) -> Float[Array, ""]:
    """How far Pearson's correlation is from 1.

    It asks for the order and the relative distances of a task's students, and not for their level
    or unit, so that tasks weigh alike however far apart their students are.

    Args:
      predictions: One per student.
      targets: What they should be, in any unit.
      valid: Which students count.

    Returns:
      A number from 0 to 2; 0 where all targets are equal.
    """
    count = jnp.maximum(jnp.sum(valid), 1)

    def centered(values: Array) -> Array:
        return jnp.where(valid, values - jnp.sum(jnp.where(valid, values, 0)) / count, 0)

    answers, wanted = centered(predictions), centered(targets)
    # far below any spread; without it, equal predictions would make it nan
    squares = (jnp.sum(answers**2) + 1e-8) * (jnp.sum(wanted**2) + 1e-8)
    correlation = jnp.sum(answers * wanted) / jnp.sqrt(squares)
    differ = jnp.max(targets, initial=-jnp.inf, where=valid) > jnp.min(
        targets, initial=jnp.inf, where=valid
    )
    return jnp.where(differ, 1 - correlation, 0)


def _split_support(task: TaskBatch, count: int) -> tuple[Measured | None, TaskBatch]:
    """The first students as measured ones, and the task without them."""
    if count == 0:
        return None, task
    per_student = (task.students, task.accuracies, task.valid)
    measured = Measured(*jax.tree.map(lambda leaf: leaf[:count], per_student))
    students, accuracies, valid = jax.tree.map(lambda leaf: leaf[count:], per_student)
    return measured, task._replace(students=students, accuracies=accuracies, valid=valid)


def query_loss(
    predictor: AccuracyPredictor, learned: Learned, task: TaskBatch, config: MetaConfig
) -> Float[Array, ""]:
    """Returns the loss on a single task's valid students after adaptation.

    The first ``config.support_students`` of them are adapted to instead.
    """
    measured, task = _split_support(task, config.support_students)
    params = adapt_to_task(
        predictor, learned, task, measured,
        steps=config.inner_steps, first_order=config.first_order,
    )  # fmt: skip
    answers = predictor.apply({"params": params}, task.queries())
    scale = predictor.config.scale
    targets = to_target(scale, task.accuracies, task.teacher_accuracy, task.chance)
    loss = masked_mse(answers, targets, task.valid)
    if config.correlation_weight:
        loss += config.correlation_weight * correlation_loss(answers, targets, task.valid)
    return loss


def outer_gradient(
    predictor: AccuracyPredictor,
    learned: Learned,
    tasks: TaskBatch,
    config: MetaConfig,
    key: Key[Array, ""],
    first: int | Int[Array, ""] = 0,
) -> tuple[Float[Array, ""], Learned]:
    """Returns the outer loss of an episode, ``query_loss`` averaged over tasks, and its gradient.

    Gradients are added up as the tasks are gone through, so that neither the queries nor the
    adapted parameters of all tasks are ever held together.

    Args:
      predictor: The network.
      learned: What the gradient is in.
      tasks: Tasks with all of their students.
      config: Hyperparameters.
      key: Keys the draws of queries, together with each task's number.
      first: The number of the first task, if these are a part of more tasks.
    """

    def of_task(learned: Learned, number: Int[Array, ""], task: TaskBatch) -> Float[Array, ""]:
        students = config.queries + config.support_students
        drawn = take_queries(jax.random.fold_in(key, number), task, students)
        return query_loss(predictor, learned, drawn, config)

    def of_group(learned: Learned, group: tuple[Int[Array, "k"], TaskBatch]) -> Float[Array, ""]:
        if len(group[0]) == 1:  # vmap would make batched products of it
            return of_task(learned, *jax.tree.map(lambda leaf: leaf[0], group))
        return jnp.sum(jax.vmap(functools.partial(of_task, learned))(*group))

    count = len(tasks.valid)
    total = sum_population(
        functools.partial(jax.value_and_grad(of_group), learned),
        (first + jnp.arange(count), tasks), size=count, requested=config.task_batch,
    )  # fmt: skip
    return jax.tree.map(lambda leaf: leaf / count, total)


def init_meta_state(
    predictor: AccuracyPredictor,
    tasks: TaskBatch,
    config: MetaConfig,
    member: int | Int[Array, ""] = 0,
) -> MetaState:
    """Returns the state before the first episode; the tasks give only the shapes."""
    key = jax.random.fold_in(jax.random.key(config.seed), member)
    example = jax.tree.map(lambda array: array[0], tasks).support()
    params = predictor.init(jax.random.fold_in(key, 0), example)["params"]
    inner_lr = jax.tree.map(lambda value: jnp.full_like(value, config.inner_lr), params)
    learned = Learned(params, inner_lr)
    return MetaState(
        step=jnp.zeros((), jnp.int32),
        learned=learned,
        opt_state=_optimizer(config).init(learned),
        key=jax.random.fold_in(key, 1),
    )


def meta_step(
    predictor: AccuracyPredictor,
    state: MetaState,
    tasks: TaskBatch,
    config: MetaConfig,
    task_axis: str | None = None,
) -> tuple[MetaState, Float[Array, ""]]:
    """Does one episode: draws queries, then steps parameters and inner learning rates.

    Args:
      predictor: The network.
      state: State before the episode.
      tasks: The meta-training tasks, all of them.
      config: Hyperparameters.
      task_axis: The mapped axis over whose devices the tasks are spread, if they are.

    Returns:
      The state after the episode, and the outer loss before its update.
    """
    # The key comes from the episode's number, so that a resumed run draws the same queries.
    key = jax.random.fold_in(state.key, state.step)
    own = jax.tree.map(lambda leaf: parallel.own_part(leaf, task_axis), tasks)
    first = 0 if task_axis is None else jax.lax.axis_index(task_axis) * len(own.valid)
    value, gradient = parallel.mean(
        outer_gradient(predictor, state.learned, own, config, key, first), task_axis
    )
    updates, opt_state = _optimizer(config).update(gradient, state.opt_state, state.learned)
    learned = optax.apply_updates(state.learned, updates)
    return MetaState(state.step + 1, learned, opt_state, state.key), value
