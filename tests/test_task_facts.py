"""What foretells the level of a task."""

import pathlib
import runpy

import jax
import numpy as np

from dass_jax import resnet
from dass_jax.experiment import from_config
from dass_jax.task_facts import task_facts
from dass_jax.teacher import TeacherResult
from dass_jax.workflow import prepare
from dass_jax.workflow.task_arrays import task_context

SMOKE = pathlib.Path(__file__).parents[1] / "configs" / "smoke.py"
KNOWN = {"num_steps": 100, "images_per_class": 20.0, "teacher_accuracy": 0.4, "chance": 0.1}


def test_facts_are_decimal_logarithms():
    facts = task_facts(**KNOWN)
    np.testing.assert_allclose(10.0**facts, [100, 20, 0.3], rtol=1e-5)


def test_a_teacher_below_chance_is_finite():
    assert np.isfinite(task_facts(**(KNOWN | {"teacher_accuracy": 0.05}))).all()


def test_a_task_says_what_its_students_get():
    smoke = from_config(runpy.run_path(str(SMOKE))["get_config"]())
    spec = smoke.task("digits")
    variables = resnet.init(smoke.space, jax.random.key(0), num_classes=3)
    teacher = TeacherResult(variables, 0.4, epoch=1, curve=[], seconds=0.0)
    data = prepare.load_images(smoke, spec)
    told = task_context(smoke, spec, data, teacher).alone.facts
    images = data.train.labels
    sgd = smoke.kd.sgd
    steps = sgd.epochs * (len(images) // sgd.batch_size)
    np.testing.assert_allclose(10 ** told[0], steps, rtol=1e-5)
    np.testing.assert_allclose(10 ** told[1], np.bincount(images).mean(), rtol=1e-5)
    np.testing.assert_allclose(10 ** told[2], 0.4 - 1 / 3, rtol=1e-5)
