#!/usr/bin/env python3
"""Distils sampled students of every task and records their accuracies."""

from absl import flags

from dass_jax import cli

_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Only say what it will take.")


def main(experiment, workdir) -> None:
    """Builds the database."""
    from dass_jax.workflow import build_database

    build_database.build_database(experiment, workdir, dry_run=_DRY_RUN.value)


if __name__ == "__main__":
    cli.run(main, __doc__)
