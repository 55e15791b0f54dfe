"""Training a population of networks together: one step, and many of them compiled as a whole.

The step is written for one network and mapped over the population; a teacher is a population of
one. The data lies on the device. ``epochs`` runs whole trainings.

Dimension letters: K networks, N images, B batch, H W image size, C classes.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from dass_jax import resnet
from dass_jax.data.augmentation import Augmentation, augment
from dass_jax.errors import UserError
from dass_jax.evaluation import Split
from dass_jax.population import map_population
from dass_jax.search_space import Architecture, ResNetSpace

# (logits [B, C], labels [B], teacher logits [B, C] or None) -> scalar; hashable
Loss = Callable[[Array, Array, Array | None], Array]


@dataclasses.dataclass(frozen=True)
class SGDConfig:
    """Stochastic gradient descent with a cosine schedule (DaSS, ICLR 2023).

    Attributes:
      epochs: Passes over the training images.
      batch_size: Images per step; an incomplete last batch is dropped.
      learning_rate: Initial value; decays to 0 along a cosine, per step.
      momentum: Nesterov momentum.
      weight_decay: Added to the gradient of every parameter.
      eval_every: Epochs between evaluations; the last epoch is always evaluated.
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 3e-5
    eval_every: int = 5

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "eval_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not (self.learning_rate > 0 and 0 <= self.momentum < 1 and self.weight_decay >= 0):
            raise UserError(
                "learning_rate must be positive, momentum in [0, 1), weight_decay not negative; "
                f"got {self.learning_rate}, {self.momentum}, {self.weight_decay}"
            )


class TrainState(NamedTuple):
    """Everything that training changes; every leaf has a leading K axis in a population."""

    params: Any
    batch_stats: Any
    opt_state: Any


class CachedTeacher(NamedTuple):
    """Teacher logits of every training image under the epoch's view."""

    logits: Float[Array, "N C"]


class OnlineTeacher(NamedTuple):
    """Teacher variables: one forward pass per step, shared by the population."""

    variables: Any


Teacher = CachedTeacher | OnlineTeacher | None


@dataclasses.dataclass(frozen=True)
class Plan:
    """The static side of an epoch: all that a compilation depends on besides shapes.

    Attributes:
      space: The search space.
      sgd: The optimiser's settings.
      loss: What a step minimises.
      augmentation: What training views may do.
      num_steps: Steps of the whole run, the length of the cosine.
      networks_per_step: k, how many networks are vmapped at a time; the device's default if None.
    """

    space: ResNetSpace
    sgd: SGDConfig
    loss: Loss
    augmentation: Augmentation
    num_steps: int
    networks_per_step: int | None = None


def sgd_optimizer(config: SGDConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Nesterov SGD whose weight decay is part of the gradient, as in PyTorch."""
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay),
        optax.sgd(schedule, momentum=config.momentum, nesterov=True),
    )


def plan_optimizer(plan: Plan) -> optax.GradientTransformation:
    """The optimiser of a run: cosine per step from the initial learning rate to 0."""
    schedule = optax.cosine_decay_schedule(plan.sgd.learning_rate, plan.num_steps)
    return sgd_optimizer(plan.sgd, schedule)


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Complete batches of an epoch.

    Raises:
      UserError: If there is not even one.
    """
    if num_images < batch_size:
        raise UserError(
            f"{num_images} training images do not fill one batch of {batch_size}: "
            "use a smaller batch_size or more images"
        )
    return num_images // batch_size


def train_step(
    space: ResNetSpace,
    optimizer: optax.GradientTransformation,
    loss: Loss,
    state: TrainState,
    architecture: Architecture,
    images: Float[Array, "B H W 3"],
    labels: Int[Array, " B"],
    teacher_logits: Float[Array, "B C"] | None,
) -> tuple[TrainState, Float[Array, ""]]:
    """One SGD step of one network.

    Args:
      space: The search space, static.
      optimizer: From ``sgd_optimizer``.
      loss: What to minimise.
      state: The network before the step, without the K axis.
      architecture: The network's architecture.
      images: Augmented images in [-1, 1].
      labels: Class indices.
      teacher_logits: The teacher's outputs for the same images, if the loss needs them.

    Returns:
      The network after the step, and its loss before it.
    """

    def objective(params: Any) -> tuple[Array, Any]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, _, stats = resnet.apply(space, variables, architecture, images, train=True)
        return loss(logits, labels, teacher_logits), stats

    (value, stats), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, stats, opt_state), value


def init_states(plan: Plan, variables: resnet.Variables) -> TrainState:
    """Wraps a population's variables (leading K axis) with fresh optimiser states."""
    opt_state = jax.vmap(plan_optimizer(plan).init)(variables["params"])
    # training takes the buffers of its states: the caller keeps its own
    params, stats = jax.tree.map(jnp.copy, (variables["params"], variables["batch_stats"]))
    return TrainState(params, stats, opt_state)


def _teacher_logits(
    space: ResNetSpace, teacher: Teacher, indices: Array, images: Array
) -> Array | None:
    if teacher is None:
        return None
    if isinstance(teacher, CachedTeacher):
        return teacher.logits[indices].astype(jnp.float32)
    return resnet.apply(space, teacher.variables, space.full(), images, train=False)[0]


@functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def train_steps(
    plan: Plan,
    states: TrainState,
    losses: Float[Array, " K"],
    architectures: Architecture,
    data: Split,
    teacher: Teacher,
    order: Int[Array, "steps B"],
    view_key: Key[Array, ""],
    view: Int[Array, ""],
    start: Int[Array, ""],
    stop: Int[Array, ""],
) -> tuple[TrainState, Float[Array, " K"]]:
    """Trains a population for some steps of an epoch, compiled as a whole.

    How an epoch is cut into calls changes no number, and one compilation serves every cut.

    Args:
      plan: The static side.
      states: The population; its buffers are donated.
      losses: Sum of each network's losses over the earlier steps of the epoch; donated, too.
      architectures: K architectures.
      data: All training images, on the device.
      teacher: Where teacher logits come from.
      order: The images of each step of the epoch.
      view_key: Key of the task's views.
      view: Which view of the images this epoch uses.
      start: The first step of the epoch to do.
      stop: The step before which to end.

    Returns:
      The population after these steps, and the sums of its losses.
    """
    optimizer = plan_optimizer(plan)
    size = architectures.depths.shape[0]

    def step(index: Array, carry: tuple[TrainState, Array]) -> tuple[TrainState, Array]:
        states, losses = carry
        indices = order[index]
        raw, labels = data.images[indices], data.labels[indices]
        images = augment(plan.augmentation, view_key, view, indices, raw)
        logits = _teacher_logits(plan.space, teacher, indices, images)

        def one(network: tuple[TrainState, Architecture]) -> tuple[TrainState, Array]:
            return train_step(plan.space, optimizer, plan.loss, *network, images, labels, logits)

        states, values = map_population(
            one, (states, architectures), size=size, requested=plan.networks_per_step
        )
        return states, losses + values

    return jax.lax.fori_loop(start, stop, step, (states, losses))


def variables_of(states: TrainState) -> resnet.Variables:
    """The networks' variables, without the optimiser."""
    return {"params": states.params, "batch_stats": states.batch_stats}
