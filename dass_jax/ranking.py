"""How well scores rank the students of a task, with bootstrap intervals.

Every measure is written for rows, so that the value and its bootstrap samples come from the same
lines. Ties say nothing: what depends on their order is averaged over all orders.

Dimension letters: N students of a task, R measurements of the same students, B bootstrap samples,
T tasks.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from dass_jax.metrics import finite_scores

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

    spearman: Float[np.ndarray, "*B"]
    kendall: Float[np.ndarray, "*B"]
    pearson: Float[np.ndarray, "*B"]
    precision: Float[np.ndarray, "*B"]
    regret: Float[np.ndarray, "*B"]


class Interval(NamedTuple):
    """Percentiles that hold ``COVERAGE`` of the bootstrap samples."""

    low: float
    high: float


def _ratio(products: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """A correlation, 0 where one side is constant."""
    return np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)


def _pearson(
    first: Float[np.ndarray, "B N"], second: Float[np.ndarray, "B N"]
) -> Float[np.ndarray, " B"]:
    centered = []
    for rows in (first, second):
        # exactly zero where all are alike, whatever the mean was rounded to
        alike = np.all(rows == rows[:, :1], axis=1, keepdims=True)
        centered.append(np.where(alike, 0.0, rows - rows.mean(1, keepdims=True)))
    squares = [(rows**2).sum(1) for rows in centered]
    return _ratio((centered[0] * centered[1]).sum(1), np.sqrt(squares[0] * squares[1]))


def _spearman(
    first: Float[np.ndarray, "B N"], second: Float[np.ndarray, "B N"]
) -> Float[np.ndarray, " B"]:
    return _pearson(stats.rankdata(first, axis=1), stats.rankdata(second, axis=1))


def _kendall(
    first: Float[np.ndarray, "B N"], second: Float[np.ndarray, "B N"]
) -> Float[np.ndarray, " B"]:
    def orders(rows: np.ndarray) -> np.ndarray:
        above = rows[:, :, None] > rows[:, None, :]
        return above.astype(np.int8) - above.swapaxes(1, 2)

    own, other = orders(first), orders(second)
    pairs = [
        np.sum(a * b, axis=(1, 2), dtype=float)
        for a, b in ((own, other), (own, own), (other, other))
    ]
    return _ratio(pairs[0], np.sqrt(pairs[1] * pairs[2]))


def _among_best(rows: Float[np.ndarray, "B N"], k: int) -> Float[np.ndarray, "B N"]:
    """How likely each one is among the k greatest of its row, if ties are broken at random."""
    least = -np.sort(-rows, axis=1)[:, k - 1 : k]
    above, tied = rows > least, rows == least
    places = k - above.sum(1, keepdims=True)
    return above + tied * (places / tied.sum(1, keepdims=True))


def _overlap(
    first: Float[np.ndarray, "B N"],
    second: Float[np.ndarray, "B N"],
    draws: Int[np.ndarray, "B N"],
) -> Float[np.ndarray, " B"]:
    """How many are expected among the best of both, for what ``_among_best`` says of either.

    Ties between students are broken by chance, once in either. Copies of one student are the same
    in both: as many overlap as are among the best of either.
    """
    rows = np.arange(len(draws))[:, None]
    totals = []
    for chances in (first, second, np.ones_like(first)):
        total = np.zeros(draws.shape)
        np.add.at(total, (rows, draws), chances)
        totals.append(total)
    own, other, copies = totals
    return np.where(copies > 1, np.minimum(own, other), own * other).sum(1)


def rank_samples(
    scores: Float[np.ndarray, " N"],
    measured: Float[np.ndarray, "R N"],
    k: int,
    draws: Int[np.ndarray, "B N"],
) -> Ranking:
    """Compares scores with measured accuracies in every sample of students.

    Args:
      scores: One per student, higher is better; those that are not finite rank last.
      measured: Accuracies, fractions; every row is another measurement.
      k: For the precision; at most N count.
      draws: From ``resamples``.

    Returns:
      The averages over the measurements, [B].
    """
    own = finite_scores(scores)[draws]
    others = [row[draws] for row in measured]
    k = min(k, draws.shape[1])
    chosen, pick = _among_best(own, k), _among_best(own, 1)
    return Ranking(
        np.mean([_spearman(own, other) for other in others], axis=0),
        np.mean([_kendall(own, other) for other in others], axis=0),
        np.mean([_pearson(own, other) for other in others], axis=0),
        precision=np.mean(
            [_overlap(chosen, _among_best(other, k), draws) / k for other in others], axis=0
        ),
        # of each measurement by itself: the best of means is less lucky than the best of one
        regret=np.mean([other.max(1) - (pick * other).sum(1) for other in others], axis=0),
    )


def rank(scores: Float[np.ndarray, " N"], measured: Float[np.ndarray, "R N"], k: int) -> Ranking:
    """As ``rank_samples`` for the students as they are; every measure is a number."""
    everyone = np.arange(len(scores))[None]
    return Ranking(*(values.item() for values in rank_samples(scores, measured, k, everyone)))


def resamples(rng: np.random.Generator, count: int, samples: int) -> Int[np.ndarray, "B N"]:
    """Draws students with replacement; the same draws for all methods make differences fair."""
    return rng.integers(0, count, (samples, count))


def bootstrap_mean(
    rng: np.random.Generator, tasks: Sequence[Float[np.ndarray, " B"]]
) -> Float[np.ndarray, " B"]:
    """The mean over tasks in every sample of tasks and of students.

    A task that is drawn twice counts with two samples of its students.

    Args:
      rng: Draws tasks with replacement, and samples of their students.
      tasks: The samples of every task, over students.
    """
    samples = np.stack(tasks)
    chosen, sample = (rng.integers(0, size, samples.shape) for size in samples.shape)
    return samples[chosen, sample].mean(0)


def interval(samples: Float[np.ndarray, " B"]) -> Interval:
    """The central interval that holds ``COVERAGE`` of the samples."""
    tail = 50 * (1 - COVERAGE)
    low, high = np.percentile(samples, [tail, 100 - tail])
    return Interval(float(low), float(high))
