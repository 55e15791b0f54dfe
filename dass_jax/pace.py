"""Long loops in compiled code, cut into calls of about a second."""

import time
from collections.abc import Iterator

# Between two calls a run may be saved or stopped: often enough to exit within seconds of a signal,
# seldom enough that starting them costs nothing.
SECONDS_PER_CALL = 1.0


class Pace:
    """How many steps a call does; the first calls, which also compile, are short."""

    def __init__(self) -> None:
        """Begins with one step."""
        self._steps = 1

    def calls(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Cuts a loop into calls, each timed from when it is given to when the next is asked for.

        Args:
          start: The first step.
          stop: The step before which to end.

        Yields:
          The first step of a call, and the one before which it ends; the call must be over, with
          its results computed, when the next one is asked for.
        """
        while start < stop:
            end = min(start + self._steps, stop)
            begun = time.monotonic()
            yield start, end
            self._adapt(end - start, time.monotonic() - begun)
            start = end

    def _adapt(self, steps: int, seconds: float) -> None:
        """Learns from a call that did so many steps in so many seconds."""
        fitting = round(SECONDS_PER_CALL * steps / max(seconds, 1e-6))
        self._steps = max(1, min(2 * self._steps, fitting))
