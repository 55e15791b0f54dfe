"""Stopping when the process is asked to, at a point where nothing is lost.

A preempted cloud machine sends SIGTERM some seconds before it is taken away; people press Ctrl-C.
"""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class StoppedError(KeyboardInterrupt):
    """The process was asked to stop.

    Attributes:
      number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class _Process:
    """Signals are sent to the process, so what is known of them is the process's, too."""

    deferring: bool = False
    asked: int | None = None


def _on_signal(number: int, frame: FrameType | None) -> None:
    if not _Process.deferring or _Process.asked is not None:
        raise StoppedError(number)
    _Process.asked = number


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Makes SIGTERM and Ctrl-C raise a ``StoppedError``, in the main thread."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, _on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def deferred_stop() -> Iterator[None]:
    """Lets the first signal wait for ``check_stop``; a second one stops at once."""
    _Process.deferring, _Process.asked = True, None
    try:
        yield
        check_stop()
    finally:
        _Process.deferring, _Process.asked = False, None


def stop_requested() -> bool:
    """Whether a signal waits."""
    return _Process.asked is not None


def check_stop() -> None:
    """Stops here if a signal waits.

    Raises:
      StoppedError: One does.
    """
    if _Process.asked is not None:
        raise StoppedError(_Process.asked)
