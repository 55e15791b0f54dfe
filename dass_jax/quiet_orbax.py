"""Orbax reports its failures by raising them, and not besides.

It logs what it raises as well, from its threads too. And it reads the arrays of a checkpoint side
by side in an event loop of its own, which it closes as soon as one cannot be read: the other reads
then fail with nobody to tell, and each prints a traceback some time after the error was reported.
"""

import asyncio
import contextlib
from collections.abc import Iterator

from absl import logging


class _FinishingLoop(asyncio.SelectorEventLoop):
    """Waits for its unfinished tasks, whose errors are then known, before it closes."""

    def close(self) -> None:
        if not (self.is_closed() or self.is_running()):
            unfinished = asyncio.all_tasks(self)
            if unfinished:
                self.run_until_complete(asyncio.gather(*unfinished, return_exceptions=True))
        super().close()


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Within this, what orbax has to say is said by what it raises."""
    verbosity, new_event_loop = logging.get_verbosity(), asyncio.new_event_loop
    logging.set_verbosity(logging.FATAL)
    asyncio.new_event_loop = _FinishingLoop
    try:
        yield
    finally:
        asyncio.new_event_loop = new_event_loop
        logging.set_verbosity(verbosity)
