"""Event loops and logging are quiet within, and as they were afterwards."""

import asyncio
import threading
import time

import pytest
from absl import logging

from dass_jax.quiet_orbax import quiet_orbax


def leave_behind(seconds, error=None):
    """Runs a loop that is closed while a task is unfinished; returns that task."""
    tasks = []

    async def other():
        await asyncio.sleep(seconds)
        raise ValueError("nobody looks at this")

    async def first():
        tasks.append(asyncio.ensure_future(other()))
        await asyncio.sleep(0)
        if error is not None:
            raise error

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(first())
    finally:
        loop.close()
    return tasks[0]


def test_tasks_that_are_left_behind_are_waited_for():
    with quiet_orbax():
        task = leave_behind(0.05)
    assert task.done()
    assert str(task.exception()) == "nobody looks at this"


def test_an_interruption_does_not_wait():
    begin = time.monotonic()
    with quiet_orbax(), pytest.raises(KeyboardInterrupt):
        leave_behind(30.0, KeyboardInterrupt())
    assert time.monotonic() - begin < 5


def test_two_threads_leave_everything_as_it_was():
    before = asyncio.new_event_loop, logging.get_verbosity()
    second_begins = threading.Event()

    def first():
        with quiet_orbax():
            second_begins.set()
            time.sleep(0.05)

    def second():
        second_begins.wait()
        with quiet_orbax():
            time.sleep(0.1)

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (asyncio.new_event_loop, logging.get_verbosity()) == before
