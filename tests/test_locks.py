import errno
import fcntl
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from dass_jax.errors import UserError
from dass_jax.locks import exclusive, only_process

HOLDER = """
import pathlib, sys, time
from dass_jax.locks import only_process
with only_process(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""


def test_second_process_is_refused_until_the_first_dies(tmp_path):
    folder = tmp_path / "work"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, folder], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        for _ in range(2):
            with (
                pytest.raises(UserError, match=r"another command is at work in .*work: wait"),
                only_process(folder),
            ):
                pytest.fail("two processes in one folder")
        assert folder.exists()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with only_process(folder):
        (folder / "result").write_text("")
    assert (folder / "result").exists()


def test_folder_that_stays_empty_is_removed(tmp_path):
    with only_process(tmp_path / "a" / "b"):
        pass
    assert not (tmp_path / "a" / "b").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    with pytest.raises(RuntimeError, match="stop"), only_process(tmp_path / "full"):
        raise RuntimeError("stop")
    with only_process(tmp_path / "full"):
        assert (tmp_path / "full" / "file").exists()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF])
def test_a_file_system_without_locks_is_one_line(tmp_path, monkeypatch, code):
    def refuse(file, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for path, lock in (
        (tmp_path / "work" / ".lock", only_process(tmp_path / "work")),
        (tmp_path / "file", exclusive(tmp_path / "file")),
    ):
        with pytest.raises(UserError) as caught, lock:
            pytest.fail("it went on")
        assert str(caught.value) == (
            f"cannot lock {path} ({os.strerror(code)}): use a folder on a file system that has "
            "locks"
        )


def test_the_lock_is_of_a_file_open_for_writing(tmp_path, monkeypatch):
    """Network file systems give no other."""
    modes = []
    monkeypatch.setattr(fcntl, "flock", lambda file, operation: modes.append(file.mode))
    with only_process(tmp_path / "work"):
        pass
    assert modes == ["a"]


@pytest.mark.parametrize("left", ["nothing", "another file"])
def test_a_file_that_its_last_holder_removed_is_no_lock(tmp_path, monkeypatch, left):
    """Who waited between opening and locking must not share the folder with who came after."""
    folder, flock, opened = tmp_path / "work", fcntl.flock, []

    def flock_late(file, operation):
        if not opened:
            pathlib.Path(file.name).unlink()
            folder.rmdir()
            if left == "another file":
                folder.mkdir()
                pathlib.Path(file.name).touch()
        opened.append(file.name)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock_late)
    with only_process(folder):
        assert len(opened) == 2
        monkeypatch.undo()
        with pytest.raises(UserError, match="another command"), only_process(folder):
            pytest.fail("two processes in one folder")


def test_a_folder_that_cannot_be_one(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    for folder in (tmp_path / "link", tmp_path / "link" / "below", tmp_path / "file"):
        with pytest.raises(UserError, match="File exists"), only_process(folder):
            pytest.fail("it went on")
