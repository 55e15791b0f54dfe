"""Locks between processes that die with their process."""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator

from dass_jax.console import console
from dass_jax.errors import UserError, writing


@contextlib.contextmanager
def exclusive(path: os.PathLike[str]) -> Iterator[None]:
    """Holds the lock of this local file, waiting for whoever else holds it."""
    local = pathlib.Path(path)
    local.parent.mkdir(parents=True, exist_ok=True)
    with local.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print(f"waiting for another process that holds {local}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def only_process(folder: pathlib.Path) -> Iterator[None]:
    """Keeps a folder to this process; it is made if it is missing, and removed if left empty.

    Raises:
      UserError: another process works in it, or it cannot be made.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    # The folder itself is locked: there is no file to be left behind or to be deleted by mistake.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UserError(
            f"another command is at work in {folder}: wait until it is done, or use another "
            "work directory"
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()
        os.close(descriptor)
