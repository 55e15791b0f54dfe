"""Tasks made ready: images on the device, a trained teacher."""

import hashlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dass_jax import checkpoints, cost, evaluation, training
from dass_jax import teacher as teacher_lib
from dass_jax.console import console, percent
from dass_jax.data.images import ImageDataset, Images
from dass_jax.data.tasks import TaskSpec, load_task
from dass_jax.distillation import DistillConfig
from dass_jax.errors import UserError
from dass_jax.evaluation import Split
from dass_jax.experiment import Experiment
from dass_jax.recipe import Recipe
from dass_jax.resnet import Variables
from dass_jax.search_space import stack
from dass_jax.snapshots import Snapshots
from dass_jax.workdir import Workdir, write_json
from dass_jax.workflow.given_teacher import (
    adopt_teacher,
    is_guessing,
    require_same_weights,
    weights_digest,
)
from dass_jax.workflow.recipes import student_recipe, teacher_recipe
from dass_jax.workflow.training_bar import training_bar


class TaskImages(NamedTuple):
    """A task's images on the device."""

    train: Split
    valid: Split
    test: Split
    num_classes: int


def _to_device(images: Images) -> Split:
    return Split(jnp.asarray(images.images), jnp.asarray(images.labels))


def load_images(experiment: Experiment, spec: TaskSpec) -> TaskImages:
    """Reads a task's images and puts them on the device."""
    return on_device(load_task(spec, experiment.image_size))


def on_device(data: ImageDataset) -> TaskImages:
    """Puts a task's images on the device."""
    return TaskImages(
        _to_device(data.train), _to_device(data.valid), _to_device(data.test), data.num_classes
    )


def check_task(experiment: Experiment, spec: TaskSpec) -> None:
    """Reads a task's images and sees whether they suffice for training.

    Raises:
      UserError: If they cannot be read or are too few.
    """
    try:
        train = load_task(spec, experiment.image_size).train
        for sgd in (experiment.teacher.sgd, experiment.kd.sgd, experiment.final.sgd):
            training.steps_per_epoch(len(train), sgd.batch_size)
    except UserError as error:
        raise UserError(f"task {spec.name}: {error}") from error


def has_teacher(workdir: Workdir, spec: TaskSpec) -> bool:
    """Whether the task's teacher is trained."""
    return checkpoints.exists(workdir.teacher(spec.name) / "checkpoint")


def load_teacher(
    experiment: Experiment, workdir: Workdir, spec: TaskSpec, images: TaskImages | None = None
) -> teacher_lib.TeacherResult:
    """Reads the task's teacher.

    Args:
      experiment: The settings.
      workdir: Where the teacher lies.
      spec: The task.
      images: The task's images, if they are at hand, to be compared with the teacher's.

    Returns:
      The teacher.

    Raises:
      UserError: If there is none, or it was trained with other settings or images.
    """
    metadata = _checked_metadata(experiment, workdir, spec)
    folder = workdir.teacher(spec.name) / "checkpoint"
    if images is not None and metadata["images_digest"] != images_digest(images):
        raise UserError(
            f"the teacher in {folder} was trained on other images than {spec.source} holds now"
        )
    result, _ = teacher_lib.load_teacher(folder, experiment.space)
    return result


def _checked_metadata(experiment: Experiment, workdir: Workdir, spec: TaskSpec) -> dict[str, Any]:
    """What describes the task's teacher, if it is that of the settings."""
    folder = workdir.teacher(spec.name) / "checkpoint"
    if not checkpoints.exists(folder):
        raise UserError(f"task {spec.name} has no teacher in {folder}: run bin/train_teacher.py")
    metadata = checkpoints.require_recipe(folder, "the teacher", teacher_recipe(experiment, spec))
    require_same_weights(experiment.space, spec, metadata)
    return metadata


def images_digest(images: TaskImages) -> str:
    """A digest of a task's pixels and labels."""
    digest = hashlib.sha256()
    for array in jax.tree.leaves(images):
        digest.update(np.asarray(array).tobytes())
    return digest.hexdigest()


def origin_of(images: TaskImages, teacher: teacher_lib.TeacherResult) -> dict[str, str]:
    """What students of a task come from, beyond settings: digests of pixels and of weights."""
    return {
        "images_digest": images_digest(images),
        "weights_digest": weights_digest(teacher.variables),
    }


def saved_origin(workdir: Workdir, spec: TaskSpec) -> dict[str, str] | None:
    """``origin_of`` the task's teacher and the images it was trained on; None if it has none."""
    if not has_teacher(workdir, spec):
        return None
    metadata = checkpoints.read_metadata(workdir.teacher(spec.name) / "checkpoint")
    names = ("images_digest", "weights_digest")
    return {n: metadata[n] for n in names} if set(names) <= set(metadata) else None


def required_origin(experiment: Experiment, workdir: Workdir, spec: TaskSpec) -> dict[str, str]:
    """``saved_origin`` of a task that must have its teacher; empty if that does not know it.

    Raises:
      UserError: If there is no teacher, or it was trained with other settings.
    """
    _checked_metadata(experiment, workdir, spec)
    return saved_origin(workdir, spec) or {}


def distilled_recipe(
    experiment: Experiment, workdir: Workdir, spec: TaskSpec, config: DistillConfig
) -> Recipe:
    """What the network of a distilled student depends on.

    Beyond settings, which tell only where images and teacher come from, these are their digests.

    Args:
      experiment: The settings.
      workdir: Where the teacher lies.
      spec: The task.
      config: How students are distilled.

    Raises:
      UserError: As ``required_origin``.
    """
    origin = required_origin(experiment, workdir, spec)
    return student_recipe(experiment, spec, config) | origin


def ensure_teacher(
    experiment: Experiment, workdir: Workdir, spec: TaskSpec, images: TaskImages
) -> teacher_lib.TeacherResult:
    """Reads the task's teacher, adopts the one that the task names, or trains one.

    A stopped training goes on where it was.
    """
    if has_teacher(workdir, spec):
        return load_teacher(experiment, workdir, spec, images)
    if spec.teacher is None:
        return _train(experiment, workdir, spec, images)
    result = adopt_teacher(experiment.space, spec, images.num_classes, images.valid)
    console.print(
        f"teacher {spec.name}: read from {spec.teacher}, "
        f"validation accuracy {percent(result.accuracy)}{as_given(spec)}"
    )
    _keep(experiment, workdir, spec, images, result)
    return result


def as_given(spec: TaskSpec) -> str:
    """What follows a teacher's accuracy that was not measured."""
    return "" if spec.teacher_accuracy is None else " as given"


def _train(
    experiment: Experiment, workdir: Workdir, spec: TaskSpec, images: TaskImages
) -> teacher_lib.TeacherResult:
    initial = _initial_variables(experiment, workdir, spec)
    folder = workdir.teacher(spec.name)
    recipe, pixels = teacher_recipe(experiment, spec), images_digest(images)
    snapshots = Snapshots(
        folder / "unfinished", "the unfinished teacher", recipe | {"images_digest": pixels}
    )
    config = experiment.teacher_of(spec)
    with training_bar(f"teacher {spec.name}", config.sgd, len(images.train.labels)) as watchers:
        result = teacher_lib.train_teacher(
            experiment.space, config, experiment.augmentation,
            name=spec.name, seed=experiment.seed, num_classes=images.num_classes,
            train=images.train, valid=images.valid, snapshots=snapshots, initial=initial,
            on_epoch=watchers.on_epoch, on_steps=watchers.on_steps, devices=experiment.devices,
        )  # fmt: skip
    _keep(experiment, workdir, spec, images, result)
    snapshots.remove()
    if is_guessing(result.accuracy, images.num_classes, len(images.valid.labels)):
        console.print(
            f"Note: the teacher of {spec.name} reaches {percent(result.accuracy)} on the "
            "validation images, hardly more than chance: students have nothing to learn from it. "
            "Lower teacher.sgd.learning_rate, train it for more epochs, or leave the task out."
        )
    return result


def _keep(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    images: TaskImages,
    result: teacher_lib.TeacherResult,
) -> None:
    """Measures a finished teacher on the test images and saves it."""
    folder = workdir.teacher(spec.name)
    full = stack([experiment.space.full()])
    population = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], result.variables)
    test = evaluation.evaluate(experiment.space, population, full, images.test)
    metadata = {
        "recipe": teacher_recipe(experiment, spec),
        "test_accuracy": float(test[0]),
    } | origin_of(images, result)
    write_json(folder / "summary.json", _summary(experiment, result, metadata, images))
    # the checkpoint marks the teacher as done, so it comes last
    teacher_lib.save_teacher(folder / "checkpoint", result, metadata)


def _initial_variables(
    experiment: Experiment, workdir: Workdir, spec: TaskSpec
) -> Variables | None:
    """What a task's teacher starts from if not afresh; that teacher is trained if it is missing."""
    if spec.teacher_init is None:
        return None
    source = experiment.task(spec.teacher_init)
    if has_teacher(workdir, source):
        return load_teacher(experiment, workdir, source).variables
    images = load_images(experiment, source)
    return ensure_teacher(experiment, workdir, source, images).variables


def _summary(
    experiment: Experiment,
    result: teacher_lib.TeacherResult,
    metadata: dict,
    images: TaskImages,
) -> dict:
    """What people want to know of a teacher, for its summary file."""
    full, space = experiment.space.full(), experiment.space
    sizes = {"num_classes": images.num_classes}
    return {
        "valid_accuracy": result.accuracy,
        "test_accuracy": metadata["test_accuracy"],
        "best_epoch": result.epoch,
        "curve": result.curve,
        "seconds": result.seconds,
        "train_images": len(images.train.labels),
        "valid_images": len(images.valid.labels),
        "test_images": len(images.test.labels),
        "flops": int(cost.num_flops(space, full, image_size=experiment.image_size, **sizes)),
        "num_params": int(cost.num_params(space, full, **sizes)),
    } | sizes


def teacher_test_accuracy(workdir: Workdir, spec: TaskSpec) -> float:
    """The teacher's test accuracy, a fraction; for final reports only."""
    return checkpoints.read_metadata(workdir.teacher(spec.name) / "checkpoint")["test_accuracy"]
