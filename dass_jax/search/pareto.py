"""Pareto fronts."""

import numpy as np
from jaxtyping import Bool, Float, Real


def pareto_front(
    accuracies: Float[np.ndarray, " N"], costs: Real[np.ndarray, " N"]
) -> Bool[np.ndarray, " N"]:
    """Which candidates no other one beats: none is as cheap and more accurate, or the reverse.

    Args:
      accuracies: Higher is better.
      costs: Lower is better.

    Returns:
      True for the candidates of the front. Of equal ones, the first.
    """
    order = np.lexsort((-accuracies, costs))
    best = np.maximum.accumulate(np.r_[-np.inf, accuracies[order]])
    front = np.zeros(len(accuracies), bool)
    front[order] = accuracies[order] > best[:-1]
    return front
