"""The parts of ``search.json``."""

from typing import Any

import numpy as np

from dass_jax.budget import Budget, CostModel, Costs
from dass_jax.data.tasks import TaskSpec
from dass_jax.experiment import Experiment
from dass_jax.search.pareto import pareto_front
from dass_jax.search_space import Architecture, unstack
from dass_jax.workdir import Workdir
from dass_jax.workflow import prepare, verification
from dass_jax.workflow.chosen_student import widths_text
from dass_jax.workflow.verification import Verified


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
        "accuracy_given": spec.teacher_accuracy is not None,
        "test_accuracy": prepare.teacher_test_accuracy(workdir, spec),
    }


def describe_verification(experiment: Experiment) -> dict[str, Any]:
    """How the first candidates were measured."""
    return {
        "replicate": verification.REPLICATE,
        "epochs": verification.schedule(experiment).sgd.epochs,
        "shortened": verification.is_shortened(experiment),
    }


def describe_candidates(verified: Verified, budget: Budget) -> dict[str, Any]:
    """Predictions and costs of all candidates, the chosen one first, and which form the front."""
    ranked, renewed = verified.ranked, verified.renewed
    cost = next(iter(budget.limits), "flops")
    front = pareto_front(ranked.prediction.mean, getattr(ranked.costs, cost))
    after = {} if renewed is None else {"prediction_after": renewed.mean.tolist()}
    return {
        "count": len(ranked),
        "widths": [widths_text(rows) for rows in ranked.architectures.widths],
        "student_ids": ranked.student_ids.tolist(),
        "prediction": ranked.prediction.mean.tolist(),
        **after,
        "cost": cost,
        "front": np.flatnonzero(front).tolist(),
        **{name: column.tolist() for name, column in _columns(ranked.costs).items()},
    }


def _columns(costs: Costs) -> dict[str, np.ndarray]:
    return {name: column for name, column in costs._asdict().items() if column is not None}


def describe_top(
    experiment: Experiment, verified: Verified, model: CostModel
) -> list[dict[str, Any]]:
    """The candidates that people shall see, the chosen one first.

    Args:
      experiment: The settings.
      verified: All candidates, and what was measured of the first of them.
      model: What students cost.

    Returns:
      An entry for each: ``prediction`` and ``half_width`` were there before anything was measured;
      measured ones have ``verified_accuracy``, and the others, if the predictor was adapted to
      these, ``prediction_after``.
    """
    ranked, results, renewed = verified
    count = min(len(ranked), max(experiment.search.top_k, experiment.search.verify))
    top = []
    for place, architecture in enumerate(unstack(ranked.take(np.arange(count)).architectures)):
        entry = {
            "architecture": experiment.space.to_json(architecture),
            "student_id": int(ranked.student_ids[place]),
            "prediction": float(ranked.prediction.mean[place]),
            "half_width": float(ranked.prediction.half_width[place]),
            **costs_of(model, architecture),
        }
        if place < len(results):
            entry["verified_accuracy"] = results[place]["final_accuracy"]
            entry["diverged"] = results[place]["diverged"]
        elif renewed is not None:
            entry["prediction_after"] = float(renewed.mean[place])
            entry["half_width_after"] = float(renewed.half_width[place])
        top.append(entry)
    return top
