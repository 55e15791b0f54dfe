"""Teachers that were trained elsewhere, made a task's own."""

import hashlib
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dass_jax import evaluation, resnet, weights
from dass_jax.data.tasks import TaskSpec
from dass_jax.errors import UserError
from dass_jax.evaluation import Split
from dass_jax.search_space import ResNetSpace, stack
from dass_jax.teacher import TeacherResult


def weights_digest(variables: resnet.Variables) -> str:
    """A digest of a network's arrays."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(variables):
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
    """Reads the teacher that a task names, and measures it if its accuracy is not given.

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
    accuracy = spec.teacher_accuracy
    if accuracy is None:
        population = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], variables)
        accuracy = float(evaluation.evaluate(space, population, stack([space.full()]), valid)[0])
    return TeacherResult(variables, accuracy, 0, [], time.monotonic() - begin)
