"""All baselines by name, as tables show them; higher is better.

Zero-cost proxies were proposed for networks with random weights. Here, students have inherited the
teacher's, so four proxies come with both; what departs from DisWOT's paper stands with it.
"""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from dass_jax.baselines import (
    combined,
    counts,
    inherited,
    measured,
    naswot,
    saliency,
    similarity,
    synflow,
)
from dass_jax.baselines.candidates import Candidates

Baseline = Callable[[Candidates], Float[np.ndarray, " N"]]


def _on_random_weights(candidates: Candidates, *, baseline: Baseline) -> Float[np.ndarray, " N"]:
    """A baseline's scores of the same architectures with fresh random weights."""
    return baseline(candidates._replace(students=candidates.students._replace(kind="random_init")))


# scored twice: on inherited weights, and on random ones as in their papers
_PROXIES: dict[str, Baseline] = {
    "SynFlow": synflow.synflow,
    "NASWOT": naswot.naswot,
    "gradient norm": saliency.gradient_norm,
    "SNIP": saliency.snip,
}

BASELINES: dict[str, Baseline] = {
    "parameters": counts.num_params,
    "FLOPs": counts.num_flops,
    "depth": counts.total_depth,
    "random choice": counts.nothing,
    **_PROXIES,
    **{
        f"{name}, random weights": functools.partial(_on_random_weights, baseline=baseline)
        for name, baseline in _PROXIES.items()
    },
    "remapped accuracy": inherited.remapped_accuracy,
    "remapped accuracy, recalibrated": inherited.recalibrated_accuracy,
    "KD loss": inherited.negative_kd_loss,
    "KD loss, recalibrated": inherited.recalibrated_negative_kd_loss,
    "DisWOT": similarity.diswot,
    "parameters and KD loss": combined.size_and_kd_loss,
    measured.SHORT_DISTILLATION: measured.short_distillation,
    measured.FULL_DISTILLATION: measured.full_distillation,
    measured.FEW_SHOT_REGRESSION: measured.few_shot_regression,
    measured.REPEATED_REGRESSION: measured.repeated_regression,
}

# those that look at records: they cost training, which the others do without
MEASURING = (
    measured.SHORT_DISTILLATION,
    measured.FULL_DISTILLATION,
    measured.FEW_SHOT_REGRESSION,
    measured.REPEATED_REGRESSION,
)
