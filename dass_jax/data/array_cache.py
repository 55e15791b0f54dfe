"""Decoded and resized images on disk, memory-mapped: what takes minutes is done once.

A cache entry is a folder that appears under its final name when it is complete. Its name contains
a fingerprint of the source, the image size and the format, so a stale one is never read.
"""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

import numpy as np

from dass_jax.console import progress_bar
from dass_jax.data.images import (
    Collection,
    Images,
    check_class_names,
    check_image_size,
    check_labels,
)
from dass_jax.data.locations import CACHE_DIR_VARIABLE, cache_dir
from dass_jax.data.readers import FileSource, PartReader, Reader
from dass_jax.errors import UserError, is_disk_full
from dass_jax.locks import exclusive
from dass_jax.recipe import digest

# Raised when the same files would be decoded to other pixels than before.
FORMAT = 2
MANIFEST = "manifest.json"


def entry_folder(source: FileSource, image_size: int) -> pathlib.Path:
    """Where the decoded images of a source lie, or will."""
    key = digest({"format": FORMAT, "image_size": image_size, **source.fingerprint})
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in source.name)
    # File names may have 255 bytes, and a letter up to four.
    return cache_dir() / "arrays" / f"{name[:40]}-{image_size}px-{key}"


def load_or_decode(source: FileSource, image_size: int) -> Collection:
    """The images of a source, decoded at the first call and memory-mapped from then on.

    Args:
      source: what to decode.
      image_size: height and width of the result, in pixels.

    Returns:
      The whole source; the pixels stay on disk until they are used.

    Raises:
      UserError: the source is damaged, or there is no room for its images.
    """
    check_image_size(image_size)
    folder = entry_folder(source, image_size)
    if (cached := _read(folder, source.name)) is not None:
        return cached
    with _disk_errors(folder), exclusive(folder.with_name(f".{folder.name}.lock")):
        # Another process may have written it while this one waited.
        if (cached := _read(folder, source.name)) is None:
            with source.open() as reader:
                _write(folder, source, reader, image_size)
            cached = _read(folder, source.name)
    if cached is None:
        raise UserError(f"{folder} cannot be read back: check the disk, or set another "
                        f"{CACHE_DIR_VARIABLE}")  # fmt: skip
    return cached


def entries() -> list[pathlib.Path]:
    """The folders of all complete cache entries."""
    folder = cache_dir() / "arrays"
    return sorted(path.parent for path in folder.glob(f"[!.]*/{MANIFEST}"))


def belongs_to(folder: pathlib.Path, paths: Container[str]) -> bool:
    """Whether a cache entry was decoded from one of these files or folders."""
    try:
        return json.loads((folder / MANIFEST).read_text())["fingerprint"]["path"] in paths
    except (OSError, ValueError, KeyError):
        # It is not believed by anybody, and made again when it is needed.
        return False


def remove_all() -> int:
    """Removes all decoded images and what killed processes left; returns how many bytes."""
    folder = cache_dir() / "arrays"
    freed = sum(path.stat().st_size for path in folder.glob("**/*") if path.is_file())
    shutil.rmtree(folder, ignore_errors=True)
    return freed


def num_bytes(folder: pathlib.Path) -> int:
    """The size of a cache entry on disk."""
    return sum(path.stat().st_size for path in folder.iterdir())


def damaged_files(folder: pathlib.Path) -> list[str]:
    """The files of a cache entry whose content is not what was written."""
    manifest = json.loads((folder / MANIFEST).read_text())
    return [
        name for name, checksum in manifest["sha256"].items()
        if not (folder / name).exists() or _sha256(folder / name) != checksum
    ]  # fmt: skip


def _read(folder: pathlib.Path, name: str) -> Collection | None:
    """Maps a cache entry; None if there is none, or one that something has damaged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        parts = {}
        for part in manifest["parts"]:
            images = np.load(folder / f"{part}.images.npy", mmap_mode="r", allow_pickle=False)
            labels = np.load(folder / f"{part}.labels.npy", allow_pickle=False)
            parts[part] = Images(images, labels)
        return Collection(name, tuple(manifest["class_names"]), parts)
    # ValueError: numpy's word for a file that is shorter than its header says.
    except (OSError, ValueError, KeyError, EOFError):
        return None


def _write(folder: pathlib.Path, source: FileSource, reader: Reader, image_size: int) -> None:
    """Decodes a source into a folder that takes its name when it is complete."""
    check_class_names(f"dataset {source.name!r}", reader.class_names)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    # The lock is held, so what lies there was left by a process that died.
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        total = sum(part.num_examples for part in reader.parts.values())
        _check_room(unfinished, total, image_size)
        with progress_bar(f"decoding {source.name} at {image_size}x{image_size}", total) as advance:
            for name, part in reader.parts.items():
                labels = _write_part(unfinished / name, part, image_size, advance)
                check_labels(f"dataset {source.name!r}", name, labels, reader.class_names)
        _write_manifest(unfinished, source, reader, image_size)
        # An entry that could not be read is in the way of its successor.
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_part(
    prefix: pathlib.Path, part: PartReader, image_size: int, advance: Callable[..., None]
) -> np.ndarray:
    """Writes the images and labels of one part; returns the labels."""
    shape = (part.num_examples, image_size, image_size, 3)
    labels = np.full(part.num_examples, -1, np.int32)
    with prefix.with_name(f"{prefix.name}.images.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        start, next_row = file.tell(), 0
        for example in part.read(image_size):
            # A seek empties the buffer, and most examples come in order.
            if example.row != next_row:
                file.seek(start + example.row * example.pixels.size)
            file.write(np.ascontiguousarray(example.pixels).data)
            labels[example.row] = example.label
            next_row = example.row + 1
            advance()
        _sync(file)
    with prefix.with_name(f"{prefix.name}.labels.npy").open("wb") as file:
        np.save(file, labels)
        _sync(file)
    return labels


def _check_room(folder: pathlib.Path, num_images: int, image_size: int) -> None:
    """Fails before minutes of decoding rather than after."""
    needed, free = num_images * image_size**2 * 3, shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{needed / 1e6:.0f} MB are needed")


def _write_manifest(
    folder: pathlib.Path, source: FileSource, reader: Reader, image_size: int
) -> None:
    manifest: Mapping[str, Any] = {
        "format": FORMAT,
        "source": source.name,
        "image_size": image_size,
        "fingerprint": source.fingerprint,
        "class_names": list(reader.class_names),
        "parts": {name: part.num_examples for name, part in reader.parts.items()},
        "sha256": {path.name: _sha256(path) for path in sorted(folder.iterdir())},
    }
    with (folder / MANIFEST).open("w") as file:
        json.dump(manifest, file, indent=2)
        _sync(file)


def _sync(file: Any) -> None:
    """Has the system write a file out before anything is renamed."""
    file.flush()
    os.fsync(file.fileno())


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _disk_errors(folder: pathlib.Path) -> Iterator[None]:
    """Turns errors of writing into one line that says what to do."""
    try:
        yield
    except OSError as error:
        where = f"set {CACHE_DIR_VARIABLE} to another folder"
        if is_disk_full(error):
            free = shutil.disk_usage(folder.parent).free
            raise UserError(
                f"the disk is full ({free / 1e6:.0f} MB free) for the decoded images in "
                f"{folder.parent} ({error.strerror}); make room or {where}"
            ) from error
        raise UserError(
            f"cannot write decoded images into {folder.parent} ({error.strerror or error}); {where}"
        ) from error
