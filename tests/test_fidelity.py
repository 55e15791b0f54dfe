"""Cheaper labels change exactly what they name."""

import dataclasses

import pytest

from dass_jax.errors import UserError
from dass_jax.experiment import default_config, from_config


def configuration(**fidelity):
    config = default_config()
    config.image_size = 32
    config.space.stage_widths = (16, 32, 64, 128)
    config.tasks.small = {"role": "meta_train", "source": "digits", "train_per_class": 5}
    config.tasks.large = {"role": "meta_test", "source": "digits"}
    config.fidelity.update(fidelity)
    return config


def test_the_default_changes_nothing():
    experiment = from_config(configuration())
    assert experiment.image_size == 32
    assert experiment.space.stage_widths == (16, 32, 64, 128)
    assert experiment.kd.sgd.epochs == 50
    assert {spec.name: spec.train_per_class for spec in experiment.tasks} == {
        "small": 5,
        "large": None,
    }


def test_every_knob():
    cheap = from_config(
        configuration(epochs=3, train_per_class=20, image_size=16, width_multiplier=0.5)
    )
    full = from_config(configuration())
    assert cheap.image_size == 16
    assert cheap.space == dataclasses.replace(full.space, stage_widths=(8, 16, 32, 64))
    assert cheap.kd == dataclasses.replace(full.kd, sgd=dataclasses.replace(full.kd.sgd, epochs=3))
    # the winner's and the teacher's schedules are not labels
    assert (cheap.final, cheap.teacher) == (full.final, full.teacher)
    assert {spec.name: spec.train_per_class for spec in cheap.tasks} == {"small": 5, "large": 20}


@pytest.mark.parametrize(
    ("fidelity", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"width_multiplier": 0.0}, r"give one in \(0, 1\]"),
        ({"width_multiplier": 0.7}, "11.2, 22.4, 44.8, 89.6: they must be whole"),
        ({"image_size": 20}, "not a multiple of 8"),
    ],
)
def test_bad_values(fidelity, message):
    with pytest.raises(UserError, match=message):
        from_config(configuration(**fidelity))
