"""A tar file, plain or compressed, as an archive.

A compressed file can be read forwards only: each step back means decompressing it from its
beginning. So the whole file is listed in one pass that keeps the annotations, which layouts read
first, and images are read in their order in the file.
"""

import bz2
import contextlib
import gzip
import io
import lzma
import tarfile
import threading
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple

from etils import epath

from dass_jax.data.archives.member_names import clean_name, is_visible
from dass_jax.errors import UserError

# Annotations are kept in memory when the file is compressed.
_ANNOTATION_SUFFIXES = (".txt", ".mat")
_MAX_ANNOTATION_BYTES = 16 * 2**20
# More than the threads that read at a time, which ask for members a little out of order.
_PASSED_MEMBERS = 128
_ZEROS_READ_AT_ONCE = 2**20
# What the modules raise on damage differs with the place of the damage.
_DAMAGE = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError)


class TarArchive:
    """The regular files and folders of a tar file; links and devices are left out."""

    def __init__(self, path: epath.Path, content: "_Content") -> None:
        """Lists a tar file.

        Raises:
          UserError: the name of a member is unsafe.
        """
        self.path = path
        self._content = content
        self._lock = threading.Lock()
        self._members: dict[str, tarfile.TarInfo] = {}
        for member in content.members:
            name = clean_name(member.name, path)
            if is_visible(name) and (member.isreg() or member.isdir()):
                self._members[f"{name}/" if member.isdir() else name] = member
        self.names = tuple(sorted(self._members))
        files = [name for name, member in self._members.items() if member.isreg()]
        self._order = self.in_reading_order(files)
        self._places = {name: place for place, name in enumerate(self._order)}
        self._next_place = 0
        self._passed: dict[str, bytes] = {}

    def read(self, name: str) -> bytes:
        """Returns the content of a member; a UserError if it is damaged."""
        annotation = self._content.annotations.get(self._members[name].offset)
        if annotation is not None:
            return annotation
        try:
            with self._lock:
                return self._read_forwards(name) if self._content.compressed else self._read(name)
        except _DAMAGE as error:
            raise UserError(
                f"cannot read {name} in {self.path} ({error}); download or make the tar file again"
            ) from error

    def in_reading_order(self, names: Iterable[str]) -> list[str]:
        """Returns the names by their place in the file."""
        return sorted(names, key=lambda name: self._members[name].offset)

    def _read(self, name: str) -> bytes:
        return _read_member(self._content.file, self._members[name])

    def _read_forwards(self, name: str) -> bytes:
        """Reads a member and keeps those passed over: other threads may be about to read them."""
        if name in self._passed:
            return self._passed.pop(name)
        place = self._places[name]
        start = self._next_place if self._next_place <= place else 0
        # Older ones than these would be dropped again.
        for passed in self._order[max(start, place - _PASSED_MEMBERS) : place]:
            self._passed[passed] = self._read(passed)
        while len(self._passed) > _PASSED_MEMBERS:
            del self._passed[next(iter(self._passed))]
        self._next_place = place + 1
        return self._read(name)


class _Content(NamedTuple):
    """A tar file after the pass that lists it.

    Attributes:
      file: to read members from.
      compressed: whether reading backwards is slow.
      members: in the order of the file.
      annotations: contents that were kept, by the offset of the member.
    """

    file: tarfile.TarFile
    compressed: bool
    members: list[tarfile.TarInfo]
    annotations: dict[int, bytes]


@contextlib.contextmanager
def open_tar(path: epath.Path) -> Iterator[TarArchive]:
    """Opens a tar file for reading, compressed by gzip, bzip2, xz or not at all.

    Raises:
      UserError: it is truncated, damaged or none at all, unsafe, or may not be read.
    """
    with contextlib.ExitStack() as stack:
        try:
            raw = stack.enter_context(path.open("rb"))
            stream = stack.enter_context(_decompress(raw))
            file = stack.enter_context(tarfile.open(fileobj=stream, mode="r:"))
            content = _list_content(file, stream, compressed=stream is not raw)
        except _DAMAGE as error:
            raise UserError(
                f"{path} is not a complete tar file ({error}); download or make it again"
            ) from error
        yield TarArchive(path, content)


def _decompress(raw: IO[Any]) -> contextlib.AbstractContextManager[Any]:
    """The stream of the tar file itself; what packed it is told by the first bytes."""
    start = raw.read(6)
    raw.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)
    if start.startswith(b"BZh"):
        return bz2.BZ2File(raw)
    if start.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMAFile(raw)
    return raw


def _list_content(
    file: tarfile.TarFile, stream: IO[Any] | io.BufferedIOBase, compressed: bool
) -> _Content:
    members, annotations = [], {}
    for member in file:
        members.append(member)
        is_annotation = member.isreg() and member.name.lower().endswith(_ANNOTATION_SUFFIXES)
        if compressed and is_annotation and member.size <= _MAX_ANNOTATION_BYTES:
            annotations[member.offset] = _read_member(file, member)
    # The module takes a damaged header for the end of the file, which only zeros may follow.
    while block := stream.read(_ZEROS_READ_AT_ONCE):
        if block.strip(b"\0"):
            raise tarfile.ReadError("the header of a member is damaged")
    if stream.tell() < file.offset + tarfile.BLOCKSIZE:
        raise tarfile.ReadError("its end is missing")
    return _Content(file, compressed, members, annotations)


def _read_member(file: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    reader = file.extractfile(member)
    # None for what is no regular file; no caller asks for one.
    assert reader is not None
    with reader:
        return reader.read()
