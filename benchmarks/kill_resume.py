#!/usr/bin/env python3
"""Kills the building of a database again and again, and checks that nothing is lost.

Command:  python benchmarks/kill_resume.py --kills=100
Hardware: any CPU; some seconds for each kill.

A database of one tiny task is built once without interruption, and then with kills at random
moments, about every other one a SIGTERM, as often as asked for, in a new folder whenever it is
complete. After every kill, students that were finished must still be there, each once; in the end
all numbers must equal those of the uninterrupted database.
"""

import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

from absl import app, flags

from dass_jax import database as db

_KILLS = flags.DEFINE_integer("kills", 100, "How often to kill.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = pathlib.Path(__file__).with_name("kill_resume_config.py")
TASK = "digits"
# After SIGTERM; a cloud machine gives ten to thirty seconds.
EXIT_SECONDS = 10


def start(workdir: pathlib.Path) -> subprocess.Popen:
    """Starts the building of a database."""
    command = [sys.executable, str(ROOT / "bin" / "build_database.py")]
    log = (workdir.parent / f"{workdir.name}.log").open("a")
    with log:
        return subprocess.Popen(
            [*command, f"--config={CONFIG}", f"--workdir={workdir}"], stdout=log, stderr=log
        )


def numbers(workdir: pathlib.Path) -> dict[tuple[int, int], tuple]:
    """What is known of each finished student, but for the time that it took.

    Raises:
      AssertionError: A student is there twice.
    """
    records = db.read_records(workdir / "database", TASK)
    found = {
        (r.student_id, r.replicate): (r.final_accuracy, r.test_accuracy, r.loss, tuple(r.curve))
        for r in records
    }
    assert len(found) == len(records), "a student is there twice"
    return found


def stop(process: subprocess.Popen, number: int) -> None:
    """Sends a signal, and waits for the end.

    Raises:
      AssertionError: The process takes too long over it, or does not say that it was stopped.
    """
    process.send_signal(number)
    begin = time.monotonic()
    code = process.wait(60)
    if number == signal.SIGTERM:
        seconds = time.monotonic() - begin
        assert seconds < EXIT_SECONDS, f"it took {seconds:.1f} s to stop"
        # before it has parsed its flags, or when it is done, it just ends
        assert code in (0, 128 + number, -number), f"it ended with {code}"


def build_with_kills(workdir: pathlib.Path, kills: int, longest: float, rng: random.Random) -> int:
    """Builds a database; returns how often it was killed, at most ``kills`` times."""
    done: dict = {}
    killed = 0
    while True:
        process = start(workdir)
        try:
            code = process.wait(rng.uniform(0, longest) if killed < kills else None)
        except subprocess.TimeoutExpired:
            stop(process, rng.choice([signal.SIGKILL, signal.SIGTERM]))
            killed += 1
        else:
            assert code == 0, f"it failed: see {workdir.parent / workdir.name}.log"
            return killed
        now = numbers(workdir)
        assert now.items() >= done.items(), "a finished student is lost or has changed"
        done = now


def main(arguments: list[str]) -> None:
    """Builds the reference and then kills."""
    rng = random.Random(_SEED.value)
    with tempfile.TemporaryDirectory() as folder:
        # However short a compilation is, it is done once.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/compiled"
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        root = pathlib.Path(folder)
        seconds = []
        for name in ("compiling", "reference"):
            begin = time.monotonic()
            assert start(root / name).wait() == 0, (root / f"{name}.log").read_text()
            seconds.append(time.monotonic() - begin)
        reference = numbers(root / "reference")
        assert reference == numbers(root / "compiling")
        killed = builds = 0
        while killed < _KILLS.value:
            workdir = root / f"killed{builds}"
            killed += build_with_kills(workdir, _KILLS.value - killed, seconds[1], rng)
            builds += 1
            assert numbers(workdir) == reference, "the numbers differ from the uninterrupted ones"
        print(
            f"{killed} kills in {builds} builds of {len(reference)} students: none lost, none "
            f"twice, all numbers equal (a build takes {seconds[1]:.1f} s)"
        )


if __name__ == "__main__":
    app.run(main)
