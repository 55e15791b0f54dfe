"""Regularised evolution (Real et al., AAAI 2019), in batches.

Dimension letters: P members of the population, K children of a generation.
"""

import functools

import jax
import numpy as np
from jaxtyping import Array, Int, Key

from dass_jax.search.problem import Archive, Scored, SearchProblem, rows
from dass_jax.search.settings import SearchConfig
from dass_jax.search_space import Architecture, ResNetSpace

# children that are too expensive or known are drawn again, this often
_ATTEMPTS = 8


@functools.partial(jax.jit, static_argnums=(0, 3))
def _mutate(
    space: ResNetSpace, keys: Key[Array, " K"], parents: Architecture, probability: float
) -> Architecture:
    return jax.vmap(lambda key, parent: space.mutate(key, parent, probability))(keys, parents)


def _tournament(
    rng: np.random.Generator,
    fitness: np.ndarray,
    alive: Int[np.ndarray, " P"],
    size: int,
    count: int,
) -> Int[np.ndarray, " K"]:
    """The fittest of ``size`` random members, ``count`` times."""
    drawn = rng.choice(alive, (count, min(size, len(alive))))
    return drawn[np.arange(count), np.argmax(fitness[drawn], axis=1)]


def _children(
    problem: SearchProblem,
    archive: Archive,
    key: Key[Array, ""],
    parents: Architecture,
    probability: float,
) -> Architecture:
    """One affordable new child of each parent, without those parents that had none."""
    count = len(parents.depths)
    keys = jax.random.split(key, (_ATTEMPTS, count))
    children = [
        jax.device_get(_mutate(problem.space, attempt, parents, probability)) for attempt in keys
    ]
    chosen: dict[int, Architecture] = {}
    for batch in children:
        allowed = problem.allowed(batch)
        for row in range(count):
            child = rows(batch, [row])
            if row not in chosen and allowed[row] and archive.place(child) is None:
                chosen[row] = child
    return jax.tree.map(
        lambda *leaves: np.concatenate(leaves),
        *(chosen.values() or [rows(parents, [])]),
    )


def evolution(problem: SearchProblem, key: Key[Array, ""], config: SearchConfig) -> Scored:
    """Improves a population by mutating the winners of tournaments; the oldest members die.

    A generation has half as many children as the population has members, so that they are scored
    together. It ends when ``config.candidates`` are scored, or when no new child can be found.

    Args:
      problem: What is searched.
      key: Random key; the result is a function of it.
      config: How many candidates, and how they are bred.

    Returns:
      All candidates ever scored, best first.
    """
    start_key, rng_key, key = jax.random.split(key, 3)
    rng = np.random.default_rng(np.asarray(jax.random.bits(rng_key, (4,))))
    archive = Archive(problem)
    alive = np.unique(archive.add(problem.sample(start_key, config.population)))
    brood = max(1, config.population // 2)
    while (room := config.candidates - len(archive)) > 0:
        key, child_key = jax.random.split(key)
        scored = archive.all()
        winners = _tournament(rng, scored.prediction.mean, alive, config.tournament, brood)
        parents = rows(scored.architectures, winners)
        children = _children(problem, archive, child_key, parents, config.mutation)
        if not len(children.depths):
            break
        born = archive.add(rows(children, range(min(room, len(children.depths)))))
        alive = np.concatenate([alive, np.unique(born)])[-config.population :]
    return archive.all().ranked()
