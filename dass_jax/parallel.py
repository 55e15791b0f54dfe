"""All local devices work on one population: each on some of its networks, or on some of the images.

A function is written for one device and runs on one or on many, under jit with a sharded axis or
under pmap. Networks are independent, so spreading them needs no communication. Where they are fewer
than devices, every device has all of them and a part of each batch of images: gradients and batch
statistics are then averaged over ``AXIS``.

Dimension letters: K networks, D devices.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dass_jax.errors import UserError

AXIS = "devices"


@dataclasses.dataclass(frozen=True)
class Devices:
    """Which local devices to use, and how.

    Attributes:
      count: How many; all of them if None.
      transform: ``jit`` with sharded arrays, or ``pmap``. The numbers are the same.
      spread_images: Whether the images of a batch are spread where networks are fewer than devices;
        on all but CPUs if None. XLA's virtual CPU devices share one pool of threads, in which
        those that wait for a mean can leave none to those that compute it.
    """

    count: int | None = None
    transform: Literal["jit", "pmap"] = "jit"
    spread_images: bool | None = None

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise UserError(f"devices.count is {self.count}: give 1 or more")

    def local(self) -> tuple[jax.Device, ...]:
        """The devices.

        Raises:
          UserError: If there are not so many.
        """
        found = tuple(jax.local_devices())
        if self.count is not None and self.count > len(found):
            raise UserError(f"devices.count is {self.count}, but there are {len(found)} devices")
        return found[: self.count]


ALL_DEVICES = Devices()


@dataclasses.dataclass(frozen=True)
class Layout:
    """What each device does; hashable.

    Attributes:
      devices: The devices.
      spread: Whether each has some of the ``networks``, or some of the ``images`` of each batch.
      transform: As in ``Devices``.
    """

    devices: tuple[jax.Device, ...]
    spread: Literal["networks", "images"] = "networks"
    transform: Literal["jit", "pmap"] = "jit"

    @property
    def image_axis(self) -> str | None:
        """The mapped axis to average gradients and batch statistics over, if images are spread."""
        return AXIS if self.spread == "images" and len(self.devices) > 1 else None

    @property
    def network_shards(self) -> int:
        """Into how many equal parts the networks are cut."""
        return len(self.devices) if self.spread == "networks" else 1

    @property
    def image_shards(self) -> int:
        """Into how many equal parts the images of a batch are cut."""
        return len(self.devices) // self.network_shards


def choose_layout(settings: Devices, population: int, batch_size: int) -> Layout:
    """Spreads networks, or the images of a batch where that makes use of more devices.

    Args:
      settings: Which devices may be used.
      population: K.
      batch_size: Images per step; only so many devices are used as divide it.

    Returns:
      The layout.
    """
    devices = settings.local()
    spread_images = settings.spread_images
    if spread_images is None:
        spread_images = devices[0].platform != "cpu"
    sharing = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    if spread_images and population < sharing:
        return Layout(devices[:sharing], "images", settings.transform)
    return Layout(devices[:population], "networks", settings.transform)


def padded_size(population: int, layout: Layout, networks_per_step: int | None) -> int:
    """K rounded up so that every device has equally many networks, in whole groups of k.

    Networks of an incomplete group would be compiled, and thus rounded, otherwise than the rest.
    """
    whole = layout.network_shards * (networks_per_step or 1)
    return -(-population // whole) * whole


def _sharding(layout: Layout, *, networks: bool) -> NamedSharding:
    mesh = Mesh(np.asarray(layout.devices), (AXIS,))
    spread = networks and layout.spread == "networks"
    return NamedSharding(mesh, PartitionSpec(AXIS) if spread else PartitionSpec())


def place(layout: Layout, tree: Any, *, networks: bool = False) -> Any:
    """Puts arrays where ``compiled`` functions of this layout read them without a copy.

    Args:
      layout: The layout.
      tree: Any pytree of arrays.
      networks: Whether every leaf has a leading K axis; otherwise each device gets all of it.

    Returns:
      The same values on the devices.
    """
    return jax.device_put(tree, _sharding(layout, networks=networks))


@functools.cache
def compiled(
    function: Callable[..., Any], static: tuple[Hashable, ...], layout: Layout
) -> Callable[[Any, Any, Any], Any]:
    """A function of one device, compiled for all devices of a layout.

    Args:
      function: ``function(*static, image_axis, carried, fixed, shared)``; ``image_axis`` is
        ``layout.image_axis``. All leaves of ``carried`` and ``fixed`` and of the result have a
        leading axis of the device's networks.
      static: What the compilation depends on.
      layout: The devices.

    Returns:
      ``run(carried, fixed, shared)``, over all K networks. The buffers of ``carried`` are donated.
    """
    one = functools.partial(function, *static, layout.image_axis)
    if len(layout.devices) == 1:
        return jax.jit(one, donate_argnums=0)
    if layout.transform == "pmap":
        return _under_pmap(one, layout)
    networks = _sharding(layout, networks=True)
    mapped = jax.shard_map(
        one,
        mesh=networks.mesh,
        in_specs=(networks.spec, networks.spec, PartitionSpec()),
        out_specs=networks.spec,
        # with the check, a mean of gradients would be a sum (jax.lax.pmean of a jax.grad)
        check_vma=False,
    )
    return jax.jit(mapped, donate_argnums=0)


def _under_pmap(one: Callable[..., Any], layout: Layout) -> Callable[[Any, Any, Any], Any]:
    """The same calls and placements as under ``jit``, which they are wrapped in.

    Thus donated buffers are taken, and what all devices share is copied to them once. Where images
    are spread, ``pmap`` cannot tell that all devices return the same networks: every call ends with
    sending those of the first device to the others.
    """
    shards = len(layout.devices)
    run = jax.pmap(one, AXIS, in_axes=(0, 0, None), devices=layout.devices)

    def split(leaf: jax.Array) -> jax.Array:
        if layout.spread == "images":
            return jax.numpy.broadcast_to(leaf, (shards, *leaf.shape))
        return leaf.reshape(shards, -1, *leaf.shape[1:])

    def join(leaf: jax.Array) -> jax.Array:
        return leaf[0] if layout.spread == "images" else leaf.reshape(-1, *leaf.shape[2:])

    def call(carried: Any, fixed: Any, shared: Any) -> Any:
        return jax.tree.map(join, run(*jax.tree.map(split, (carried, fixed)), shared))

    return jax.jit(call, donate_argnums=0, out_shardings=_sharding(layout, networks=True))


def mean(tree: Any, image_axis: str | None) -> Any:
    """The mean over the devices that share each batch, inside of a ``compiled`` function."""
    return tree if image_axis is None else jax.lax.pmean(tree, image_axis)


def own_part(array: jax.Array, image_axis: str | None) -> jax.Array:
    """This device's equal part of the leading axis, inside of a ``compiled`` function."""
    if image_axis is None:
        return array
    parts = array.reshape(jax.lax.axis_size(image_axis), -1, *array.shape[1:])
    return parts[jax.lax.axis_index(image_axis)]
