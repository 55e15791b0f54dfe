"""A folder, or a single file, of the file system as an archive."""

import contextlib
import os
from collections.abc import Iterable, Iterator

from etils import epath

from dass_jax.data.archives.member_names import is_visible
from dass_jax.data.locations import is_remote
from dass_jax.errors import UserError


class FolderArchive:
    """A folder, local with symbolic links followed, or remote."""

    def __init__(self, path: epath.Path) -> None:
        """Lists a folder.

        Raises:
          UserError: a folder may not be read.
        """
        self.path = path
        with _listing(path):
            if is_remote(path):
                self.names = tuple(sorted(_walk_remote(path, "")))
            else:
                self.names = tuple(sorted(name for name, _ in _walk(os.fspath(path))))

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


def stamp_files(path: epath.Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change of each file in a folder, by name; dead links are left out.

    Raises:
      UserError: a folder may not be read.
    """
    with _listing(path):
        if is_remote(path):
            names = [name for name in _walk_remote(path, "") if not name.endswith("/")]
            return [(name, *_remote_stamp(path / name)) for name in sorted(names)]
        return sorted(_local_stamps(path))


def stamp_file(path: epath.Path) -> tuple[int, int]:
    """Size and time of change of a file."""
    if is_remote(path):
        return _remote_stamp(path)
    local = os.stat(path)
    return local.st_size, local.st_mtime_ns


def _remote_stamp(path: epath.Path) -> tuple[int, int]:
    remote = path.stat()
    return remote.length, int(remote.mtime)


def _local_stamps(path: epath.Path) -> Iterator[tuple[str, int, int]]:
    for name, entry in _walk(os.fspath(path)):
        if name.endswith("/"):
            continue
        try:
            # Several times as fast as a path for each of many files.
            stat = entry.stat()
        except FileNotFoundError:
            # A link to nothing; it is in the list of names, so whoever needs it is told.
            continue
        yield name, stat.st_size, stat.st_mtime_ns


@contextlib.contextmanager
def _listing(path: epath.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot list the files in {path} ({error})") from error


def _read(path: epath.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror or error})") from error


def _walk(
    folder: str, prefix: str = "", above: frozenset[str] = frozenset()
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """What is below a local folder; ``above`` are the real paths of those that lead to it."""
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
                yield f"{name}/", entry
                yield from _walk(entry.path, f"{name}/", above | {real_path})
            else:
                yield name, entry


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
