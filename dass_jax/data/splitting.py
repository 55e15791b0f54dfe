"""Seeded ways to cut labelled images into parts, class by class."""

from collections.abc import Callable, Collection

import numpy as np
from jaxtyping import Int32, Int64

from dass_jax.data.images import Images
from dass_jax.errors import UserError


def seeded_rng(*seeds: int) -> np.random.Generator:
    """A generator for a seed and the ids of what it draws.

    Raises:
      UserError: a seed is negative.
    """
    if min(seeds) < 0:
        raise UserError(f"seed {min(seeds)} is negative; give 0 or more")
    return np.random.default_rng(seeds)


def limit_per_class(images: Images, count: int, seed: int) -> Images:
    """Draws at most ``count`` images of each class; the rest keep their order.

    Raises:
      UserError: ``count`` is not positive.
    """
    if count < 1:
        raise UserError(f"{count} images per class were asked for; ask for at least 1")
    kept, _ = _draw_per_class(images.labels, lambda _, available: min(count, available), seed)
    return images.take(kept)


def split_rows(
    labels: Int32[np.ndarray, " N"],
    size: int | float,
    *,
    seed: int,
    classes: Collection[int] | None = None,
) -> tuple[Int64[np.ndarray, " P"], Int64[np.ndarray, " Q"]]:
    """Cuts a part out of a split, class by class.

    Every image lands in exactly one part, and each part has every class.

    Args:
      labels: of the images of the split.
      size: what is cut out of each class: a number of images, or a share in (0, 1) as a float.
      seed: of ``np.random.default_rng``; the same seed gives the same parts.
      classes: those that will be used, all by default; only they must have enough images. They
        change nothing else: the draw for a class does not depend on which others are used.

    Returns:
      ``(rest, part)``, positions in ascending order.

    Raises:
      UserError: a size out of range, or a class with too few images for both parts.
    """
    if isinstance(size, float) and not 0 < size < 1:
        raise UserError(f"the share {size} of each class was asked for; give one between 0 and 1")
    if size <= 0:
        raise UserError(f"{size} images of each class were asked for; give at least 1")

    def how_many(label: int, available: int) -> int:
        wanted = size
        if isinstance(wanted, float):
            # Rounding must not empty either part of a small class.
            wanted = max(1, min(round(wanted * available), available - 1))
        if wanted >= available and (classes is None or label in classes):
            raise UserError(
                f"class {label} has {available} image(s), too few to set {wanted} aside and leave "
                "at least 1; add images or ask for fewer"
            )
        return wanted

    part, rest = _draw_per_class(labels, how_many, seed)
    return rest, part


def _draw_per_class(
    labels: Int32[np.ndarray, " N"], how_many: Callable[[int, int], int], seed: int
) -> tuple[Int64[np.ndarray, " P"], Int64[np.ndarray, " Q"]]:
    """Positions drawn without replacement, ``how_many(label, available)`` a class; and the others.

    Both in ascending order.
    """
    rng = seeded_rng(seed)
    drawn = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = how_many(int(label), len(members))
        drawn[rng.permutation(members)[:count]] = True
    return np.flatnonzero(drawn), np.flatnonzero(~drawn)
