"""A lock between processes that dies with its process."""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def exclusive(path: os.PathLike[str]) -> Iterator[None]:
    """Holds the lock of this local file, waiting for whoever else holds it."""
    local = pathlib.Path(path)
    local.parent.mkdir(parents=True, exist_ok=True)
    with local.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
