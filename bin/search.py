#!/usr/bin/env python3
"""Finds the best student for an unseen task, distils it and compares it with others' choices."""

from absl import flags

from dass_jax import cli

_TASK = flags.DEFINE_string("task", None, "The task; by default every task of role meta_test.")
_NAME = flags.DEFINE_string(
    "name", None, "Name of this search, if the task has another one with other settings."
)
_VERIFY = flags.DEFINE_integer(
    "verify",
    None,
    "How many of the best candidates are distilled and measured before one is chosen; "
    "short for --config.search.verify.",
)


def main(experiment, workdir) -> None:
    """Searches one task or all unseen ones."""
    import dataclasses

    from dass_jax.errors import UserError
    from dass_jax.workflow import search

    if _VERIFY.value is not None:
        own = dataclasses.replace(experiment.search, verify=_VERIFY.value)
        experiment = dataclasses.replace(experiment, search=own)
    specs = (experiment.task(_TASK.value),) if _TASK.value else experiment.with_role("meta_test")
    if not specs:
        raise UserError("no task has the role meta_test: name one with --task")
    for spec in specs:
        search.run_search(experiment, workdir, spec, _NAME.value)


if __name__ == "__main__":
    cli.run(main, __doc__)
