"""The scores of a task in a file, so that an evaluation repeats nothing that was done before.

Each group of methods, a predictor or all baselines, is kept by what its own scores depend on: with
another predictor, the baselines are not scored again. That another machine takes other seconds and
rounds otherwise is no reason to score again.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from dass_jax.errors import UserError
from dass_jax.recipe import Recipe, difference
from dass_jax.workdir import read_json, write_json
from dass_jax.workflow.evaluate import Scores

# To be raised when a method's scores or the file's format change, constants that a method reads
# included: older files are then left alone.
VERSION = 3


def _groups(path: pathlib.Path) -> dict[str, Any]:
    """What the file holds; nothing if it is missing, damaged or of another version."""
    try:
        saved = read_json(path)
    except UserError:
        return {}
    if not isinstance(saved, dict) or saved.get("version") != VERSION:
        return {}
    return saved.get("groups", {})


def keep_scores(
    path: pathlib.Path, group: str, scores: Mapping[str, Scores], recipe: Recipe
) -> None:
    """Writes what a group of methods says of every student of a task, beside other groups.

    Args:
      path: The task's file.
      group: The group's name.
      scores: By method.
      recipe: What the scores depend on.
    """
    methods = {
        name: found._asdict() | {"values": np.asarray(found.values, float).tolist()}
        for name, found in scores.items()
    }
    groups = _groups(path) | {group: {"recipe": recipe, "scores": methods}}
    write_json(path, {"version": VERSION, "groups": groups})


def read_scores(path: pathlib.Path, group: str, recipe: Recipe) -> dict[str, Scores] | None:
    """What ``keep_scores`` wrote; None if there is nothing that is of any use.

    Args:
      path: The task's file.
      group: The group's name.
      recipe: What the scores must depend on.
    """
    kept = _groups(path).get(group)
    if kept is None or kept.get("recipe") != recipe:
        return None
    return {
        name: Scores(**method | {"values": np.asarray(method["values"])})
        for name, method in kept["scores"].items()
    }


def what_changed(path: pathlib.Path, group: str, recipe: Recipe) -> str | None:
    """Why scores that are there cannot be read, in words; None if there are none, or they can be.

    The arguments are those of ``read_scores``.
    """
    kept = _groups(path).get(group)
    return None if kept is None else difference(kept.get("recipe"), recipe)
