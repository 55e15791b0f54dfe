#!/usr/bin/env python3
"""Meta-trains the accuracy predictor on the database."""

from dass_jax import cli


def main(experiment, workdir) -> None:
    """Meta-trains the predictor."""
    from dass_jax.workflow import meta_train

    meta_train.run_meta_training(experiment, workdir)


if __name__ == "__main__":
    cli.run(main, __doc__)
