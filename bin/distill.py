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
_SEARCH = flags.DEFINE_string(
    "search", None, "Which of the task's searches, if bin/search.py gave it a --name."
)
_CANDIDATE = flags.DEFINE_integer(
    "candidate", 0, "Place among the candidates of search.json; 0, the default, is its choice."
)


def main(experiment, workdir) -> None:
    """Distils the student that a file names."""
    from dass_jax.errors import UserError
    from dass_jax.workflow import distill
    from dass_jax.workflow.chosen_student import chosen_student

    if _TASK.value is None:
        raise UserError("--task is missing: name the task to distil for")
    spec = experiment.task(_TASK.value)
    student = chosen_student(
        experiment,
        workdir,
        spec,
        _ARCHITECTURE.value,
        search=_SEARCH.value,
        candidate=_CANDIDATE.value,
    )
    distill.run_distillation(experiment, workdir, spec, student)


if __name__ == "__main__":
    cli.run(main, __doc__)
