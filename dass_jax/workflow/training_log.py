"""Metrics of a training as it goes on: JSON lines, and TensorBoard events where it is installed."""

import contextlib
import importlib.util
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dass_jax.workdir import write_atomically


def write_history(path: pathlib.Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Writes all entries, one JSON object a line; a reader never sees half of one.

    Args:
      path: The file.
      history: Entries, oldest first.

    Raises:
      UserError: If it cannot be written.
    """
    lines = [json.dumps(entry) for entry in history]
    write_atomically(path, "".join(f"{line}\n" for line in lines).encode())


@contextlib.contextmanager
def event_writer(
    folder: pathlib.Path, done: int
) -> Iterator[Callable[[int, Mapping[str, Any]], None]]:
    """Writes TensorBoard events if ``tensorboardX`` is installed, and nothing if not.

    Args:
      folder: Where the event files go.
      done: Steps done before; TensorBoard forgets later ones of a run that was stopped.

    Yields:
      ``write(step, entry)``: the entry's numbers become scalars.
    """
    if importlib.util.find_spec("tensorboardX") is None:
        yield lambda step, entry: None
        return
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder), purge_step=done + 1 if done else None) as writer:

        def write(step: int, entry: Mapping[str, Any]) -> None:
            for name, value in entry.items():
                if isinstance(value, int | float):
                    writer.add_scalar(name, value, step)
            # a run that is killed shows what it did
            writer.flush()

        yield write
