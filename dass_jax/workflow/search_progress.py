"""What a stopped search had spent and measured, for the run that goes on with it."""

import contextlib
import pathlib
import time
from collections.abc import Iterator
from typing import Any

from dass_jax.workdir import read_json, write_json


class SearchProgress:
    """Seconds of each phase and measured latencies, over all runs of one search.

    A distilled network knows its own seconds; these are for all the rest.
    """

    def __init__(self, path: pathlib.Path, recipe: str) -> None:
        """Reads what an earlier run of the same search left.

        Args:
          path: The file; it is there as long as the search is unfinished.
          recipe: Digest of the search's recipe; what another search left is not looked at.
        """
        self._path, self._recipe = path, recipe
        self.seconds: dict[str, float] = {}
        self.latencies: list[dict[str, Any]] = []
        saved = read_json(path) if path.exists() else {}
        if saved.get("recipe") == recipe:
            self.seconds, self.latencies = saved["seconds"], saved["latencies"]

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts what is done inside, also if it is stopped."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begin
            self.save()

    def save(self) -> None:
        """Writes what there is so far."""
        content = {
            "recipe": self._recipe, "seconds": self.seconds, "latencies": self.latencies,
        }  # fmt: skip
        write_json(self._path, content)

    def remove(self) -> None:
        """Removes the file, when the search is done."""
        self._path.unlink(missing_ok=True)
