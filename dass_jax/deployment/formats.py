"""The formats that a student is exported in."""

import pathlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from dass_jax.deployment import programs, weights
from dass_jax.deployment.network import Network
from dass_jax.deployment.student_config import StudentConfig
from dass_jax.errors import UserError
from dass_jax.resnet import Variables


class Format(NamedTuple):
    """One format.

    Attributes:
      file: The name of its file or folder.
      write: Writes a student to a path.
      read: Reads it back.
    """

    file: str
    write: Callable[[pathlib.Path, StudentConfig, Variables], None]
    read: Callable[[pathlib.Path, StudentConfig], Network]


# those with weights come first: a student that is read from one of them has ``variables``
FORMATS = {
    "safetensors": Format(
        "student.safetensors", weights.write_safetensors, weights.read_safetensors
    ),
    "checkpoint": Format("checkpoint", weights.write_checkpoint, weights.read_checkpoint),
    "stablehlo": Format("student.stablehlo", programs.write_stablehlo, programs.read_stablehlo),
    "onnx": Format("student.onnx", programs.write_onnx, programs.read_onnx),
}


def require_known(formats: Iterable[str]) -> None:
    """Refuses names of no format.

    Raises:
      UserError: If there is one, or none at all.
    """
    names = list(formats)
    for name in names or [""]:
        if name not in FORMATS:
            raise UserError(f"there is no format {name!r}: choose from {', '.join(FORMATS)}")


def present(folder: pathlib.Path) -> list[str]:
    """The formats that an exported student lies in."""
    return [name for name, found in FORMATS.items() if (folder / found.file).exists()]
