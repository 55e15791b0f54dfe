"""Choosing students by predicted accuracy (DaSS, ICLR 2023).

Dimension letters: P candidates of the pool.
"""

from typing import NamedTuple

import numpy as np

from dass_jax.search_space import Architecture, unstack


class Candidate(NamedTuple):
    """A scored student.

    Attributes:
      architecture: The student.
      prediction: Predicted accuracy after distillation, a fraction.
      flops: Multiply-adds for one image.
      num_params: Trainable parameters.
    """

    architecture: Architecture
    prediction: float
    flops: int
    num_params: int


def top_candidates(
    pool: Architecture,
    predictions: np.ndarray,
    flops: np.ndarray,
    num_params: np.ndarray,
    count: int,
) -> list[Candidate]:
    """The best different candidates, best first; the earlier in the pool wins ties.

    Args:
      pool: P architectures.
      predictions: Their predicted accuracies, [P].
      flops: Their multiply-adds, [P].
      num_params: Their parameters, [P].
      count: How many to return, at most.

    Returns:
      Up to ``count`` candidates without repetition.
    """
    architectures = unstack(pool)
    chosen: list[Candidate] = []
    seen: set[bytes] = set()
    for index in np.argsort(-predictions, kind="stable"):
        architecture = architectures[index]
        identity = np.asarray(architecture.widths).tobytes()
        if identity in seen:
            continue
        seen.add(identity)
        chosen.append(
            Candidate(
                architecture, float(predictions[index]), int(flops[index]), int(num_params[index])
            )
        )
        if len(chosen) == count:
            break
    return chosen
