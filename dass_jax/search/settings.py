"""How students are searched for."""

import dataclasses
import math
from typing import Any

from dass_jax.budget import Budget, Costs, Limit, parse_limit
from dass_jax.errors import UserError
from dass_jax.search.problem import Algorithm


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """How students are searched for, and what the winner is compared with.

    Limits are strings: ``"60%"`` of the teacher's cost, or absolute ones such as ``"10M"``.

    Attributes:
      algorithm: Which candidates are scored: ``pool``, sampled ones, as in the paper; ``evolution``
        or ``nsga2``, which improve on them; ``random``, whose choice ignores the prediction.
      candidates: How many candidates are scored, at most.
      population: How many of them evolution and NSGA-II keep alive.
      mutation: Probability of each gene of a child to be redrawn.
      tournament: How many of the population evolution chooses each parent from.
      top_k: How many candidates the report lists.
      max_flops: Limit of the multiply-adds for one image; unlimited if None.
      max_params: Limit of the parameters.
      max_bytes: Limit of the saved network's size.
      max_latency: Limit of the seconds for a batch on the present device; who breaks it when it is
        measured is not chosen.
      latency_batch: Images in that batch.
      verify: How many of the best candidates are distilled and measured, with a seed that the
        winner does not have, before the best measured one is chosen.
      verify_epochs: Epochs of that; those of ``kd`` if None.
      replicates: How many seeds the winner is distilled with.
      random_students: Random students under the same budget, distilled for comparison.
      rivals: Baselines whose choices under the same budget are distilled for comparison.
    """

    algorithm: Algorithm = "pool"
    candidates: int = 1000
    population: int = 64
    mutation: float = 0.1
    tournament: int = 8
    top_k: int = 5
    max_flops: str | None = None
    max_params: str | None = None
    max_bytes: str | None = None
    max_latency: str | None = None
    latency_batch: int = 1
    verify: int = 0
    verify_epochs: int | None = None
    replicates: int = 3
    random_students: int = 5
    rivals: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        least = {"candidates": 1, "population": 2, "tournament": 1, "top_k": 1, "replicates": 1,
                 "latency_batch": 1, "verify": 0, "random_students": 0}  # fmt: skip
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise UserError(f"{name} is {getattr(self, name)}: give {minimum} or more")
        if self.verify_epochs is not None and self.verify_epochs < 1:
            raise UserError(f"verify_epochs is {self.verify_epochs}: give 1 or more")
        if not 0 < self.mutation <= 1:
            raise UserError(f"mutation is {self.mutation}: give a probability in (0, 1]")
        self._require_order("top_k", "candidates")
        self._require_order("verify", "candidates")
        if self.algorithm in ("evolution", "nsga2"):
            self._require_order("population", "candidates")
            self._require_order("tournament", "population")
        self._limits()

    def _require_order(self, smaller: str, larger: str) -> None:
        if getattr(self, smaller) > getattr(self, larger):
            raise UserError(
                f"{smaller} {getattr(self, smaller)} is more than {larger} {getattr(self, larger)}"
            )

    def _limits(self) -> dict[str, Limit]:
        texts = {name: getattr(self, f"max_{name}") for name in Budget._fields}
        return {name: parse_limit(name, text) for name, text in texts.items() if text is not None}

    @property
    def step(self) -> int:
        """How many candidates the algorithm scores at a time, at most."""
        # evolution's first population is two broods
        steps = {"evolution": max(1, self.population // 2), "nsga2": self.population}
        return steps.get(self.algorithm, self.candidates)

    @property
    def limited(self) -> tuple[str, ...]:
        """Which costs are limited."""
        return tuple(self._limits())

    def budget(self, teacher: Costs) -> Budget:
        """The limits in absolute numbers, for a teacher of these costs.

        A cost that is not known is not limited.
        """
        limits: dict[str, Any] = {}
        for name, limit in self._limits().items():
            if getattr(teacher, name) is None:
                continue
            absolute = limit.absolute(float(getattr(teacher, name)))
            # 2.01M, say, is a little less as a product of floats
            nearest = round(absolute)
            whole = nearest if abs(nearest - absolute) < 1e-3 else math.floor(absolute)
            limits[name] = float(absolute) if name == "latency" else whole
        return Budget(**limits)
