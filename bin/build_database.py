#!/usr/bin/env python3
"""Distils sampled students of every task and records their accuracies."""

from dass_jax import cli


def main(experiment, workdir) -> None:
    """Builds the database."""
    from dass_jax.workflow import build_database

    build_database.build_database(experiment, workdir)


if __name__ == "__main__":
    cli.run(main, __doc__)
