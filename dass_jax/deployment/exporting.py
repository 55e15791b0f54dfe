"""Writes a distilled student into one folder, in several formats, and tries each of them."""

import contextlib
import pathlib
import shutil
import tempfile
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from dass_jax.deployment import formats
from dass_jax.deployment.formats import FORMATS
from dass_jax.deployment.loading import checksum, load_student
from dass_jax.deployment.network import dense_network
from dass_jax.deployment.student_config import CONFIG_FILE, StudentConfig, read_config, to_json
from dass_jax.errors import UserError, writing
from dass_jax.resnet import Variables
from dass_jax.workdir import write_json

DEFAULT_FORMATS = ("checkpoint", "safetensors", "stablehlo")
CHECKED_IMAGES = 8
# of the largest logit; another order of the same sums differs by some 1e-6
_TOLERANCE = 1e-4


class Exported(NamedTuple):
    """One format of an exported student.

    Attributes:
      format: Its name.
      file: Its file or folder within the exported folder.
      num_bytes: Its size.
      difference: The largest difference of a logit from the given network's.
    """

    format: str
    file: str
    num_bytes: int
    difference: float


def export_student(
    folder: pathlib.Path,
    config: StudentConfig,
    variables: Variables,
    requested: Collection[str] = DEFAULT_FORMATS,
    *,
    overwrite: bool = False,
) -> list[Exported]:
    """Writes a student, then reads every format back and compares it on random images.

    The folder appears, or replaces the one before, when all of it is written and checked.

    Args:
      folder: Where to.
      config: The student.
      variables: Its weights, at its own size.
      requested: Names of formats; others that the folder has of the same student stay.
      overwrite: Whether the folder may hold another exported student before.

    Returns:
      What was written, in the order of ``FORMATS``.

    Raises:
      UserError: If a format is unknown or cannot be written, the folder holds something else, or a
        format does not give the network's logits; what was there before stays.
    """
    folder = folder.resolve()
    formats.require_known(requested)
    checksums = _check_replaceable(folder, config, overwrite)
    stays = [] if checksums is None else [n for n in formats.present(folder) if n not in requested]
    images = random_images(config.image.size)
    expected = np.asarray(dense_network(config.strides, variables).run(images))
    with _replacing(folder) as temporary:
        for name in stays:
            _copy(folder / FORMATS[name].file, temporary)
        written = [name for name in FORMATS if name in requested]
        for name in written:
            FORMATS[name].write(temporary / FORMATS[name].file, config, variables)
        # what stays keeps its checksum, so that damage does not become the truth
        files = [temporary / FORMATS[name].file for name in written]
        new = {path.name: checksum(path) for path in files if path.is_file()}
        write_json(temporary / CONFIG_FILE, to_json(config, (checksums or {}) | new))
        return [_check(temporary, name, images, expected) for name in written]


def _copy(path: pathlib.Path, folder: pathlib.Path) -> None:
    """Copies a file or a folder into a folder."""
    copy = shutil.copytree if path.is_dir() else shutil.copy2
    with writing(folder):
        copy(path, folder / path.name)


def random_images(size: int) -> UInt8[np.ndarray, "B S S 3"]:
    """Noise, which is as good as any images for comparing two forms of a network."""
    shape = (CHECKED_IMAGES, size, size, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _check_replaceable(
    folder: pathlib.Path, config: StudentConfig, overwrite: bool
) -> dict[str, str] | None:
    """Sees whether a folder may be replaced.

    Returns:
      The checksums of its files if they are of the same student; None if nothing there shall stay.

    Raises:
      UserError: If it holds another student, or anything but a student.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(f"{folder} is there and is no exported student: choose another --output")
    own = {CONFIG_FILE, *(found.file for found in FORMATS.values())}
    if others := sorted(path.name for path in folder.iterdir() if path.name not in own):
        raise UserError(
            f"{folder} also holds {others[0]}: move it away, or choose another --output"
        )
    try:
        before, checksums = read_config(folder)
    except UserError as error:
        if overwrite:
            return None
        raise UserError(
            f"{folder} holds an export that cannot be read ({error}): give --overwrite, or choose "
            "another --output"
        ) from error
    same = (before.task, before.weights_digest) == (config.task, config.weights_digest)
    if not same and not overwrite:
        raise UserError(
            f"{folder} holds another student, of {before.task}: give --overwrite, or choose "
            "another --output"
        )
    return checksums if same else None


@contextlib.contextmanager
def _replacing(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a new folder that takes the place of another one, unless something goes wrong."""
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        place = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    new, old = place / "new", place / "old"
    try:
        new.mkdir()
        yield new
        with writing(folder):
            # Python has no call that exchanges two folders, so the old one steps aside
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(place, ignore_errors=True)


def _check(
    folder: pathlib.Path,
    name: str,
    images: UInt8[np.ndarray, "B S S 3"],
    expected: Float[np.ndarray, "B N"],
) -> Exported:
    """Reads a format back.

    Raises:
      UserError: If its logits are other than they should be.
    """
    found = np.asarray(load_student(folder, name)(images))
    difference = float(np.max(np.abs(found - expected)))
    # a comparison with nan is false
    if not difference <= _TOLERANCE * float(np.max(np.abs(expected))):
        raise UserError(
            f"{name} is off by {difference:.2g} in a logit of at most "
            f"{np.max(np.abs(expected)):.2g}: leave it out with --formats"
        )
    path = folder / FORMATS[name].file
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return Exported(name, path.name, sum(file.stat().st_size for file in files), difference)
