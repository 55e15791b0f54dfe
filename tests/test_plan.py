"""The plan of a database counts what is left, and spends nothing."""

import pathlib
import runpy

import numpy as np
import pytest

from dass_jax import cost
from dass_jax import database as db
from dass_jax.experiment import from_config
from dass_jax.workdir import Workdir
from dass_jax.workflow import plan
from dass_jax.workflow.build_database import build_database
from dass_jax.workflow.students import sample_students

SMOKE = pathlib.Path(__file__).parents[1] / "configs" / "smoke.py"
RATE = 1e9


@pytest.fixture
def experiment():
    return from_config(runpy.run_path(str(SMOKE))["get_config"]())


def record(student_id):
    return db.StudentRecord(
        "digits", student_id, 0, [1], [[4]], 1, 1, 0.1, 0.1, 0.1, 0.1, [1], [0.1], 1.0, False, 1.0
    )


def test_a_task_is_counted_by_hand(experiment, tmp_path):
    spec = experiment.task("digits")
    planned = plan.plan_task(experiment, Workdir(tmp_path), spec, RATE)
    assert planned.images == (36, 15, 15)
    assert planned.students == 4
    space, sizes = experiment.space, {"image_size": 8, "num_classes": 3}
    teacher = int(cost.num_flops(space, space.full(), **sizes))
    # two epochs, each evaluated; two views
    assert planned.teacher_seconds == pytest.approx(teacher * (3 * 2 * 36 + 2 * 15) / RATE)
    students = cost.at_full_width(space, sample_students(experiment, spec))
    work = cost.num_flops(space, students, **sizes).sum() * (3 * 2 * 36 + 3 * 15 + 15)
    assert planned.student_seconds == pytest.approx((work + 2 * 36 * teacher) / RATE)
    assert planned.disk == 2 * 36 * 3 * 2


def test_what_is_measured_is_not_planned_again(experiment, tmp_path):
    workdir, spec = Workdir(tmp_path), experiment.task("digits")
    fresh = plan.plan_task(experiment, workdir, spec, RATE)
    path = db.part_path(workdir.database, "digits", 0, [0, 1])
    db.write_part(path, [record(0), record(1)])
    half = plan.plan_task(experiment, workdir, spec, RATE)
    assert half.students == 2
    assert half.student_seconds < fresh.student_seconds
    db.write_part(db.part_path(workdir.database, "digits", 0, [2, 3]), [record(2), record(3)])
    done = plan.plan_task(experiment, workdir, spec, RATE)
    assert (done.students, done.teacher_seconds, done.student_seconds, done.disk) == (0, 0, 0, 0)


def test_a_dry_run_prints_and_writes_nothing(experiment, tmp_path, capsys):
    build_database(experiment, Workdir(tmp_path), dry_run=True)
    output = capsys.readouterr().out
    assert "Plan: what is left to do" in output
    assert all(spec.name in output for spec in experiment.tasks)
    assert "36/15/15" in output
    assert list(tmp_path.iterdir()) == []


def test_full_width_keeps_the_depth(experiment):
    students = sample_students(experiment, experiment.task("digits"))
    wide = cost.at_full_width(experiment.space, students)
    np.testing.assert_array_equal(wide.depths, students.depths)
    present = np.asarray(students.widths) > 0
    full = np.broadcast_to(np.asarray(experiment.space.full().widths), present.shape)
    np.testing.assert_array_equal(wide.widths, np.where(present, full, 0))
