"""What a search is given, and what it has seen.

Dimension letters: N scored candidates, K candidates of one call, S stages, D blocks of a stage.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

import jax
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from dass_jax import budget as budgets
from dass_jax.budget import Budget, CostModel, Costs
from dass_jax.errors import UserError
from dass_jax.search_space import Architecture, ResNetSpace
from dass_jax.uncertainty import Prediction

Algorithm = Literal["pool", "random", "evolution", "nsga2"]

# predicts K students with these ids; ids key ``random_init`` alone
Predict = Callable[[Architecture, Int[np.ndarray, " K"]], Prediction]


@dataclasses.dataclass(frozen=True)
class SearchProblem:
    """Students of one task, what is predicted of them, and what they may cost.

    Attributes:
      cost_model: What students cost.
      budget: What they may cost.
      predict: What is predicted of them.
    """

    cost_model: CostModel
    budget: Budget
    predict: Predict

    @property
    def space(self) -> ResNetSpace:
        """The search space."""
        return self.cost_model.space

    def sample(self, key: Key[Array, ""], size: int) -> Architecture:
        """Students that respect the budget; see ``sample_within_budget``."""
        return budgets.sample_within_budget(self.cost_model, key, size, self.budget)

    def allowed(self, architectures: Architecture) -> Bool[np.ndarray, " K"]:
        """Which students respect the budget."""
        return budgets.respects(self.cost_model(architectures), self.budget)


@dataclasses.dataclass(frozen=True)
class Scored:
    """Candidates in some order; all arrays have a leading axis N.

    Attributes:
      architectures: The candidates, all different.
      student_ids: The order in which the search met them; the id of a student keys ``random_init``.
      prediction: Predicted accuracies.
      costs: What they cost.
    """

    architectures: Architecture
    student_ids: Int[np.ndarray, " N"]
    prediction: Prediction
    costs: Costs

    def __len__(self) -> int:
        return len(self.student_ids)

    def take(self, order: Int[np.ndarray, " M"]) -> "Scored":
        """Some of them, in this order."""
        parts = (self.architectures, self.student_ids, self.prediction, self.costs)
        return Scored(*jax.tree.map(lambda leaf: leaf[order], parts))

    def ranked(self) -> "Scored":
        """Best prediction first; the one met earlier wins ties."""
        return self.take(np.argsort(-self.prediction.mean, kind="stable"))


class Archive:
    """All candidates that a search has scored, each once, in the order in which it met them."""

    def __init__(self, problem: SearchProblem) -> None:
        """Starts empty."""
        self._problem = problem
        self._places: dict[bytes, int] = {}
        self._scored: list[Scored] = []

    def __len__(self) -> int:
        return len(self._places)

    def place(self, architecture: Architecture) -> int | None:
        """Where a candidate stands, or None if it is new."""
        return self._places.get(_identity(architecture.widths))

    def add(self, architectures: Architecture) -> Int[np.ndarray, " K"]:
        """Scores those among K candidates that are new.

        Args:
          architectures: Candidates, [K, S] and [K, S, D]; repetitions are allowed.

        Returns:
          Where each of them stands.

        Raises:
          UserError: If a prediction is not finite.
        """
        widths = np.asarray(architectures.widths)
        places, new = [], []
        for row, own in enumerate(widths):
            identity = _identity(own)
            if identity not in self._places:
                self._places[identity] = len(self._places)
                new.append(row)
            places.append(self._places[identity])
        if new:
            self._score(jax.tree.map(lambda leaf: np.asarray(leaf)[new], architectures))
        return np.asarray(places)

    def _score(self, architectures: Architecture) -> None:
        count = len(architectures.depths)
        ids = np.arange(len(self) - count, len(self), dtype=np.int32)
        prediction = self._problem.predict(architectures, ids)
        if not np.all(np.isfinite(prediction.mean)):
            raise UserError("the predictor returns values that are not finite: meta-train it again")
        costs = self._problem.cost_model(architectures)
        self._scored.append(Scored(architectures, ids, prediction, costs))

    def all(self) -> Scored:
        """All candidates in the order in which they were met."""
        parts = [(s.architectures, s.student_ids, s.prediction, s.costs) for s in self._scored]
        return Scored(*jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts))


def _identity(widths: Array | np.ndarray) -> bytes:
    """The widths say the depths, too, as absent blocks have none."""
    return np.asarray(widths, np.int32).tobytes()


Tree = TypeVar("Tree")


def rows(tree: Tree, chosen: Iterable[int] | np.ndarray) -> Tree:
    """Some of K architectures, or of anything whose leaves have a leading axis K, on the host."""
    places = np.asarray(list(chosen), int)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[places], tree)
