"""Cheap scores that a measured student's record holds already; higher is better."""

from collections.abc import Callable, Sequence

import numpy as np

from dass_jax.database import StudentRecord, column

RecordedBaseline = Callable[[Sequence[StudentRecord]], np.ndarray]


def num_params(records: Sequence[StudentRecord]) -> np.ndarray:
    """The student's number of parameters."""
    return column(records, "num_params").astype(float)


def num_flops(records: Sequence[StudentRecord]) -> np.ndarray:
    """The student's multiply-adds for one image."""
    return column(records, "flops").astype(float)


def remapped_accuracy(records: Sequence[StudentRecord]) -> np.ndarray:
    """Validation accuracy of the remapped student before any training."""
    return column(records, "initial_accuracy")


RECORDED: dict[str, RecordedBaseline] = {
    "parameters": num_params,
    "FLOPs": num_flops,
    "remapped accuracy": remapped_accuracy,
}
