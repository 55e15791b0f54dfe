"""Opens whatever holds the files."""

import contextlib
from collections.abc import Iterator, Sequence

from etils import epath

from dass_jax.data.archives.archive import Archive
from dass_jax.data.archives.file_system import FileArchive, FolderArchive
from dass_jax.data.archives.tar_archive import open_tar
from dass_jax.data.archives.union import UnionArchive
from dass_jax.data.archives.zip_archive import open_zip
from dass_jax.errors import UserError

ZIP_SUFFIXES = (".zip",)
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ARCHIVE_SUFFIXES = ZIP_SUFFIXES + TAR_SUFFIXES


@contextlib.contextmanager
def open_archive(path: epath.PathLike) -> Iterator[Archive]:
    """Opens a folder, a zip or tar file, or any other file as an archive of itself.

    Raises:
      UserError: it does not exist, may not be read, is truncated, encrypted or unsafe.
    """
    path = epath.Path(path)
    file_name = path.name.lower()
    if path.is_dir():
        yield FolderArchive(path)
    elif not path.exists():
        raise UserError(f"there is no file or folder {path}; check the path")
    elif file_name.endswith(ZIP_SUFFIXES):
        with open_zip(path) as archive:
            yield archive
    elif file_name.endswith(TAR_SUFFIXES):
        with open_tar(path) as archive:
            yield archive
    else:
        yield FileArchive(path)


@contextlib.contextmanager
def open_archives(paths: Sequence[epath.PathLike]) -> Iterator[Archive]:
    """Opens several archives as one that has the files of all.

    Args:
      paths: at least one.

    Raises:
      UserError: one cannot be opened, or two hold a file of the same name.
    """
    with contextlib.ExitStack() as stack:
        archives = [stack.enter_context(open_archive(path)) for path in paths]
        yield archives[0] if len(archives) == 1 else UnionArchive(archives)
