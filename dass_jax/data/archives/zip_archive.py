"""A zip file as an archive."""

import contextlib
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator

from etils import epath

from dass_jax.data.archives.member_names import clean_name, is_visible
from dass_jax.errors import UserError

_ENCRYPTED = 0x1
# What the module raises on damage differs with the place of the damage.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
)


class ZipArchive:
    """A zip file, read member by member; the module itself locks it while it reads."""

    def __init__(self, path: epath.Path, file: zipfile.ZipFile) -> None:
        """Lists a zip file.

        Raises:
          UserError: the name of a member is unsafe, or it is encrypted.
        """
        self.path = path
        self._file = file
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in file.infolist():
            name = clean_name(member.filename, path)
            if not is_visible(name):
                continue
            if member.flag_bits & _ENCRYPTED:
                raise UserError(
                    f"{path}: {name} is encrypted; make the zip file again without a password"
                )
            is_folder = member.filename.endswith(("/", "\\"))
            self._members[f"{name}/" if is_folder else name] = member
        self.names = tuple(sorted(self._members))

    def read(self, name: str) -> bytes:
        """Returns the content of a member; a UserError if it is damaged."""
        try:
            return self._file.read(self._members[name])
        except _DAMAGE as error:
            raise UserError(
                f"cannot read {name} in {self.path} ({error}); download or make the zip file again"
            ) from error

    def in_reading_order(self, names: Iterable[str]) -> list[str]:
        """Returns the names as they are given."""
        return list(names)


@contextlib.contextmanager
def open_zip(path: epath.Path) -> Iterator[ZipArchive]:
    """Opens a zip file for reading.

    Raises:
      UserError: it is truncated or none at all, encrypted or unsafe, or may not be read.
    """
    with contextlib.ExitStack() as stack:
        try:
            # By a file object, since the module opens local paths only.
            file = stack.enter_context(zipfile.ZipFile(stack.enter_context(path.open("rb"))))
        except _DAMAGE as error:
            raise UserError(
                f"{path} is not a complete zip file ({error}); download or make it again"
            ) from error
        yield ZipArchive(path, file)
