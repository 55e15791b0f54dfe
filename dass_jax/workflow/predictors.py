"""Predictors as they are saved, and read for use."""

import dataclasses
import pathlib
from typing import NamedTuple

import jax

from dass_jax import checkpoints, settings
from dass_jax.adaptation import Learned
from dass_jax.console import console
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.meta_training import init_states
from dass_jax.predictor.model import AccuracyPredictor, PredictorConfig
from dass_jax.recipe import Recipe, plain, require_equal
from dass_jax.uncertainty import Calibration, read_calibration
from dass_jax.workflow.recipes import predictor_interface
from dass_jax.workflow.task_arrays import example_task


class TrainedPredictor(NamedTuple):
    """A predictor as it is saved.

    Attributes:
      module: The network.
      learned: Parameters and inner learning rates of all members of the ensemble.
      calibration: What its intervals are made of.
      recipe: What it was made from.
      settings: The experiment that it was loaded for, with the predictor's own settings.
    """

    module: AccuracyPredictor
    learned: Learned
    calibration: Calibration
    recipe: Recipe
    settings: Experiment


def load_predictor(folder: pathlib.Path, experiment: Experiment) -> TrainedPredictor:
    """Reads a saved predictor; what it looks at and how it adapts come from the file.

    Args:
      folder: What ``Workdir.predictor`` names.
      experiment: Settings of the tasks that it is wanted for.

    Returns:
      The predictor with its inner learning rates.

    Raises:
      UserError: If there is none, or the experiment's students are not what it was made for: their
        last stage has another width, they inherit otherwise, or, for a flat encoding, the search
        space is another one.
    """
    path = folder / "checkpoint"
    if not checkpoints.exists(path):
        raise UserError(f"no predictor in {path}: run bin/meta_train.py")
    metadata = checkpoints.read_metadata(path)
    own = _own_settings(experiment, metadata, path)
    # settings that came after it was saved have their defaults
    saved = metadata["interface"] | {"predictor": plain(own.predictor)}
    require_equal(f"the predictor in {path}", saved, predictor_interface(own))
    learned_at = metadata["recipe"].get("image_size", experiment.image_size)
    if learned_at != experiment.image_size:
        console.print(
            f"Note: the predictor in {path} learned from images of {learned_at} pixels, and here "
            f"they have {experiment.image_size}: the accuracies that it predicts are not of these"
        )
    module = AccuracyPredictor(own.predictor)
    learned, _ = checkpoints.restore(path, jax.eval_shape(lambda: _template(own, module)))
    calibration = read_calibration(metadata["calibration"])
    return TrainedPredictor(module, learned, calibration, metadata["recipe"], own)


def _own_settings(experiment: Experiment, metadata: dict, path: pathlib.Path) -> Experiment:
    """The experiment with the predictor's own inputs, sizes and inner steps."""
    try:
        interface = metadata["interface"]
        predictor = settings.build(PredictorConfig, interface["predictor"], "predictor")
        meta = dataclasses.replace(
            experiment.meta,
            inner_steps=interface["inner_steps"],
            ensemble=metadata["recipe"]["meta"]["ensemble"],
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} does not say what the predictor looks at ({error!r}): meta-train it again"
        ) from error
    return dataclasses.replace(experiment, predictor=predictor, meta=meta)


def _template(experiment: Experiment, module: AccuracyPredictor) -> Learned:
    """The shapes of a predictor for this experiment."""
    tasks = jax.tree.map(lambda leaf: leaf[None], example_task(experiment))
    return init_states(module, tasks, experiment.meta).learned
