"""Labelled images in memory or memory-mapped, as they come and as training wants them."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int64

from dass_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Images:
    """The images of one split.

    The arrays often come from outside, so the class checks them itself, with or without jaxtyping.

    Attributes:
      images: RGB values in 0..255, uint8 [N, S, S, 3]; may be memory-mapped.
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
                "give uint8 of shape [N, S, S, 3]"
            )
        if images.shape[1] != images.shape[2]:
            raise UserError(
                f"images are {images.shape[1]}x{images.shape[2]}; resize them to squares"
            )
        if labels.dtype != np.int32 or labels.shape != images.shape[:1]:
            raise UserError(
                f"labels are {labels.dtype} of shape {list(labels.shape)}; "
                f"give int32 of shape [{len(images)}], one per image"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Int64[np.ndarray, " M"]) -> "Images":
        """Returns the images at these positions, in this order; neighbours are not copied."""
        first, count = (int(indices[0]), len(indices)) if len(indices) else (0, 0)
        if np.array_equal(indices, np.arange(first, first + count)):
            chosen = slice(first, first + count)
            return Images(self.images[chosen], self.labels[chosen])
        return Images(self.images[indices], self.labels[indices])


@dataclasses.dataclass(frozen=True)
class Collection:
    """Labelled images as their source divides them.

    Attributes:
      name: what messages and reports call it.
      class_names: one name per class; labels are positions in it.
      parts: ``train`` and ``test``, or ``all`` where the source has no test split of its own.

    Raises:
      UserError: fewer than two classes, an empty part, labels outside the classes, a class that
        a part lacks, or sizes that differ between the parts.
    """

    name: str
    class_names: tuple[str, ...]
    parts: Mapping[str, Images]

    def __post_init__(self) -> None:
        if set(self.parts) not in ({"train", "test"}, {"all"}):
            raise UserError(
                f"dataset {self.name!r} has the parts {', '.join(sorted(self.parts)) or 'none'}; "
                "give train and test, or all"
            )
        check_class_names(f"dataset {self.name!r}", self.class_names)
        for part, images in self.parts.items():
            check_labels(f"dataset {self.name!r}", part, images.labels, self.class_names)
        sizes = {images.images.shape[1] for images in self.parts.values()}
        if len(sizes) > 1:
            raise UserError(
                f"dataset {self.name!r}: images are {' and '.join(map(str, sorted(sizes)))} pixels "
                "wide; resize them to one size"
            )


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """A classification problem in three disjoint splits.

    Attributes:
      name: what messages and reports call it.
      class_names: one name per class; labels are positions in it.
      train: what networks are trained on.
      valid: what accuracies are measured on while choosing; cut from the training images.
      test: what only final reports look at.
    """

    name: str
    class_names: tuple[str, ...]
    train: Images
    valid: Images
    test: Images

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def image_size(self) -> int:
        """Height and width of the images, in pixels."""
        return self.train.images.shape[1]


def check_image_size(image_size: int) -> None:
    """Raises a UserError unless images can have this size."""
    if image_size < 1:
        raise UserError(f"image size {image_size}: give a positive number of pixels")


def check_class_names(what: str, class_names: Sequence[str]) -> None:
    """Raises a UserError unless there are at least two classes."""
    if len(class_names) < 2:
        raise UserError(f"{what} has {len(class_names)} class(es); give at least 2")


def check_labels(what: str, part: str, labels: np.ndarray, class_names: Sequence[str]) -> None:
    """Raises a UserError unless labels are within the classes and every class has an image."""
    num_classes = len(class_names)
    if not len(labels):
        raise UserError(f"{what} has no {part} image; add some")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise UserError(
            f"{what}: {part} labels run from {low} to {high}, but there are {num_classes} "
            f"classes; use labels 0 to {num_classes - 1}"
        )
    present = np.bincount(labels, minlength=num_classes) > 0
    if not present.all():
        missing = class_names[int(np.argmin(present))]
        raise UserError(
            f"{what}: class {missing!r} has no image in {part}; add some or leave the class out"
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
