"""Two cheap scores together: what a predictor that learns from both has to beat.

Dimension letters: N students.
"""

import numpy as np
from jaxtyping import Float
from scipy import stats

from dass_jax.baselines.candidates import Candidates
from dass_jax.baselines.counts import num_params
from dass_jax.baselines.inherited import recalibrated_negative_kd_loss
from dass_jax.metrics import finite_scores


def size_and_kd_loss(candidates: Candidates) -> Float[np.ndarray, " N"]:
    """The mean of a student's ranks by parameters and by recalibrated KD loss.

    Args:
      candidates: N students.

    Returns:
      One score per student, which depends on the others.
    """
    scores = (num_params(candidates), recalibrated_negative_kd_loss(candidates))
    return np.mean([stats.rankdata(finite_scores(values)) for values in scores], axis=0)
