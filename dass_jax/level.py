"""A task's level: how far the predictions of all its students are off together.

The predictor is trained to rank students, and tasks are few to teach it what moves all of them: how
many steps they get, how many images, how far the teacher is ahead. So what is left of the level is
predicted from facts of the task by ridge regression (Hoerl and Kennard, 1970), over source tasks
that judged the predictor without having trained it. Ranks stay as they are.

Levels are in the task's unit, the teacher's distance from chance.

Dimension letters: T tasks, F facts of a task.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

# Facts are in standard deviations, so a penalty is a number of tasks that say that there is no
# level; with infinitely many, levels are zero.
PENALTIES = (1.0, 3.0, 10.0, 30.0, np.inf)
# With fewer groups of tasks, a penalty would be chosen by chance.
LEAST_GROUPS = 10


class Level(NamedTuple):
    """A fitted level, linear in the facts: ``intercept + facts @ weights``.

    Attributes:
      intercept: The level where all facts are zero.
      weights: F numbers.
      least: F numbers, the least that a source task had; smaller facts count as these.
      most: F numbers, likewise, since a line that fits between them need not go on beyond.
    """

    intercept: float = 0.0
    weights: tuple[float, ...] = ()
    least: tuple[float, ...] = ()
    most: tuple[float, ...] = ()

    def __call__(self, facts: Float[np.ndarray, "*T F"]) -> Float[np.ndarray, "*T"]:
        """Levels of tasks."""
        if not self.weights:
            return np.full(facts.shape[:-1], self.intercept)
        known = np.clip(facts, self.least, self.most)
        return np.asarray(self.intercept + known @ np.array(self.weights))


def _fit(
    facts: Float[np.ndarray, "T F"], residuals: Float[np.ndarray, "T"], penalty: float
) -> Level:
    if np.isinf(penalty):
        return Level()
    center, spread = facts.mean(0), facts.std(0)
    # a fact that all tasks share tells nothing, and must not become nan
    spread = np.where(spread > 1e-6, spread, np.inf)
    design = np.column_stack([np.ones(len(facts)), (facts - center) / spread])
    gram = design.T @ design + penalty * np.eye(design.shape[1])
    middle, *slopes = np.linalg.solve(gram, design.T @ residuals)
    weights = np.array(slopes) / spread
    return Level(
        float(middle - center @ weights),
        *(tuple(row.tolist()) for row in (weights, facts.min(0), facts.max(0))),
    )


def _left_out(
    facts: Float[np.ndarray, "T F"],
    residuals: Float[np.ndarray, "T"],
    groups: Int[np.ndarray, "T"],
    penalty: float,
) -> Float[np.ndarray, "T"]:
    """Each task's level, fitted without its group."""
    levels = np.zeros(len(residuals))
    for group in np.unique(groups):
        inside = groups == group
        levels[inside] = _fit(facts[~inside], residuals[~inside], penalty)(facts[inside])
    return levels


def fit_level(
    facts: Float[np.ndarray, "T F"],
    residuals: Float[np.ndarray, "T"],
    groups: Int[np.ndarray, "T"],
) -> tuple[Level, Float[np.ndarray, "T"]]:
    """Fits the level with the penalty that predicts tasks best that were left out.

    Args:
      facts: Of each task.
      residuals: How far measured accuracies are above predicted ones, a task's mean, in its unit.
      groups: Tasks that are left out together, since they are alike.

    Returns:
      The level, zero if there are fewer than ``LEAST_GROUPS``, and what it would have been of each
      task without the task's group: what is left of the residuals after that is what to expect of a
      new task.
    """
    if len(np.unique(groups)) < LEAST_GROUPS:
        return Level(), np.zeros(len(residuals))
    left_out = {penalty: _left_out(facts, residuals, groups, penalty) for penalty in PENALTIES}
    errors = {penalty: np.mean((residuals - own) ** 2) for penalty, own in left_out.items()}
    # the larger penalty on ties: nothing is fitted that does not pay
    best = min(reversed(PENALTIES), key=errors.__getitem__)
    return _fit(facts, residuals, best), left_out[best]
