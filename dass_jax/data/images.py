"""Labelled images in memory, and seeded ways to cut them into parts."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int64

from dass_jax.errors import UserError

# Three stride-2 stages halve the side three times; see the search space.
SIZE_MULTIPLE = 8


@dataclasses.dataclass(frozen=True)
class Images:
    """The images of one split.

    The arrays often come from outside, so the class checks them itself, with or without jaxtyping.

    Attributes:
      images: RGB values in 0..255, uint8 [N, H, W, 3].
      labels: the class of each image, counted from 0, int32 [N].

    Raises:
      UserError: a wrong dtype or shape, or lengths that differ.
    """

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise UserError(
                f"images are {images.dtype} of shape {list(images.shape)}; "
                "give uint8 of shape [N, H, W, 3]"
            )
        if labels.dtype != np.int32 or labels.shape != images.shape[:1]:
            raise UserError(
                f"labels are {labels.dtype} of shape {list(labels.shape)}; "
                f"give int32 of shape [{len(images)}], one per image"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Int64[np.ndarray, " M"]) -> "Images":
        """Returns the images at these positions, in this order."""
        return Images(self.images[indices], self.labels[indices])


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """A classification problem: training images, test images and what the classes are called.

    Attributes:
      name: what messages and reports call it.
      train: the training split; every class has an image in it.
      test: the test split, of the same image size.
      class_names: one name per class; labels are positions in it.

    Raises:
      UserError: fewer than two classes, sizes that are not square multiples of 8 or differ
        between the splits, labels outside the classes, a class without training images.
    """

    name: str
    train: Images
    test: Images
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise UserError(f"dataset {self.name!r} has {self.num_classes} class(es); give >= 2")
        _check_split(self.name, "train", self.train, self.num_classes)
        _check_split(self.name, "test", self.test, self.num_classes)
        if self.train.images.shape[1:] != self.test.images.shape[1:]:
            raise UserError(
                f"dataset {self.name!r}: training images are {self.image_size} pixels wide and "
                f"test images {self.test.images.shape[2]}; resize them to one size"
            )
        present = np.bincount(self.train.labels, minlength=self.num_classes) > 0
        if not present.all():
            missing = self.class_names[int(np.argmin(present))]
            raise UserError(
                f"dataset {self.name!r}: class {missing!r} has no training image; "
                "add some or leave the class out"
            )

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def image_size(self) -> int:
        """Height and width of the images, in pixels."""
        return self.train.images.shape[1]


def select_classes(dataset: ImageDataset, classes: Sequence[int]) -> ImageDataset:
    """Keeps some classes and renumbers them 0..k-1 in the given order.

    Args:
      dataset: where to choose from.
      classes: at least two different labels of ``dataset``.

    Raises:
      UserError: a class that does not exist, appears twice, or fewer than two of them.
    """
    check_classes(dataset.name, classes, dataset.num_classes)
    return dataclasses.replace(
        dataset,
        train=_relabel(dataset.train, classes, dataset.num_classes),
        test=_relabel(dataset.test, classes, dataset.num_classes),
        class_names=tuple(dataset.class_names[label] for label in classes),
    )


def limit_per_class(images: Images, count: int, seed: int) -> Images:
    """Draws at most ``count`` images of each class; the rest keep their order.

    Raises:
      UserError: ``count`` is not positive.
    """
    if count < 1:
        raise UserError(f"{count} images per class were asked for; ask for at least 1")
    kept, _ = _draw_per_class(images, lambda _, available: min(count, available), seed)
    return images.take(kept)


def split_validation(
    images: Images,
    *,
    fraction: float | None = None,
    images_per_class: int | None = None,
    seed: int,
) -> tuple[Images, Images]:
    """Cuts a validation part out of a split, class by class.

    Every image lands in exactly one part, and each part has every class.

    Args:
      images: the split to cut.
      fraction: share of each class that goes to validation, in (0, 1).
      images_per_class: images of each class that go to validation, instead of ``fraction``.
      seed: of ``np.random.default_rng``; the same seed gives the same parts.

    Returns:
      ``(train, validation)``, each in the order of ``images``.

    Raises:
      UserError: not exactly one of ``fraction`` and ``images_per_class``, a value out of range,
        or a class with too few images for both parts.
    """
    if (fraction is None) == (images_per_class is None):
        raise UserError("give either fraction or images_per_class of the validation part, not both")
    if fraction is not None and not 0 < fraction < 1:
        raise UserError(f"the validation fraction is {fraction}; give one between 0 and 1")
    if images_per_class is not None and images_per_class < 1:
        raise UserError(f"{images_per_class} validation images per class; give at least 1")

    def validation_count(label: int, available: int) -> int:
        if images_per_class is not None:
            wanted = images_per_class
        else:
            # Rounding must not empty either part of a small class.
            wanted = max(1, min(round((fraction or 0) * available), available - 1))
        if wanted >= available:
            raise UserError(
                f"class {label} has {available} image(s), too few for {wanted} validation "
                "image(s) and at least 1 to train on; add images or ask for fewer"
            )
        return wanted

    validation, train = _draw_per_class(images, validation_count, seed)
    return images.take(train), images.take(validation)


def seeded_rng(*seeds: int) -> np.random.Generator:
    """A generator for a seed and the ids of what it draws.

    Raises:
      UserError: a seed is negative.
    """
    if min(seeds) < 0:
        raise UserError(f"seed {min(seeds)} is negative; give 0 or more")
    return np.random.default_rng(seeds)


def check_image_size(name: str, image_size: int) -> None:
    """Raises a UserError unless a network of the search space takes images of this size."""
    if image_size < SIZE_MULTIPLE or image_size % SIZE_MULTIPLE:
        raise UserError(
            f"dataset {name!r}: image size {image_size} is not a multiple of {SIZE_MULTIPLE}; "
            f"choose {max(1, round(image_size / SIZE_MULTIPLE)) * SIZE_MULTIPLE}"
        )


def check_classes(name: str, classes: Sequence[int], num_classes: int) -> None:
    """Raises a UserError unless these are at least two different labels of a dataset."""
    for label in classes:
        if not 0 <= label < num_classes:
            raise UserError(
                f"dataset {name!r} has no class {label}; choose from 0 to {num_classes - 1}"
            )
    if len(set(classes)) < len(classes):
        twice = next(label for label in classes if list(classes).count(label) > 1)
        raise UserError(f"dataset {name!r}: class {twice} is chosen twice; name each class once")
    if len(classes) < 2:
        raise UserError(f"dataset {name!r}: {len(classes)} class(es) chosen; choose at least 2")


def _check_split(name: str, split: str, part: Images, num_classes: int) -> None:
    if not len(part):
        raise UserError(f"dataset {name!r} has no {split} image; add some")
    _, height, width, _ = part.images.shape
    if height != width:
        raise UserError(
            f"dataset {name!r}: {split} images are {height}x{width}; resize them to squares"
        )
    check_image_size(name, height)
    low, high = int(part.labels.min()), int(part.labels.max())
    if low < 0 or high >= num_classes:
        raise UserError(
            f"dataset {name!r}: {split} labels run from {low} to {high}, but there are "
            f"{num_classes} class names; use labels 0 to {num_classes - 1}"
        )


def _relabel(images: Images, classes: Sequence[int], num_classes: int) -> Images:
    new_label = np.full(num_classes, -1, np.int32)
    new_label[list(classes)] = np.arange(len(classes))
    labels = new_label[images.labels]
    kept = labels >= 0
    return Images(images.images[kept], labels[kept])


def _draw_per_class(
    images: Images, how_many: Callable[[int, int], int], seed: int
) -> tuple[Int64[np.ndarray, " P"], Int64[np.ndarray, " Q"]]:
    """Positions drawn without replacement, ``how_many(label, available)`` a class; and the others.

    Both in ascending order.
    """
    rng = seeded_rng(seed)
    drawn = np.zeros(len(images), bool)
    for label in np.unique(images.labels):
        members = np.flatnonzero(images.labels == label)
        count = how_many(int(label), len(members))
        drawn[rng.permutation(members)[:count]] = True
    return np.flatnonzero(drawn), np.flatnonzero(~drawn)
