"""Which student is to be distilled or exported: the one of a file, or one that a search found."""

import pathlib
from typing import Any, NamedTuple

import numpy as np

from dass_jax.data.tasks import TaskSpec
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.search_space import Architecture, ResNetSpace
from dass_jax.workdir import Workdir, read_json


class Student(NamedTuple):
    """A student to distil.

    Attributes:
      architecture: The student.
      student_id: Its id, which keys ``random_init`` alone.
    """

    architecture: Architecture
    student_id: int


def widths_text(widths: Any) -> str:
    """The widths of a student's blocks by stage as one short text, such as ``16-12 24 32``."""
    rows = [[int(width) for width in np.asarray(row) if width] for row in widths]
    return " ".join("-".join(map(str, row)) for row in rows)


def _from_text(space: ResNetSpace, text: str) -> Architecture:
    widths = [[int(width) for width in row.split("-")] for row in text.split()]
    return space.architecture([len(row) for row in widths], widths)


def read_student(experiment: Experiment, path: pathlib.Path, candidate: int = 0) -> Student:
    """Reads a student from JSON: its own file, or a candidate of a ``search.json``.

    Args:
      experiment: The settings.
      path: The file.
      candidate: Its place among a search's candidates; 0 is the choice.

    Raises:
      UserError: If the file is missing or holds no such student of the space.
    """
    data = read_json(path)
    try:
        if "candidates" in data:
            return _candidate(experiment.space, path, data["candidates"], candidate)
        if candidate:
            raise UserError(f"{path} is of one student, so it has no candidate {candidate}")
        return Student(experiment.space.from_json(data), 0)
    except UserError:
        raise
    # whatever a file that was written by hand may hold
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} holds no architecture: give depths and widths") from error


def _candidate(
    space: ResNetSpace, path: pathlib.Path, candidates: dict[str, Any], place: int
) -> Student:
    count = len(candidates["widths"])
    if not 0 <= place < count:
        raise UserError(f"{path} has no candidate {place}: give a number from 0 to {count - 1}")
    architecture = _from_text(space, candidates["widths"][place])
    return Student(architecture, candidates["student_ids"][place])


def chosen_student(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    path: str | None = None,
    *,
    search: str | None = None,
    candidate: int = 0,
) -> Student:
    """The student that a file names, by default the choice of the task's search.

    Args:
      experiment: The settings.
      workdir: Where the search lies.
      spec: The task.
      path: As ``read_student`` takes.
      search: The search's name, if it has one.
      candidate: Its place among the search's candidates; 0 is the choice.

    Raises:
      UserError: If there is no such file, or it holds no such student of the space.
    """
    if path is not None:
        if search is not None:
            raise UserError("give --architecture or --search, not both")
        return read_student(experiment, pathlib.Path(path).expanduser(), candidate)
    default = workdir.search(spec.name, search) / "search.json"
    if not default.exists():
        raise UserError(
            f"{default} does not exist: run bin/search.py, or name a file with a student's depths "
            "and widths with --architecture"
        )
    return read_student(experiment, default, candidate)
