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
import posixpath
import tarfile
import threading
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, NamedTuple

from etils import epath

from dass_jax.data.archives.member_names import clean_name, is_image, is_visible
from dass_jax.errors import UserError

# Annotations are kept in memory when the file is compressed.
_ANNOTATION_SUFFIXES = (".txt", ".mat")
_MAX_ANNOTATION_BYTES = 16 * 2**20
# More than the threads that read at a time, which ask for members a little out of order.
_PASSED_MEMBERS = 128
_ZEROS_READ_AT_ONCE = 2**20
# As many as Linux follows.
_MAX_LINKS = 40
# What the modules raise on damage differs with the place of the damage.
_DAMAGE = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError)


class TarArchive:
    """The regular files and folders of a tar file, and the links to such files as these files.

    Devices are left out, and so are links to anything else, unless they should be images.
    """

    def __init__(self, path: epath.Path, content: "_Content") -> None:
        """Lists a tar file.

        Raises:
          UserError: the name of a member is unsafe, or an image is a link to no file in it.
        """
        self.path = path
        self._content = content
        self._lock = threading.Lock()
        self._members = _visible_members(path, content.members)
        self.names = tuple(sorted(self._members))
        files = [member for member in self._members.values() if member.isreg()]
        self._uses = Counter(member.offset for member in files)
        by_offset = {member.offset: member for member in files}
        self._order = [by_offset[offset] for offset in sorted(by_offset)]
        self._places = {member.offset: place for place, member in enumerate(self._order)}
        self._next_place = 0
        self._passed: dict[int, bytes] = {}

    def read(self, name: str) -> bytes:
        """Returns the content of a member; a UserError if it is damaged."""
        member = self._members[name]
        annotation = self._content.annotations.get(member.offset)
        if annotation is not None:
            return annotation
        try:
            with self._lock:
                if self._content.compressed:
                    return self._read_forwards(member)
                return _read_member(self._content.file, member)
        except _DAMAGE as error:
            raise UserError(
                f"cannot read {name} in {self.path} ({error}); download or make the tar file again"
            ) from error

    def in_reading_order(self, names: Iterable[str]) -> list[str]:
        """Returns the names by their place in the file."""
        return sorted(names, key=lambda name: self._members[name].offset)

    def _read_forwards(self, member: tarfile.TarInfo) -> bytes:
        """Reads a member and keeps those passed over: other threads may be about to read them."""
        # One that has links to it is about to be read by another name.
        is_shared = self._uses[member.offset] > 1
        if member.offset in self._passed:
            data = self._passed[member.offset]
            return data if is_shared else self._passed.pop(member.offset)
        place = self._places[member.offset]
        start = self._next_place if self._next_place <= place else 0
        # Older ones than these would be dropped again.
        for passed in self._order[max(start, place - _PASSED_MEMBERS) : place]:
            self._passed[passed.offset] = _read_member(self._content.file, passed)
        data = _read_member(self._content.file, member)
        if is_shared:
            self._passed[member.offset] = data
        while len(self._passed) > _PASSED_MEMBERS:
            del self._passed[next(iter(self._passed))]
        self._next_place = place + 1
        return data


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


def _visible_members(
    path: epath.Path, members: Iterable[tarfile.TarInfo]
) -> dict[str, tarfile.TarInfo]:
    """The files and folders that are no junk, by name; a link is the file it leads to."""
    # The last of several members of one name counts, as if the file were unpacked.
    by_name = {clean_name(member.name, path): member for member in members}
    visible = {}
    for name, member in by_name.items():
        target = _follow(name, by_name) if is_visible(name) else None
        if target is not None:
            visible[f"{name}/" if target.isdir() else name] = target
        elif is_visible(name) and (member.issym() or member.islnk()) and is_image(name):
            raise UserError(
                f"{path}: {name} is a link to {member.linkname}, which is no file in it; "
                "make the tar file again with the file itself"
            )
    return visible


def _follow(name: str, by_name: Mapping[str, tarfile.TarInfo]) -> tarfile.TarInfo | None:
    """The file or folder of a name, the file that a link leads to; None for anything else."""
    member = by_name[name]
    if member.isdir():
        return member
    # Links may lead to links, and in circles.
    for _ in range(_MAX_LINKS):
        if member.isreg():
            return member
        if not (member.issym() or member.islnk()):
            return None
        # A hard link tells a path from the top of the archive, a symbolic one from where it lies.
        folder = posixpath.dirname(name) if member.issym() else ""
        target = member.linkname.replace("\\", "/")
        name = posixpath.normpath(posixpath.join(folder, target))
        if name not in by_name:
            return None
        member = by_name[name]
    return None


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
