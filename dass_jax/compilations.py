"""Counts what XLA compiles, so that a recompilation does not go unnoticed."""

from typing import NamedTuple

from jax import monitoring

_COMPILED = "/jax/core/compile/backend_compile_duration"
# A function found in the persistent cache is reported as compiled, too: quickly.
_durations: list[float] = []


def _listen(event: str, duration_secs: float, **_: str | int) -> None:
    if event == _COMPILED:
        _durations.append(duration_secs)


monitoring.register_event_duration_secs_listener(_listen)


class Compilations(NamedTuple):
    """What was compiled since some moment.

    Attributes:
      number: How many functions.
      seconds: How long that took, reading them from the persistent cache included.
    """

    number: int
    seconds: float

    def __sub__(self, earlier: "Compilations") -> "Compilations":
        """What was compiled in between."""
        return Compilations(self.number - earlier.number, self.seconds - earlier.seconds)


def compilations() -> Compilations:
    """What was compiled since this module was imported."""
    return Compilations(len(_durations), sum(_durations))
