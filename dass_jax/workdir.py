"""The fixed places of a work directory, by which commands find each other's results."""

import contextlib
import dataclasses
import errno
import json
import os
import pathlib
import re
import shutil
from typing import Any

from dass_jax.errors import UserError, writing

_SHARED_BY_SEARCHES = ("rivals", "verified")


@dataclasses.dataclass(frozen=True)
class Workdir:
    """Paths below one folder.

    Attributes:
      root: The folder.
    """

    root: pathlib.Path

    def teacher(self, task: str) -> pathlib.Path:
        """Checkpoint and summary of a task's teacher."""
        return self.root / "teachers" / task

    def logits(self, task: str) -> pathlib.Path:
        """Cached teacher logits of a task."""
        return self.root / "logits" / task

    @property
    def database(self) -> pathlib.Path:
        """Manifest and records of measured students."""
        return self.root / "database"

    def inputs(self, task: str) -> pathlib.Path:
        """What predictors see of a source task's measured students."""
        return self.root / "inputs" / task

    @property
    def predictor(self) -> pathlib.Path:
        """Checkpoints and history of the predictor."""
        return self.root / "predictor"

    def search(self, task: str, name: str | None = None) -> pathlib.Path:
        """Result, tables and plots of a search; a task may have others, each with a name.

        Raises:
          UserError: If it is no name of a folder, or that of one which all searches share.
        """
        folder = self.root / "search" / task
        if name is None:
            return folder
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or name in _SHARED_BY_SEARCHES:
            raise UserError(
                f"a search cannot be named {name!r}: use letters, digits, '_' and '-', and none of "
                f"{', '.join(_SHARED_BY_SEARCHES)}"
            )
        return folder / name

    def verified(self, task: str) -> pathlib.Path:
        """Networks of candidates that searches of a task measured before they chose."""
        return self.search(task) / "verified"

    def rivals(self, task: str) -> pathlib.Path:
        """Networks that searches of a task compared their choice with."""
        return self.search(task) / "rivals"

    def student(self, task: str) -> pathlib.Path:
        """Distilled winners of a task."""
        return self.root / "students" / task

    def export(self, task: str) -> pathlib.Path:
        """The exported student of a task."""
        return self.root / "export" / task


def free_bytes(path: pathlib.Path) -> int:
    """What is free on the disk on which a file or folder lies, or will lie."""
    absolute = pathlib.Path(path).absolute()
    existing = next(place for place in (absolute, *absolute.parents) if place.exists())
    return shutil.disk_usage(existing).free


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Writes a file under a temporary name and renames it, so that no reader sees half of it.

    When it returns, the file outlives a power failure.

    Args:
      path: The file; its folder is made if it is missing.
      content: All that it shall hold.

    Raises:
      UserError: If it cannot be written; what was there before stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                # a rename may reach the disk before what the file holds
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
        finally:
            # what went wrong before is what counts
            with contextlib.suppress(OSError):
                temporary.unlink()


def _sync_folder(folder: pathlib.Path) -> None:
    """Brings the names of a folder's files to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some network file systems know no such thing, and need none
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes readable JSON, atomically; a file that holds the same already is left alone."""
    content = (json.dumps(value, indent=2) + "\n").encode()
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content)


def read_json(path: pathlib.Path) -> Any:
    """Reads JSON.

    Raises:
      UserError: If the file is missing or no JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except ValueError as error:
        raise UserError(f"{path} is no valid JSON: {error}") from error
