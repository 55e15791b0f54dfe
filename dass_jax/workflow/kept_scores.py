"""The scores of a task in a file, so that a stopped evaluation repeats no task that it has done."""

import pathlib

import numpy as np

from dass_jax.errors import UserError
from dass_jax.recipe import Recipe
from dass_jax.workdir import read_json, write_json
from dass_jax.workflow.evaluate import Scores, UnseenTask

# To be raised when a method's scores or the file's format change: older files are then left alone.
VERSION = 1


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
    write_json(path, {"version": VERSION, "recipe": recipe, "task": content})


def read_scores(path: pathlib.Path, recipe: Recipe) -> UnseenTask | None:
    """What ``keep_scores`` wrote; None if there is nothing that is of any use.

    Args:
      path: The file.
      recipe: What the scores must depend on.
    """
    try:
        saved = read_json(path)
    except UserError:  # missing or damaged: it is scored again
        return None
    key = {"version": VERSION, "recipe": recipe}
    if not isinstance(saved, dict) or {name: saved.get(name) for name in key} != key:
        return None
    task = saved["task"]
    scores = {
        name: Scores(**method | {"values": np.asarray(method["values"])})
        for name, method in task["scores"].items()
    }
    return UnseenTask(**task | {"measured": np.asarray(task["measured"]), "scores": scores})
