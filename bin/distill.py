#!/usr/bin/env python3
"""Distils one student of a task with several seeds and saves the trained networks."""

from absl import flags

from dass_jax import cli

_TASK = flags.DEFINE_string("task", None, "The task.")
_ARCHITECTURE = flags.DEFINE_string(
    "architecture",
    None,
    "JSON file with depths and widths, or a search.json; by default the task's own search.json.",
)


def main(experiment, workdir) -> None:
    """Distils the student that a file names."""
    from dass_jax.errors import UserError
    from dass_jax.workflow import distill
    from dass_jax.workflow.chosen_student import chosen_student

    if _TASK.value is None:
        raise UserError("--task is missing: name the task to distil for")
    spec = experiment.task(_TASK.value)
    student = chosen_student(experiment, workdir, spec, _ARCHITECTURE.value)
    distill.run_distillation(experiment, workdir, spec, student)


if __name__ == "__main__":
    cli.run(main, __doc__)
