"""Functional embeddings' raw material: what an untrained student does to fixed noise.

DaSS (ICLR 2023) describes a network by the activation map of its last stage for one Gaussian
noise image, after remapping and before any training.

Dimension letters: K students, H W image size, h w C the last stage's map, C the teacher's channels.
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from dass_jax.untrained import Forward, Untrained, map_forwards


def noise_image(image_size: int, seed: int = 0) -> Float[Array, "1 H W 3"]:
    """The one standard normal image that all networks of an experiment see."""
    return jax.random.normal(jax.random.key(seed), (1, image_size, image_size, 3))


def _only_map(forward: Forward) -> Float[Array, "h w C"]:
    return forward.last_map[0]


def noise_maps(
    students: Untrained, image: Float[Array, "1 H W 3"], **how: Any
) -> Float[np.ndarray, "K h w C"]:
    """The last activation maps of untrained students for noise, in evaluation mode.

    Args:
      students: K students.
      image: From ``noise_image``.
      **how: As ``map_forwards`` takes.

    Returns:
      Maps on the host, zero beyond a student's channels, [K, h, w, C].
    """
    return map_forwards(_only_map, students, image, **how)
