"""Knowledge distillation of a population of students (DaSS, ICLR 2023; Hinton et al., 2015).

Dimension letters: K students, E evaluations.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from dass_jax import epochs as epochs_lib
from dass_jax import evaluation, resnet, training
from dass_jax.data.augmentation import Augmentation
from dass_jax.epochs import EpochReport, Epochs, Progress
from dass_jax.errors import UserError
from dass_jax.evaluation import Split
from dass_jax.inheritance import Origin, Students, inherit, initial_states
from dass_jax.kd_loss import KDLoss
from dass_jax.kd_loss import kd_loss as kd_loss
from dass_jax.learning_curves import LearningCurves
from dass_jax.memory import arrange
from dass_jax.parallel import ALL_DEVICES, Devices
from dass_jax.randomness import Stream, fold_in, task_key
from dass_jax.remapping import Kind, check_kind
from dass_jax.search_space import Architecture, ResNetSpace
from dass_jax.seats import Seats, take_seats
from dass_jax.snapshots import Snapshots
from dass_jax.stopping import deferred_stop
from dass_jax.training import ComputeDtype, SGDConfig, Teacher, TrainState


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
      networks_per_step: k, students vmapped at a time at most; see ``memory.arrange`` for None.
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


class _Population(NamedTuple):
    """K students that train together.

    Attributes:
      plan: The static side of their training.
      seats: Where each of them is.
      architectures: The students, on the devices.
    """

    plan: training.Plan
    seats: Seats
    architectures: Architecture

    def accuracy(self, states: TrainState, split: Split) -> Float[np.ndarray, " K"]:
        """Their accuracies over all images of a split."""
        plan = self.plan
        accuracies = evaluation.evaluate(
            plan.space, training.variables_of(states), self.architectures, split,
            layout=plan.layout, networks_per_step=plan.networks_per_step,
        )  # fmt: skip
        return self.seats.gather(accuracies)

    def begin(
        self, kind: Kind, students: Students, assignment: Assignment, snapshots: Snapshots
    ) -> tuple[Progress, LearningCurves]:
        """The beginning, or where a stopped run was."""
        init_key = task_key(assignment.seed, assignment.name, Stream.STUDENT_INIT)
        origin, size = Origin(assignment.variables, init_key), len(students.ids)
        template = jax.eval_shape(
            lambda: epochs_lib.begin(self.plan, inherit(self.plan.space, kind, students, origin))
        )
        saved = snapshots.restore_or_discard(template)
        if saved is not None:
            latest, description = saved
            states, losses = self.seats.spread((latest.states, latest.losses))
            latest = latest._replace(states=states, losses=losses)
            return latest, LearningCurves.from_json(description)
        seated = Students(self.architectures, self.seats.spread(students.ids))
        states = initial_states(self.plan, kind, seated, origin)
        losses = self.seats.spread(np.zeros(size, np.float32))
        curves = LearningCurves.beginning(self.accuracy(states, assignment.valid))
        nothing = jnp.zeros((), jnp.int32)
        return Progress(states, losses, nothing, nothing), curves


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
    on_steps: Callable[[int], None] = lambda step: None,
    devices: Devices = ALL_DEVICES,
    pad_to: int = 0,
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
        was left by other students is removed. Trained students are saved, too, before they are
        tested: whoever has the result removes them.
      on_epoch: Called after every epoch; its networks are in the order of the devices, some of them
        twice.
      on_steps: Called about every second with the steps done so far.
      devices: Which devices to use.
      pad_to: A smaller population is compiled as if it had so many students, so that populations
        of several sizes share one compilation.

    Returns:
      Accuracies, the learning curves and the distilled students.

    Raises:
      UserError: If the images do not suffice, or the space cannot have the kind of remapping.
      StoppedError: The process is asked to stop; unfinished training is saved.
    """
    check_kind(space, config.remapping)
    snapshots = snapshots or Snapshots(None, "the unfinished students", {})
    size = max(len(student_ids), pad_to)
    plan = _plan(space, config, augmentation, assignment, size, devices)
    blocks = np.asarray(architectures.depths).sum(-1)
    seats = take_seats(blocks, plan.layout, plan.networks_per_step, size)
    population = _Population(plan, seats, seats.spread(architectures))
    students = Students(architectures, jnp.asarray(student_ids))
    progress, curves = population.begin(config.remapping, students, assignment, snapshots)

    def take() -> tuple[Progress, dict[str, Any]]:
        states, losses = seats.gather((progress.states, progress.losses))
        return progress._replace(states=states, losses=losses), curves.to_json()

    def offer(latest: Progress) -> None:
        nonlocal progress
        progress = latest
        on_steps(int(progress.step))
        snapshots.offer(int(progress.step), take)

    epochs = _epochs(config, assignment, replicate)
    reports = epochs_lib.run_epochs(plan, progress, population.architectures, epochs, offer)
    with deferred_stop():
        for report in reports:
            curves = curves.after(report, seats)
            on_epoch(report)
            offer(report.progress)
        snapshots.keep(int(progress.step), take)
    return PopulationResult(
        initial=curves.initial,
        epochs=curves.epochs,
        curve=curves.accuracies,
        loss=curves.loss,
        test=population.accuracy(progress.states, assignment.test),
        variables=seats.gather(training.variables_of(progress.states)),
    )


def _plan(
    space: ResNetSpace,
    config: DistillConfig,
    augmentation: Augmentation,
    assignment: Assignment,
    size: int,
    devices: Devices,
) -> training.Plan:
    """The static side of training so many students."""
    splits = (assignment.train, assignment.valid, assignment.test)
    arrangement = arrange(
        space, devices, size, networks_per_step=config.networks_per_step,
        batch_size=config.sgd.batch_size, image_size=assignment.train.images.shape[1],
        num_classes=resnet.num_classes(assignment.variables),
        num_images=sum(len(split.labels) for split in splits),
    )  # fmt: skip
    steps = training.steps_per_epoch(len(assignment.train.labels), config.sgd.batch_size)
    return training.Plan(
        space, config.sgd, config.loss, augmentation, steps * config.sgd.epochs,
        arrangement.layout, arrangement.networks_per_step, config.compute_dtype,
    )  # fmt: skip


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
