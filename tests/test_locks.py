import signal
import subprocess
import sys

import pytest

from dass_jax.errors import UserError
from dass_jax.locks import only_process

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
