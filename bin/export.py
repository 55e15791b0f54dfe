#!/usr/bin/env python3
"""Exports a distilled student: one folder from which it can be loaded elsewhere."""

import pathlib

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
_REPLICATE = flags.DEFINE_integer(
    "replicate", None, "Which seed's network; by default the one with the best validation accuracy."
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write; WORKDIR/export/TASK by default.")
_FORMATS = flags.DEFINE_list(
    "formats",
    None,
    "Which of checkpoint, safetensors, stablehlo and onnx, separated by commas; by default all "
    "but onnx, which needs pip install -e '.[onnx]' in the checkout.",
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace another student's export.")


def main(experiment, workdir) -> None:
    """Exports the student that a file names."""
    from dass_jax.deployment.exporting import DEFAULT_FORMATS
    from dass_jax.errors import UserError
    from dass_jax.workflow import export
    from dass_jax.workflow.chosen_student import chosen_student

    if _TASK.value is None:
        raise UserError("--task is missing: name the task whose student to export")
    spec = experiment.task(_TASK.value)
    student = chosen_student(
        experiment,
        workdir,
        spec,
        _ARCHITECTURE.value,
        search=_SEARCH.value,
        candidate=_CANDIDATE.value,
    )
    export.run_export(
        experiment,
        workdir,
        spec,
        student,
        replicate=_REPLICATE.value,
        formats=DEFAULT_FORMATS if _FORMATS.value is None else _FORMATS.value,
        output=pathlib.Path(_OUTPUT.value).expanduser() if _OUTPUT.value else None,
        overwrite=_OVERWRITE.value,
    )


if __name__ == "__main__":
    cli.run(main, __doc__)
