"""Teachers that were trained elsewhere, made a task's own."""

import hashlib
import math
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dass_jax import evaluation, resnet, weights
from dass_jax.console import console, percent
from dass_jax.data.tasks import TaskSpec
from dass_jax.errors import UserError
from dass_jax.evaluation import Split
from dass_jax.search_space import ResNetSpace, stack
from dass_jax.teacher import TeacherResult

# between two measurements of an accuracy, on a hundred images or more
_LARGE_DIFFERENCE = 0.15


def weights_digest(weights: Any) -> str:
    """A digest of all arrays of a pytree."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(weights):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _path(spec: TaskSpec) -> pathlib.Path:
    return pathlib.Path(str(spec.teacher)).expanduser()


def require_same_weights(space: ResNetSpace, spec: TaskSpec, metadata: dict[str, Any]) -> None:
    """Notices that the file of a teacher has changed since a task adopted it.

    A file that has gone since is not missed.

    Args:
      space: The search space.
      spec: The task.
      metadata: What describes the task's own copy.

    Raises:
      UserError: If the file holds other weights now.
    """
    if spec.teacher is None or not _path(spec).exists():
        return
    if weights_digest(weights.read_teacher(_path(spec), space)) != metadata["weights_digest"]:
        raise UserError(
            f"{spec.teacher} holds other weights than when task {spec.name} adopted it: use "
            "another work directory, or another name for the task"
        )


def adopt_teacher(
    space: ResNetSpace, spec: TaskSpec, num_classes: int, valid: Split
) -> TeacherResult:
    """Reads the teacher that a task names, and measures it.

    The validation images are cut from the training images, which it may have been trained on; its
    accuracy on other images can be given instead. What was measured tells in any case whether its
    classes and its images are those of the task, and a doubt is printed.

    Args:
      space: The search space, whose full architecture it must be.
      spec: The task.
      num_classes: Classes of the task's images.
      valid: Its validation images.

    Returns:
      The teacher, with an empty curve.

    Raises:
      UserError: If it cannot be read, or does not fit the space or the dataset.
    """
    begin = time.monotonic()
    path = _path(spec)
    variables = weights.read_teacher(path, space)
    classes = resnet.num_classes(variables)
    if classes != num_classes:
        raise UserError(
            f"the teacher {path} knows {classes} classes, but the images of task {spec.name} have "
            f"{num_classes}: choose the classes that it was trained on"
        )
    population = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], variables)
    measured = float(evaluation.evaluate(space, population, stack([space.full()]), valid)[0])
    if doubt := doubt_of(measured, spec.teacher_accuracy, num_classes, len(valid.labels)):
        console.print(f"Note: the teacher of {spec.name} {doubt}.")
    accuracy = measured if spec.teacher_accuracy is None else spec.teacher_accuracy
    return TeacherResult(variables, accuracy, 0, [], time.monotonic() - begin)


def is_guessing(measured: float, num_classes: int, num_images: int) -> bool:
    """Whether an accuracy, a fraction of so many images, is hardly more than chance."""
    chance = 1 / num_classes
    # two standard errors of who guesses
    return measured <= chance + 2 * math.sqrt(chance * (1 - chance) / num_images)


def doubt_of(measured: float, given: float | None, num_classes: int, num_images: int) -> str | None:
    """What is suspicious in the accuracy of a given teacher, or None.

    Args:
      measured: On the validation images, a fraction.
      given: What the user says, if anything.
      num_classes: Classes of the images.
      num_images: How many were measured on.
    """
    if is_guessing(measured, num_classes, num_images):
        return (
            f"reaches {percent(measured)} on the validation images, hardly more than chance: its "
            "classes may be in another order, or its images normalised in another way"
        )
    if given is not None and abs(measured - given) > _LARGE_DIFFERENCE:
        return (
            f"reaches {percent(measured)} on the validation images, and {percent(given)} was "
            "given: it may have been trained on these images, or be of other classes"
        )
    return None
