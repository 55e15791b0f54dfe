"""The database: measured students of every task, on disk.

``manifest.json`` says how it was made; ``records/TASK/`` holds one Parquet file per finished batch
of students, written under a temporary name and renamed, so a part is complete or absent.
"""

import dataclasses
import datetime
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import dass_jax
from dass_jax.errors import UserError, reading
from dass_jax.recipe import Recipe, digest, require_equal
from dass_jax.search_space import Architecture, ResNetSpace, stack
from dass_jax.workdir import read_json, write_atomically, write_json

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class StudentRecord:
    """One distilled student; accuracies are fractions in [0, 1].

    Attributes:
      task: Name of the task.
      student_id: The student's number within its task.
      replicate: Which image orders and views it was distilled with.
      depths: Active blocks of each stage.
      widths: Absolute widths of the active blocks of each stage.
      flops: Multiply-adds for one image.
      num_params: Trainable parameters.
      initial_accuracy: Validation accuracy after remapping, before training.
      final_accuracy: Validation accuracy after the last epoch: the predictor's target.
      best_accuracy: Best validation accuracy of any evaluation.
      test_accuracy: Test accuracy after the last epoch; only final reports look at it.
      curve_epochs: The evaluated epochs.
      curve: Validation accuracy after each of them.
      loss: Mean training loss of the last epoch.
      diverged: Whether that loss is not finite.
      seconds: The student's share of its batch's time.
    """

    task: str
    student_id: int
    replicate: int
    depths: list[int]
    widths: list[list[int]]
    flops: int
    num_params: int
    initial_accuracy: float
    final_accuracy: float
    best_accuracy: float
    test_accuracy: float
    curve_epochs: list[int]
    curve: list[float]
    loss: float
    diverged: bool
    seconds: float


SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("student_id", pa.int32()),
        ("replicate", pa.int32()),
        ("depths", pa.list_(pa.int32())),
        ("widths", pa.list_(pa.list_(pa.int32()))),
        ("flops", pa.int64()),
        ("num_params", pa.int64()),
        ("initial_accuracy", pa.float64()),
        ("final_accuracy", pa.float64()),
        ("best_accuracy", pa.float64()),
        ("test_accuracy", pa.float64()),
        ("curve_epochs", pa.list_(pa.int32())),
        ("curve", pa.list_(pa.float64())),
        ("loss", pa.float64()),
        ("diverged", pa.bool_()),
        ("seconds", pa.float64()),
    ]
)


def part_path(
    database: pathlib.Path, task: str, replicate: int, student_ids: Sequence[int]
) -> pathlib.Path:
    """Where the records of one batch of students lie; no two batches share a student."""
    name = f"replicate{replicate:03d}-students{student_ids[0]:05d}-{student_ids[-1]:05d}.parquet"
    return database / "records" / task / name


def write_part(path: pathlib.Path, records: Sequence[StudentRecord]) -> None:
    """Writes the records of a finished batch, atomically."""
    table = pa.Table.from_pylist([dataclasses.asdict(record) for record in records], SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_atomically(path, buffer.getvalue())


def read_records(database: pathlib.Path, task: str) -> list[StudentRecord]:
    """All records of a task, by replicate and student.

    Raises:
      UserError: If a part is damaged, or the system refuses to read it.
    """
    records: list[StudentRecord] = []
    for path in sorted((database / "records" / task).glob("replicate*.parquet")):
        try:
            with reading(path):
                # read_table would fill columns that the file lacks with nulls
                if not pq.read_schema(path).equals(SCHEMA):
                    raise pa.ArrowInvalid("it has other columns")
                rows = pq.read_table(path, schema=SCHEMA).to_pylist()
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{path} is damaged ({reason}): remove it and build the database again"
            ) from error
        records += [StudentRecord(**row) for row in rows]
    return sorted(records, key=lambda record: (record.replicate, record.student_id))


def first_replicate(records: Sequence[StudentRecord]) -> list[StudentRecord]:
    """The records that serve as labels: replicate 0, without diverged students."""
    return [record for record in records if record.replicate == 0 and not record.diverged]


def architectures_of(space: ResNetSpace, records: Sequence[StudentRecord]) -> Architecture:
    """The students' architectures, as a batch."""
    return stack([space.architecture(record.depths, record.widths) for record in records])


def column(records: Sequence[StudentRecord], name: str) -> np.ndarray:
    """One field of all records, as an array."""
    return np.asarray([getattr(record, name) for record in records])


def missing_students(records: Sequence[StudentRecord], replicate: int, count: int) -> list[int]:
    """Which of the first ``count`` students have no record of this replicate."""
    present = {record.student_id for record in records if record.replicate == replicate}
    return [student_id for student_id in range(count) if student_id not in present]


def records_digest(records: Sequence[StudentRecord]) -> str:
    """A digest of measured students, times left out."""
    return digest([dataclasses.asdict(record) | {"seconds": 0} for record in records])


def _read_manifest(database: pathlib.Path) -> dict[str, Any]:
    path = database / "manifest.json"
    if not path.exists():
        return {"format_version": FORMAT_VERSION, "tasks": {}}
    manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("format_version") != FORMAT_VERSION:
        raise UserError(f"{path} has another format version: build a new database")
    tasks = manifest.get("tasks")
    if not isinstance(tasks, dict) or not all(isinstance(task, dict) for task in tasks.values()):
        raise UserError(f"{path} is damaged (it lists no tasks): restore that file")
    return manifest


def _without_recipe(database: pathlib.Path, task: str) -> UserError:
    return UserError(
        f"{database} holds students of task {task}, but its manifest.json does not say how "
        "they were made: restore that file, or remove the students"
    )


def read_tasks(database: pathlib.Path) -> dict[str, dict[str, Any]]:
    """What the manifest says of every task, in the order in which they were entered.

    Raises:
      UserError: If there is no database, or its manifest is damaged or lacks a measured task.
    """
    if not (database / "manifest.json").exists():
        raise UserError(f"there is no database in {database}: run bin/build_database.py")
    tasks: dict[str, dict[str, Any]] = _read_manifest(database)["tasks"]
    for part in sorted((database / "records").glob("*/replicate*.parquet")):
        if part.parent.name not in tasks:
            raise _without_recipe(database, part.parent.name)
    return tasks


def read_facts(database: pathlib.Path, task: str) -> dict[str, Any]:
    """What the manifest says of one task; nothing if it is not entered."""
    return _read_manifest(database)["tasks"].get(task, {})


def check_task(database: pathlib.Path, task: str, recipe: Recipe) -> None:
    """Refuses records that were made with other settings.

    Raises:
      UserError: If the task is not in the manifest, or its recipe differs.
    """
    tasks = _read_manifest(database)["tasks"]
    if task not in tasks:
        raise UserError(f"{database} has no task {task}: run bin/build_database.py")
    require_equal(f"task {task} in {database}", tasks[task].get("recipe"), recipe)


def is_of_origin(
    entry: dict[str, Any], origin: dict[str, str], facts: dict[str, Any] | None = None
) -> bool:
    """Whether a task's students come from this, as far as the manifest says.

    Args:
      entry: What the manifest says of the task.
      origin: Digests of what there is now.
      facts: What else is known of that; it tells where the manifest has no digests.
    """
    if "origin" in entry:
        return entry["origin"] == origin
    known = ("num_classes", "images", "teacher_accuracy")
    return all(entry.get(name) in (None, (facts or entry).get(name)) for name in known)


def foreign(database: pathlib.Path, origins: Mapping[str, dict[str, str] | None]) -> str | None:
    """A note of the tasks whose students come from something else than what there is now, or None.

    Args:
      database: The database's folder.
      origins: Digests of what there is now, by task; None where they are not known.
    """
    others = [
        task
        for task, origin in origins.items()
        if origin is not None and not is_of_origin(read_facts(database, task), origin)
    ]
    if not others:
        return None
    return (
        f"Note: the recorded students of {', '.join(others)} come from another teacher, or from "
        "other images, than what is used now."
    )


def open_task(
    database: pathlib.Path,
    task: str,
    recipe: Recipe,
    facts: dict[str, Any] | None = None,
    origin: dict[str, str] | None = None,
) -> None:
    """Enters a task in the manifest, or checks that its records were made alike.

    Args:
      database: The database's folder.
      task: Name of the task.
      recipe: All settings that its records depend on.
      facts: What else the manifest shall say of the task.
      origin: Digests of what students are made from, if that is known by now.

    Raises:
      UserError: If the task has records that were made with other settings, or from something else.
    """
    manifest = _read_manifest(database)
    if read_records(database, task):
        if task not in manifest["tasks"]:
            raise _without_recipe(database, task)
        check_task(database, task, recipe)
        if origin is not None and not is_of_origin(manifest["tasks"][task], origin, facts):
            raise UserError(
                f"the students of task {task} in {database} come from another teacher, or from "
                "other images, than there are now: restore those, remove the students, or use "
                "another work directory"
            )
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    made_by = {
        "dass_jax": dass_jax.__version__,
        "jax": jax.__version__,
        "device": str(jax.devices()[0].device_kind),
    }
    entry = {"created": now, **made_by} | manifest["tasks"].get(task, {})
    entry |= {} if origin is None else {"origin": origin}
    manifest["tasks"][task] = entry | (facts or {}) | {"recipe": recipe}
    write_json(database / "manifest.json", manifest)
