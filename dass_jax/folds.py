"""Which tasks each member of an ensemble trains on, and which ones it is judged by.

Every member holds out other tasks, so that each task is predicted by members that have not seen
it. Few source tasks then serve as training and as selecting tasks at once (cross-fitting; Stone,
1974).

Dimension letters: E members, T tasks, F tasks that a member trains on, N students of a task,
H evaluations.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from dass_jax.errors import UserError


class Folds(NamedTuple):
    """The tasks of each member.

    Attributes:
      trains: Places of the tasks that it trains on.
      held_out: Which tasks it is judged by.
    """

    trains: Int[np.ndarray, "E F"]
    held_out: Bool[np.ndarray, "E T"]


def make_folds(members: int, tasks: int, count: int) -> Folds:
    """Each member in turn holds out the next ``count`` tasks.

    Args:
      members: E.
      tasks: T.
      count: How many tasks a member holds out.

    Raises:
      UserError: If some task is held out by no member, or no task is left to train on.
    """
    if not 0 < count < tasks:
        raise UserError(
            f"meta.held_out is {count}, but there are {tasks} tasks: leave at least one to train on"
        )
    if members * count < tasks:
        raise UserError(
            f"{members} members that hold out {count} tasks each cannot judge {tasks} tasks: raise "
            f"meta.ensemble to {-(-tasks // count)} or meta.held_out"
        )
    held_out = np.zeros((members, tasks), bool)
    for member in range(members):
        held_out[member, (member * count + np.arange(count)) % tasks] = True
    return Folds(np.stack([np.flatnonzero(~row) for row in held_out]).astype(np.int32), held_out)


def spearman_of_others_choice(
    history: Float[np.ndarray, "H T"],
) -> Float[np.ndarray, " T"]:
    """How each task ranks, at the evaluation that the other tasks would have chosen.

    The evaluation that all tasks choose together suits each of them a little too well.

    Args:
      history: A rank correlation for each evaluation and task; H evaluations.

    Returns:
      One of each task's own; where there is no other task, the best.
    """
    history = np.asarray(history, float)
    tasks = history.shape[1]
    others = history if tasks == 1 else (history.sum(1, keepdims=True) - history) / (tasks - 1)
    # the earliest on ties, as the predictor's own episode is chosen
    return history[others.argmax(0), np.arange(tasks)]


def judged_together(tasks: int, folds: Folds | None) -> Int[np.ndarray, " T"]:
    """Numbers of groups of tasks that the same members hold out.

    Without folds, each task is its own group, as are tasks that folds do not part evenly.
    """
    if folds is None:
        return np.arange(tasks)
    return np.unique(folds.held_out, axis=1, return_inverse=True)[1].reshape(tasks)


def by_judges(
    predictions: Float[np.ndarray, "E T N"], folds: Folds | None
) -> Float[np.ndarray, "E T N"]:
    """Predictions of the members that held a task out; nan for the others, which have seen it.

    Args:
      predictions: Of every member for every task.
      folds: Who held out what; all tasks are held out by all members if None.
    """
    if folds is None:
        return predictions
    return np.where(folds.held_out[:, :, None], predictions, np.nan)
