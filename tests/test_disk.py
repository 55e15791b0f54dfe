"""A full disk and a folder that may not be written: one clear line, and nothing is lost."""

import collections
import errno
import os
import pathlib
import shutil
import stat
import subprocess
import sys

import numpy as np
import pytest
from absl import logging

from dass_jax import checkpoints, cli
from dass_jax import database as db
from dass_jax.errors import UserError, is_disk_full, writing
from dass_jax.locks import only_process
from dass_jax.snapshots import Snapshots
from dass_jax.workdir import read_json, write_atomically, write_json

ROOT = pathlib.Path(__file__).parents[1]
FULL = "the disk is full: cannot write {}; make room and run the same command again to go on"
# what tensorstore raises from orbax's threads, which log it, too
TENSORSTORE = ValueError(
    'RESOURCE_EXHAUSTED: Error writing "x/0.0" in OCDBT database at local file "/work/0/":\n'
    "Failed to write 588716 bytes to file 14: No space left on device [os_error_code='28']"
)


Usage = collections.namedtuple("Usage", "total used free")


def system_error(code, filename=None):
    return OSError(code, os.strerror(code), filename)


def record(student_id):
    return db.StudentRecord(
        task="birds", student_id=student_id, replicate=0, depths=[1], widths=[[4]], flops=1,
        num_params=1, initial_accuracy=0.1, final_accuracy=0.2, best_accuracy=0.3,
        test_accuracy=0.4, curve_epochs=[1], curve=[0.2], loss=1.0, diverged=False, seconds=1.0,
    )  # fmt: skip


def part(database, student_id):
    return db.part_path(database, "birds", 0, [student_id])


@pytest.fixture
def disk(monkeypatch):
    """Lets half of a file reach the disk, and then raises what it was given."""

    def fail_with(error):
        def write_half(descriptor):
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            raise error

        monkeypatch.setattr(os, "fsync", write_half)

    return fail_with


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, FULL),
        (errno.EDQUOT, FULL),
        (errno.EROFS, "cannot write {} (Read-only file system)"),
        (errno.EACCES, "cannot write {} (Permission denied)"),
    ],
)
def test_a_record_that_cannot_be_written(tmp_path, monkeypatch, capsys, disk, code, message):
    """As a command tells it: earlier records stay, and half of a part is none."""
    db.write_part(part(tmp_path, 0), [record(0)])
    before = part(tmp_path, 0).read_bytes()
    monkeypatch.setattr(sys, "argv", ["build_database.py"])
    disk(system_error(code))
    with pytest.raises(SystemExit) as ended:
        cli.run_plain(lambda _: db.write_part(part(tmp_path, 1), [record(1)]), "", "")
    assert ended.value.code == 2
    message = message.format(part(tmp_path, 1))
    assert capsys.readouterr().err == f"build_database.py: error: {message}\n"
    assert list(part(tmp_path, 0).parent.iterdir()) == [part(tmp_path, 0)]
    assert part(tmp_path, 0).read_bytes() == before
    assert db.read_records(tmp_path, "birds") == [record(0)]
    monkeypatch.undo()
    db.write_part(part(tmp_path, 1), [record(1)])
    assert db.read_records(tmp_path, "birds") == [record(0), record(1)]


def test_a_record_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace

    def on_disk(descriptor):
        status = os.fstat(descriptor)
        done.append("folder" if stat.S_ISDIR(status.st_mode) else f"{status.st_size} bytes")
        fsync(descriptor)

    def renamed(source, target):
        done.append(target.name)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", on_disk)
    monkeypatch.setattr(os, "replace", renamed)
    write_atomically(tmp_path / "new" / "file", b"all")
    assert done == ["3 bytes", "file", "folder"]


def test_a_file_system_that_does_not_know_how_to_write_a_folder_to_the_disk(tmp_path, monkeypatch):
    fsync = os.fsync

    def refuse(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise system_error(errno.EINVAL)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    write_atomically(tmp_path / "file", b"all")
    assert (tmp_path / "file").read_bytes() == b"all"


def test_a_manifest_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch, disk):
    db.open_task(tmp_path, "birds", {"seed": 0})
    before = read_json(tmp_path / "manifest.json")
    disk(system_error(errno.ENOSPC))
    with pytest.raises(UserError) as caught:
        db.open_task(tmp_path, "cars", {"seed": 0})
    assert str(caught.value) == FULL.format(tmp_path / "manifest.json")
    assert read_json(tmp_path / "manifest.json") == before
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_a_file_where_a_folder_is_needed(tmp_path):
    (tmp_path / "database").write_text("mine")
    with pytest.raises(UserError) as caught:
        db.open_task(tmp_path / "database", "birds", {})
    expected = f"cannot write {tmp_path}/database/manifest.json (File exists: {tmp_path}/database)"
    assert str(caught.value) == expected
    with pytest.raises(UserError, match=r"cannot write .*/x \(Not a directory: .*database/x\)"):
        checkpoints.save(tmp_path / "database" / "x", 0, {"a": np.zeros(3)}, {})
    assert (tmp_path / "database").read_text() == "mine"


def test_a_work_directory_that_cannot_be_made(tmp_path, monkeypatch):
    def refuse(path, *arguments, **options):
        raise system_error(errno.EROFS, str(path))

    monkeypatch.setattr(pathlib.Path, "mkdir", refuse)
    expected = rf"cannot write {tmp_path}/work \(Read-only file system: {tmp_path}/work\)"
    with pytest.raises(UserError, match=expected), only_process(tmp_path / "work"):
        pytest.fail("it went on")


def test_the_command_says_so(tmp_path):
    (tmp_path / "file").write_text("mine")
    workdir = tmp_path / "file" / "work"
    answer = subprocess.run(
        [sys.executable, "bin/build_database.py", "--config=configs/smoke.py",
         f"--workdir={workdir}"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    line = f"build_database.py: error: cannot write {workdir} (Not a directory: {workdir})\n"
    assert (answer.returncode, answer.stdout, answer.stderr) == (2, "", line)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("error", [TENSORSTORE, system_error(errno.ENOSPC)])
def test_a_snapshot_that_cannot_be_written_leaves_the_one_before(
    tmp_path, monkeypatch, caplog, error
):
    folder = tmp_path / "unfinished"
    recipe = {"seed": 0}
    Snapshots(folder, "the work", recipe).save(1, {"a": np.arange(3)}, {"note": "first"})

    def fail(manager, step, **options):
        (manager.directory / f"{step}.orbax-checkpoint-tmp").mkdir()
        logging.error("a thread raised an exception\nTraceback: long")
        raise error

    before = logging.get_verbosity()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.ocp.CheckpointManager, "save", fail)
        with pytest.raises(UserError) as caught:
            Snapshots(folder, "the work", recipe).save(2, {"a": np.zeros(3)}, {})
    assert str(caught.value) == FULL.format(folder)
    assert not caplog.records
    assert logging.get_verbosity() == before
    assert checkpoints.latest_step(folder) == 1
    fresh = {"a": np.zeros(3, int)}
    arrays, metadata = Snapshots(folder, "the work", recipe).restore(fresh)
    assert (arrays["a"].tolist(), metadata["note"]) == ([0, 1, 2], "first")
    Snapshots(folder, "the work", recipe).save(2, {"a": np.ones(3, int)}, {})
    assert [path.name for path in folder.iterdir()] == ["2"]


def test_a_save_without_room_is_not_begun(tmp_path, monkeypatch):
    folder = tmp_path / "saves"
    arrays = {"a": np.zeros(2**17)}
    checkpoints.save(folder, 1, arrays, {})
    # of the folder, or of the one that it will be made in
    for place in (folder, tmp_path / "new" / "saves"):
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40, 2**20))
            with pytest.raises(UserError) as caught:
                checkpoints.save(place, 2, arrays, {})
        assert str(caught.value) == FULL.format(place)
    assert [path.name for path in tmp_path.iterdir()] == ["saves"]
    assert [path.name for path in folder.iterdir()] == ["1"]


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path):
    assert not is_disk_full(ValueError("shapes differ"))
    with pytest.raises(ValueError, match=r"^shapes differ$"), writing(tmp_path):
        raise ValueError("shapes differ")
    with pytest.raises(UserError, match=r"^mine$"), writing(tmp_path):
        raise UserError("mine")
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(tmp_path / "file.json", {"a": object()})
    assert list(tmp_path.iterdir()) == []
