"""How students are cut into batches does not depend on where a build was stopped."""

import dataclasses
import itertools
import pathlib
import re
import runpy

import numpy as np
import pytest

from dass_jax import database as db
from dass_jax.distillation import Assignment, PopulationResult
from dass_jax.errors import UserError
from dass_jax.experiment import from_config
from dass_jax.snapshots import Snapshots
from dass_jax.teacher import TeacherResult
from dass_jax.workdir import Workdir
from dass_jax.workflow import build_database, plan, prepare
from dass_jax.workflow.students import batches, population_size

SMOKE = pathlib.Path(__file__).parents[1] / "configs" / "smoke.py"

# all that records need of a teacher
VARIABLES = {"params": {"dense": {"bias": np.zeros(3)}}}


class Killed(Exception):
    """Stands for the process's death."""


class Engine:
    """Stands for ``distil_population``: remembers its calls, and dies when it is told to."""

    def __init__(self):
        self.calls, self.left, self.unfinished = [], None, []

    def __call__(self, *arguments, pad_to):
        ids, snapshots = arguments[5], arguments[7]
        if self.left == 0:
            folder = snapshots._folder
            folder.mkdir(parents=True)
            self.unfinished.append(folder)
            raise Killed
        self.left = None if self.left is None else self.left - 1
        self.calls.append((ids.tolist(), pad_to))
        accuracies = np.full(len(ids), 0.5, np.float32)
        return PopulationResult(
            accuracies, np.asarray([1]), accuracies[None], accuracies, accuracies, {}
        )


@pytest.fixture
def engine(monkeypatch):
    engine = Engine()
    teacher = TeacherResult({}, 0.5, 1, [(1, 0.5)], 1.0)
    monkeypatch.setattr(build_database, "distil_population", engine)
    monkeypatch.setattr(plan, "measured_rate", lambda experiment: 1e9)
    monkeypatch.setattr(Snapshots, "seconds", 1.0)
    monkeypatch.setattr(prepare, "ensure_teacher", lambda *arguments: teacher)
    monkeypatch.setattr(
        build_database, "make_assignment",
        lambda experiment, workdir, spec, images, teacher, config, replicates: Assignment(
            spec.name, 0, VARIABLES, images.train, images.valid, images.test, lambda view: None
        ),
    )  # fmt: skip
    return engine


def experiment(students, per_batch):
    config = runpy.run_path(str(SMOKE))["get_config"]()
    config.database.students_per_task, config.database.students_per_batch = students, per_batch
    digits = from_config(config).task("digits")
    return dataclasses.replace(from_config(config), tasks=(digits,))


FIVE = [([0, 1], 2), ([2, 3], 2), ([4], 2)]


@pytest.mark.parametrize("finished", [0, 1, 2])
def test_unfinished_students_are_padded_alike_after_a_restart(
    tmp_path, engine, monkeypatch, capsys, finished
):
    workdir, settings = Workdir(tmp_path), experiment(5, 2)
    engine.left = finished
    with pytest.raises(Killed):
        build_database.build_database(settings, workdir)
    engine.left = None
    build_database.build_database(settings, workdir)
    assert engine.calls == FIVE
    # of two epochs with two batches of 16 images, in a second
    assert re.findall(r"(\d+) student-images/s", capsys.readouterr().out) == ["128", "128", "64"]
    with monkeypatch.context() as patch:
        for module in (prepare, plan):
            patch.setattr(module, "load_task", None)
        build_database.build_database(settings, workdir)
    assert engine.calls == FIVE
    # more students are spread over batches of the new size
    build_database.build_database(experiment(9, 4), workdir)
    assert engine.calls == [*FIVE, ([5, 6], 3), ([7, 8], 3)]
    records = db.read_records(workdir.database, "digits")
    assert [record.student_id for record in records] == list(range(9))


def test_unfinished_students_wait_for_their_own_batch(tmp_path, engine):
    """Other settings in between take nothing away."""
    workdir, engine.left = Workdir(tmp_path), 0
    for per_batch in (2, 3):
        with pytest.raises(Killed):
            build_database.build_database(experiment(5, per_batch), workdir)
    first, second = engine.unfinished
    assert first != second
    assert first.exists()
    engine.left = None
    build_database.build_database(experiment(5, 2), workdir)
    assert not list((workdir.database / "unfinished").glob("*"))


def test_students_of_two_teachers_are_not_mixed(tmp_path, engine, monkeypatch, capsys):
    workdir, few = Workdir(tmp_path), experiment(2, 2)
    build_database.build_database(few, workdir)
    other = {"images_digest": "0", "weights_digest": "1"}
    monkeypatch.setattr(prepare, "saved_origin", lambda workdir, spec: other)
    capsys.readouterr()
    build_database.build_database(few, workdir)
    assert "come from another teacher, or from other images" in capsys.readouterr().out
    monkeypatch.setattr(prepare, "origin_of", lambda images, teacher: other)
    with pytest.raises(UserError, match="come from another teacher, or from other images"):
        build_database.build_database(experiment(4, 2), workdir)
    assert engine.calls == [([0, 1], 2)]


def test_a_new_role_is_known_of_a_finished_task(tmp_path, engine):
    workdir, settings = Workdir(tmp_path), experiment(2, 2)
    build_database.build_database(settings, workdir)
    (spec,) = settings.tasks
    assert spec.role == "meta_test"
    source = dataclasses.replace(settings, tasks=(dataclasses.replace(spec, role="meta_train"),))
    build_database.build_database(source, workdir)
    assert db.read_facts(workdir.database, spec.name)["role"] == "meta_train"


def test_what_was_built_is_summed_up(tmp_path, engine, capsys):
    build_database.build_database(experiment(5, 2), Workdir(tmp_path))
    text = capsys.readouterr().out
    assert text.count("student-images/s") == 3
    assert text.index("final validation accuracy") > text.rindex("student-images/s")


def test_what_is_left_is_cut_as_all_were():
    settings = experiment(4, 2).database
    for students, per_batch in itertools.product(range(1, 24), (1, 2, 3, 5, 10)):
        settings = dataclasses.replace(
            settings, students_per_task=students, students_per_batch=per_batch
        )
        size = population_size(settings)
        cut = [ids.tolist() for ids in batches(list(range(students)), per_batch)]
        assert size == max(map(len, cut)) <= per_batch
        for done in range(len(cut)):
            left = list(range(cut[done][0], students))
            assert [ids.tolist() for ids in batches(left, size)] == cut[done:]
