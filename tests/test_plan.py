"""The plan of a database counts what is left, and spends nothing."""

import dataclasses
import pathlib
import runpy

import jax
import numpy as np
import pytest

from dass_jax import checkpoints, cost, logit_cache, memory
from dass_jax import database as db
from dass_jax.experiment import from_config
from dass_jax.parallel import Devices
from dass_jax.workdir import Workdir
from dass_jax.workflow import plan
from dass_jax.workflow.build_database import build_database
from dass_jax.workflow.students import sample_students

SMOKE = pathlib.Path(__file__).parents[1] / "configs" / "smoke.py"
# Multiply-adds of two blocks in stages of 8x8, 4x4, 2x2 and 1x1 pixels and 4, 4, 8 and 8 channels.
STEM, DENSE = 64 * 9 * 3 * 4, 8 * 3
BLOCKS = (
    [64 * 9 * (4 * 4 + 4 * 4)] * 2,
    [16 * 9 * (4 * 4 + 4 * 4)] * 2,
    [4 * 9 * (4 * 8 + 8 * 8), 4 * 9 * (8 * 8 + 8 * 8)],
    [9 * (8 * 8 + 8 * 8)] * 2,
)
TEACHER = 63_384
# two epochs of a forward and two backward passes; evaluated after both, students before, too
TEACHER_PASSES = 2 * 3 * 36 + 2 * 15
STUDENT_PASSES = 2 * 3 * 36 + 3 * 15 + 15


@pytest.fixture(scope="module")
def experiment():
    return from_config(runpy.run_path(str(SMOKE))["get_config"]())


def record(student_id):
    return db.StudentRecord(
        "digits", student_id, 0, [1], [[4]], 1, 1, 0.1, 0.1, 0.1, 0.1, [1], [0.1], 1.0, False, 1.0
    )


def write_records(workdir, *student_ids):
    path = db.part_path(workdir.database, "digits", 0, student_ids)
    db.write_part(path, [record(student_id) for student_id in student_ids])


def of_students(experiment):
    """What one image takes of each student of the digits, channels padded."""
    depths = np.asarray(sample_students(experiment, experiment.task("digits")).depths)
    assert len(np.unique(depths, axis=0)) > 2
    return [
        STEM + DENSE + sum(sum(blocks[:depth]) for blocks, depth in zip(BLOCKS, row, strict=True))
        for row in depths
    ]


def test_the_flops_of_the_teacher():
    assert STEM + DENSE + sum(map(sum, BLOCKS)) == TEACHER


def test_a_task_is_counted_by_hand(experiment, tmp_path):
    planned = plan.plan_task(experiment, Workdir(tmp_path), experiment.task("digits"))
    assert planned.sizes == plan.TaskSizes(3, 36, 15, 15)
    assert planned.students == 4
    assert planned.teacher_work == TEACHER * TEACHER_PASSES
    # two views
    caching = 2 * 36 * TEACHER
    assert planned.student_work == sum(of_students(experiment)) * STUDENT_PASSES + caching
    params, stats = memory.network_bytes(experiment.space, 3)
    assert params == 4 * cost.num_params(experiment.space, experiment.space.full(), num_classes=3)
    saved = checkpoints.OVERHEAD_BYTES
    assert planned.disk == 2 * (36 * 3 * 2 + saved) + params + stats + saved
    # two students of a batch, each with momentum, in a snapshot and the one before
    assert planned.unfinished == 2 * (2 * (2 * params + stats) + saved)


def five_in_batches_of_three(experiment, devices, **kd):
    database = dataclasses.replace(
        experiment.database, students_per_task=5, students_per_batch=3, replicates=2
    )
    kd = dataclasses.replace(experiment.kd, **kd)
    return dataclasses.replace(experiment, database=database, kd=kd, devices=devices)


@pytest.mark.parametrize(
    ("devices", "spread_images", "networks_per_step"),
    [(1, False, None), (2, False, None), (1, False, 2), (2, False, 3), (8, True, None)],
)
def test_five_students_in_batches_of_three(
    experiment, tmp_path, monkeypatch, devices, spread_images, networks_per_step
):
    """Online logits and two replicates, so four batches; what fills them up is trained, too."""
    monkeypatch.setattr(jax, "local_devices", lambda: [jax.devices()[0]] * devices)
    settings = five_in_batches_of_three(
        experiment, Devices(spread_images=spread_images), teacher_logits="online",
        networks_per_step=networks_per_step,
    )  # fmt: skip
    planned = plan.plan_task(settings, Workdir(tmp_path), settings.task("digits"))
    a, b, c, d, e = of_students(settings)
    of_replicate = {
        (1, None): (a + b + c) + (d + e + e),
        # two places on each device
        (2, None): ((a + b + c + c) + (d + e + e + e)) / 2,
        # two groups of two, in which no block is skipped
        (1, 2): 2 * 4 * TEACHER,
        (2, 3): 2 * 2 * TEACHER,
        # two of the sixteen images of a step on each device
        (8, None): ((a + b + c) + (d + e + e)) / 8,
    }[devices, networks_per_step]
    # once for a batch, by every device or by all together
    online = 2 * 2 * 36 * TEACHER / (8 if spread_images else 1)
    assert planned.students == 10
    assert planned.student_work == pytest.approx(2 * (of_replicate * STUDENT_PASSES + online))
    assert planned.teacher_work == TEACHER * TEACHER_PASSES / (8 if spread_images else 1)
    params, stats = memory.network_bytes(settings.space, 3)
    # the teacher's checkpoint
    assert planned.disk == params + stats + checkpoints.OVERHEAD_BYTES


def test_what_is_there_is_not_planned_again(experiment, tmp_path):
    workdir, spec = Workdir(tmp_path), experiment.task("digits")
    work = np.asarray(of_students(experiment)) * STUDENT_PASSES
    write_records(workdir, 0, 1)
    half = plan.plan_task(experiment, workdir, spec)
    assert half.students == 2
    assert half.student_work == sum(work[2:]) + 2 * 36 * TEACHER
    checkpoints.save(workdir.teacher("digits") / "checkpoint", 1, {"a": np.zeros(1)}, {})
    stored = workdir.logits("digits") / "view0001"
    logit_cache.write_view(stored, np.zeros((36, 3), np.float16), "mark")
    cached = plan.plan_task(experiment, workdir, spec)
    assert cached.teacher_work == 0
    assert cached.student_work == sum(work[2:]) + 1 * 36 * TEACHER
    assert cached.disk == 1 * 36 * 3 * 2 + checkpoints.OVERHEAD_BYTES


def test_a_finished_database_needs_no_images_and_compiles_nothing(
    experiment, tmp_path, monkeypatch, capsys
):
    def fail(*arguments):
        raise AssertionError(arguments)

    for name in ("load_task", "measured_rate"):
        monkeypatch.setattr(plan, name, fail)
    workdir, spec = Workdir(tmp_path), experiment.task("digits")
    write_records(workdir, 0, 1, 2, 3)
    finished = dataclasses.replace(experiment, tasks=(spec,))
    assert plan.print_plan(finished, workdir) == []
    assert "nothing is left to do" in capsys.readouterr().out


def test_finished_tasks_are_left_out(experiment, tmp_path, capsys):
    assert len(experiment.tasks) > 1
    workdir = Workdir(tmp_path)
    write_records(workdir, 0, 1, 2, 3)
    names = {planned.spec.name for planned in plan.print_plan(experiment, workdir)}
    assert names == {spec.name for spec in experiment.tasks} - {"digits"}
    assert f"{len(names)} of {len(experiment.tasks)} tasks" in capsys.readouterr().out


def test_a_dry_run_prints_and_writes_nothing(experiment, tmp_path, capsys):
    build_database(experiment, Workdir(tmp_path), dry_run=True)
    output = capsys.readouterr().out
    assert "Plan: what is left to do" in output
    assert all(spec.name in output for spec in experiment.tasks)
    assert "36/15/15" in output
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_too_small_is_said(experiment, tmp_path, capsys, monkeypatch):
    build_database(experiment, Workdir(tmp_path), dry_run=True)
    assert "may not fit" not in capsys.readouterr().out
    monkeypatch.setattr(memory, "device_bytes", lambda layout: 1000)
    build_database(experiment, Workdir(tmp_path), dry_run=True)
    output = " ".join(capsys.readouterr().out.split())
    assert "Note: digits may not fit into 1kB of memory: lower database.students" in output


def test_full_width_keeps_the_depth(experiment):
    students = sample_students(experiment, experiment.task("digits"))
    wide = cost.at_full_width(experiment.space, students)
    np.testing.assert_array_equal(wide.depths, students.depths)
    present = np.asarray(students.widths) > 0
    full = np.broadcast_to(np.asarray(experiment.space.full().widths), present.shape)
    np.testing.assert_array_equal(wide.widths, np.where(present, full, 0))


def test_replicates_that_share_views_are_told(experiment, tmp_path, capsys):
    assert experiment.kd.num_views == experiment.kd.sgd.epochs == 2
    for replicates, views, told in ((1, 2, False), (2, 2, True), (2, 4, False)):
        settings = five_in_batches_of_three(experiment, experiment.devices, num_views=views)
        database = dataclasses.replace(settings.database, replicates=replicates)
        plan.print_plan(dataclasses.replace(settings, database=database), Workdir(tmp_path))
        text = " ".join(capsys.readouterr().out.split())
        assert ("kd.num_views=4 gives each epoch of each its own" in text) == told
