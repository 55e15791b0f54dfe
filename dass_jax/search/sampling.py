"""Searches that score sampled candidates."""

import jax
from jaxtyping import Array, Key

from dass_jax.search.problem import Archive, Scored, SearchProblem
from dass_jax.search.settings import SearchConfig


def pool(problem: SearchProblem, key: Key[Array, ""], config: SearchConfig) -> Scored:
    """Ranks sampled candidates by their prediction (DaSS, ICLR 2023, section 3).

    Args:
      problem: What is searched.
      key: Random key; the result is a function of it.
      config: How many candidates.

    Returns:
      All candidates, best first.
    """
    return random(problem, key, config).ranked()


def random(problem: SearchProblem, key: Key[Array, ""], config: SearchConfig) -> Scored:
    """Sampled candidates in the order of sampling: the choice of one who has no predictor.

    Args:
      problem: What is searched.
      key: Random key; the result is a function of it.
      config: How many candidates.

    Returns:
      All candidates, the first one sampled first.
    """
    archive = Archive(problem)
    archive.add(jax.device_get(problem.sample(key, config.candidates)))
    return archive.all()
