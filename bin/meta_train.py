#!/usr/bin/env python3
"""Meta-trains the accuracy predictor on the database."""

import pathlib

from absl import flags

from dass_jax import cli

_PREDICTOR = flags.DEFINE_string(
    "predictor", None, "Folder that the predictor goes to; WORKDIR/predictor by default."
)


def main(experiment, workdir) -> None:
    """Meta-trains the predictor."""
    from dass_jax.workflow import meta_train

    folder = pathlib.Path(_PREDICTOR.value).expanduser() if _PREDICTOR.value else None
    meta_train.run_meta_training(experiment, workdir, folder)


if __name__ == "__main__":
    cli.run(main, __doc__)
