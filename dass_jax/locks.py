"""Locks between processes that die with their process."""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator
from typing import TextIO

from dass_jax.console import console
from dass_jax.errors import UserError, writing

# as often a folder may be removed by others while it is being locked
_ATTEMPTS = 100


def _try_lock(file: TextIO) -> bool:
    """Whether the lock of an open file could be had at once.

    Raises:
      UserError: The file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(
            f"cannot lock {file.name} ({error.strerror}): use a folder on a file system that has "
            "locks"
        ) from error
    return True


@contextlib.contextmanager
def exclusive(path: os.PathLike[str]) -> Iterator[None]:
    """Holds the lock of this local file, waiting for whoever else holds it.

    Raises:
      UserError: The file system has no locks.
    """
    local = pathlib.Path(path)
    local.parent.mkdir(parents=True, exist_ok=True)
    with local.open("a") as file:
        if not _try_lock(file):
            console.print(f"waiting for another process that holds {local}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def only_process(folder: pathlib.Path) -> Iterator[None]:
    """Keeps a folder to this process; it is made if it is missing, and removed if left empty.

    Raises:
      UserError: another process works in it, it cannot be made, or it cannot be locked.
    """
    lock = folder / ".lock"
    with _locked_file(folder, lock):
        try:
            yield
        finally:
            # while it is locked, so that nobody else's is removed
            with contextlib.suppress(OSError):
                lock.unlink()
                folder.rmdir()


def _locked_file(folder: pathlib.Path, lock: pathlib.Path) -> TextIO:
    """The open file at this path of the folder, locked."""
    attempts = 0
    while True:
        attempts += 1
        with writing(folder):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                # network file systems lock only files that are open for writing
                file = lock.open("a")
            except (FileExistsError, FileNotFoundError):
                # another process has just removed the empty folder; again and again, it is a link
                # to nothing that stands above it
                if attempts > _ATTEMPTS or (os.path.lexists(folder) and not folder.is_dir()):
                    raise
                continue
        with contextlib.ExitStack() as stack:
            stack.enter_context(file)
            if not _try_lock(file):
                raise UserError(
                    f"another command is at work in {folder}: wait until it is done, or use "
                    "another work directory"
                )
            if _is_file(lock, file):
                stack.pop_all()
                return file


def _is_file(path: pathlib.Path, file: TextIO) -> bool:
    """Whether a path still names an open file; who held it before may have removed it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
