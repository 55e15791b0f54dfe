"""Quick, Draw!: sketches of 345 kinds of things, few of them per class.

The full release has 50 million drawings in one file of 100 MB or so per class. DaSS trains on 20
per class; only the first rows of each file are fetched, 300 kB instead.
"""

import contextlib
import io
from collections.abc import Iterator, Sequence
from urllib.parse import quote

import numpy as np
from etils import epath

from dass_jax.data.builders.quickdraw_classes import CLASS_NAMES
from dass_jax.data.builders.release import RawExample, RawSplit, RawSplits, Release
from dass_jax.data.downloads import RemoteFile
from dass_jax.errors import UserError

TRAIN_PER_CLASS = 20
TEST_PER_CLASS = 100
_SIDE = 28
_HEADER_BYTES = 128
_ROOT = "https://storage.googleapis.com/quickdraw_dataset/full/numpy_bitmap"


@contextlib.contextmanager
def _open(paths: Sequence[epath.Path], config: str) -> Iterator[RawSplits]:
    classes = {path.name.removesuffix(".npy"): path for path in paths}

    def split(start: int, stop: int) -> RawSplit:
        def read() -> Iterator[RawExample]:
            for label, path in enumerate(classes.values()):
                for row, drawing in enumerate(_first_drawings(path)[start:stop], start):
                    yield RawExample(f"{path.name}:{row}", label, drawing)

        return RawSplit(len(classes) * (stop - start), read)

    end = TRAIN_PER_CLASS + TEST_PER_CLASS
    splits = {"train": split(0, TRAIN_PER_CLASS), "test": split(TRAIN_PER_CLASS, end)}
    yield RawSplits(tuple(classes), (_SIDE, _SIDE), splits)


def _first_drawings(path: epath.Path) -> np.ndarray:
    """The first drawings of a class file, which need not be complete; uint8 [N, 28, 28].

    Raises:
      UserError: it is no array of drawings, or too short.
    """
    count = TRAIN_PER_CLASS + TEST_PER_CLASS
    pixels = count * _SIDE * _SIDE
    with path.open("rb") as file:
        start = io.BytesIO(file.read(_num_bytes()))
    try:
        version = np.lib.format.read_magic(start)
        if version != (1, 0):
            raise ValueError(f"version {version} of the format")
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(start)
    except ValueError as error:
        raise UserError(f"{path} is no numpy file ({error}); download it again") from error
    if dtype != np.uint8 or fortran_order or len(shape) != 2 or shape[1] != _SIDE * _SIDE:
        raise UserError(
            f"{path} holds {dtype} of shape {list(shape)}, not uint8 of [N, {_SIDE * _SIDE}]; "
            "download the numpy_bitmap file"
        )
    content = start.read(pixels)
    if len(content) < pixels:
        raise UserError(
            f"{path} ends after {len(content) // _SIDE**2} drawings, {count} are needed; download "
            "it again"
        )
    # White strokes on black, as they come.
    return np.frombuffer(content, np.uint8).reshape(count, _SIDE, _SIDE)


def _num_bytes() -> int:
    """How much of a class file is needed."""
    return _HEADER_BYTES + (TRAIN_PER_CLASS + TEST_PER_CLASS) * _SIDE * _SIDE


def _class_file(name: str) -> RemoteFile:
    return RemoteFile(f"{name}.npy", f"{_ROOT}/{quote(name)}.npy", num_bytes=_num_bytes())


RELEASE = Release(
    name="quickdraw",
    version="1.0.0",
    description=(
        f"345 classes of sketches at 28x28, the first {TRAIN_PER_CLASS} of each class for "
        f"training and the next {TEST_PER_CLASS} for testing."
    ),
    homepage="https://github.com/googlecreativelab/quickdraw-dataset",
    citation=(
        "@article{ha2017neural, title={A Neural Representation of Sketch Drawings}, "
        "author={Ha, David and Eck, Douglas}, journal={arXiv:1704.03477}, year={2017}}"
    ),
    files=(tuple(_class_file(name) for name in CLASS_NAMES),),
    open=_open,
)
