"""Top-1 accuracy of a population over every image of a split.

Dimension letters: K networks, N images, H W image size.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from dass_jax import parallel, resnet
from dass_jax.data.augmentation import normalize
from dass_jax.pace import Pace
from dass_jax.parallel import Layout
from dass_jax.population import map_population, networks_at_a_time
from dass_jax.search_space import Architecture, ResNetSpace


class Split(NamedTuple):
    """Images of one split on the device."""

    images: UInt8[Array, "N H W 3"]
    labels: Int[Array, " N"]


def fitting_batch(batch_size: int, num_images: int, layout: Layout) -> int:
    """Images per forward pass and device: no more than are left when devices share them all."""
    return min(batch_size, -(-num_images // layout.image_shards))


def evaluate(
    space: ResNetSpace,
    variables: resnet.Variables,
    architectures: Architecture,
    data: Split,
    *,
    layout: Layout | None = None,
    batch_size: int = 256,
    networks_per_step: int | None = None,
    on_call: Callable[[], None] = lambda: None,
) -> Float[Array, " K"]:
    """Top-1 accuracy of each network over every image of a split, as fractions.

    Args:
      space: The search space.
      variables: The population's variables, with a leading K axis.
      architectures: K architectures.
      data: The images, on the devices; the last batch may be incomplete.
      layout: Which devices do what; the first local device does all if None.
      batch_size: Images per forward pass and device; the result does not depend on it.
      networks_per_step: k, as in ``Plan``.
      on_call: Called about every second; may raise to stop.

    Returns:
      Accuracies in [0, 1], [K].
    """
    layout = layout or Layout((jax.local_devices()[0],))
    batch_size = fitting_batch(batch_size, len(data.labels), layout)
    of_device = len(architectures.depths) // layout.network_shards
    k = networks_at_a_time(of_device, networks_per_step)
    run = parallel.compiled(_count_correct, (space, batch_size, k), layout)
    population = parallel.place(layout, (variables, architectures), networks=True)
    data, counts = parallel.place(layout, data), jnp.zeros((), jnp.int32)
    batches = -(-len(data.labels) // (batch_size * layout.image_shards))
    for bounds in Pace().calls(0, batches):
        begin, end = parallel.place(layout, tuple(map(np.int32, bounds)))
        counts = counts + jax.block_until_ready(run((), population, (data, begin, end)))
        on_call()
    return counts / len(data.labels)


def _correct(
    space: ResNetSpace,
    network: tuple[resnet.Variables, Architecture],
    data: Split,
    batch_size: int,
    bounds: tuple[Int[Array, ""] | int, Int[Array, ""] | int],
    image_axis: str | None = None,
) -> Int[Array, ""]:
    """Correct predictions of one network in some of the batches of all devices together."""
    last = len(data.labels) - 1

    def count(index: Array, correct: Array) -> Array:
        rows = parallel.own_part(index * batch_size + jnp.arange(batch_size), image_axis)
        # the last batch is filled up with an image that is always wrong
        places = jnp.minimum(rows, last)
        wanted = jnp.where(rows <= last, data.labels[places], -1)
        logits, _ = resnet.apply(space, *network, normalize(data.images[places]), train=False)
        return correct + jnp.sum(jnp.argmax(logits, -1) == wanted)

    return jax.lax.fori_loop(*bounds, count, jnp.zeros((), jnp.int32))


def accuracy(
    space: ResNetSpace,
    variables: resnet.Variables,
    architecture: Architecture,
    data: Split,
    batch_size: int = 256,
) -> Float[Array, ""]:
    """Top-1 accuracy of one network, for use inside of a compiled function.

    Args:
      space: The search space.
      variables: The network's variables, teacher-shaped.
      architecture: The network.
      data: The images; the last batch may be incomplete.
      batch_size: Images per forward pass; the result does not depend on it.

    Returns:
      A fraction.
    """
    count = len(data.labels)
    size = min(batch_size, count)
    bounds = (0, -(-count // size))
    return _correct(space, (variables, architecture), data, size, bounds) / count


def _count_correct(
    space: ResNetSpace,
    batch_size: int,
    networks_per_step: int,
    image_axis: str | None,
    carried: tuple[()],
    population: tuple[resnet.Variables, Architecture],
    shared: tuple[Split, Array, Array],
) -> Int[Array, " K"]:
    """Correct predictions of each network in some of the batches, on one device."""
    del carried
    data, begin, end = shared
    devices = 1 if image_axis is None else jax.lax.axis_size(image_axis)

    def one(network: tuple[resnet.Variables, Architecture]) -> Array:
        return _correct(space, network, data, devices * batch_size, (begin, end), image_axis)

    size = population[1].depths.shape[0]
    counts = map_population(one, population, size=size, requested=networks_per_step)
    return counts if image_axis is None else jax.lax.psum(counts, image_axis)
