"""How well predictions rank students."""

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats


class Correlation(NamedTuple):
    """Agreement of predictions with measured accuracies; 0 where either is constant.

    Attributes:
      spearman: Rank correlation.
      kendall: Kendall's tau-b.
      pearson: Linear correlation.
    """

    spearman: float
    kendall: float
    pearson: float


def _ranks(values: Float[np.ndarray, " N"]) -> bool:
    """Whether the values put anything in an order."""
    return len(values) > 1 and bool(np.any(values != values[0]))


def finite_scores(values: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Scores with what is not finite just beyond the others: nan and -inf below, inf above."""
    finite = values[np.isfinite(values)]
    if len(finite) == len(values):
        return values
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    margin = max(high - low, 1.0)
    return np.nan_to_num(values, nan=low - margin, neginf=low - margin, posinf=high + margin)


def correlate(predicted: Float[np.ndarray, " N"], measured: Float[np.ndarray, " N"]) -> Correlation:
    """Correlates predictions with measurements.

    Args:
      predicted: One score per student, higher is better; one that is not finite ranks last, or
        first if it is infinite.
      measured: One accuracy per student.

    Returns:
      All three coefficients. A constant input ranks nothing: it counts as 0 rather than nan.
    """
    predicted = finite_scores(np.asarray(predicted, np.float64))
    if not (_ranks(predicted) and _ranks(measured)):
        return Correlation(0.0, 0.0, 0.0)
    with warnings.catch_warnings():
        # scipy warns when values differ by rounding alone; the coefficient is still right
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        return Correlation(
            float(stats.spearmanr(predicted, measured).statistic),
            float(stats.kendalltau(predicted, measured).statistic),
            float(stats.pearsonr(predicted, measured).statistic),
        )


def rank_correlation(
    first: Float[np.ndarray, " N"], second: Float[np.ndarray, " N"]
) -> float | None:
    """Spearman's coefficient of two measurements, for reports that tell nothing from zero.

    Args:
      first: One value per student; nan where it was not measured.
      second: The same.

    Returns:
      The coefficient over the students that have both, None if there are fewer than two of them or
      either measurement is constant.
    """
    both = np.isfinite(first) & np.isfinite(second)
    if not (_ranks(first[both]) and _ranks(second[both])):
        return None
    return correlate(first[both], second[both]).spearman
