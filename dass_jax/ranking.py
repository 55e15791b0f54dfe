"""How well scores rank the students of a task, with bootstrap intervals.

Dimension letters: N students of a task, R measurements of the same students, B bootstrap samples,
T tasks.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from dass_jax.metrics import correlate

COVERAGE = 0.9


class Ranking(NamedTuple):
    """How scores rank the students of one task, averaged over the measurements.

    Attributes:
      spearman: Rank correlation.
      kendall: Kendall's tau-b.
      pearson: Linear correlation.
      precision: Share of the k students with the best scores that are among the k best ones.
      regret: Accuracy of the best student less that of the one with the best score, a fraction.
    """

    spearman: float
    kendall: float
    pearson: float
    precision: float
    regret: float


class Interval(NamedTuple):
    """Percentiles that hold ``COVERAGE`` of the bootstrap samples."""

    low: float
    high: float


def precision_at(
    k: int, scores: Float[np.ndarray, " N"], measured: Float[np.ndarray, " N"]
) -> float:
    """Share of the k students with the best scores that are among the k best; k is at most N."""
    k = min(k, len(scores))
    chosen, best = (set(np.argsort(-x, kind="stable")[:k].tolist()) for x in (scores, measured))
    return len(chosen & best) / k


def rank(scores: Float[np.ndarray, " N"], measured: Float[np.ndarray, "R N"], k: int) -> Ranking:
    """Compares scores with measured accuracies.

    Args:
      scores: One per student, higher is better.
      measured: Accuracies, fractions; every row is another measurement.
      k: For the precision.

    Returns:
      The averages over the measurements; the regret is that of the mean measurement.
    """
    correlations = [correlate(scores, row) for row in measured]
    mean = measured.mean(0)
    spearman, kendall, pearson = np.mean(correlations, axis=0)
    return Ranking(
        float(spearman),
        float(kendall),
        float(pearson),
        precision=float(np.mean([precision_at(k, scores, row) for row in measured])),
        regret=float(mean.max() - mean[np.argmax(scores)]),
    )


def resamples(rng: np.random.Generator, count: int, samples: int) -> Int[np.ndarray, "B N"]:
    """Draws students with replacement; the same draws for all methods make differences fair."""
    return rng.integers(0, count, (samples, count))


def _rows_correlation(
    first: Float[np.ndarray, "B N"], second: Float[np.ndarray, "B N"]
) -> Float[np.ndarray, " B"]:
    """Spearman's coefficient of each pair of rows, 0 where one of them is constant."""
    ranks = [stats.rankdata(rows, axis=1) for rows in (first, second)]
    centered = [r - r.mean(1, keepdims=True) for r in ranks]
    products = (centered[0] * centered[1]).sum(1)
    norms = np.sqrt((centered[0] ** 2).sum(1) * (centered[1] ** 2).sum(1))
    return np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)


def bootstrap_spearman(
    scores: Float[np.ndarray, " N"],
    measured: Float[np.ndarray, "R N"],
    draws: Int[np.ndarray, "B N"],
) -> Float[np.ndarray, " B"]:
    """Spearman's coefficient in every sample of students, averaged over the measurements.

    Args:
      scores: One per student.
      measured: Accuracies, fractions.
      draws: From ``resamples``.
    """
    return np.mean([_rows_correlation(scores[draws], row[draws]) for row in measured], axis=0)


def bootstrap_mean(
    rng: np.random.Generator, tasks: Sequence[Float[np.ndarray, " B"]]
) -> Float[np.ndarray, " B"]:
    """The mean over tasks in every sample of tasks and of students.

    Args:
      rng: Draws tasks with replacement.
      tasks: The samples of every task, over students.
    """
    samples = np.stack(tasks)
    chosen = rng.integers(0, len(samples), samples.shape)
    return np.take_along_axis(samples, chosen, axis=0).mean(0)


def interval(samples: Float[np.ndarray, " B"]) -> Interval:
    """The central interval that holds ``COVERAGE`` of the samples."""
    tail = 50 * (1 - COVERAGE)
    low, high = np.percentile(samples, [tail, 100 - tail])
    return Interval(float(low), float(high))
