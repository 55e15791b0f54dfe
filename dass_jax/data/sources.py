"""Datasets by name or path: the one entry point for whatever holds the images."""

import difflib
import os
from collections.abc import Sequence
from typing import Literal, overload

import numpy as np
from etils import epath

from dass_jax.data import array_cache, catalog
from dass_jax.data.archive_reader import open_image_files
from dass_jax.data.archives import ARCHIVE_SUFFIXES
from dass_jax.data.builders import RELEASES
from dass_jax.data.builders.preparing import prepare_release
from dass_jax.data.embedded import load_digits
from dass_jax.data.fingerprint import file_stamps
from dass_jax.data.generated import FAMILIES, GENERATED_PREFIX, generate
from dass_jax.data.images import Collection, ImageDataset, Images, check_classes
from dass_jax.data.locations import DATA_DIR_VARIABLE, data_dir, find, tfds_dir
from dass_jax.data.npz import open_npz
from dass_jax.data.readers import FileSource
from dass_jax.data.splitting import split_rows
from dass_jax.data.tfds_reader import INFO_FILE, open_prepared, prepared_folder
from dass_jax.errors import UserError

Split = Literal["train", "valid", "test"]
SPLITS = ("train", "valid", "test")
DIGITS = "digits"
DEFAULT_VALID_FRACTION = 0.1
DEFAULT_TEST_FRACTION = 0.2
_SMALLEST = 8
GENERATED_CLASSES = 10
GENERATED_TRAIN_IMAGES_PER_CLASS = 200
GENERATED_TEST_IMAGES_PER_CLASS = 100


@overload
def load(
    source: str | os.PathLike[str],
    *,
    image_size: int,
    split: None = None,
    classes: Sequence[int] | None = None,
    num_classes: int | None = None,
    valid_per_class: int | None = None,
    test_fraction: float | None = None,
    seed: int = 0,
) -> ImageDataset: ...


@overload
def load(
    source: str | os.PathLike[str],
    *,
    image_size: int,
    split: Split,
    classes: Sequence[int] | None = None,
    num_classes: int | None = None,
    valid_per_class: int | None = None,
    test_fraction: float | None = None,
    seed: int = 0,
) -> Images: ...


def load(
    source: str | os.PathLike[str],
    *,
    image_size: int,
    split: str | None = None,
    classes: Sequence[int] | None = None,
    num_classes: int | None = None,
    valid_per_class: int | None = None,
    test_fraction: float | None = None,
    seed: int = 0,
) -> ImageDataset | Images:
    """Loads a dataset.

    Images from files are decoded and resized at the first call and memory-mapped from then on.

    Args:
      source: ``digits``; ``generated:FAMILY``; ``tiny_imagenet``, ``cub200_2011``,
        ``stanford_cars``, ``dtd`` or ``quickdraw``, which are prepared and downloaded if need be;
        the path of an image folder, of a zip or tar file of one, of an ``.npz`` file or of a
        prepared TFDS dataset; or the name of one of the TFDS catalog. The names of the first line
        win over a file of the same name, which is ``./dtd``; a file wins over the catalog. A
        relative path that does not exist is looked for in the folder that the environment variable
        DASS_DATA_DIR names.
      image_size: height and width that images are resized to, in pixels, aspect ratio not kept.
      split: only this split; all three by default.
      classes: labels to keep, renumbered in this order.
      num_classes: classes to generate, for generated sources only; 10 by default.
      valid_per_class: validation images of each class, cut from the training images; a tenth of
        them by default.
      test_fraction: share of each class that becomes the test split, for sources that have none
        of their own only; 0.2 by default.
      seed: of the cuts and of generated images.

    Returns:
      The dataset, or one split of it.

    Raises:
      UserError: an unknown source, a file that is damaged or arranged otherwise, a split or
        classes that do not exist, or too few images.
    """
    if split not in (None, *SPLITS):
        raise UserError(f"there is no split {split!r}; choose train, valid or test")
    collection = _load_whole(os.fspath(source), image_size, num_classes, seed)
    if classes is not None:
        check_classes(collection.name, classes, len(collection.class_names))
    parts = _divide(collection, valid_per_class, test_fraction, seed, classes)
    if split is not None:
        return _choose(*parts[split], classes)
    names = collection.class_names
    return ImageDataset(
        collection.name,
        names if classes is None else tuple(names[label] for label in classes),
        **{name: _choose(*part, classes) for name, part in parts.items()},
    )


def class_names(source: str) -> tuple[str, ...]:
    """The names of all classes of a source; no image is decoded if it lies in files.

    Raises:
      UserError: an unknown or damaged source.
    """
    if is_embedded(source):
        return load(source, image_size=_SMALLEST).class_names
    with resolve(source).open() as reader:
        return reader.class_names


def is_embedded(source: str) -> bool:
    """Whether a source needs no files: digits and generated images."""
    return source == DIGITS or source.startswith(GENERATED_PREFIX)


def resolve(source: str) -> FileSource:
    """Finds the files behind a source, preparing official datasets first.

    Raises:
      UserError: there are none, with a suggestion of what was meant.
    """
    name, _, config = source.partition("/")
    if name in RELEASES:
        return _prepared(source, prepare_release(RELEASES[name], config))
    if (path := find(source)) is not None:
        return _file_source(path)
    if (folder := prepared_folder(tfds_dir() / source)) is not None:
        return _prepared(source, folder)
    # An existing path has been found before: a slash can only follow the name of the catalog.
    if source and name in catalog.catalog_names():
        return _prepared(source, catalog.prepare_catalog(source))
    raise UserError(_unknown(source))


def _load_whole(source: str, image_size: int, num_classes: int | None, seed: int) -> Collection:
    if source.startswith(GENERATED_PREFIX):
        return generate(
            source.removeprefix(GENERATED_PREFIX),
            num_classes=GENERATED_CLASSES if num_classes is None else num_classes,
            images_per_class_train=GENERATED_TRAIN_IMAGES_PER_CLASS,
            images_per_class_test=GENERATED_TEST_IMAGES_PER_CLASS,
            image_size=image_size,
            seed=seed,
        )
    if num_classes is not None:
        raise UserError(
            f"num_classes={num_classes} is for generated sources; choose classes of {source!r} "
            "with the argument classes"
        )
    if source == DIGITS:
        return load_digits(image_size)
    return array_cache.load_or_decode(resolve(source), image_size)


def _divide(
    collection: Collection,
    valid_per_class: int | None,
    test_fraction: float | None,
    seed: int,
    classes: Sequence[int] | None,
) -> dict[str, tuple[Images, np.ndarray]]:
    """Where the images of each split are; which class is used does not matter to the others."""
    name, parts = collection.name, collection.parts
    whole = parts["all" if "all" in parts else "train"]
    if "all" in parts:
        fraction = DEFAULT_TEST_FRACTION if test_fraction is None else float(test_fraction)
        rest, test_rows = _cut(name, whole.labels, fraction, seed, classes)
        test = whole, test_rows
    elif test_fraction is not None:
        raise UserError(
            f"dataset {name!r} has a test split of its own; leave test_fraction={test_fraction} out"
        )
    else:
        rest, test = np.arange(len(whole)), (parts["test"], np.arange(len(parts["test"])))
    size = DEFAULT_VALID_FRACTION if valid_per_class is None else valid_per_class
    train_rows, valid_rows = _cut(name, whole.labels[rest], size, seed, classes)
    return {"train": (whole, rest[train_rows]), "valid": (whole, rest[valid_rows]), "test": test}


def _cut(
    name: str, labels: np.ndarray, size: int | float, seed: int, classes: Sequence[int] | None
) -> tuple[np.ndarray, np.ndarray]:
    try:
        return split_rows(labels, size, seed=seed, classes=classes)
    except UserError as error:
        raise UserError(f"dataset {name!r}: {error}") from error


def _choose(images: Images, rows: np.ndarray, classes: Sequence[int] | None) -> Images:
    """The images of some rows and classes; classes are renumbered in the given order."""
    if classes is None:
        return images.take(rows)
    new_label = np.full(int(images.labels.max()) + 1, -1, np.int32)
    new_label[list(classes)] = np.arange(len(classes))
    chosen = images.take(rows[new_label[images.labels[rows]] >= 0])
    return Images(chosen.images, new_label[chosen.labels])


def _file_source(path: epath.Path) -> FileSource:
    suffix = "".join(path.suffixes[-2:]).lower()
    if path.is_dir():
        if (folder := prepared_folder(path)) is not None:
            return _prepared(path.resolve().name, folder)
    elif suffix.endswith(".npz"):
        return FileSource(path.stem, file_stamps(path), lambda: open_npz(path))
    elif not suffix.endswith(ARCHIVE_SUFFIXES):
        raise UserError(
            f"{path} is neither a folder nor an archive ({', '.join(ARCHIVE_SUFFIXES)}) nor an "
            ".npz file; give one of these"
        )
    name = path.resolve().name
    for ending in ARCHIVE_SUFFIXES:
        name = name.removesuffix(ending)
    return FileSource(name, file_stamps(path), lambda: open_image_files(path))


def _prepared(name: str, folder: epath.Path) -> FileSource:
    # Record files are written once; the info file tells one preparation from another.
    stamps = file_stamps(folder / INFO_FILE)
    return FileSource(name, stamps, lambda: open_prepared(folder))


def _unknown(source: str) -> str:
    folder = data_dir()
    where = f"nor in {DATA_DIR_VARIABLE}={folder}" if folder else f"and {DATA_DIR_VARIABLE} not set"
    known = {}
    # who names a file means none of the datasets that have names
    if not source.endswith(("/", ".npz", *ARCHIVE_SUFFIXES)):
        known = {name: name for name in (DIGITS, *RELEASES, *catalog.catalog_names())}
        for family in FAMILIES:
            full_name = GENERATED_PREFIX + family
            known |= {family: full_name, full_name: full_name}
    if folder and folder.is_dir():
        known |= {child.name: child.name for child in folder.iterdir()}
    close = difflib.get_close_matches(source.lower(), known, n=1)
    hint = (
        f"did you mean {known[close[0]]!r}?"
        if close
        else f"give a path, {', '.join(('digits', *RELEASES))}, {GENERATED_PREFIX}FAMILY or a name "
        "of the TFDS catalog"
    )
    return f"no dataset {source!r}: no such file here {where}; {hint}"
