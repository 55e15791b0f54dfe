"""Datasets by name or path: the one entry point for whatever holds the images."""

import dataclasses
import difflib
from collections.abc import Sequence
from typing import Literal, overload

from etils import epath

from dass_jax.data import array_cache, catalog
from dass_jax.data.archive_reader import open_image_files
from dass_jax.data.archives import ARCHIVE_SUFFIXES
from dass_jax.data.builders import RELEASES
from dass_jax.data.builders.preparing import prepare_release
from dass_jax.data.embedded import load_digits
from dass_jax.data.fingerprint import file_stamps
from dass_jax.data.generated import FAMILIES, GENERATED_PREFIX, generate
from dass_jax.data.images import Collection, ImageDataset, Images, select_classes
from dass_jax.data.locations import DATA_DIR_VARIABLE, data_dir, find, tfds_dir
from dass_jax.data.npz import open_npz
from dass_jax.data.readers import FileSource
from dass_jax.data.splitting import split_per_class
from dass_jax.data.tfds_reader import INFO_FILE, open_prepared, prepared_folder
from dass_jax.errors import UserError

Split = Literal["train", "valid", "test"]
DEFAULT_VALID_FRACTION = 0.1
DEFAULT_TEST_FRACTION = 0.2
GENERATED_CLASSES = 10
GENERATED_TRAIN_IMAGES_PER_CLASS = 200
GENERATED_TEST_IMAGES_PER_CLASS = 100


@overload
def load(
    source: str,
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
    source: str,
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
    source: str,
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
        prepared TFDS dataset; or the name of one of the TFDS catalog. A relative path that does
        not exist is looked for in the folder that the environment variable DASS_DATA_DIR names.
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
    if image_size < 1:
        raise UserError(f"image size {image_size}: give a positive number of pixels")
    if split not in (None, "train", "valid", "test"):
        raise UserError(f"there is no split {split!r}; choose train, valid or test")
    collection = _load_whole(source, image_size, num_classes, seed)
    # Before classes are chosen: whether an image is for testing does not depend on them.
    collection = _with_test_split(collection, test_fraction, seed)
    if classes is not None:
        collection = select_classes(collection, classes)
    dataset = _with_valid_split(collection, valid_per_class, seed)
    return dataset if split is None else getattr(dataset, split)


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
    if source == "digits":
        return load_digits(image_size)
    return array_cache.load_or_decode(resolve(source), image_size)


def _with_test_split(collection: Collection, fraction: float | None, seed: int) -> Collection:
    """Cuts test images where the source sets none aside."""
    if "all" not in collection.parts:
        if fraction is not None:
            raise UserError(
                f"dataset {collection.name!r} has a test split of its own; leave "
                f"test_fraction={fraction} out"
            )
        return collection
    size = DEFAULT_TEST_FRACTION if fraction is None else fraction
    train, test = _split(collection, "all", size, seed)
    return dataclasses.replace(collection, parts={"train": train, "test": test})


def _with_valid_split(collection: Collection, per_class: int | None, seed: int) -> ImageDataset:
    """Cuts validation images from the training split."""
    size = DEFAULT_VALID_FRACTION if per_class is None else per_class
    train, valid = _split(collection, "train", size, seed)
    return ImageDataset(
        collection.name, collection.class_names, train, valid, collection.parts["test"]
    )


def _split(
    collection: Collection, part: str, size: int | float, seed: int
) -> tuple[Images, Images]:
    try:
        return split_per_class(collection.parts[part], size, seed=seed)
    except UserError as error:
        raise UserError(f"dataset {collection.name!r}: {error}") from error


def _file_source(path: epath.Path) -> FileSource:
    suffix = "".join(path.suffixes[-2:]).lower()
    if path.is_dir():
        if (folder := prepared_folder(path)) is not None:
            return _prepared(path.name, folder)
    elif suffix.endswith(".npz"):
        return FileSource(path.stem, file_stamps(path), lambda: open_npz(path))
    elif not suffix.endswith(ARCHIVE_SUFFIXES):
        raise UserError(
            f"{path} is neither a folder nor an archive ({', '.join(ARCHIVE_SUFFIXES)}) nor an "
            ".npz file; give one of these"
        )
    name = path.name
    for ending in ARCHIVE_SUFFIXES:
        name = name.removesuffix(ending)
    return FileSource(name, file_stamps(path), lambda: open_image_files(path))


def _prepared(name: str, folder: epath.Path) -> FileSource:
    # Record files are written once; the info file tells one preparation from another.
    stamps = file_stamps(folder / INFO_FILE)
    return FileSource(name, stamps, lambda: open_prepared(folder))


def _unknown(source: str) -> str:
    folder = data_dir()
    where = f"in {DATA_DIR_VARIABLE}={folder}" if folder else f"and {DATA_DIR_VARIABLE} not set"
    known = {name: name for name in ("digits", *RELEASES, *catalog.catalog_names())}
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
    return f"no dataset {source!r}: no such file {where}; {hint}"
