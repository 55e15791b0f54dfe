"""All baselines by name, as tables show them; higher is better."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from dass_jax.baselines import counts, inherited, measured, naswot, saliency, similarity, synflow
from dass_jax.baselines.candidates import Candidates

Baseline = Callable[[Candidates], Float[np.ndarray, " N"]]

BASELINES: dict[str, Baseline] = {
    "parameters": counts.num_params,
    "FLOPs": counts.num_flops,
    "depth": counts.total_depth,
    "SynFlow": synflow.synflow,
    "NASWOT": naswot.naswot,
    "gradient norm": saliency.gradient_norm,
    "SNIP": saliency.snip,
    "remapped accuracy": inherited.remapped_accuracy,
    "remapped accuracy, recalibrated": inherited.recalibrated_accuracy,
    "KD loss": inherited.negative_kd_loss,
    "KD loss, recalibrated": inherited.recalibrated_negative_kd_loss,
    "DisWOT": similarity.diswot,
    measured.SHORT_DISTILLATION: measured.short_distillation,
    measured.FEW_SHOT_REGRESSION: measured.few_shot_regression,
    measured.REPEATED_REGRESSION: measured.repeated_regression,
}

# those that look at records: they cost training, which the others do without
MEASURING = (
    measured.SHORT_DISTILLATION,
    measured.FEW_SHOT_REGRESSION,
    measured.REPEATED_REGRESSION,
)
