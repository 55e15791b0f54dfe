"""Test-retest: does a second distillation rank the same students as the first one did?

Replicates 0 and 1 differ in image orders and views alone, so the rank correlation between them says
how much of the labels is noise. One noisy measurement predicts another one so well; a prediction
without any noise of its own could reach about the square root of it (Spearman, 1904).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from dass_jax.database import StudentRecord
from dass_jax.metrics import rank_correlation


def reported_accuracy(role: str | None) -> str:
    """The field that correlations on a task of this role are with; unseen tasks report tests."""
    return "test_accuracy" if role == "meta_test" else "final_accuracy"


def accuracy_pairs(records: Sequence[StudentRecord], field: str) -> Float[np.ndarray, "N 2"]:
    """Accuracies of the same students in replicates 0 and 1.

    Args:
      records: Those of one task, all replicates.
      field: Which accuracy, as ``reported_accuracy`` names it.

    Returns:
      One row per student that has both and diverged in neither, as fractions.
    """
    first, second = (
        {
            record.student_id: float(getattr(record, field))
            for record in records
            if record.replicate == replicate and not record.diverged
        }
        for replicate in (0, 1)
    )
    shared = sorted(first.keys() & second.keys())
    return np.asarray([(first[i], second[i]) for i in shared], float).reshape(-1, 2)


def retest_correlation(records: Sequence[StudentRecord], role: str | None) -> float | None:
    """Spearman's coefficient between replicates 0 and 1 of the same students.

    Args:
      records: Those of one task, all replicates.
      role: The task's; test accuracies are compared where it is ``meta_test``.

    Returns:
      The coefficient, or None where fewer than two students have both replicates or all are alike.
    """
    pairs = accuracy_pairs(records, reported_accuracy(role))
    return rank_correlation(pairs[:, 0], pairs[:, 1])
