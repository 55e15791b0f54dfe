"""Running a function of one network over a population, k networks at a time.

k = 1 is a loop inside one compiled function, in which absent blocks are really skipped; k = K is a
full ``vmap``.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def networks_at_a_time(population: int, requested: int | None) -> int:
    """k: as requested, else one on CPU and all of them on accelerators.

    On CPU a vmapped convolution becomes a grouped one, which is several times slower per network
    than a loop, and a loop skips absent blocks.
    """
    if requested is None:
        requested = 1 if jax.default_backend() == "cpu" else population
    return max(1, min(requested, population))


def map_population(function: Callable, population: Any, *, size: int, requested: int | None) -> Any:
    """Maps over the leading axis of a pytree, k networks at a time."""
    k = networks_at_a_time(size, requested)
    if k == 1:
        # batch_size=1 would vmap over one network and thereby lose the skipping of absent blocks
        return jax.lax.map(function, population)
    return (
        jax.lax.map(function, population, batch_size=k)
        if k < size
        else jax.vmap(function)(population)
    )


def sum_population(function: Callable, population: Any, *, size: int, requested: int | None) -> Any:
    """Adds up a function over the leading axis of a pytree, k networks at a time.

    Unlike the sum of ``map_population``, this never holds the results of all networks.

    Args:
      function: Takes k networks, with a leading axis k, and returns arrays that are sums over them;
        where k does not divide the number of networks, it also gets the fewer that are left.
      population: All networks.
      size: How many.
      requested: k; the device's default if None.

    Returns:
      The sum over all networks.
    """
    k = networks_at_a_time(size, requested)
    whole = size - size % k
    groups = jax.tree.map(lambda leaf: leaf[:whole].reshape(-1, k, *leaf.shape[1:]), population)

    def add(total: Any, group: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(group)), None

    shapes = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], groups))
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    total = jax.lax.scan(add, nothing, groups)[0]
    if whole == size:
        return total
    return add(total, jax.tree.map(lambda leaf: leaf[whole:], population))[0]
