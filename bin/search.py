#!/usr/bin/env python3
"""Finds the best student for an unseen task, distils it and compares it with random ones."""

from absl import flags

from dass_jax import cli

_TASK = flags.DEFINE_string("task", None, "The task; by default every task of role meta_test.")


def main(experiment, workdir) -> None:
    """Searches one task or all unseen ones."""
    from dass_jax.errors import UserError
    from dass_jax.workflow import search

    specs = (experiment.task(_TASK.value),) if _TASK.value else experiment.with_role("meta_test")
    if not specs:
        raise UserError("no task has the role meta_test: name one with --task")
    for spec in specs:
        search.run_search(experiment, workdir, spec)


if __name__ == "__main__":
    cli.run(main, __doc__)
