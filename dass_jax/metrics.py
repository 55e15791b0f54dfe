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


def correlate(predicted: Float[np.ndarray, " N"], measured: Float[np.ndarray, " N"]) -> Correlation:
    """Correlates predictions with measurements.

    Args:
      predicted: One score per student, higher is better.
      measured: One accuracy per student.

    Returns:
      All three coefficients. A constant input ranks nothing: it counts as 0 rather than nan.
    """
    if len(predicted) < 2 or np.ptp(predicted) == 0 or np.ptp(measured) == 0:
        return Correlation(0.0, 0.0, 0.0)
    with warnings.catch_warnings():
        # scipy warns when values differ by rounding alone; the coefficient is still right
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        return Correlation(
            float(stats.spearmanr(predicted, measured).statistic),
            float(stats.kendalltau(predicted, measured).statistic),
            float(stats.pearsonr(predicted, measured).statistic),
        )
