"""Students read back from what was exported, ready to classify images.

Dimension letters: B images, S their size, N classes.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int

from dass_jax import checkpoints
from dass_jax.deployment import formats, kept, weights
from dass_jax.deployment.formats import FORMATS
from dass_jax.deployment.network import dense_network
from dass_jax.deployment.student_config import CONFIG_FILE, StudentConfig, read_config
from dass_jax.errors import UserError
from dass_jax.resnet import Variables


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedStudent:
    """A student that classifies images: ``student(images)``.

    Attributes:
      config: What describes it.
      variables: Its weights at its own size; None if it was read from a program (StableHLO, ONNX).
      run: From checked images, uint8 [B, S, S, 3], to logits, float32 [B, N].
    """

    config: StudentConfig
    variables: Variables | None
    run: Callable[[Any], Array]

    def __call__(self, images: Any) -> Array:
        """Computes logits; compiles once for each number of images.

        Args:
          images: RGB values in 0..255 of at least one image, uint8 [B, S, S, 3]; the student
            normalises them itself.

        Returns:
          Logits, float32 [B, N].

        Raises:
          UserError: If the images have another type or shape.
        """
        if not isinstance(images, jax.Array):
            images = np.asarray(images)
        size = self.config.image.size
        fits = images.ndim == 4 and images.shape[1:] == (size, size, 3) and len(images) > 0
        if images.dtype != np.uint8 or not fits:
            raise UserError(
                f"images are {images.dtype} of shape {list(images.shape)}: give uint8 of shape "
                f"[B, {size}, {size}, 3], RGB values in 0..255"
            )
        return self.run(images)

    def predict(self, images: Any) -> Int[np.ndarray, " B"]:
        """The class of each image, counted from 0; takes what a call takes."""
        return np.argmax(np.asarray(self(images)), axis=-1)

    def predict_names(self, images: Any) -> list[str]:
        """The name of each image's class; takes what a call takes.

        Raises:
          UserError: If the student does not know the names of its classes.
        """
        names = self.config.class_names
        if names is None:
            raise UserError("this student does not know the names of its classes: use predict")
        return [names[label] for label in self.predict(images)]


def load_student(path: str | os.PathLike[str], format: str | None = None) -> LoadedStudent:
    """Loads a distilled student.

    Args:
      path: The folder that ``bin/export.py`` wrote, or that of one distilled network,
        ``replicateN`` in ``WORKDIR/students``.
      format: Which of the formats in an exported folder to read; by default the first of
        ``safetensors``, ``checkpoint``, ``stablehlo`` and ``onnx`` that is there.

    Returns:
      The student. All formats give the same logits, up to rounding.

    Raises:
      UserError: If there is none, or it is damaged.
    """
    folder = pathlib.Path(path).expanduser()
    if format is not None:
        formats.require_known([format])
    if (folder / CONFIG_FILE).exists():
        return _exported(folder, format)
    if format not in (None, "checkpoint") or not checkpoints.exists(folder):
        raise UserError(f"{folder} holds no student: name a folder that bin/export.py wrote")
    config, variables = kept.read_kept(folder)
    network = dense_network(config.strides, variables)
    return LoadedStudent(config, network.variables, network.run)


def _exported(folder: pathlib.Path, format: str | None) -> LoadedStudent:
    config, checksums = read_config(folder)
    found = [name for name in formats.present(folder) if format in (None, name)]
    if not found:
        raise UserError(
            f"{folder} holds no {format or ' or '.join(FORMATS)}: export the student again"
        )
    path = folder / FORMATS[found[0]].file
    if path.is_file() and checksum(path) != checksums.get(path.name):
        raise UserError(f"{path} is not what {CONFIG_FILE} says: export the student again")
    network = FORMATS[found[0]].read(path, config)
    variables = network.variables
    if variables is not None and weights.digest(variables) != config.weights_digest:
        raise UserError(f"{path} is not what {CONFIG_FILE} says: export the student again")
    return LoadedStudent(config, variables, network.run)


def checksum(path: pathlib.Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
