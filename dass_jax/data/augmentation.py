"""Random crops and flips on the device, a pure function of (key, view, image index).

A view is fixed: view v of image i is the same pixels whenever and in whatever batch it is made,
so that a teacher's logits for it can be stored (DaSS trains with crop and flip).

Dimension letters: B batch, H W image size.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from dass_jax.randomness import fold_in


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What a training view may do to an image; static.

    Attributes:
      crop: Whether to shift by up to a eighth of the size in each direction, over black.
      flip: Whether to mirror left to right with chance 1/2; off for digits and letters.
    """

    crop: bool = True
    flip: bool = True


class View(NamedTuple):
    """Parameters of one view of B images."""

    top: Int[Array, " B"]
    left: Int[Array, " B"]
    mirrored: Bool[Array, " B"]


def view_parameters(
    augmentation: Augmentation,
    key: Key[Array, ""],
    view: Int[Array, ""] | int,
    indices: Int[Array, " B"],
    image_size: int,
) -> View:
    """Draws the parameters of one view of some images.

    Args:
      augmentation: What may be drawn, static.
      key: Key of the task's views.
      view: Number of the view.
      indices: Each image's index in its dataset, [B].
      image_size: Height and width in pixels.

    Returns:
      One crop corner and one flip per image; the image's place in the batch has no influence.
    """
    reach = 2 * (image_size // 8) if augmentation.crop else 0

    def draw(index: Array) -> View:
        corner_key, flip_key = jax.random.split(fold_in(key, view, index))
        corner = jax.random.randint(corner_key, (2,), 0, reach + 1)
        mirrored = jax.random.bernoulli(flip_key) & augmentation.flip
        return View(corner[0], corner[1], mirrored)

    return jax.vmap(draw)(indices)


def normalize(images: UInt8[Array, "B H W 3"]) -> Float[Array, "B H W 3"]:
    """Scales 0..255 to [-1, 1] (mean 0.5, deviation 0.5)."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def augment(
    augmentation: Augmentation,
    key: Key[Array, ""],
    view: Int[Array, ""] | int,
    indices: Int[Array, " B"],
    images: UInt8[Array, "B H W 3"],
) -> Float[Array, "B H W 3"]:
    """One view of some images, scaled to [-1, 1].

    Args:
      augmentation: What the view may do, static.
      key: Key of the task's views.
      view: Number of the view.
      indices: Each image's index in its dataset, [B].
      images: The images themselves, [B, H, W, 3].

    Returns:
      Shifted and mirrored images, [B, H, W, 3].
    """
    size = images.shape[1]
    parameters = view_parameters(augmentation, key, view, indices, size)
    margin = size // 8 if augmentation.crop else 0
    padded = jnp.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))

    def transform(image: Array, view: View) -> Array:
        crop = jax.lax.dynamic_slice(image, (view.top, view.left, 0), (size, size, 3))
        return jnp.where(view.mirrored, crop[:, ::-1], crop)

    return normalize(jax.vmap(transform)(padded, parameters))
