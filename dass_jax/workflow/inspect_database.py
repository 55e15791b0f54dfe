"""Shows a database that exists: tables, plots, and all records as CSV."""

import dataclasses
import io
import json
import pathlib
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.csv

from dass_jax import database as db
from dass_jax.console import console
from dass_jax.errors import UserError
from dass_jax.workdir import write_atomically
from dass_jax.workflow import database_plots
from dass_jax.workflow.database_tables import print_correlations, print_students, print_summary
from dass_jax.workflow.measured_tasks import find_task, read_measured_tasks


def records_csv(records: Sequence[db.StudentRecord]) -> bytes:
    """Records as CSV: one line each, columns as in the database, lists as JSON."""
    rows = [dataclasses.asdict(record) for record in records]
    # CSV has no lists
    fields = [
        field.with_type(pa.string()) if pa.types.is_list(field.type) else field
        for field in db.SCHEMA
    ]
    for field, stored in zip(fields, db.SCHEMA, strict=True):
        if field != stored:
            for row in rows:
                row[field.name] = json.dumps(row[field.name])
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(pa.Table.from_pylist(rows, pa.schema(fields)), buffer)
    return buffer.getvalue()


def inspect_database(
    database: pathlib.Path, output: pathlib.Path | None = None, task: str | None = None
) -> None:
    """Prints what a database holds, and writes plots and ``records.csv``.

    Args:
      database: The database's folder; only its manifest and records are read.
      output: The folder to write to; ``report`` in the database's by default.
      task: The task whose students are listed, if any.

    Raises:
      UserError: If there is no database, it is damaged or empty, the task is unknown, or the
        output is no folder; nothing is written then.
    """
    output = database / "report" if output is None else output
    tasks = read_measured_tasks(database)
    listed = [find_task(tasks, task)] if task is not None else []
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is no folder: choose another --output")
    print_summary(tasks)
    print_correlations(tasks)
    for chosen in listed:
        print_students(chosen)
    records = [record for measured in tasks for record in measured.records]
    files = {"records.csv": records_csv(records)} | database_plots.render(tasks)
    for name, content in files.items():
        write_atomically(output / name, content)
    console.print(f"{', '.join(files)} in {output}")
