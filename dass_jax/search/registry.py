"""All search algorithms by name."""

from collections.abc import Callable

from jaxtyping import Array, Key

from dass_jax.search.evolution import evolution
from dass_jax.search.nsga2 import nsga2
from dass_jax.search.problem import Algorithm, Scored, SearchProblem
from dass_jax.search.sampling import pool, random
from dass_jax.search.settings import SearchConfig

Search = Callable[[SearchProblem, Key[Array, ""], SearchConfig], Scored]

ALGORITHMS: dict[Algorithm, Search] = {
    "pool": pool,
    "random": random,
    "evolution": evolution,
    "nsga2": nsga2,
}
