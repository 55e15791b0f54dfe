"""Unfinished work: saved every few minutes and when the process is asked to stop."""

import pathlib
import shutil
import time
from collections.abc import Callable
from typing import Any

from dass_jax import checkpoints
from dass_jax.console import console
from dass_jax.errors import UnreadableError, UserError
from dass_jax.recipe import Recipe
from dass_jax.stopping import check_stop, stop_requested

SAVE_EVERY_SECONDS = 300.0


class Snapshots:
    """The unfinished state of one computation, in a folder of its own."""

    def __init__(
        self,
        folder: pathlib.Path | None,
        what: str,
        recipe: Recipe,
        *,
        every_seconds: float | None = None,
    ) -> None:
        """Names a computation; nothing is read or written yet.

        Args:
          folder: Where its snapshots lie; None saves nothing.
          what: The computation, for messages.
          recipe: What its numbers depend on.
          every_seconds: Time between two snapshots; ``SAVE_EVERY_SECONDS`` if None.
        """
        self._folder, self._what, self._recipe = folder, what, recipe
        self._every_seconds = SAVE_EVERY_SECONDS if every_seconds is None else every_seconds
        self._saved_at, self._past = time.monotonic(), 0.0
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time spent so far, over all runs."""
        return self._past + time.monotonic() - self._begun

    def exist(self) -> bool:
        """Whether there is one to go on from."""
        return self._folder is not None and checkpoints.exists(self._folder)

    def restore(self, template: Any) -> tuple[Any, dict[str, Any]] | None:
        """Where a stopped run was, or None at the beginning.

        Args:
          template: The arrays, or ``jax.ShapeDtypeStruct`` of their shapes and types.

        Returns:
          The arrays to go on from, on the host, and what was saved beside them.

        Raises:
          UserError: If what is saved was made with other settings.
        """
        if self._folder is None or not self.exist():
            return None
        checkpoints.require_recipe(self._folder, self._what, self._recipe)
        arrays, metadata = checkpoints.restore(self._folder, template)
        self._past = metadata["seconds"]
        step = checkpoints.latest_step(self._folder)
        console.print(f"{self._what}: going on from step {step}")
        return arrays, metadata

    def restore_or_discard(self, template: Any) -> tuple[Any, dict[str, Any]] | None:
        """As ``restore``, but what cannot be gone on from is removed.

        Raises:
          UnreadableError: If it cannot be read now, and may be another time.
        """
        try:
            return self.restore(template)
        except UnreadableError:
            raise
        except UserError as error:
            # what the message advises in the end is for those who may not lose it
            console.print(f"{str(error).rpartition(': ')[0]}: removed")
            self.remove()
            return None

    def offer(self, step: int, take: Callable[[], tuple[Any, dict[str, Any]]]) -> None:
        """Saves if the time has come or the process is asked to stop, and then stops.

        Args:
          step: Grows from offer to offer.
          take: Gives the arrays and what else is needed to go on, as JSON.

        Raises:
          StoppedError: The process is asked to stop.
        """
        due = time.monotonic() - self._saved_at > self._every_seconds
        if due or stop_requested():
            self.keep(step, take)
        check_stop()

    def keep(self, step: int, take: Callable[[], tuple[Any, dict[str, Any]]]) -> None:
        """Saves, unless this step is saved already; the arguments are those of ``offer``."""
        if self._folder is not None and checkpoints.latest_step(self._folder) != step:
            self.save(step, *take())
        self._saved_at = time.monotonic()

    def save(self, step: int, arrays: Any, metadata: dict[str, Any]) -> None:
        """Saves in place of the last snapshot."""
        if self._folder is None:
            return
        description = metadata | {"recipe": self._recipe, "seconds": self.seconds}
        checkpoints.save(self._folder, step, arrays, description)

    def remove(self) -> None:
        """Removes the snapshots, when the result is safe."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
