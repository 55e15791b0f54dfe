"""Training the teacher of a task (DaSS, ICLR 2023)."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from dass_jax import checkpoints, resnet, training
from dass_jax import epochs as epochs_lib
from dass_jax.data.augmentation import Augmentation
from dass_jax.epochs import EpochReport, Epochs, Progress
from dass_jax.errors import UserError
from dass_jax.evaluation import Split
from dass_jax.parallel import ALL_DEVICES, Devices, choose_layout
from dass_jax.randomness import Stream, task_key
from dass_jax.search_space import ResNetSpace, stack
from dass_jax.snapshots import Snapshots
from dass_jax.stopping import deferred_stop
from dass_jax.training import SGDConfig


@dataclasses.dataclass(frozen=True)
class LabelSmoothingLoss:
    """Cross-entropy against labels mixed with the uniform distribution, averaged over the batch."""

    smoothing: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise UserError(f"smoothing must be in [0, 1), got {self.smoothing}")

    def __call__(self, logits: Array, labels: Array, teacher_logits: Array | None) -> Array:
        """The batch mean."""
        del teacher_logits  # a teacher has no teacher
        targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), self.smoothing)
        return optax.softmax_cross_entropy(logits, targets).mean()


@dataclasses.dataclass(frozen=True)
class TeacherConfig:
    """How teachers are trained.

    Attributes:
      sgd: The optimiser.
      loss: Cross-entropy with label smoothing.
    """

    sgd: SGDConfig = SGDConfig(epochs=180)
    loss: LabelSmoothingLoss = LabelSmoothingLoss()


class TeacherResult(NamedTuple):
    """A trained teacher; accuracies are fractions in [0, 1].

    Attributes:
      variables: The network at its best evaluation.
      accuracy: Its validation accuracy.
      epoch: When that was, in epochs done.
      curve: Pairs of epochs done and validation accuracy.
      seconds: Time spent, over all runs it took.
    """

    variables: resnet.Variables
    accuracy: float
    epoch: int
    curve: list[tuple[int, float]]
    seconds: float


class _Snapshot(NamedTuple):
    """The arrays that a run needs to continue exactly.

    Attributes:
      progress: Where the training stands.
      best: The teacher at its best evaluation.
    """

    progress: Progress
    best: resnet.Variables

    def after(self, report: EpochReport, curve: list[tuple[int, float]]) -> "_Snapshot":
        """With one more epoch, whose evaluation the curve does not hold yet."""
        if report.accuracy is None or any(earlier >= report.accuracy[0] for _, earlier in curve):
            return self._replace(progress=report.progress)
        variables = training.variables_of(report.progress.states)
        return _Snapshot(report.progress, jax.tree.map(lambda leaf: np.array(leaf[0]), variables))


def train_teacher(
    space: ResNetSpace,
    config: TeacherConfig,
    augmentation: Augmentation,
    *,
    name: str,
    seed: int,
    num_classes: int,
    train: Split,
    valid: Split,
    snapshots: Snapshots,
    initial: resnet.Variables | None = None,
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
    on_steps: Callable[[int], None] = lambda step: None,
    devices: Devices = ALL_DEVICES,
) -> TeacherResult:
    """Trains the largest network of the space on one task and keeps its best evaluation.

    Args:
      space: The search space, whose full architecture the teacher is.
      config: How to train.
      augmentation: What training views may do.
      name: The task's name, part of its random keys.
      seed: The experiment's seed.
      num_classes: Outputs of the dense layer.
      train: Training images.
      valid: Images that choose the best evaluation.
      snapshots: Where unfinished training is saved, and continued from to the same numbers.
      initial: A teacher of another task to start from, whatever its classes; a fresh start if None.
      on_epoch: Called after every epoch.
      on_steps: Called about every second with the steps done so far.
      devices: Which devices to use.

    Returns:
      The teacher at its best evaluation, the earliest one on ties.

    Raises:
      UserError: If saved progress was made with other settings, or training diverges.
    """
    steps = training.steps_per_epoch(len(train.labels), config.sgd.batch_size)
    layout = choose_layout(devices, 1, config.sgd.batch_size)
    plan = training.Plan(
        space, config.sgd, config.loss, augmentation, steps * config.sgd.epochs, layout
    )
    variables = resnet.init(space, task_key(seed, name, Stream.TEACHER_INIT), num_classes)
    if initial is not None:
        variables = resnet.with_new_classes(initial, variables)
    population = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], variables)
    fresh = _Snapshot(epochs_lib.begin(plan, population), variables)
    state, saved = snapshots.restore(fresh) or (fresh, {})
    curve = [(epoch, accuracy) for epoch, accuracy in saved.get("curve", [])]

    def offer(progress: Progress) -> None:
        latest = state._replace(progress=progress)
        on_steps(int(progress.step))
        snapshots.offer(int(progress.step), lambda: (latest, {"curve": curve}))

    full, epochs = stack([space.full()]), _epochs(name, seed, train, valid)
    with deferred_stop():
        for report in epochs_lib.run_epochs(plan, state.progress, full, epochs, offer):
            _require_finite(name, report)
            state = state.after(report, curve)
            if report.accuracy is not None:
                curve.append((report.epoch, float(report.accuracy[0])))
            on_epoch(report)
            offer(state.progress)
        snapshots.keep(int(state.progress.step), lambda: (state, {"curve": curve}))
    epoch, accuracy = max(curve, key=lambda entry: entry[1])
    best = jax.tree.map(np.asarray, state.best)
    return TeacherResult(best, accuracy, epoch, curve, snapshots.seconds)


def _epochs(name: str, seed: int, train: Split, valid: Split) -> Epochs:
    """What the epochs of a teacher read."""
    return Epochs(
        train=train,
        valid=valid,
        order_key=task_key(seed, name, Stream.TEACHER_ORDER),
        view_key=task_key(seed, name, Stream.TEACHER_VIEWS),
        view=lambda epoch: epoch,
        teacher=lambda epoch: None,
    )


def _require_finite(name: str, report: EpochReport) -> None:
    if not np.isfinite(report.loss[0]):
        raise UserError(
            f"the teacher of {name} diverged in epoch {report.epoch}: lower its learning_rate"
        )


def save_teacher(folder: pathlib.Path, result: TeacherResult, metadata: dict[str, Any]) -> None:
    """Writes a finished teacher with its accuracy, curve and what else describes it."""
    description = metadata | {
        "accuracy": result.accuracy,
        "epoch": result.epoch,
        "curve": result.curve,
        "seconds": result.seconds,
        "num_classes": resnet.num_classes(result.variables),
    }
    checkpoints.save(folder, result.epoch, result.variables, description)


def load_teacher(folder: pathlib.Path, space: ResNetSpace) -> tuple[TeacherResult, dict[str, Any]]:
    """Reads what ``save_teacher`` wrote: the teacher, and what describes it.

    Raises:
      UserError: If there is none, or it does not fit the space.
    """
    num_classes = checkpoints.read_metadata(folder)["num_classes"]
    variables, metadata = checkpoints.restore(folder, resnet.variable_shapes(space, num_classes))
    curve = [(epoch, accuracy) for epoch, accuracy in metadata["curve"]]
    result = TeacherResult(
        variables, metadata["accuracy"], metadata["epoch"], curve, metadata["seconds"]
    )
    return result, metadata
