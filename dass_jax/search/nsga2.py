"""NSGA-II (Deb et al., 2002): the Pareto front of predicted accuracy against cost, by pymoo."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.optimize import minimize

from dass_jax.search.problem import Archive, Scored, SearchProblem
from dass_jax.search.settings import SearchConfig
from dass_jax.search_space import Architecture


class _Genes(Problem):
    """Integer genes: the depth of each stage, then the rank of each block's width.

    Minimises the negative prediction and the share of the limited cost, subject to the budget.
    """

    def __init__(self, problem: SearchProblem, archive: Archive, cost: str) -> None:
        self.problem, self.archive, self.cost = problem, archive, cost
        space = problem.space
        self.choices = np.sort(space.width_choices, axis=1)
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
        if allowed.any():
            places = self.archive.add(jax.tree.map(lambda leaf: leaf[allowed], architectures))
            loss[allowed] = -self.archive.all().prediction.mean[places]
        out["F"] = np.stack([loss, getattr(costs, self.cost)], axis=1)


def nsga2(problem: SearchProblem, key: Key[Array, ""], config: SearchConfig) -> Scored:
    """Looks for the Pareto front of predicted accuracy against the limited cost.

    The cost is the first one that the budget limits, or the multiply-adds.

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
    genes = _Genes(problem, archive, cost)
    algorithm = NSGA2(
        pop_size=config.population,
        sampling=genes.encode(problem.sample(start_key, config.population)),
        crossover=SBX(prob=0.9, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob_var=config.mutation, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    # a generation scores no more than the population
    generations = max(1, config.candidates // config.population)
    seed = int(jax.random.randint(seed_key, (), 0, np.iinfo(np.int32).max))
    minimize(genes, algorithm, ("n_gen", generations), seed=seed, verbose=False)
    return archive.all().ranked()
