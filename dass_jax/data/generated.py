"""Generated image datasets: small visual problems of many kinds that need no download.

A family is a kind of problem, and a seed draws one problem of it. A few hundred images teach a
small network well above chance and well below perfection, which is what comparing students needs.
"""

import difflib
from collections.abc import Callable

import numpy as np

from dass_jax.data import families
from dass_jax.data.images import Collection, Images, check_image_size
from dass_jax.data.splitting import seeded_rng
from dass_jax.errors import UserError

GENERATED_PREFIX = "generated:"
FAMILIES: dict[str, Callable[[np.random.Generator, int], list[families.GeneratedClass]]] = {
    "strokes": families.strokes,
    "gratings": families.gratings,
    "shapes": families.shapes,
    "blobs": families.blobs,
    "mixtures": families.mixtures,
}


def generate(
    family: str,
    *,
    num_classes: int,
    images_per_class_train: int,
    images_per_class_test: int,
    image_size: int,
    seed: int,
) -> Collection:
    """Generates a dataset.

    The classes depend on the family, their number and the seed only; images come from streams
    of their own for each split and class.

    Args:
      family: a key of ``FAMILIES``.
      num_classes: at least 2.
      images_per_class_train: training images of each class, at least 1.
      images_per_class_test: test images of each class, at least 1.
      image_size: height and width, in pixels.
      seed: another seed gives other classes.

    Returns:
      The dataset, images ordered by class.

    Raises:
      UserError: an unknown family, or a number out of range.
    """
    if family not in FAMILIES:
        close = difflib.get_close_matches(family, FAMILIES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(FAMILIES)}"
        raise UserError(f"no family {family!r} of generated images; {hint}")
    check_image_size(image_size)
    if num_classes < 2 or min(images_per_class_train, images_per_class_test) < 1:
        raise UserError(
            f"cannot generate {num_classes} classes with {images_per_class_train} training and "
            f"{images_per_class_test} test images; ask for at least 2 classes and 1 image"
        )
    class_stream, *split_streams = range(3)
    classes = FAMILIES[family](seeded_rng(seed, class_stream), num_classes)
    train, test = (
        _paint(classes, count, image_size, (seed, stream))
        for stream, count in zip(
            split_streams, (images_per_class_train, images_per_class_test), strict=True
        )
    )
    names = tuple(drawn.name for drawn in classes)
    return Collection(f"{GENERATED_PREFIX}{family}", names, {"train": train, "test": test})


def _paint(
    classes: list[families.GeneratedClass], count: int, image_size: int, seeds: tuple[int, int]
) -> Images:
    painted = [
        drawn.paint(seeded_rng(*seeds, label), count, image_size)
        for label, drawn in enumerate(classes)
    ]
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), count)
    return Images(np.concatenate(painted), labels)
