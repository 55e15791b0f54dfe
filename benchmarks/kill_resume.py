#!/usr/bin/env python3
"""Kills the building of a database again and again, and checks that nothing is lost.

Command:  python benchmarks/kill_resume.py --kills=100
Hardware: any CPU; some seconds for each kill.

A database of one tiny task is built once without interruption, and then with kills, half of them at
any moment and half around the end of a batch of students, about every other one a SIGTERM, as often
as asked for, in a new folder whenever it is complete. After every kill, students that were finished
must still be there, each once; in the end all numbers must equal those of the uninterrupted
database. Unfinished training is saved whenever it may be, so that many a build goes on in the
middle of one. Every fourth folder is empty at first; the others hold the teacher and its logits, so
that most kills meet students. What is printed says how many kills found how many students finished.
"""

import collections
import multiprocessing
import os
import pathlib
import random
import runpy
import shutil
import signal
import sys
import tempfile
import time
from multiprocessing.process import BaseProcess

from absl import app, flags

from dass_jax import database as db
from dass_jax import snapshots

_KILLS = flags.DEFINE_integer("kills", 100, "How often to kill.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = pathlib.Path(__file__).with_name("kill_resume_config.py")
TASK = "shapes"
# After SIGTERM: what a cloud machine gives.
EXIT_SECONDS = 30
# Processes are forked from one that has imported all this, which takes longer than what is tested;
# JAX starts its threads later, in each of them.
PROCESSES = multiprocessing.get_context("forkserver")
PRELOADED = ("dass_jax.snapshots", "dass_jax.experiment", "dass_jax.workflow.build_database")


def run_command(workdir: str) -> None:
    """The command as a user starts it, in this process."""
    with pathlib.Path(f"{workdir}.log").open("a") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    # as often as a call ends, so that hardly a kill comes before the first snapshot
    snapshots.SAVE_EVERY_SECONDS = 0.0
    command = str(ROOT / "bin" / "build_database.py")
    sys.argv = [command, f"--config={CONFIG}", f"--workdir={workdir}"]
    runpy.run_path(command, run_name="__main__")


def start(workdir: pathlib.Path) -> BaseProcess:
    """Starts the building of a database."""
    process = PROCESSES.Process(target=run_command, args=(str(workdir),))
    process.start()
    return process


def build(workdir: pathlib.Path) -> float:
    """Builds a database without interruption; returns the seconds that it took."""
    begin = time.monotonic()
    process = start(workdir)
    process.join()
    require_success(process, workdir)
    return time.monotonic() - begin


def require_success(process: BaseProcess, workdir: pathlib.Path) -> None:
    """Shows what a command said if it failed.

    Raises:
      AssertionError: It failed.
    """
    assert process.exitcode == 0, pathlib.Path(f"{workdir}.log").read_text()


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


def stop(process: BaseProcess, number: int) -> None:
    """Sends a signal, and waits for the end.

    Raises:
      AssertionError: The process takes too long over it, or does not say that it was stopped.
    """
    assert process.pid is not None
    os.kill(process.pid, number)
    begin = time.monotonic()
    process.join()
    if number == signal.SIGTERM:
        seconds = time.monotonic() - begin
        assert seconds < EXIT_SECONDS, f"it took {seconds:.1f} s to stop"
        # before it has parsed its flags, or when it is done, it just ends
        assert process.exitcode in (0, 128 + number, -number), f"it ended with {process.exitcode}"


def wait(process: BaseProcess, workdir: pathlib.Path, longest: float, rng: random.Random) -> None:
    """Waits until any moment of a build, or until one around the end of a batch of students."""
    if rng.random() < 0.5:
        process.join(rng.uniform(0, longest))
        return
    finished = len(numbers(workdir)) + rng.randint(1, 4)
    while process.exitcode is None and len(numbers(workdir)) < finished:
        process.join(0.02)
    process.join(rng.uniform(0, 0.5))


def build_with_kills(
    workdir: pathlib.Path, kills: int, longest: float, rng: random.Random
) -> list[int]:
    """Builds a database and kills at most ``kills`` times; returns how many students each kill met.

    Raises:
      AssertionError: A finished student is lost, or something fails.
    """
    done: dict = {}
    met: list[int] = []
    while True:
        process = start(workdir)
        if len(met) == kills:
            process.join()
        else:
            wait(process, workdir, longest, rng)
        if process.exitcode is not None:
            require_success(process, workdir)
            return met
        stop(process, rng.choice([signal.SIGKILL, signal.SIGTERM]))
        now = numbers(workdir)
        assert now.items() >= done.items(), "a finished student is lost or has changed"
        done = now
        met.append(len(done))


def new_folder(root: pathlib.Path, name: str, teacher_of: pathlib.Path | None) -> pathlib.Path:
    """A work directory, empty or with the teacher and the logits of another one."""
    workdir = root / name
    if teacher_of is not None:
        for part in ("teachers", "logits"):
            shutil.copytree(teacher_of / part, workdir / part)
    return workdir


def main(arguments: list[str]) -> None:
    """Builds the reference and then kills."""
    rng = random.Random(_SEED.value)
    PROCESSES.set_forkserver_preload(list(PRELOADED))
    with tempfile.TemporaryDirectory() as folder:
        # However short a compilation is, it is done once.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/compiled"
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        root = pathlib.Path(folder)
        reference = root / "reference"
        build(reference)
        expected = numbers(reference)
        again = new_folder(root, "again", reference)
        seconds = build(again)
        assert numbers(again) == expected, "the numbers differ from one build to the next"
        met: collections.Counter[int] = collections.Counter()
        builds = resumed = 0
        while met.total() < _KILLS.value:
            empty = builds % 4 == 3
            workdir = new_folder(root, f"killed{builds}", None if empty else reference)
            # a teacher takes about as long as the students
            longest = seconds * (2 if empty else 1)
            met.update(build_with_kills(workdir, _KILLS.value - met.total(), longest, rng))
            builds += 1
            said = pathlib.Path(f"{workdir}.log").read_text()
            resumed += said.count("going on from step")
            assert ": removed" not in said, "unfinished training was thrown away"
            assert numbers(workdir) == expected, "the numbers differ from the uninterrupted ones"
    print(
        f"{met.total()} kills in {builds} builds of {len(expected)} students: none lost, none "
        f"twice, all numbers equal (a build takes {seconds:.1f} s); {resumed} trainings went on "
        "in the middle; kills by finished students: "
        + ", ".join(f"{students}: {met[students]}" for students in sorted(met))
    )


if __name__ == "__main__":
    app.run(main)
