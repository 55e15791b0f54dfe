"""Where in an archive a dataset begins."""

from dass_jax.data.archives import Archive
from dass_jax.errors import UserError


def find_root(archive: Archive, marker: str) -> str | None:
    """Finds the folder that holds a file, at the top of an archive or one level below.

    Args:
      archive: where to look.
      marker: path of the file, relative to the folder.

    Returns:
      The prefix of the folder's names, empty at the top; None if the file is in neither place.

    Raises:
      UserError: several folders hold it.
    """
    if marker in archive.names:
        return ""
    tails = (name.partition("/") for name in archive.names if name.endswith(f"/{marker}"))
    return single_root(archive, {top for top, _, tail in tails if tail == marker}, marker)


def single_root(archive: Archive, tops: set[str], marker: str) -> str | None:
    """The prefix of the one top folder that holds something; None if none does.

    Raises:
      UserError: several do.
    """
    if len(tops) > 1:
        first, second, *_ = sorted(tops)
        raise UserError(
            f"{archive.path} holds several datasets: {marker} is in {first}/ and in {second}/; "
            "give one of them"
        )
    return f"{tops.pop()}/" if tops else None
