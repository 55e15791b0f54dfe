"""Top-1 accuracy of a population over every image of a split.

Dimension letters: K networks, N images, H W image size.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from dass_jax import resnet
from dass_jax.data.augmentation import normalize
from dass_jax.population import map_population
from dass_jax.search_space import Architecture, ResNetSpace


class Split(NamedTuple):
    """Images of one split on the device."""

    images: UInt8[Array, "N H W 3"]
    labels: Int[Array, " N"]


def _batched(split: Split, batch_size: int) -> tuple[Array, Array]:
    """All images in batches; the last one is filled up with images labelled -1."""
    missing = -len(split.labels) % batch_size
    images = jnp.pad(split.images, ((0, missing), (0, 0), (0, 0), (0, 0)))
    labels = jnp.pad(split.labels, (0, missing), constant_values=-1)
    return (
        images.reshape(-1, batch_size, *images.shape[1:]),
        labels.reshape(-1, batch_size),
    )


@functools.partial(jax.jit, static_argnums=0, static_argnames=("batch_size", "networks_per_step"))
def evaluate(
    space: ResNetSpace,
    variables: resnet.Variables,
    architectures: Architecture,
    data: Split,
    *,
    batch_size: int = 256,
    networks_per_step: int | None = None,
) -> Float[Array, " K"]:
    """Top-1 accuracy of each network over every image of a split, as fractions.

    Args:
      space: The search space, static.
      variables: The population's variables, with a leading K axis.
      architectures: K architectures.
      data: The images, on the device; the last batch may be incomplete.
      batch_size: Images per forward pass; the result does not depend on it.
      networks_per_step: k, as in ``Plan``.

    Returns:
      Accuracies in [0, 1], [K].
    """
    images, labels = _batched(data, min(batch_size, len(data.labels)))

    def one(network: tuple[resnet.Variables, Architecture]) -> Array:
        def count(correct: Array, batch: tuple[Array, Array]) -> tuple[Array, None]:
            logits, _ = resnet.apply(space, *network, normalize(batch[0]), train=False)
            return correct + jnp.sum(jnp.argmax(logits, -1) == batch[1]), None

        return jax.lax.scan(count, jnp.zeros((), jnp.int32), (images, labels))[0]

    size = architectures.depths.shape[0]
    counts = map_population(one, (variables, architectures), size=size, requested=networks_per_step)
    return counts / len(data.labels)
