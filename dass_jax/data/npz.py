"""Datasets in one ``.npz`` file of arrays."""

import contextlib
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np
from etils import epath

from dass_jax.data.decoding import decode_in_parallel, resize_array
from dass_jax.data.images import check_labels
from dass_jax.data.readers import Example, PartReader, Reader
from dass_jax.errors import UserError


@contextlib.contextmanager
def open_npz(path: epath.Path) -> Iterator[Reader]:
    """Opens ``x_train, y_train, x_test, y_test`` (or ``x, y``) and, if present, ``class_names``.

    Images are uint8, gray [N, H, W] or [N, H, W, 1] or RGB [N, H, W, 3]; labels are integers
    from 0.

    Raises:
      UserError: a damaged file, or a missing or unsuitable array. Pickled objects are never read.
    """
    arrays = _read_arrays(path)
    suffixes = {"all": ""} if "x" in arrays else {"train": "_train", "test": "_test"}
    for suffix in suffixes.values():
        _check_arrays(path, suffix, arrays[f"x{suffix}"], arrays[f"y{suffix}"])
    class_names = _class_names(path, arrays, [arrays[f"y{suffix}"] for suffix in suffixes.values()])
    for part, suffix in suffixes.items():
        check_labels(str(path), part, arrays[f"y{suffix}"], class_names)
    yield Reader(
        class_names,
        {
            part: _part(arrays[f"x{suffix}"], arrays[f"y{suffix}"])
            for part, suffix in suffixes.items()
        },
    )


def _read_arrays(path: epath.Path) -> dict[str, np.ndarray]:
    try:
        # Opened here because numpy leaves a damaged file open.
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise UserError(f"{path} holds a single array; save it with numpy.savez")
            with content:
                required = (
                    ("x", "y") if "x" in content else ("x_train", "y_train", "x_test", "y_test")
                )
                missing = [name for name in required if name not in content]
                if missing:
                    raise UserError(f"{path} has no array {missing[0]!r}; add it")
                wanted = [name for name in (*required, "class_names") if name in content]
                arrays = {name: content[name] for name in wanted}
    except UserError:
        raise
    # ValueError: numpy's word for arrays of Python objects, which would need unpickling.
    # MemoryError: a damaged header that promises more than there is.
    except (ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path} is damaged or holds objects ({error}); save plain arrays with numpy.savez"
        ) from error
    for name, array in arrays.items():
        # numpy returns the bytes of a member that is no array.
        if not isinstance(array, np.ndarray):
            raise UserError(f"{path}: {name} is no array; save it with numpy.savez")
    return arrays


def _check_arrays(path: epath.Path, suffix: str, images: np.ndarray, labels: np.ndarray) -> None:
    gray_or_rgb = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in (1, 3))
    if images.dtype != np.uint8 or not gray_or_rgb or not images.size:
        raise UserError(
            f"{path}: x{suffix} is {images.dtype} of shape {list(images.shape)}; save uint8 of "
            "shape [N, H, W] or [N, H, W, 3]"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise UserError(
            f"{path}: y{suffix} is {labels.dtype} of shape {list(labels.shape)}; save integers "
            f"of shape [{len(images)}], one per image"
        )


def _class_names(
    path: epath.Path, arrays: dict[str, np.ndarray], labels: list[np.ndarray]
) -> tuple[str, ...]:
    if "class_names" in arrays:
        return tuple(str(name) for name in arrays["class_names"].astype(str).ravel())
    highest = max(int(part.max()) for part in labels)
    # Every class has an image, so there are no more classes than images.
    if highest >= max(map(len, labels)):
        raise UserError(
            f"{path}: labels run up to {highest}, but there are {max(map(len, labels))} images; "
            "number the classes from 0"
        )
    return tuple(str(label) for label in range(highest + 1))


def _part(images: np.ndarray, labels: np.ndarray) -> PartReader:
    order = np.argsort(labels, kind="stable")

    def read(image_size: int) -> Iterator[Example]:
        def decode(place: tuple[int, int]) -> Example:
            row, index = place
            return Example(row, int(labels[index]), resize_array(images[index], image_size))

        return decode_in_parallel(enumerate(order.tolist()), decode)

    return PartReader(len(labels), read)
