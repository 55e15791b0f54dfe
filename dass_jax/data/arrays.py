"""Datasets in one ``.npz`` file of arrays."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dass_jax.data.decoding import resize_arrays
from dass_jax.data.images import ImageDataset, Images, check_classes
from dass_jax.errors import UserError

_REQUIRED = ("x_train", "y_train", "x_test", "y_test")


def load_npz(path: Path, image_size: int, classes: Sequence[int] | None) -> ImageDataset:
    """Reads ``x_train, y_train, x_test, y_test`` and, if present, ``class_names``.

    Args:
      path: of the file; images are uint8, gray [N, H, W] or [N, H, W, 1] or RGB [N, H, W, 3],
        labels are integers from 0.
      image_size: height and width of the result, in pixels.
      classes: the labels to keep, renumbered in this order; None keeps all.

    Raises:
      UserError: a damaged file, a missing or unsuitable array, or classes that do not exist.
    """
    arrays = _read_arrays(path)
    for split in ("train", "test"):
        _check_arrays(path, split, arrays[f"x_{split}"], arrays[f"y_{split}"])
    if "class_names" in arrays:
        class_names = tuple(str(name) for name in arrays["class_names"].astype(str).ravel())
    else:
        class_names = tuple(str(label) for label in range(int(arrays["y_train"].max()) + 1))
    _check_labels(path, arrays, len(class_names))
    kept = tuple(range(len(class_names))) if classes is None else tuple(classes)
    check_classes(str(path), kept, len(class_names))
    return ImageDataset(
        name=path.stem,
        train=_select(arrays["x_train"], arrays["y_train"], kept, image_size),
        test=_select(arrays["x_test"], arrays["y_test"], kept, image_size),
        class_names=tuple(class_names[label] for label in kept),
    )


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        # Opened here because numpy leaves a damaged file open.
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise UserError(f"{path} holds a single array; save it with numpy.savez")
            with content:
                missing = [name for name in _REQUIRED if name not in content]
                if missing:
                    raise UserError(f"{path} has no array {missing[0]!r}; add it")
                wanted = [name for name in (*_REQUIRED, "class_names") if name in content]
                return {name: content[name] for name in wanted}
    except UserError:
        raise
    # ValueError: numpy's word for arrays of Python objects, which would need unpickling.
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path} is damaged or holds objects ({error}); save plain arrays with numpy.savez"
        ) from error


def _check_arrays(path: Path, split: str, images: np.ndarray, labels: np.ndarray) -> None:
    gray_or_rgb = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in (1, 3))
    if images.dtype != np.uint8 or not gray_or_rgb or not images.size:
        raise UserError(
            f"{path}: x_{split} is {images.dtype} of shape {list(images.shape)}; save uint8 of "
            "shape [N, H, W] or [N, H, W, 3]"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise UserError(
            f"{path}: y_{split} is {labels.dtype} of shape {list(labels.shape)}; save integers "
            f"of shape [{len(images)}], one per image"
        )


def _check_labels(path: Path, arrays: dict[str, np.ndarray], num_classes: int) -> None:
    """Every label has a name, and every class images in both splits."""
    for split in ("train", "test"):
        labels = arrays[f"y_{split}"]
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= num_classes:
            raise UserError(
                f"{path}: labels in y_{split} run from {low} to {high}, but there are "
                f"{num_classes} classes; number the classes from 0"
            )
        missing = np.setdiff1d(np.arange(num_classes), labels)
        if len(missing):
            raise UserError(
                f"{path}: class {missing[0]} has no image in {split}; add some or leave the class "
                "out and number the others from 0"
            )


def _select(
    pixels: np.ndarray, labels: np.ndarray, classes: Sequence[int], image_size: int
) -> Images:
    rows = [np.flatnonzero(labels == label) for label in classes]
    new_labels = np.repeat(np.arange(len(classes), dtype=np.int32), [len(row) for row in rows])
    # Chosen first and resized afterwards: the rest may be most of the file.
    return Images(resize_arrays(pixels[np.concatenate(rows)], image_size), new_labels)
