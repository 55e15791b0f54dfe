"""Teachers that start from another task's teacher."""

import dataclasses
import pathlib
import runpy

import jax
import numpy as np
import pytest
from test_teacher import CONFIG, SPACE, TRAIN, VALID

from dass_jax import checkpoints, resnet, teacher
from dass_jax import database as db
from dass_jax.data.augmentation import Augmentation
from dass_jax.errors import UserError
from dass_jax.experiment import from_config
from dass_jax.snapshots import Snapshots
from dass_jax.workdir import Workdir
from dass_jax.workflow import prepare, recipes
from dass_jax.workflow.build_database import build_database

SMOKE = pathlib.Path(__file__).parents[1] / "configs" / "smoke.py"
SHAPES = {"source": "generated:shapes", "num_classes": 4, "train_per_class": 10}


def experiment(teacher_init="shapes", **shapes):
    config = runpy.run_path(str(SMOKE))["get_config"]()
    digits = config.tasks.digits.to_dict()
    config.tasks = {
        "digits": digits | {"teacher_init": teacher_init, "students": 2, "replicates": 2},
        "shapes": SHAPES | {"role": "pretrain"} | shapes,
    }
    return from_config(config)


def test_all_but_the_dense_layer_starts_from_the_other_teacher():
    sgd = dataclasses.replace(CONFIG.sgd, epochs=1, learning_rate=1e-12)
    initial = resnet.init(SPACE, jax.random.key(5), num_classes=7)
    result = teacher.train_teacher(
        SPACE, dataclasses.replace(CONFIG, sgd=sgd), Augmentation(), name="toy", seed=0,
        num_classes=3, train=TRAIN, valid=VALID,
        snapshots=Snapshots(None, "the unfinished teacher", {}), initial=initial,
    )  # fmt: skip
    found, given = result.variables["params"], initial["params"]
    assert found.keys() == given.keys()
    for name in found.keys() - {"dense"}:
        for a, b in zip(jax.tree.leaves(found[name]), jax.tree.leaves(given[name]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)
    assert found["dense"]["bias"].shape == (3,)


def test_a_pretraining_task_gives_a_teacher_and_no_students(tmp_path):
    workdir = Workdir(tmp_path)
    build_database(experiment(), workdir)
    assert checkpoints.exists(workdir.teacher("shapes") / "checkpoint")
    assert list(db.read_tasks(workdir.database)) == ["digits"]
    records = db.read_records(workdir.database, "digits")
    assert [(r.replicate, r.student_id) for r in records] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    # a teacher belongs to the one that it started from
    with pytest.raises(UserError, match="teacher_init"):
        build_database(experiment(seed=3), workdir)


def test_a_teacher_starts_from_one_that_starts_afresh():
    with pytest.raises(UserError, match="no task 'birds'"):
        experiment("birds")
    with pytest.raises(UserError, match="name a task that starts afresh"):
        experiment("digits")


def test_a_task_may_train_its_teacher_in_its_own_way():
    settings = experiment(teacher_epochs=5)
    digits, shapes = (settings.task(name) for name in ("digits", "shapes"))
    own = settings.teacher_of(shapes)
    assert own.sgd == dataclasses.replace(settings.teacher.sgd, epochs=5)
    assert settings.teacher_of(digits) == settings.teacher
    assert "teacher_epochs" not in recipes.teacher_recipe(settings, digits)["images"]
    assert recipes.teacher_recipe(settings, shapes)["images"]["teacher_epochs"] == 5


@pytest.mark.parametrize(("reached", "told"), [(0.35, True), (0.9, False)])
def test_a_teacher_that_only_guesses_is_doubted(tmp_path, capsys, monkeypatch, reached, told):
    settings = experiment(valid_per_class=10)
    spec = settings.task("shapes")
    images = prepare.load_images(settings, spec)
    variables = resnet.init(settings.space, jax.random.key(0), num_classes=4)
    trained = teacher.TeacherResult(variables, reached, 1, [(1, reached)], 1.0)
    monkeypatch.setattr(teacher, "train_teacher", lambda *arguments, **named: trained)
    prepare.ensure_teacher(settings, Workdir(tmp_path), spec, images)
    text = " ".join(capsys.readouterr().out.split())
    assert ("hardly more than chance: students have nothing to learn" in text) == told
