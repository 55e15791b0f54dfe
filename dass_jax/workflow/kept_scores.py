"""The scores of a task in a file, so that a stopped evaluation repeats no task that it has done."""

import pathlib

import numpy as np

from dass_jax.recipe import Recipe
from dass_jax.workdir import read_json, write_json
from dass_jax.workflow.evaluate import Scores, UnseenTask


def keep_scores(path: pathlib.Path, task: UnseenTask, recipe: Recipe) -> None:
    """Writes what every method says of every student of a task.

    Args:
      path: The file.
      task: The scored task.
      recipe: What the scores depend on.
    """
    methods = {
        name: scores._asdict() | {"values": np.asarray(scores.values, float).tolist()}
        for name, scores in task.scores.items()
    }
    content = task._asdict() | {"measured": task.measured.tolist(), "scores": methods}
    write_json(path, {"recipe": recipe, "task": content})


def read_scores(path: pathlib.Path, recipe: Recipe) -> UnseenTask | None:
    """What ``keep_scores`` wrote; None if there is nothing or it depends on something else.

    Raises:
      UserError: If the file is no JSON.
    """
    saved = read_json(path) if path.exists() else None
    if not isinstance(saved, dict) or saved.get("recipe") != recipe:
        return None
    task = saved["task"]
    scores = {
        name: Scores(**method | {"values": np.asarray(method["values"])})
        for name, method in task["scores"].items()
    }
    return UnseenTask(**task | {"measured": np.asarray(task["measured"]), "scores": scores})
