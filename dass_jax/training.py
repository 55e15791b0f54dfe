"""Training a population of networks together: one step, and many of them compiled as a whole.

The step is written for one network and mapped over the population; a teacher is a population of
one. The data lies on the device. ``epochs`` runs whole trainings.

Dimension letters: K networks, N images, B batch, H W image size, C classes.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from dass_jax import parallel, resnet
from dass_jax.data.augmentation import Augmentation, augment
from dass_jax.errors import UserError
from dass_jax.evaluation import Split
from dass_jax.parallel import Layout
from dass_jax.population import map_population
from dass_jax.search_space import Architecture, ResNetSpace

ComputeDtype = Literal["float32", "bfloat16"]

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
      layout: Which devices do what.
      networks_per_step: k, how many networks are vmapped at a time; the device's default if None.
      compute_dtype: What the convolutions of training compute in.
    """

    space: ResNetSpace
    sgd: SGDConfig
    loss: Loss
    augmentation: Augmentation
    num_steps: int
    layout: Layout
    networks_per_step: int | None = None
    compute_dtype: ComputeDtype = "float32"


def sgd_optimizer(config: SGDConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Nesterov SGD whose weight decay is part of the gradient, as in PyTorch."""
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay),
        optax.sgd(schedule, momentum=config.momentum, nesterov=True),
    )


def cosine_sgd(config: SGDConfig, num_steps: int) -> optax.GradientTransformation:
    """The optimiser of a run: cosine per step from the initial learning rate to 0."""
    return sgd_optimizer(config, optax.cosine_decay_schedule(config.learning_rate, num_steps))


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
    image_axis: str | None = None,
    compute_dtype: ComputeDtype = "float32",
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
      image_axis: Mapped axis over whose devices the batch is spread in equal parts, if it is.
      compute_dtype: What the convolutions compute in.

    Returns:
      The network after the step, and its loss before it.
    """

    def objective(params: Any) -> tuple[Array, Any]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, _, stats = resnet.apply(
            space, variables, architecture, images, train=True,
            axis_name=image_axis, dtype=compute_dtype,
        )  # fmt: skip
        return loss(logits, labels, teacher_logits), stats

    (value, stats), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
    value, gradient = parallel.mean((value, gradient), image_axis)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, stats, opt_state), value


def init_states(plan: Plan, variables: resnet.Variables) -> TrainState:
    """Wraps a population's variables (leading K axis) with fresh optimiser states."""
    # training takes the buffers of its states: a compiled function returns new ones
    return _init_states(plan.sgd, plan.num_steps, variables)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _init_states(sgd: SGDConfig, num_steps: int, variables: resnet.Variables) -> TrainState:
    opt_state = jax.vmap(cosine_sgd(sgd, num_steps).init)(variables["params"])
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


class Batches(NamedTuple):
    """What the steps of an epoch read, on all devices.

    Attributes:
      data: All training images.
      teacher: Where teacher logits come from.
      order: The images of each step of the epoch.
      view_key: Key of the task's views.
      view: Which view of the images this epoch uses.
    """

    data: Split
    teacher: Teacher
    order: Int[Array, "steps B"]
    view_key: Key[Array, ""]
    view: Int[Array, ""]


def train_steps(
    plan: Plan,
    states: TrainState,
    losses: Float[Array, " K"],
    architectures: Architecture,
    batches: Batches,
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
      batches: Images, labels and teacher logits.
      start: The first step of the epoch to do.
      stop: The step before which to end.

    Returns:
      The population after these steps, and the sums of its losses.
    """
    run = parallel.compiled(_train_steps, (plan,), plan.layout)
    return run((states, losses), architectures, (batches, start, stop))


def _train_steps(
    plan: Plan,
    image_axis: str | None,
    carried: tuple[TrainState, Array],
    architectures: Architecture,
    shared: tuple[Batches, Array, Array],
) -> tuple[TrainState, Array]:
    """``train_steps`` on one device, for its networks or its part of each batch."""
    batches, start, stop = shared
    optimizer = cosine_sgd(plan.sgd, plan.num_steps)
    size = architectures.depths.shape[0]

    def step(index: Array, carry: tuple[TrainState, Array]) -> tuple[TrainState, Array]:
        states, losses = carry
        indices = parallel.own_part(batches.order[index], image_axis)
        raw, labels = batches.data.images[indices], batches.data.labels[indices]
        images = augment(plan.augmentation, batches.view_key, batches.view, indices, raw)
        logits = _teacher_logits(plan.space, batches.teacher, indices, images)

        def one(network: tuple[TrainState, Architecture]) -> tuple[TrainState, Array]:
            return train_step(
                plan.space, optimizer, plan.loss, *network, images, labels, logits, image_axis,
                plan.compute_dtype,
            )  # fmt: skip

        states, values = map_population(
            one, (states, architectures), size=size, requested=plan.networks_per_step
        )
        return states, losses + values

    return jax.lax.fori_loop(start, stop, step, carried)


def variables_of(states: TrainState) -> resnet.Variables:
    """The networks' variables, without the optimiser."""
    return {"params": states.params, "batch_stats": states.batch_stats}
