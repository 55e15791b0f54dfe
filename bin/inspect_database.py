#!/usr/bin/env python3
"""Shows a database that exists: tables, plots, and all records as CSV."""

import pathlib

from absl import flags

from dass_jax import cli

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder that holds the database.")
_TASK = flags.DEFINE_string("task", None, "Also list all students of this task.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder for plots and records.csv; WORKDIR/database/report by default."
)


def main(arguments: list[str]) -> None:
    """Shows the database of the work directory."""
    from dass_jax.errors import UserError

    if arguments:
        raise UserError(f"unexpected argument {arguments[0]!r}: see inspect_database.py --help")
    if not _WORKDIR.value:
        raise UserError("--workdir is missing: see inspect_database.py --help")
    from dass_jax.workdir import Workdir
    from dass_jax.workflow import inspect_database

    workdir = Workdir(pathlib.Path(_WORKDIR.value).expanduser())
    output = pathlib.Path(_OUTPUT.value).expanduser() if _OUTPUT.value else None
    inspect_database.inspect_database(workdir.database, output, _TASK.value)


if __name__ == "__main__":
    cli.run_plain(main, __doc__, "--workdir=DIR")
