"""How a population fares while it is trained.

Dimension letters: K networks, E evaluations.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from dass_jax.epochs import EpochReport
from dass_jax.seats import Seats


class LearningCurves(NamedTuple):
    """What is known of K networks so far; accuracies are fractions in [0, 1].

    Attributes:
      initial: Validation accuracy before any training, [K].
      evaluations: Evaluated epochs, each with the K validation accuracies after it.
      loss: Mean training loss of the last whole epoch, [K]; not a number before the first.
    """

    initial: Float[np.ndarray, " K"]
    evaluations: list[tuple[int, list[float]]]
    loss: Float[np.ndarray, " K"]

    @classmethod
    def beginning(cls, initial: Float[np.ndarray, " K"]) -> "LearningCurves":
        """Before the first epoch."""
        return cls(initial, [], np.full_like(initial, np.nan))

    def after(self, report: EpochReport, seats: Seats) -> "LearningCurves":
        """With one more epoch, whose report is in the order of the seats."""
        evaluations = self.evaluations
        if report.accuracy is not None:
            accuracies = seats.gather(report.accuracy).tolist()
            evaluations = [*evaluations, (report.epoch, accuracies)]
        return LearningCurves(self.initial, evaluations, seats.gather(report.loss))

    @property
    def epochs(self) -> np.ndarray:
        """The evaluated epochs, [E]."""
        return np.asarray([epoch for epoch, _ in self.evaluations])

    @property
    def accuracies(self) -> np.ndarray:
        """Validation accuracies after each of them, [E, K]."""
        return np.asarray([accuracies for _, accuracies in self.evaluations], np.float32)

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "initial": self.initial.tolist(),
            "curve": self.evaluations,
            "loss": self.loss.tolist(),
        }

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "LearningCurves":
        """What ``to_json`` gave; other entries are left alone."""
        evaluations = [(epoch, accuracies) for epoch, accuracies in saved["curve"]]
        initial, loss = (np.asarray(saved[name], np.float32) for name in ("initial", "loss"))
        return cls(initial, evaluations, loss)
