"""Which network of a population every place on the devices holds.

Each device has equally many places, in whole groups of k; copies of the last network take those
that are left over. What is saved, returned or counted leaves the copies out.

Dimension letters: K networks, P places on all devices together.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int, Num

from dass_jax.parallel import Layout, padded_size, place


class Seats(NamedTuple):
    """Who sits where.

    Attributes:
      layout: What each device does.
      networks: The network in each place, [P].
      places: Where each network sits; of its copies, the first, [K].
    """

    layout: Layout
    networks: Int[np.ndarray, " P"]
    places: Int[np.ndarray, " K"]

    def spread(self, population: Any) -> Any:
        """Puts a population on the devices.

        It passes through the host, so that no device ever holds more than its own networks.

        Args:
          population: A pytree of arrays with a leading K axis.

        Returns:
          The same with a leading P axis, placed.
        """
        seated = jax.tree.map(lambda leaf: np.asarray(leaf)[self.networks], population)
        return place(self.layout, seated, networks=True)

    def gather(self, population: Any) -> Any:
        """The opposite of ``spread``: without the copies, in the first order, on the host."""
        return jax.tree.map(lambda leaf: np.asarray(leaf)[self.places], population)


def take_seats(
    costs: Num[np.ndarray, " K"],
    layout: Layout,
    networks_per_step: int | None,
    at_least: int = 0,
) -> Seats:
    """Spreads a population so that every device has about the same to do.

    Args:
      costs: What each network costs, in any unit.
      layout: What each device does.
      networks_per_step: k; every device's places come in groups of so many.
      at_least: Places there shall be at least.

    Returns:
      The seats.
    """
    population = len(costs)
    size = padded_size(max(population, at_least), layout, networks_per_step)
    networks = np.minimum(np.arange(size), population - 1)
    networks = networks[balanced_order(costs[networks], layout.network_shards)]
    places = [np.flatnonzero(networks == network)[0] for network in range(population)]
    return Seats(layout, networks, np.asarray(places))


def balanced_order(costs: np.ndarray, shards: int) -> np.ndarray:
    """An order in which equal contiguous parts cost about the same.

    Devices work through their networks one after another, so the dearest part sets the time.

    Args:
      costs: What each network costs, [K], in any unit.
      shards: How many parts; divides K.

    Returns:
      A permutation of the networks, [K].
    """
    capacity = len(costs) // shards
    parts: list[list[int]] = [[] for _ in range(shards)]
    for network in np.argsort(-costs, kind="stable"):
        open_parts = [part for part in parts if len(part) < capacity]
        min(open_parts, key=lambda part: sum(costs[part])).append(int(network))
    return np.concatenate([np.asarray(part, np.int32) for part in parts])
