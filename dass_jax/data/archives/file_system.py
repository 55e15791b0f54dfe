"""A folder, or a single file, of the file system as an archive."""

import os
from collections.abc import Iterable, Iterator

from etils import epath

from dass_jax.data.archives.member_names import is_visible
from dass_jax.errors import UserError


class FolderArchive:
    """A folder, local with symbolic links followed, or remote."""

    def __init__(self, path: epath.Path) -> None:
        """Lists a folder.

        Raises:
          UserError: a folder may not be read.
        """
        self.path = path
        # pathlib would make "gs:/" of this in a local path.
        is_remote = "://" in str(path)
        walk = _walk_remote(path, "") if is_remote else _walk(os.fspath(path), "", frozenset())
        try:
            self.names = tuple(sorted(walk))
        except OSError as error:
            raise UserError(f"cannot list the files in {path} ({error})") from error

    def read(self, name: str) -> bytes:
        """Returns the content of a file; a UserError if it cannot be read."""
        return _read(self.path / name)

    def in_reading_order(self, names: Iterable[str]) -> list[str]:
        """Returns the names as they are given."""
        return list(names)


class FileArchive:
    """A single file, by its own name."""

    def __init__(self, path: epath.Path) -> None:
        self.path = path
        self.names: tuple[str, ...] = (path.name,)

    def read(self, name: str) -> bytes:
        """Returns the content of the file; a UserError if it cannot be read."""
        return _read(self.path.parent / name)

    def in_reading_order(self, names: Iterable[str]) -> list[str]:
        """Returns the names as they are given."""
        return list(names)


def _read(path: epath.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror or error})") from error


def _walk(folder: str, prefix: str, above: frozenset[str]) -> Iterator[str]:
    """Names below a local folder; ``above`` are the real paths of those that lead to it."""
    real_path = os.path.realpath(folder)
    if real_path in above:
        # A symbolic link to a folder above itself has no end.
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if not is_visible(entry.name):
                continue
            name = prefix + entry.name
            if entry.is_dir():
                yield f"{name}/"
                yield from _walk(entry.path, f"{name}/", above | {real_path})
            else:
                yield name


def _walk_remote(folder: epath.Path, prefix: str) -> Iterator[str]:
    for child in folder.iterdir():
        if not is_visible(child.name):
            continue
        name = prefix + child.name
        if child.is_dir():
            yield f"{name}/"
            yield from _walk_remote(child, f"{name}/")
        else:
            yield name
