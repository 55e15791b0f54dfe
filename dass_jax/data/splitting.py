"""Seeded ways to cut labelled images into parts, class by class."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int64

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
    kept, _ = _draw_per_class(images, lambda _, available: min(count, available), seed)
    return images.take(kept)


def split_per_class(images: Images, size: int | float, *, seed: int) -> tuple[Images, Images]:
    """Cuts a part out of a split, class by class.

    Every image lands in exactly one part, and each part has every class.

    Args:
      images: the split to cut.
      size: what is cut out of each class: a number of images, or a share in (0, 1) as a float.
      seed: of ``np.random.default_rng``; the same seed gives the same parts.

    Returns:
      ``(rest, part)``, each in the order of ``images``.

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
        if wanted >= available:
            raise UserError(
                f"class {label} has {available} image(s), too few to set {wanted} aside and leave "
                "at least 1; add images or ask for fewer"
            )
        return wanted

    part, rest = _draw_per_class(images, how_many, seed)
    return images.take(rest), images.take(part)


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
