"""The parts of ``search.json``."""

from typing import Any

import numpy as np

from dass_jax.budget import Budget, CostModel, Costs
from dass_jax.data.tasks import TaskSpec
from dass_jax.experiment import Experiment
from dass_jax.search.pareto import pareto_front
from dass_jax.search.problem import Scored
from dass_jax.search_space import Architecture, unstack
from dass_jax.workdir import Workdir
from dass_jax.workflow import prepare
from dass_jax.workflow.distill import Result


def costs_of(model: CostModel, architecture: Architecture) -> dict[str, Any]:
    """What one student costs, as JSON can hold it."""
    return {
        name: None if value is None else np.asarray(value).item()
        for name, value in model(architecture)._asdict().items()
    }


def describe_teacher(
    experiment: Experiment, workdir: Workdir, spec: TaskSpec, model: CostModel
) -> dict[str, Any]:
    """The costs and accuracies of a task's teacher."""
    full = experiment.space.full()
    return costs_of(model, full) | {
        "architecture": experiment.space.to_json(full),
        "valid_accuracy": prepare.load_teacher(experiment, workdir, spec).accuracy,
        "test_accuracy": prepare.teacher_test_accuracy(workdir, spec),
    }


def describe_candidates(ranked: Scored, budget: Budget) -> dict[str, Any]:
    """Predictions and costs of all candidates, best first, and which ones form the front."""
    cost = next(iter(budget.limits), "flops")
    front = pareto_front(ranked.prediction.mean, getattr(ranked.costs, cost))
    return {
        "count": len(ranked),
        "prediction": ranked.prediction.mean.tolist(),
        "cost": cost,
        "front": np.flatnonzero(front).tolist(),
        **{name: column.tolist() for name, column in _columns(ranked.costs).items()},
    }


def _columns(costs: Costs) -> dict[str, np.ndarray]:
    return {name: column for name, column in costs._asdict().items() if column is not None}


def describe_top(
    experiment: Experiment, ranked: Scored, verified: list[Result], model: CostModel
) -> list[dict[str, Any]]:
    """The candidates that people shall see, the chosen one first.

    Args:
      experiment: The settings.
      ranked: All candidates, the chosen one first.
      verified: What was measured of the first of them.
      model: What students cost.
    """
    count = min(len(ranked), max(experiment.search.top_k, len(verified)))
    top = []
    for place, architecture in enumerate(unstack(ranked.take(np.arange(count)).architectures)):
        entry = {
            "architecture": experiment.space.to_json(architecture),
            "student_id": int(ranked.student_ids[place]),
            "prediction": float(ranked.prediction.mean[place]),
            "half_width": float(ranked.prediction.half_width[place]),
            **costs_of(model, architecture),
        }
        if place < len(verified):
            entry["verified_accuracy"] = verified[place]["final_accuracy"]
            entry["prediction_before"] = verified[place]["prediction_before"]
        top.append(entry)
    return top
