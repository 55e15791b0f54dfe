"""NSGA-II (Deb et al., 2002): the Pareto front of predicted accuracy against cost, by pymoo."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair

from dass_jax.search.problem import Archive, Scored, SearchProblem, rows
from dass_jax.search.settings import SearchConfig
from dass_jax.search_space import Architecture

# generations that find nothing new before the search ends
_WITHOUT_NEWS = 10


class _Genes(Problem):
    """Integer genes: the depth of each stage, then the rank of each block's width.

    Minimises the negative prediction and the limited cost, subject to the budget.
    """

    def __init__(
        self, problem: SearchProblem, archive: Archive, cost: str, candidates: int
    ) -> None:
        self.problem, self.archive, self.cost = problem, archive, cost
        space = problem.space
        self.choices = np.sort(space.width_choices, axis=1)
        self.candidates = candidates
        blocks = space.num_stages * space.stage_depth
        super().__init__(
            n_var=space.num_stages + blocks,
            n_obj=2,
            n_ieq_constr=max(1, len(problem.budget.limits)),
            xl=np.r_[np.ones(space.num_stages), np.zeros(blocks)],
            xu=np.r_[
                np.full(space.num_stages, space.stage_depth),
                np.full(blocks, self.choices.shape[1] - 1),
            ],
            vtype=int,
        )

    def decode(self, genes: np.ndarray) -> Architecture:
        """Genes of absent blocks mean nothing."""
        space = self.problem.space
        genes = np.asarray(genes, int)
        depths = genes[:, : space.num_stages]
        ranks = genes[:, space.num_stages :].reshape(-1, space.num_stages, space.stage_depth)
        widths = np.take_along_axis(self.choices[None], ranks, axis=2)
        active = np.arange(space.stage_depth) < depths[..., None]
        table = jnp.asarray(np.where(active, widths, 0), jnp.int32)
        return Architecture(jnp.asarray(depths, jnp.int32), table)

    def encode(self, architectures: Architecture) -> np.ndarray:
        """The genes of architectures whose widths are choices of the space."""
        widths = np.asarray(architectures.widths)
        ranks = np.argmin(np.abs(widths[..., None] - self.choices[None, :, None, :]), axis=-1)
        return np.concatenate(
            [np.asarray(architectures.depths), ranks.reshape(len(widths), -1)], axis=1
        )

    def _evaluate(self, genes: np.ndarray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        architectures = self.decode(genes)
        costs = self.problem.cost_model(architectures)
        limits = self.problem.budget.limits
        excess = [getattr(costs, name) / limit - 1 for name, limit in limits.items()]
        out["G"] = np.stack(excess or [np.full(len(genes), -1.0)], axis=1)
        allowed = np.all(out["G"] <= 0, axis=1)
        # what is too expensive is compared by its excess alone, so it needs no prediction
        loss = np.zeros(len(genes))
        scored = self._scored(architectures, allowed)
        if len(scored):
            places = self.archive.add(rows(architectures, scored))
            loss[scored] = -self.archive.all().prediction.mean[places]
        out["F"] = np.stack([loss, getattr(costs, self.cost)], axis=1)

    def _scored(self, architectures: Architecture, allowed: np.ndarray) -> np.ndarray:
        """Which ones have a prediction: those allowed that are known, or that there is room for."""
        room = self.candidates - len(self.archive)
        scored: list[int] = []
        new: set[bytes] = set()
        for row in np.flatnonzero(allowed).tolist():
            one = rows(architectures, [row])
            identity = np.asarray(one.widths).tobytes()
            if self.archive.place(one) is None and identity not in new:
                if len(new) == room:
                    continue
                new.add(identity)
            scored.append(row)
        return np.asarray(scored, int)


def nsga2(problem: SearchProblem, key: Key[Array, ""], config: SearchConfig) -> Scored:
    """Looks for the Pareto front of predicted accuracy against the limited cost.

    The cost is the first one that the budget limits, or the multiply-adds. It ends when
    ``config.candidates`` are scored, or when no generation finds new ones any more.

    Args:
      problem: What is searched.
      key: Random key; the result is a function of it.
      config: How many candidates, and how many of them live at a time.

    Returns:
      All candidates ever scored, best prediction first.
    """
    start_key, seed_key = jax.random.split(key)
    archive = Archive(problem)
    cost = next(iter(problem.budget.limits), "flops")
    genes = _Genes(problem, archive, cost, config.candidates)
    algorithm = NSGA2(
        pop_size=config.population,
        sampling=genes.encode(problem.sample(start_key, config.population)),
        crossover=SBX(prob=0.9, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob_var=config.mutation, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    seed = int(jax.random.randint(seed_key, (), 0, np.iinfo(np.int32).max))
    algorithm.setup(genes, termination=NoTermination(), seed=seed, verbose=False)
    # children that are known or too expensive use up nothing, and where all are, none is to come
    without_news = 0
    while len(archive) < config.candidates and without_news < _WITHOUT_NEWS:
        known = len(archive)
        algorithm.next()
        without_news = 0 if len(archive) > known else without_news + 1
    return archive.all().ranked()
