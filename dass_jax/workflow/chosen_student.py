"""Which student is to be distilled or exported: the one of a file, or a search's choice."""

import pathlib
from typing import NamedTuple

from dass_jax.data.tasks import TaskSpec
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.search_space import Architecture
from dass_jax.workdir import Workdir, read_json


class Student(NamedTuple):
    """A student to distil.

    Attributes:
      architecture: The student.
      student_id: Its id, which keys ``random_init`` alone.
    """

    architecture: Architecture
    student_id: int


def read_student(experiment: Experiment, path: pathlib.Path) -> Student:
    """Reads a student from JSON: its own file, or the first choice of a ``search.json``.

    Raises:
      UserError: If the file is missing or holds no architecture of the space.
    """
    data = read_json(path)
    student_id = 0
    try:
        if "top" in data:
            student_id = data["top"][0]["student_id"]
            data = data["top"][0]["architecture"]
        return Student(experiment.space.from_json(data), student_id)
    except (KeyError, IndexError, TypeError) as error:
        raise UserError(f"{path} holds no architecture: give depths and widths") from error


def chosen_student(
    experiment: Experiment, workdir: Workdir, spec: TaskSpec, path: str | None = None
) -> Student:
    """The student that a file names, by default the choice of the task's search.

    Args:
      experiment: The settings.
      workdir: Where the search lies.
      spec: The task.
      path: As ``read_student`` takes.

    Raises:
      UserError: If there is no such file, or it holds no architecture of the space.
    """
    if path is not None:
        return read_student(experiment, pathlib.Path(path).expanduser())
    default = workdir.search(spec.name) / "search.json"
    if not default.exists():
        raise UserError(
            f"{default} does not exist: run bin/search.py, or name a file with a student's depths "
            "and widths with --architecture"
        )
    return read_student(experiment, default)
