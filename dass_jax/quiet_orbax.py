"""Orbax reports its failures by raising them, and not besides.

It logs what it raises as well, from its threads too. And it reads the arrays of a checkpoint side
by side in an event loop of its own, which it closes as soon as one cannot be read: the other reads
then fail with nobody to tell, and each prints a traceback some time after the error was reported.
"""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Iterator

from absl import logging

# Reads that take longer than this, in seconds, are not waited for.
_PATIENCE = 10.0
# One at a time, since a thread changes what it has to restore for all of them.
_LOCK = threading.RLock()


class _FinishingLoop(asyncio.SelectorEventLoop):
    """Waits for its unfinished tasks, whose errors are then known, before it closes."""

    def close(self) -> None:
        try:
            if not (self.is_closed() or self.is_running()):
                self._finish(asyncio.all_tasks(self))
        finally:
            super().close()

    def _finish(self, unfinished: set[asyncio.Task]) -> None:
        error = sys.exc_info()[1]
        # whoever interrupts does not want to wait
        if error is not None and not isinstance(error, Exception):
            for task in unfinished:
                task.cancel()
        if unfinished:
            done, _ = self.run_until_complete(asyncio.wait(unfinished, timeout=_PATIENCE))
            for task in done:
                # an error that somebody has looked at is not reported
                _ = task.cancelled() or task.exception()


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Within this, what orbax has to say is said by what it raises."""
    with _LOCK:
        verbosity, new_event_loop = logging.get_verbosity(), asyncio.new_event_loop
        logging.set_verbosity(logging.FATAL)
        asyncio.new_event_loop = _FinishingLoop
        try:
            yield
        finally:
            asyncio.new_event_loop = new_event_loop
            logging.set_verbosity(verbosity)
