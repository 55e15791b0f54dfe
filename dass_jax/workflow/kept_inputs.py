"""What predictors see of measured students, in files: running the networks takes most of the time.

A file holds all that any predictor has been shown of the students of one recipe, so that predictors
with other inputs find there what earlier ones needed.
"""

import io
import json
import pathlib
import zipfile
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dass_jax.errors import UnreadableError, reading
from dass_jax.meta_tasks import TaskBatch, named_leaves
from dass_jax.recipe import Recipe, digest
from dass_jax.workdir import write_atomically

Origin = dict[str, str] | None

_ORIGIN = "origin"

# what numpy, zipfile and zlib make of a file whose bytes are not what was written
_DAMAGE = (
    OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, zlib.error,
    zipfile.BadZipFile,
)  # fmt: skip


class KeptInputs(NamedTuple):
    """What was kept of one task.

    Attributes:
      task: The students without their accuracies.
      origin: Digests of the images and of the teacher that they were made from, if these had any.
    """

    task: TaskBatch
    origin: Origin


def _path(folder: pathlib.Path, recipe: Recipe) -> pathlib.Path:
    return folder / f"{digest(recipe)}.npz"


def _read(path: pathlib.Path) -> tuple[dict[str, Any], Origin]:
    """All arrays of a file by their names; none if it is missing or damaged."""
    try:
        with reading(path):
            content = io.BytesIO(path.read_bytes())
        with np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays, json.loads(str(arrays.pop(_ORIGIN)))
    except UnreadableError:
        raise
    except _DAMAGE:
        return {}, None


def _is_like(name: str, found: np.ndarray, wanted: Array) -> bool:
    """Whether shapes are equal, but for the number of students or images."""
    counted = 1 if name.startswith((".students", ".accuracies", ".valid", ".images")) else 0
    return found.ndim == wanted.ndim and found.shape[counted:] == wanted.shape[counted:]


def read_inputs(folder: pathlib.Path, recipe: Recipe, template: TaskBatch) -> KeptInputs | None:
    """Reads what ``keep_inputs`` wrote.

    Args:
      folder: The task's.
      recipe: What the inputs depend on, but for the images and the teacher themselves.
      template: A task with what the predictor looks at, whatever its numbers and students.

    Returns:
      A task with the arrays that the template has; None if they are not all there, in its shapes.

    Raises:
      UnreadableError: If the system refuses to read the file.
    """
    arrays, origin = _read(_path(folder, recipe))
    wanted = named_leaves(template)
    if not all(name in arrays and _is_like(name, arrays[name], wanted[name]) for name in wanted):
        return None
    found = [jnp.asarray(arrays[name]) for name in wanted]
    return KeptInputs(jax.tree.unflatten(jax.tree.structure(template), found), origin)


def keep_inputs(folder: pathlib.Path, recipe: Recipe, task: TaskBatch, origin: Origin) -> None:
    """Writes what a predictor sees of a task, beside what others of the same origin saw.

    Args:
      folder: The task's.
      recipe: As in ``read_inputs``.
      task: The students; their accuracies are left out.
      origin: Digests of the images and of the teacher.
    """
    path = _path(folder, recipe)
    kept, origin_before = _read(path)
    if origin_before != origin:
        kept = {}
    unlabelled = task._replace(accuracies=jnp.zeros_like(task.accuracies))
    kept |= {name: np.asarray(leaf) for name, leaf in named_leaves(unlabelled).items()}
    buffer = io.BytesIO()
    kept[_ORIGIN] = np.asarray(json.dumps(origin))
    np.savez_compressed(buffer, **kept)
    write_atomically(path, buffer.getvalue())
