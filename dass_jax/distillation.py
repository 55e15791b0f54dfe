"""Knowledge distillation of a population of students (DaSS, ICLR 2023; Hinton et al., 2015).

Dimension letters: K students, B batch, C classes, E evaluations.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from dass_jax import epochs as epochs_lib
from dass_jax import evaluation, resnet, training
from dass_jax.data.augmentation import Augmentation
from dass_jax.epochs import EpochReport, Epochs, Progress
from dass_jax.errors import UserError
from dass_jax.evaluation import Split
from dass_jax.memory import Memory, device_bytes, fitting_networks_per_step, predict_memory
from dass_jax.parallel import (
    ALL_DEVICES,
    Devices,
    Layout,
    balanced_order,
    choose_layout,
    padded_size,
)
from dass_jax.randomness import Stream, fold_in, task_key
from dass_jax.remapping import Kind, check_kind, remap
from dass_jax.search_space import Architecture, ResNetSpace
from dass_jax.snapshots import Snapshots
from dass_jax.stopping import deferred_stop
from dass_jax.training import ComputeDtype, SGDConfig, Teacher


def kd_loss(
    student_logits: Float[Array, "B C"],
    teacher_logits: Float[Array, "B C"],
    labels: Int[Array, " B"],
    *,
    alpha: float = 0.5,
    temperature: float = 6.0,
) -> Float[Array, ""]:
    """The distillation loss, averaged over the batch.

    ``(1 - alpha) T^2 CE(softmax(teacher / T), log_softmax(student / T))
    + alpha CE(labels, student)``

    Args:
      student_logits: The student's outputs.
      teacher_logits: The teacher's outputs for the same images.
      labels: Class indices.
      alpha: Weight of the labels against the teacher, in [0, 1].
      temperature: T, how much both distributions are softened.

    Returns:
      The batch mean.
    """
    soft = optax.softmax_cross_entropy(
        student_logits / temperature, jax.nn.softmax(teacher_logits / temperature)
    )
    hard = optax.softmax_cross_entropy_with_integer_labels(student_logits, labels)
    return jnp.mean((1 - alpha) * temperature**2 * soft + alpha * hard)


@dataclasses.dataclass(frozen=True)
class KDLoss:
    """``kd_loss`` with its settings, hashable."""

    alpha: float = 0.5
    temperature: float = 6.0

    def __post_init__(self) -> None:
        if not (0 <= self.alpha <= 1 and self.temperature > 0):
            raise UserError(
                "alpha must be in [0, 1] and temperature positive, "
                f"got {self.alpha} and {self.temperature}"
            )

    def __call__(self, logits: Array, labels: Array, teacher_logits: Array | None) -> Array:
        """The batch mean."""
        if teacher_logits is None:
            raise ValueError("distillation needs teacher logits")
        return kd_loss(
            logits, teacher_logits, labels, alpha=self.alpha, temperature=self.temperature
        )


@dataclasses.dataclass(frozen=True)
class DistillConfig:
    """How a student is distilled.

    Attributes:
      sgd: The optimiser.
      loss: Weight of the labels and temperature.
      remapping: How students inherit the teacher's weights; see ``remapping.remap``.
      teacher_logits: ``cached`` (computed once for each view) or ``online`` (every step).
      cache_dtype: What cached logits are stored as; ``float32`` gives the numbers of ``online``.
      num_views: V, the fixed views that the epochs cycle through; sets the size of the cache.
      networks_per_step: k, students vmapped at a time; the device's default if None.
      compute_dtype: What the students' convolutions compute in while they are trained; ``bfloat16``
        is faster on TPU and GPU.
    """

    sgd: SGDConfig = SGDConfig(epochs=50)
    loss: KDLoss = KDLoss()
    remapping: Kind = "copy_paste_first"
    teacher_logits: Literal["cached", "online"] = "cached"
    cache_dtype: Literal["float16", "float32"] = "float16"
    num_views: int = 50
    networks_per_step: int | None = None
    compute_dtype: ComputeDtype = "float32"

    def __post_init__(self) -> None:
        if self.num_views < 1:
            raise UserError(f"num_views must be at least 1, got {self.num_views}")
        if self.networks_per_step is not None and self.networks_per_step < 1:
            raise UserError(f"networks_per_step must be at least 1, got {self.networks_per_step}")


class Assignment(NamedTuple):
    """Everything on the device that distilling for one task needs.

    Attributes:
      name: The task's name, part of its random keys.
      seed: The experiment's seed.
      variables: The teacher.
      train: Training images.
      valid: Images that the curve and the predictor's target are measured on.
      test: Images that only final reports look at.
      teacher: View -> where that view's teacher logits come from.
    """

    name: str
    seed: int
    variables: resnet.Variables
    train: Split
    valid: Split
    test: Split
    teacher: Callable[[int], Teacher]


class PopulationResult(NamedTuple):
    """What distilling K students gave; accuracies are fractions in [0, 1].

    Attributes:
      initial: Validation accuracy of the remapped students before any training, [K].
      epochs: The evaluated epochs, [E].
      curve: Validation accuracy after each of them, [E, K].
      loss: Mean training loss of the last epoch, [K].
      test: Test accuracy after the last epoch, [K].
      variables: The distilled students, masked, with a leading K axis.
    """

    initial: np.ndarray
    epochs: np.ndarray
    curve: np.ndarray
    loss: np.ndarray
    test: np.ndarray
    variables: resnet.Variables

    @property
    def final(self) -> np.ndarray:
        """Validation accuracy after the last epoch, [K]."""
        return self.curve[-1]

    @property
    def best(self) -> np.ndarray:
        """Best validation accuracy of any evaluation, [K]."""
        return self.curve.max(0)


def view_of_epoch(config: DistillConfig, replicate: int, epoch: int) -> int:
    """Replicates use other views: epoch e of replicate r uses view (r * epochs + e) mod V."""
    return (replicate * config.sgd.epochs + epoch) % config.num_views


def views_needed(config: DistillConfig, replicates: int) -> int:
    """How many of the V views are used by that many replicates."""
    return min(config.num_views, replicates * config.sgd.epochs)


def inherit(
    space: ResNetSpace,
    assignment: Assignment,
    architectures: Architecture,
    student_ids: Int[np.ndarray, " K"],
    kind: Kind,
) -> resnet.Variables:
    """Initial variables of K students; a student's id keys ``random_init`` alone."""
    check_kind(space, kind)
    init_key = task_key(assignment.seed, assignment.name, Stream.STUDENT_INIT)
    ids = jnp.asarray(student_ids)
    return _inherit(space, kind, assignment.variables, architectures, ids, init_key)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _inherit(
    space: ResNetSpace,
    kind: Kind,
    teacher: resnet.Variables,
    architectures: Architecture,
    student_ids: Int[Array, " K"],
    init_key: Key[Array, ""],
) -> resnet.Variables:
    def one(architecture: Architecture, student_id: Array) -> resnet.Variables:
        return remap(space, teacher, architecture, kind, fold_in(init_key, student_id))

    return jax.vmap(one)(architectures, student_ids)


def distil_population(
    space: ResNetSpace,
    config: DistillConfig,
    augmentation: Augmentation,
    assignment: Assignment,
    architectures: Architecture,
    student_ids: Int[np.ndarray, " K"],
    replicate: int = 0,
    snapshots: Snapshots | None = None,
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
    devices: Devices = ALL_DEVICES,
) -> PopulationResult:
    """Distils K students of one task together.

    Args:
      space: The search space.
      config: How students are distilled.
      augmentation: What training views may do.
      assignment: Images and teacher of the task.
      architectures: K architectures.
      student_ids: Stable ids of the students.
      replicate: Which orders and views; another replicate is "another seed".
      snapshots: Where unfinished training is saved, and continued from to the same numbers; what
        was left by other students is removed.
      on_epoch: Called after every epoch; its networks are in the order of the devices, some of them
        twice.
      devices: Which devices to use.

    Returns:
      Accuracies, the learning curves and the distilled students.
    """
    steps = training.steps_per_epoch(len(assignment.train.labels), config.sgd.batch_size)
    population = len(student_ids)
    layout = choose_layout(devices, population, config.sgd.batch_size)
    k = _networks_per_step(space, config, assignment, layout, population)
    plan = training.Plan(
        space, config.sgd, config.loss, augmentation, steps * config.sgd.epochs, layout, k,
        config.compute_dtype,
    )  # fmt: skip
    snapshots = snapshots or Snapshots(None, "the unfinished students", {})
    variables = inherit(space, assignment, architectures, student_ids, config.remapping)
    progress, saved = snapshots.restore_or_discard(epochs_lib.begin(plan, variables))
    # the last student fills up the devices; what is saved and returned leaves the copies out
    filled = np.minimum(np.arange(padded_size(population, layout, k)), population - 1)
    blocks = np.asarray(architectures.depths).sum(-1)
    filled = filled[balanced_order(blocks[filled], layout.network_shards)]
    places = np.asarray([np.flatnonzero(filled == student)[0] for student in range(population)])
    architectures, variables, states, losses = _members(
        (architectures, variables, progress.states, progress.losses), filled
    )
    progress = Progress(states, losses, jnp.asarray(progress.step))

    def accuracy(variables: resnet.Variables, split: Split) -> np.ndarray:
        accuracies = evaluation.evaluate(
            space, variables, architectures, split, layout=layout, networks_per_step=k
        )
        return np.asarray(accuracies)[places]

    initial = np.asarray(saved["initial"]) if saved else accuracy(variables, assignment.valid)
    curve = [(epoch, accuracies) for epoch, accuracies in saved.get("curve", [])]
    loss = np.asarray(saved.get("loss", initial))

    def offer(progress: Progress) -> None:
        def take() -> tuple[Progress, dict[str, Any]]:
            states, losses = _members((progress.states, progress.losses), places)
            description = {"initial": initial.tolist(), "curve": curve, "loss": loss.tolist()}
            return Progress(states, losses, progress.step), description

        snapshots.offer(int(progress.step), take)

    epochs = _epochs(config, assignment, replicate)
    with deferred_stop():
        for report in epochs_lib.run_epochs(plan, progress, architectures, epochs, offer):
            progress, loss = report.progress, report.loss[places]
            if report.accuracy is not None:
                curve.append((report.epoch, report.accuracy[places].tolist()))
            on_epoch(report)
            offer(progress)
    variables = training.variables_of(progress.states)
    return PopulationResult(
        initial=initial,
        epochs=np.asarray([epoch for epoch, _ in curve]),
        curve=np.asarray([accuracies for _, accuracies in curve], np.float32),
        loss=loss,
        test=accuracy(variables, assignment.test),
        variables=_members(variables, places),
    )


@jax.jit
def _members(population: Any, chosen: Int[Array, " K"]) -> Any:
    """Some networks of a population, copied."""
    return jax.tree.map(lambda leaf: leaf[chosen], population)


def _networks_per_step(
    space: ResNetSpace,
    config: DistillConfig,
    assignment: Assignment,
    layout: Layout,
    population: int,
) -> int | None:
    """As requested, else as many as fit into an accelerator; None leaves a CPU its default."""
    limit = device_bytes(layout)
    if config.networks_per_step is not None or limit is None:
        return config.networks_per_step
    splits = (assignment.train, assignment.valid, assignment.test)

    def predict(k: int) -> Memory:
        return predict_memory(
            space, layout, population=population, networks_per_step=k,
            batch_size=config.sgd.batch_size, image_size=assignment.train.images.shape[1],
            num_classes=resnet.num_classes(assignment.variables),
            num_images=sum(len(split.labels) for split in splits),
        )  # fmt: skip

    return fitting_networks_per_step(predict, limit, -(-population // layout.network_shards))


def _epochs(config: DistillConfig, assignment: Assignment, replicate: int) -> Epochs:
    """What the epochs of a replicate read."""
    order_key = task_key(assignment.seed, assignment.name, Stream.ORDER)
    return Epochs(
        train=assignment.train,
        valid=assignment.valid,
        order_key=fold_in(order_key, replicate),
        view_key=task_key(assignment.seed, assignment.name, Stream.VIEWS),
        view=lambda epoch: view_of_epoch(config, replicate, epoch),
        teacher=lambda epoch: assignment.teacher(view_of_epoch(config, replicate, epoch)),
    )
