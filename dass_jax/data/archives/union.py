"""Several archives as one."""

from collections.abc import Iterable, Sequence

from dass_jax.data.archives.archive import Archive
from dass_jax.errors import UserError


class UnionArchive:
    """The files of several archives; they may share folders."""

    def __init__(self, archives: Sequence[Archive]) -> None:
        """Joins at least one archive.

        Raises:
          UserError: two of them hold a file of the same name.
        """
        self.path = archives[0].path
        self._archives = tuple(archives)
        self._holders: dict[str, Archive] = {}
        for archive in archives:
            for name in archive.names:
                holder = self._holders.setdefault(name, archive)
                if holder is not archive and not name.endswith("/"):
                    raise UserError(
                        f"both {holder.path} and {archive.path} hold {name}; give only one of them"
                    )
        self.names = tuple(sorted(self._holders))

    def read(self, name: str) -> bytes:
        """Returns the content of a file; a UserError if it cannot be read."""
        return self._holders[name].read(name)

    def in_reading_order(self, names: Iterable[str]) -> list[str]:
        """Returns the names archive by archive, each in its own order."""
        by_archive: dict[int, list[str]] = {id(archive): [] for archive in self._archives}
        for name in names:
            by_archive[id(self._holders[name])].append(name)
        return [
            name
            for archive in self._archives
            for name in archive.in_reading_order(by_archive[id(archive)])
        ]
