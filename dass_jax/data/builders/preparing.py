"""From the files of a release to a prepared dataset, once."""

import contextlib
import io
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import logging
from etils import epath

from dass_jax.console import console, count, progress_bar
from dass_jax.data.builders.release import Release
from dass_jax.data.downloads import Checksum, RemoteFile, compare, find_file, find_or_fetch, md5_of
from dass_jax.data.locations import TFDS_DIR_VARIABLE, data_dir, is_remote, tfds_dir
from dass_jax.data.tfds_reader import prepared_folder
from dass_jax.errors import UserError, is_disk_full
from dass_jax.locks import exclusive


def release_folder(release: Release, config: str) -> epath.Path:
    """Where a release is prepared, or will be."""
    return tfds_dir() / release.name / config / release.version


def prepare_release(
    release: Release, config: str = "", files: Sequence[epath.Path] | None = None
) -> epath.Path:
    """Prepares a release, unless it is prepared.

    Args:
      release: what to prepare.
      config: its variant; the first one if empty.
      files: the user's own files of it; looked for and downloaded if None.

    Returns:
      The folder of the prepared dataset.

    Raises:
      UserError: an unknown variant, missing or damaged files, or no room.
    """
    config = _check_config(release, config)
    folder = release_folder(release, config)
    if prepared_folder(folder) is not None:
        if files is not None:
            raise UserError(
                f"{release.name} is prepared already, in {folder}; remove it to prepare it from "
                "other files"
            )
        return folder
    if is_remote(tfds_dir()):
        raise UserError(
            f"cannot prepare {release.name} in {tfds_dir()}: set {TFDS_DIR_VARIABLE} to a local "
            "folder, and copy it afterwards"
        )
    with _disk_errors(release), exclusive(tfds_dir() / f".{release.name}.lock"):
        if prepared_folder(folder) is None:
            paths = list(files) if files is not None else _collect_files(release)
            _write(release, config, paths)
    return folder


def search_folders(release: Release) -> list[epath.Path]:
    """Where files are looked for that a user has placed by hand."""
    own = data_dir()
    folders = [] if own is None else [own, own / release.name]
    return [*folders, tfds_dir() / "downloads" / "manual"]


def download_folder(release: Release) -> epath.Path:
    """Where the files of a release are downloaded to."""
    return tfds_dir() / "downloads" / release.name


def files_at_hand(release: Release) -> list[epath.Path] | None:
    """A complete set of files of a release, if there is one."""
    folders = [*search_folders(release), download_folder(release)]
    for alternative in release.files:
        found = _found(alternative, folders)
        if len(found) == len(alternative):
            return list(found.values())
    return None


def _found(files: Sequence[RemoteFile], folders: Sequence[epath.Path]) -> dict[str, epath.Path]:
    """Which of some files are there, and are not shorter than what is needed of them."""
    found = {file.name: find_file(file, folders) for file in files}
    needed = {file.name: file.num_bytes or 0 for file in files}
    return {
        name: path for name, path in found.items()
        if path is not None and (path.is_dir() or path.stat().length >= needed[name])
    }  # fmt: skip


def _check_config(release: Release, config: str) -> str:
    if not config:
        return release.configs[0] if release.configs else ""
    if config not in release.configs:
        known = ", ".join(release.configs) or "none"
        raise UserError(f"{release.name} has no variant {config!r}; its variants: {known}")
    return config


def _collect_files(release: Release) -> list[epath.Path]:
    """Files placed by hand, or else downloaded ones."""
    if (paths := files_at_hand(release)) is not None:
        return paths
    folders = search_folders(release)
    everywhere = [*folders, download_folder(release)]
    # Who has placed most of one set lacks the rest of that one.
    wanted = max(release.files, key=lambda files: len(_found(files, everywhere)))
    with progress_bar(f"files of {release.name}", len(wanted)) as advance:
        paths = []
        for file in wanted:

            def on_bytes(done: int, total: int | None, name: str = file.name) -> None:
                of_total = "" if total is None else f" of {count(total)}B"
                advance(f"{name} {count(done)}B{of_total}", units=0)

            paths.append(find_or_fetch(file, folders, download_folder(release), progress=on_bytes))
            advance(file.name)
    return paths


def _write(release: Release, config: str, paths: Sequence[epath.Path]) -> None:
    """Writes the prepared dataset; TFDS renames its folder when it is complete."""
    # TFDS is slow to import, and not needed to read what is cached.
    from dass_jax.data.builders.builder import ReleaseBuilder

    # The lock is held, so what is incomplete was left by a process that died.
    for leftover in release_folder(release, config).parent.glob("incomplete.*"):
        leftover.rmtree()
    origin = _origin(release, paths)
    with release.open(paths, config) as content:
        total = sum(split.num_examples for split in content.splits.values())
        with progress_bar(f"preparing {release.name}", total) as advance, _quiet_tfds():
            builder = ReleaseBuilder(release, config, content, origin, tfds_dir(), advance)
            builder.download_and_prepare()


def _origin(release: Release, paths: Sequence[epath.Path]) -> Mapping[str, Any]:
    """Which files a dataset is made from; says so where they are not the official ones."""
    known = {file.name: file for alternative in release.files for file in alternative}
    origin = {}
    for path in paths:
        file = known.get(path.name, RemoteFile(path.name, release.homepage))
        if file.num_bytes is not None or path.is_dir():
            continue
        md5 = md5_of(path)
        status = compare(file, md5)
        if status is Checksum.DIFFERENT:
            console.print(
                f"note: {path} is not the official file (its MD5 differs); {release.name} is "
                "prepared from it as it is"
            )
        origin[path.name] = {"md5": md5, "official": status.value}
    return origin


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """Keeps TFDS's own bars and messages from mixing with this project's."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()


@contextlib.contextmanager
def _disk_errors(release: Release) -> Iterator[None]:
    """Turns errors of writing into one line that says what to do."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_disk_full(error):
            free = shutil.disk_usage(os.fspath(tfds_dir())).free
            raise UserError(
                f"the disk is full ({free / 1e6:.0f} MB free) while {release.name} is prepared in "
                f"{tfds_dir()}; make room or set {TFDS_DIR_VARIABLE} to another folder"
            ) from error
        if isinstance(error, OSError):
            raise UserError(
                f"cannot prepare {release.name} in {tfds_dir()} ({error.strerror or error}); set "
                f"{TFDS_DIR_VARIABLE} to another folder"
            ) from error
        raise
