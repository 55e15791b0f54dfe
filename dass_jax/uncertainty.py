"""How far predictions may be off: intervals from an ensemble, calibrated on tasks with labels.

An ensemble's spread tells where its members disagree, but not what they all miss (Lakshminarayanan
et al., 2017). So a common error is added to it, and the width of the interval is set by split
conformal prediction (Papadopoulos et al., 2002; Angelopoulos and Bates, 2021) on students of the
selecting tasks. That is exact for students exchangeable with those, if all members judge them; an
unseen task is a new one, so its coverage has to be measured. Where members hold tasks out, fewer
judge a task than predict an unseen one, whose mean is better and whose spread is larger: such
intervals are rather too wide. Where only one judges some task, nothing is known of the spread
there, and it is left out everywhere.

Before that, predictions are moved by the level that facts of the task foretell, see ``level``; what
counts as an error is what remains of a task whose own students did not set the level.

Everything is in units of a task's distance from chance to its teacher.

Dimension letters: E members, T tasks, N students, F facts of a task.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from dass_jax.level import Level, fit_level
from dass_jax.predictor.scale import unit

COVERAGE = 0.9


class Calibration(NamedTuple):
    """What intervals are made of.

    Attributes:
      common_error: Standard deviation of what all members miss, in the task's unit.
      quantile: Half the width of the interval, in predicted standard deviations.
      spread_weight: 1 if the members' spread counts, 0 if it could not be calibrated.
      level: By how much all predictions of a task are moved.
    """

    common_error: float
    quantile: float
    spread_weight: float = 1.0
    level: Level = Level()

    def plain(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return self._asdict() | {"level": self.level._asdict()}


def read_calibration(saved: Mapping[str, Any]) -> Calibration:
    """What ``Calibration.plain`` wrote; older ones move no level."""
    level = saved.get("level", {})
    rows = {name: tuple(level.get(name, ())) for name in ("weights", "least", "most")}
    return Calibration(**{**saved, "level": Level(level.get("intercept", 0.0), **rows)})


class Prediction(NamedTuple):
    """Predicted accuracies of students of one task, fractions.

    Attributes:
      mean: Mean of the ensemble.
      half_width: Half the width of the interval around it that is meant to hold ``COVERAGE``.
    """

    mean: Float[np.ndarray, "N"]
    half_width: Float[np.ndarray, "N"]


def _deviations(
    spread: Float[np.ndarray, "*B"], common_error: float, units: Float[np.ndarray, "*B"]
) -> Float[np.ndarray, "*B"]:
    return np.sqrt(spread**2 + (common_error * units) ** 2)


def calibrate(
    predictions: Float[np.ndarray, "E T N"],
    accuracies: Float[np.ndarray, "T N"],
    valid: Bool[np.ndarray, "T N"],
    teacher_accuracy: Float[np.ndarray, "T"],
    chance: Float[np.ndarray, "T"],
    facts: Float[np.ndarray, "T F"],
    groups: Int[np.ndarray, "T"],
) -> Calibration:
    """Finds the level and the calibration that covers ``COVERAGE`` of labelled students.

    Args:
      predictions: Every member's predicted accuracies, fractions; nan where a member shall not
        count, since it has seen the task.
      accuracies: The measured ones, fractions.
      valid: Which students are real.
      teacher_accuracy: Each task's, a fraction.
      chance: Each task's, a fraction.
      facts: Each task's, see ``task_facts``.
      groups: Tasks that are alike, so that none of them shall foretell another one's level.
    """
    units = np.broadcast_to(unit(teacher_accuracy, chance)[:, None], valid.shape)
    residuals = (accuracies - np.nanmean(predictions, axis=0)) / units
    level, left_out = fit_level(facts, np.mean(residuals, axis=1, where=valid), groups)
    units, errors = units[valid], np.abs(residuals - left_out[:, None])[valid] * units[valid]
    judges = np.isfinite(predictions).sum(axis=0)[valid]
    # what some tasks' judges agree on says nothing of those that have a single one
    spread_weight = float(judges.min() > 1)
    spread = spread_weight * np.nanstd(predictions, axis=0)[valid]
    excess = np.mean((errors / units) ** 2 - (spread / units) ** 2)
    # not zero, or members that agree by chance would promise certainty
    common_error = math.sqrt(max(excess, 1e-4))
    scores = np.sort(errors / _deviations(spread, common_error, units))
    rank = min(math.ceil((len(scores) + 1) * COVERAGE), len(scores))
    return Calibration(common_error, float(scores[rank - 1]), spread_weight, level)


def with_intervals(
    calibration: Calibration,
    predictions: Float[np.ndarray, "E N"],
    teacher_accuracy: float,
    chance: float,
    facts: Float[np.ndarray, "F"],
) -> Prediction:
    """The prediction of an ensemble for students of one task.

    Args:
      calibration: From ``calibrate``.
      predictions: Every member's predicted accuracies, fractions.
      teacher_accuracy: The task's, a fraction.
      chance: The task's, a fraction.
      facts: The task's.
    """
    spread = calibration.spread_weight * predictions.std(0)
    units = np.full(spread.shape, unit(np.float64(teacher_accuracy), np.float64(chance)))
    deviations = _deviations(spread, calibration.common_error, units)
    moved = predictions.mean(0) + level_of(calibration, teacher_accuracy, chance, facts)
    return Prediction(moved, calibration.quantile * deviations)


def level_of(
    calibration: Calibration, teacher_accuracy: float, chance: float, facts: Float[np.ndarray, "F"]
) -> float:
    """By how much a task's predictions are moved; as ``with_intervals``, a fraction."""
    distance = unit(np.float64(teacher_accuracy), np.float64(chance))
    return float(calibration.level(facts) * distance)
