"""A folder or a zip file as a list of names that can be read into memory."""

import contextlib
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from dass_jax.errors import UserError


@runtime_checkable
class Archive(Protocol):
    """Files by name; nothing is ever written or unpacked.

    Attributes:
      path: where it lies, for messages.
      names: sorted paths relative to the archive, with ``/``; a folder's name ends with one.
    """

    path: Path
    names: tuple[str, ...]

    def read(self, name: str) -> bytes:
        """Returns the content of a file.

        Raises:
          UserError: it cannot be read.
        """
        ...


class FolderArchive:
    """A folder of the file system, symbolic links followed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names = tuple(sorted(_visible(_walk(path))))

    def read(self, name: str) -> bytes:
        """Returns the content of a file; a UserError if it cannot be read."""
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {name} in {self.path}: {error.strerror}") from error


class ZipArchive:
    """A zip file, read member by member."""

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        self.path = path
        self._file = file
        self.names = tuple(sorted(_visible(file.namelist())))

    def read(self, name: str) -> bytes:
        """Returns the content of a member; a UserError if it is damaged or encrypted."""
        try:
            return self._file.read(name)
        # RuntimeError: encrypted. NotImplementedError: a compression Python does not know.
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
            raise UserError(
                f"cannot read {name} in {self.path} ({error}); make the zip file again"
            ) from error


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Opens a folder or a zip file for reading.

    Raises:
      UserError: the zip file is truncated or is none, or may not be read.
    """
    if path.is_dir():
        yield FolderArchive(path)
        return
    try:
        file = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise UserError(
            f"{path} is not a complete zip file ({error}); download or make it again"
        ) from error
    with file:
        yield ZipArchive(path, file)


def _walk(root: Path) -> Iterator[str]:
    for folder, subfolders, files in os.walk(root, followlinks=True):
        here = Path(folder).relative_to(root)
        yield from ((here / name).as_posix() + "/" for name in subfolders)
        yield from ((here / name).as_posix() for name in files)


def _visible(names: Iterator[str] | list[str]) -> Iterator[str]:
    """Leaves out what desktops put into folders and zip files unasked."""
    for name in names:
        if not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/")):
            yield name
