"""How devices share a population, and what that takes of their memory, before it is compiled.

Dimension letters: K networks on the device, k at a time, B images of a batch on the device.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from dass_jax import resnet
from dass_jax.parallel import Devices, Layout, choose_layout, padded_size
from dass_jax.population import networks_at_a_time
from dass_jax.search_space import ResNetSpace

# What XLA allocates for a step, in units of the convolutions' outputs: these, their normalised
# values, and the gradients in work. 2.9 to 3.6 by XLA's own account, see tests/test_memory.py.
_MAPS_PER_CONVOLUTION = 3.6
# A device's memory is never whole: the runtime's own share, and what fragments leave unused.
_USABLE = 0.85


class Memory(NamedTuple):
    """Bytes of one device.

    Attributes:
      states: Parameters, momentum and statistics of K networks, and what copies them.
      activations: Feature maps of the k networks in work.
      data: Images, and teacher logits of one view.
    """

    states: int
    activations: int
    data: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


def _map_elements(space: ResNetSpace, image_size: int) -> int:
    """Elements of the outputs of all convolutions, for one image."""
    size, elements = image_size, image_size**2 * space.stage_widths[0]
    for width, stride in zip(space.stage_widths, space.strides, strict=True):
        size = (size - 1) // stride + 1
        elements += 2 * space.stage_depth * size**2 * width
    return elements


def network_bytes(space: ResNetSpace, num_classes: int) -> tuple[int, int]:
    """Bytes of a network's parameters and of its batch statistics, in float32."""
    shapes = resnet.variable_shapes(space, num_classes)
    params, stats = (
        4 * sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes[name]))
        for name in ("params", "batch_stats")
    )
    return params, stats


def predict_memory(
    space: ResNetSpace,
    layout: Layout,
    *,
    population: int,
    networks_per_step: int,
    batch_size: int,
    image_size: int,
    num_classes: int,
    num_images: int,
) -> Memory:
    """What training takes on each device of a layout.

    Args:
      space: The search space.
      layout: Which devices do what.
      population: Networks on all devices together; they are filled up to whole groups of k.
      networks_per_step: k.
      batch_size: Images of a whole batch.
      image_size: Height and width.
      num_classes: Outputs of the dense layer.
      num_images: Images of all splits, which lie on every device.

    Returns:
      The prediction, for float32.
    """
    networks = padded_size(population, layout, networks_per_step) // layout.network_shards
    params, stats = network_bytes(space, num_classes)
    maps = _map_elements(space, image_size) * -(-batch_size // layout.image_shards)
    return Memory(
        # a step writes new parameters and momentum beside the old ones
        states=networks * (4 * params + 2 * stats),
        activations=int(4 * _MAPS_PER_CONVOLUTION * maps * networks_per_step),
        data=num_images * (3 * image_size**2 + 4 * num_classes),
    )


def fitting_networks_per_step(predict: Callable[[int], Memory], limit: int, networks: int) -> int:
    """The largest k whose training fits into a device.

    Networks are trained in whole groups of k, so of all k that make equally many groups only the
    smallest is of use.

    Args:
      predict: k -> what training takes, see ``predict_memory``.
      limit: Bytes of the device.
      networks: Networks of each device.

    Returns:
      k, at least 1.
    """
    useful = {math.ceil(networks / groups) for groups in range(1, networks + 1)}
    return max((k for k in useful if predict(k).total <= _USABLE * limit), default=1)


def device_bytes(layout: Layout) -> int | None:
    """The memory of the smallest device of a layout, None where it does not say."""
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in layout.devices]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


class Arrangement(NamedTuple):
    """How devices train a population.

    Attributes:
      layout: What each device does.
      networks_per_step: k.
      memory: What that takes of each device.
      limit: The memory of the smallest device, None where it does not say.
    """

    layout: Layout
    networks_per_step: int
    memory: Memory
    limit: int | None = None

    @property
    def fits(self) -> bool:
        """Whether the memory suffices, as far as anybody knows."""
        return self.limit is None or self.memory.total <= _USABLE * self.limit


def arrange(
    space: ResNetSpace,
    devices: Devices,
    population: int,
    *,
    networks_per_step: int | None,
    batch_size: int,
    image_size: int,
    num_classes: int,
    num_images: int,
) -> Arrangement:
    """Decides how devices train a population.

    Args:
      space: The search space.
      devices: Which devices to use.
      population: Networks.
      networks_per_step: k at most; if None, as many as an accelerator has memory for. A CPU takes
        one at a time, which is fastest there.
      batch_size: Images of a whole batch.
      image_size: Height and width.
      num_classes: Outputs of the dense layer.
      num_images: Images of all splits.

    Returns:
      The arrangement.
    """
    layout = choose_layout(devices, population, batch_size)

    def predict(k: int) -> Memory:
        return predict_memory(
            space, layout, population=population, networks_per_step=k, batch_size=batch_size,
            image_size=image_size, num_classes=num_classes, num_images=num_images,
        )  # fmt: skip

    of_device, limit = -(-population // layout.network_shards), device_bytes(layout)
    if networks_per_step is not None:
        k = min(networks_per_step, of_device)
    elif limit is not None:
        k = fitting_networks_per_step(predict, limit, of_device)
    else:
        k = networks_at_a_time(of_device, None)
    return Arrangement(layout, k, predict(k), limit)
