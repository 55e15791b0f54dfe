"""The tasks of a database that exists, without the settings that it was built with."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from dass_jax import database as db
from dass_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class MeasuredTask:
    """What a database knows of a task; None where it does not say.

    Attributes:
      name: The task's name.
      role: ``meta_train``, ``meta_valid`` or ``meta_test``.
      num_classes: Number of classes.
      train_images: Number of training images.
      teacher_accuracy: The teacher's validation accuracy, a fraction.
      records: Its students, all replicates, by replicate and student.
    """

    name: str
    role: str | None
    num_classes: int | None
    train_images: int | None
    teacher_accuracy: float | None
    records: list[db.StudentRecord]

    @property
    def labels(self) -> list[db.StudentRecord]:
        """The records that statistics are of: replicate 0, without diverged students."""
        return db.first_replicate(self.records)

    @property
    def num_diverged(self) -> int:
        """How many of the records, of all replicates, diverged."""
        return sum(record.diverged for record in self.records)


def read_measured_tasks(database: pathlib.Path) -> list[MeasuredTask]:
    """Reads all tasks of a database; nothing is locked, it may be in the making.

    Args:
      database: The database's folder.

    Returns:
      The tasks, in the order in which they were entered; some may have no students yet.

    Raises:
      UserError: If there is no database, it is damaged, or it holds no students at all.
    """
    tasks = [
        _measured_task(database, name, entry) for name, entry in db.read_tasks(database).items()
    ]
    if not any(task.records for task in tasks):
        raise UserError(f"{database} holds no students yet: run bin/build_database.py")
    return tasks


def find_task(tasks: Sequence[MeasuredTask], name: str) -> MeasuredTask:
    """The task of this name.

    Raises:
      UserError: If there is none; the message lists those that there are.
    """
    for task in tasks:
        if task.name == name:
            return task
    known = ", ".join(task.name for task in tasks)
    raise UserError(f"the database has no task {name!r}: choose one of {known}")


def _measured_task(database: pathlib.Path, name: str, entry: dict[str, Any]) -> MeasuredTask:
    # a task that was stopped before its first student has no facts yet
    facts = {
        "role": (entry.get("role"), str),
        "num_classes": (entry.get("num_classes"), int),
        "images": (entry.get("images"), dict),
        "teacher_accuracy": (entry.get("teacher_accuracy"), int | float),
    }
    images = entry.get("images")
    if isinstance(images, dict):
        facts["images.train"] = (images.get("train"), int)
    for fact, (value, kind) in facts.items():
        if value is not None and not isinstance(value, kind):
            raise UserError(
                f"{database / 'manifest.json'} is damaged (task {name}: {fact} is {value!r}): "
                "restore that file"
            )
    accuracy = entry.get("teacher_accuracy")
    return MeasuredTask(
        name=name,
        role=entry.get("role"),
        num_classes=entry.get("num_classes"),
        train_images=(images or {}).get("train"),
        teacher_accuracy=None if accuracy is None else float(accuracy),
        records=db.read_records(database, name),
    )
