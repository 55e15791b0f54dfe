"""Files of official releases: found where a user has put them, or downloaded."""

import dataclasses
import enum
import hashlib
import os
import pathlib
from collections.abc import Sequence

from etils import epath

from dass_jax.data.locations import is_remote
from dass_jax.data.transfers import CHUNK, Progress, StoppedError, Transfer, UnavailableError
from dass_jax.errors import UserError, is_disk_full


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A file of an official release.

    Attributes:
      name: its name on disk.
      url: where it is.
      md5: of the official file, where it is known.
      num_bytes: how many of its first bytes are needed; None for all.
      hint: where else it may be found, for messages.
    """

    name: str
    url: str
    md5: str | None = None
    num_bytes: int | None = None
    hint: str = ""


class Checksum(enum.Enum):
    """How a file compares with the official one."""

    OFFICIAL = "official"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


def md5_of(path: epath.Path) -> str:
    """The MD5 of a file, in hexadecimal."""
    # no security here: machines in FIPS mode refuse the algorithm otherwise
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check(file: RemoteFile, path: epath.Path) -> Checksum:
    """Compares a file with the official one; unknown if only its first bytes are needed."""
    if file.md5 is None or file.num_bytes is not None:
        return Checksum.UNKNOWN
    return compare(file, md5_of(path))


def compare(file: RemoteFile, md5: str) -> Checksum:
    """Compares the MD5 of a file with that of the official one."""
    if file.md5 is None:
        return Checksum.UNKNOWN
    return Checksum.OFFICIAL if md5 == file.md5 else Checksum.DIFFERENT


def find_file(file: RemoteFile, folders: Sequence[epath.Path]) -> epath.Path | None:
    """The first file of that name in some folders, whatever it holds."""
    return next((path for path in (f / file.name for f in folders) if path.is_file()), None)


def find_or_fetch(
    file: RemoteFile,
    search: Sequence[epath.Path],
    download_folder: epath.Path,
    *,
    progress: Progress | None = None,
) -> epath.Path:
    """Finds a file, or downloads it.

    Args:
      file: which.
      search: folders where users put files, which are taken as they are and never changed.
      download_folder: where earlier downloads are and this one goes. A file there that has fewer
        than the needed first bytes is fetched again.
      progress: called with the bytes that are there and the bytes that there will be, if known.

    Returns:
      Where it is.

    Raises:
      UserError: it can neither be found nor downloaded.
    """
    if found := find_file(file, search):
        return found
    found = find_file(file, [download_folder])
    if found and found.stat().length >= (file.num_bytes or 0):
        return found
    return fetch(file, download_folder, search=search, progress=progress)


def fetch(
    file: RemoteFile,
    folder: epath.Path,
    *,
    search: Sequence[epath.Path] = (),
    progress: Progress | None = None,
) -> epath.Path:
    """Downloads a file, going on where an earlier try stopped; one that is there is replaced.

    Args:
      file: which.
      folder: where to, on this machine.
      search: folders that errors name as the places for a file that users get on their own;
        by default the one above.
      progress: called with the bytes that are there and the bytes that there will be, if known.

    Returns:
      Where it is.

    Raises:
      UserError: it cannot be downloaded, is not the official file, or cannot be written.
    """
    if is_remote(folder):
        raise UserError(
            f"cannot download {file.name} to {folder}: choose a folder of this machine, or put "
            f"the file there yourself; it is at {file.url}"
        )
    target = pathlib.Path(os.fspath(folder)) / file.name
    transfer = Transfer(file.url, target, file.num_bytes, progress or (lambda done, total: None))
    by_hand = _by_hand(file, search or [folder])
    try:
        transfer.run()
        _verify(file, transfer, by_hand)
        transfer.finish()
    except UnavailableError as error:
        raise UserError(
            f"cannot download {file.name} from {file.url}: {error}; {by_hand}"
        ) from error
    except StoppedError as error:
        raise _stopped(file, transfer, error) from error
    except OSError as error:
        raise _not_written(file, transfer, error) from error
    return epath.Path(target)


def _by_hand(file: RemoteFile, folders: Sequence[epath.Path]) -> str:
    places = " or ".join(dict.fromkeys(os.fspath(folder) for folder in folders))
    hint = f" ({file.hint})" if file.hint else ""
    return f"try again later, or get it yourself{hint} and put it in {places}"


def _verify(file: RemoteFile, transfer: Transfer, by_hand: str) -> None:
    part = epath.Path(transfer.part)
    if check(file, part) is Checksum.DIFFERENT:
        found = md5_of(part)
        transfer.discard()
        raise UserError(
            f"the download of {file.name} from {file.url} was deleted, its MD5 is {found} in place "
            f"of the official {file.md5}; {by_hand}"
        )


def _stopped(file: RemoteFile, transfer: Transfer, error: StoppedError) -> UserError:
    there = _megabytes(transfer.size())
    if transfer.total is not None:
        there = f"{there} of {_megabytes(transfer.total)}"
    again = "to go on from there" if transfer.resumable() else "to try again"
    return UserError(
        f"the download of {file.name} from {file.url} stopped after {there}: {error}; run again "
        f"{again}"
    )


def _not_written(file: RemoteFile, transfer: Transfer, error: OSError) -> UserError:
    if not is_disk_full(error):
        where = error.filename or transfer.part
        return UserError(f"cannot write {where} to download {file.name}: {error.strerror or error}")
    needed = "more room is needed"
    if transfer.total is not None:
        needed = f"{_megabytes(transfer.total - transfer.size())} more are needed"
    return UserError(
        f"the disk is full: {needed} in {transfer.part.parent} for {file.name}; make room and run "
        "again to go on"
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
