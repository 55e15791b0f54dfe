import dataclasses
import errno
import json
import os
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dass_jax import database as db
from dass_jax.errors import UnreadableError, UserError
from dass_jax.search_space import ResNetSpace
from dass_jax.workdir import Workdir, read_json, write_atomically, write_json

SPACE = ResNetSpace((4, 8), 2, strides=(1, 2))
RECIPE = {"seed": 0, "kd": {"sgd": {"epochs": 2, "batch_size": 16}}, "images": {"classes": [1]}}


def record(student_id=0, replicate=0, **changes):
    values = {
        "task": "birds",
        "student_id": student_id,
        "replicate": replicate,
        "depths": [1, 2],
        "widths": [[2 + student_id], [4, 7]],
        "flops": 2**40 + student_id,
        "num_params": 2**33,
        "initial_accuracy": 1 / 3,
        "final_accuracy": 0.1 + 0.2,
        "best_accuracy": 0.75,
        "test_accuracy": 2 / 3,
        "curve_epochs": [1, 2],
        "curve": [0.75, 0.1 + 0.2],
        "loss": 1e-17,
        "diverged": False,
        "seconds": 1.25,
    }
    return db.StudentRecord(**values | changes)


def test_records_come_back_equal_and_in_order(tmp_path):
    later = [record(2), record(3, curve=[], curve_epochs=[])]
    earlier = [record(0, loss=float("inf"), diverged=True), record(1)]
    again = [record(0, replicate=1)]
    # parts may be finished in any order
    for replicate, ids, part in ((1, [0], again), (0, [2, 3], later), (0, [0, 1], earlier)):
        db.write_part(db.part_path(tmp_path, "birds", replicate, ids), part)
    assert db.read_records(tmp_path, "birds") == earlier + later + again
    assert db.read_records(tmp_path, "cars") == []


def test_the_order_of_parts_is_that_of_numbers(tmp_path):
    for student in (90, 123456, 100, 20):
        db.write_part(db.part_path(tmp_path, "birds", 0, [student]), [record(student)])
    assert [row.student_id for row in db.read_records(tmp_path, "birds")] == [20, 90, 100, 123456]


def test_the_types_of_a_part(tmp_path):
    path = db.part_path(tmp_path, "birds", 1, [6, 7, 8])
    db.write_part(path, [record()])
    assert path == tmp_path / "records" / "birds" / "replicate001-students00006-00008.parquet"
    schema = pq.read_schema(path)
    assert schema.names == [field.name for field in dataclasses.fields(db.StudentRecord)]
    expected = {
        "task": pa.string(),
        "student_id": pa.int32(),
        "flops": pa.int64(),
        "num_params": pa.int64(),
        "final_accuracy": pa.float64(),
        "diverged": pa.bool_(),
    }
    assert {name: schema.field(name).type for name in expected} == expected
    (row,) = pq.read_table(path).to_pylist()
    assert row["widths"] == [[2], [4, 7]]
    assert row == dataclasses.asdict(record())


def test_a_part_replaces_itself_and_leaves_no_other_file(tmp_path):
    path = db.part_path(tmp_path, "birds", 0, [0])
    db.write_part(path, [record(0)])
    db.write_part(path, [record(1)])
    assert [row.student_id for row in db.read_records(tmp_path, "birds")] == [1]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_failed_write_changes_nothing(tmp_path, monkeypatch, before):
    path = tmp_path / "sub" / "file"
    if before is not None:
        write_atomically(path, before)

    def fail(source, target):
        assert pathlib.Path(source).read_bytes() == b"new"
        raise OSError("the network is gone")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match=rf"cannot write {path} \(the network is gone\)"):
        write_atomically(path, b"new")
    assert [p.read_bytes() for p in path.parent.iterdir()] == ([before] if before else [])


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "fewer columns", "other columns"])
def test_a_damaged_part_is_named(tmp_path, damage):
    path = db.part_path(tmp_path, "birds", 0, [0])
    db.write_part(path, [record()])
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("student_id,accuracy\n0,0.5\n")
    elif damage == "fewer columns":
        pq.write_table(pq.read_table(path).drop_columns(["loss"]), path)
    else:
        pq.write_table(pa.table({"student_id": ["zero"], "accuracy": [0.5]}), path)
    with pytest.raises(UserError, match="is damaged") as caught:
        db.read_records(tmp_path, "birds")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_part_that_cannot_be_read_now_is_not_called_damaged(tmp_path, monkeypatch):
    path = db.part_path(tmp_path, "birds", 0, [0])
    db.write_part(path, [record()])

    def refuse(*args, **kwargs):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(pq, "read_table", refuse)
    with pytest.raises(UnreadableError, match=rf"cannot read {path} \({os.strerror(errno.EIO)}\)"):
        db.read_records(tmp_path, "birds")


def test_a_temporary_file_is_no_part(tmp_path):
    path = db.part_path(tmp_path, "birds", 0, [0])
    db.write_part(path, [record()])
    path.with_name(f".{path.name}.77.tmp").write_bytes(b"half of a part")
    assert db.read_records(tmp_path, "birds") == [record()]


def test_labels_are_the_first_replicate_without_diverged_students():
    records = [
        record(0),
        record(1, diverged=True, loss=float("nan")),
        record(2),
        record(0, replicate=1),
    ]
    assert db.first_replicate(records) == [records[0], records[2]]


def test_architectures_and_columns():
    records = [record(0), record(1, depths=[2, 1], widths=[[3, 4], [8]])]
    batch = db.architectures_of(SPACE, records)
    assert np.asarray(batch.depths).tolist() == [[1, 2], [2, 1]]
    assert np.asarray(batch.widths).tolist() == [[[2, 0], [4, 7]], [[3, 4], [8, 0]]]
    assert db.column(records, "student_id").tolist() == [0, 1]
    assert db.column(records, "final_accuracy").dtype == np.float64
    with pytest.raises(UserError, match="stage 0: width 9 is not in"):
        db.architectures_of(SPACE, [record(7)])


def test_missing_students_are_those_without_a_record_of_the_replicate():
    records = [record(0), record(2, diverged=True), record(3, replicate=1)]
    assert db.missing_students(records, 0, 4) == [1, 3]
    assert db.missing_students(records, 1, 4) == [0, 1, 2]
    assert db.missing_students(records, 0, 1) == []


def test_a_digest_notices_everything_but_time():
    records = [record(0), record(1)]
    digest = db.records_digest(records)
    assert db.records_digest([record(0, seconds=9.0), record(1)]) == digest
    assert db.records_digest([record(0), record(1, final_accuracy=0.3)]) != digest
    assert db.records_digest(records[:1]) != digest
    assert db.records_digest(records[::-1]) != digest


def test_a_task_is_entered_once(tmp_path):
    db.open_task(tmp_path, "birds", RECIPE)
    db.open_task(tmp_path, "birds", RECIPE, {"num_classes": 3})
    path = tmp_path / "manifest.json"
    content, modified = path.read_bytes(), path.stat().st_mtime_ns
    manifest = json.loads(content)
    assert manifest["format_version"] == db.FORMAT_VERSION
    assert list(manifest["tasks"]) == ["birds"]
    entry = manifest["tasks"]["birds"]
    assert (entry["recipe"], entry["num_classes"]) == (RECIPE, 3)
    assert {"created", "dass_jax", "jax", "device"} < entry.keys()
    db.write_part(db.part_path(tmp_path, "birds", 0, [0]), [record()])
    db.open_task(tmp_path, "birds", json.loads(json.dumps(RECIPE)))
    db.check_task(tmp_path, "birds", RECIPE)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (content, modified)


def test_tasks_may_be_added(tmp_path):
    db.open_task(tmp_path, "birds", RECIPE)
    db.write_part(db.part_path(tmp_path, "birds", 0, [0]), [record()])
    first = read_json(tmp_path / "manifest.json")["tasks"]["birds"]
    db.open_task(tmp_path, "cars", RECIPE | {"seed": 5})
    tasks = read_json(tmp_path / "manifest.json")["tasks"]
    assert tasks["birds"] == first
    assert tasks["cars"]["recipe"]["seed"] == 5
    with pytest.raises(UserError, match=r"has no task dogs: run bin/build_database\.py"):
        db.check_task(tmp_path, "dogs", RECIPE)


def test_settings_may_change_until_something_is_measured(tmp_path):
    changed = RECIPE | {"seed": 1}
    db.open_task(tmp_path, "birds", RECIPE)
    db.open_task(tmp_path, "birds", changed)
    db.check_task(tmp_path, "birds", changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (RECIPE | {"seed": 1}, "(seed was 0 and is now 1)"),
        (
            RECIPE | {"kd": {"sgd": {"epochs": 3, "batch_size": 16}}},
            "(kd.sgd.epochs was 2 and is now 3)",
        ),
        (
            {name: RECIPE[name] for name in ("kd", "images")},
            "(seed was 0 and is now None)",
        ),
        (RECIPE | {"more": [1]}, "(more was None and is now [1])"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, changed, message):
    db.open_task(tmp_path, "birds", RECIPE)
    db.write_part(db.part_path(tmp_path, "birds", 0, [0]), [record()])
    before = (tmp_path / "manifest.json").read_bytes()
    for use in (db.open_task, db.check_task):
        with pytest.raises(UserError) as caught:
            use(tmp_path, "birds", changed)
        expected = f"task birds in {tmp_path} was made with other settings {message}: "
        assert str(caught.value).startswith(expected)
    assert (tmp_path / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("manifest", [{"format_version": 0, "tasks": {}}, []])
def test_another_format_is_refused(tmp_path, manifest):
    write_json(tmp_path / "manifest.json", manifest)
    with pytest.raises(UserError, match="another format version"):
        db.open_task(tmp_path, "birds", RECIPE)


def test_an_equal_json_file_is_left_alone(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", None)
        write_json(path, {"a": 1})
        with pytest.raises(TypeError):
            write_json(path, {"a": 2})
    write_json(path, {"a": 2})
    assert read_json(path) == {"a": 2}


def test_json_comes_back_and_errors_name_the_file(tmp_path):
    path = tmp_path / "new" / "file.json"
    with pytest.raises(UserError, match=f"{path} does not exist"):
        read_json(path)
    value = {"a": [1, 2.5, None, "ü"], "b": {}}
    write_json(path, value)
    assert read_json(path) == value
    assert path.read_bytes().endswith(b"}\n")
    for broken in (b'{"a": 1', b"", b"\xff\xfe\x00"):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=f"{path} is no valid JSON"):
            read_json(path)


def test_the_places_of_a_work_directory(tmp_path):
    workdir = Workdir(tmp_path)
    places = {
        "teachers/birds": workdir.teacher("birds"),
        "logits/birds": workdir.logits("birds"),
        "database": workdir.database,
        "predictor": workdir.predictor,
        "search/birds": workdir.search("birds"),
        "students/birds": workdir.student("birds"),
    }
    assert {name: tmp_path / name for name in places} == places
    assert list(tmp_path.iterdir()) == []
