"""Datasets by name or path: the one entry point for whatever holds the images."""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from dass_jax.data.archives import open_archive
from dass_jax.data.arrays import load_npz
from dass_jax.data.decoding import decode_files, resize_arrays
from dass_jax.data.generated import FAMILIES, generate
from dass_jax.data.images import (
    ImageDataset,
    Images,
    check_classes,
    check_image_size,
    select_classes,
    split_validation,
)
from dass_jax.data.layouts import list_class_files
from dass_jax.errors import UserError

DATA_DIR_VARIABLE = "DASS_DATA_DIR"
GENERATED_PREFIX = "generated:"
GENERATED_CLASSES = 10
GENERATED_TRAIN_IMAGES_PER_CLASS = 200
GENERATED_TEST_IMAGES_PER_CLASS = 100


def load(
    source: str,
    *,
    image_size: int,
    classes: Sequence[int] | None = None,
    num_classes: int | None = None,
    seed: int = 0,
) -> ImageDataset:
    """Loads a dataset into memory.

    Args:
      source: ``digits``; ``generated:FAMILY``; or the path of an image folder, a zip file of
        one, the Tiny-ImageNet archive (its ``val`` becomes the test split), or an ``.npz``
        file. A relative path that does not exist is looked for in the folder that the
        environment variable DASS_DATA_DIR names.
      image_size: height and width that images are resized to, in pixels, a multiple of 8.
      classes: labels to keep, renumbered in this order; only their images are decoded.
      num_classes: classes to generate, for generated sources only; 10 by default.
      seed: of the generated images, and of the split of ``digits``.

    Returns:
      The dataset, images ordered by class.

    Raises:
      UserError: an unknown source, a file that is damaged or arranged otherwise, or classes
        that do not exist.
    """
    check_image_size(source, image_size)
    if source.startswith(GENERATED_PREFIX):
        generated = generate(
            source.removeprefix(GENERATED_PREFIX),
            num_classes=GENERATED_CLASSES if num_classes is None else num_classes,
            images_per_class_train=GENERATED_TRAIN_IMAGES_PER_CLASS,
            images_per_class_test=GENERATED_TEST_IMAGES_PER_CLASS,
            image_size=image_size,
            seed=seed,
        )
        return generated if classes is None else select_classes(generated, classes)
    if num_classes is not None:
        raise UserError(
            f"num_classes={num_classes} is for generated sources; choose classes of {source!r} "
            "with the argument classes"
        )
    if source == "digits":
        digits = _load_digits(image_size, seed)
        return digits if classes is None else select_classes(digits, classes)
    return _load_path(_find(source), image_size, classes)


def _load_digits(image_size: int, seed: int) -> ImageDataset:
    raw = load_digits()
    gray = np.round(raw.images * (255 / 16)).astype(np.uint8)
    order = np.argsort(raw.target, kind="stable")
    everything = Images(resize_arrays(gray[order], image_size), raw.target[order].astype(np.int32))
    train, test = split_validation(everything, fraction=0.5, seed=seed)
    return ImageDataset("digits", train, test, tuple(str(name) for name in raw.target_names))


def _load_path(path: Path, image_size: int, classes: Sequence[int] | None) -> ImageDataset:
    if path.suffix.lower() == ".npz":
        return load_npz(path, image_size, classes)
    if not path.is_dir() and path.suffix.lower() != ".zip":
        raise UserError(f"{path} is neither a folder nor a .zip or .npz file; give one of these")
    with open_archive(path) as archive:
        files = list_class_files(archive)
        kept = tuple(range(len(files.class_ids))) if classes is None else tuple(classes)
        check_classes(str(path), kept, len(files.class_ids))
        class_ids = [files.class_ids[label] for label in kept]
        return ImageDataset(
            name=path.name if path.is_dir() else path.stem,
            train=decode_files(archive, files.train, class_ids, image_size),
            test=decode_files(archive, files.test, class_ids, image_size),
            class_names=tuple(files.class_names[label] for label in kept),
        )


def _find(source: str) -> Path:
    path = Path(source).expanduser()
    data_dir = os.environ.get(DATA_DIR_VARIABLE)
    # An empty source would be the current folder.
    candidates = [path] if source else []
    if data_dir and source:
        # An absolute path stays what it is.
        candidates.append(Path(data_dir) / path)
    for candidate in candidates:
        if candidate.exists():
            return candidate
    where = f"in {DATA_DIR_VARIABLE}={data_dir}" if data_dir else f"and {DATA_DIR_VARIABLE} not set"
    raise UserError(f"no dataset {source!r}: no such file {where}; {_suggestion(source, data_dir)}")


def _suggestion(source: str, data_dir: str | None) -> str:
    known = {"digits": "digits"}
    for family in FAMILIES:
        full_name = GENERATED_PREFIX + family
        known |= {family: full_name, full_name: full_name}
    if data_dir and Path(data_dir).is_dir():
        known |= {name: name for name in os.listdir(data_dir)}
    close = difflib.get_close_matches(source.lower(), known, n=1)
    if close:
        return f"did you mean {known[close[0]]!r}?"
    return (
        f"give digits, {GENERATED_PREFIX}FAMILY or a path, or set {DATA_DIR_VARIABLE} to the "
        "folder that holds it"
    )
