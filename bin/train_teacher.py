#!/usr/bin/env python3
"""Trains the teachers of an experiment's tasks."""

from absl import flags

from dass_jax import cli

_TASK = flags.DEFINE_string("task", None, "Only this task; all of them by default.")


def main(experiment, workdir) -> None:
    """Trains the teachers of one task or of all."""
    from dass_jax.workflow.train_teachers import train_teachers

    specs = (experiment.task(_TASK.value),) if _TASK.value else experiment.tasks
    train_teachers(experiment, workdir, specs)


if __name__ == "__main__":
    cli.run(main, __doc__)
