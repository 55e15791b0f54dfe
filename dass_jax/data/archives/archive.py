"""What every kind of archive offers."""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from etils import epath


@runtime_checkable
class Archive(Protocol):
    """Files by name; nothing is ever written or unpacked.

    Attributes:
      path: where it lies, for messages; the first place if there are several.
      names: sorted paths relative to the archive, with ``/``; a folder's name ends with one.
    """

    path: epath.Path
    names: tuple[str, ...]

    def read(self, name: str) -> bytes:
        """Returns the content of a file; several threads may read at a time.

        Raises:
          UserError: it cannot be read.
        """
        ...

    def in_reading_order(self, names: Iterable[str]) -> list[str]:
        """Returns the names in the order in which reading them is cheapest."""
        ...
