#!/usr/bin/env python3
"""Compares predictors with baselines on the measured students of unseen tasks."""

import pathlib

from absl import flags

from dass_jax import cli

_DATABASE = flags.DEFINE_string("database", None, "Folder of records; WORKDIR/database by default.")
_PREDICTOR = flags.DEFINE_multi_string(
    "predictor",
    [],
    "Folder of a predictor, or NAME=FOLDER; may be repeated; by default WORKDIR/predictor.",
)
_TASK = flags.DEFINE_string("task", None, "Only this task; by default all unseen ones.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder for the report; WORKDIR/evaluation by default."
)


def _folder(path: str) -> pathlib.Path:
    return pathlib.Path(path).expanduser()


def _predictors(texts: list[str]) -> dict[str, pathlib.Path]:
    """Folders by name, as the flag gives them."""
    from dass_jax.errors import UserError

    predictors: dict[str, pathlib.Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        # a folder's own path may contain the sign
        if not equals or _folder(text).exists():
            name, path = _folder(text).name, text
        if name in predictors:
            raise UserError(f"two predictors have the name {name!r}: give --predictor=NAME=FOLDER")
        predictors[name] = _folder(path)
    return predictors


def main(experiment, workdir) -> None:
    """Evaluates all predictors on all unseen tasks."""
    from dass_jax.workflow.evaluation import run_evaluation

    run_evaluation(
        experiment,
        workdir,
        predictors=_predictors(_PREDICTOR.value) or {"predictor": workdir.predictor},
        database=_folder(_DATABASE.value) if _DATABASE.value else workdir.database,
        output=_folder(_OUTPUT.value) if _OUTPUT.value else workdir.root / "evaluation",
        task=_TASK.value,
    )


if __name__ == "__main__":
    cli.run(main, __doc__)
