"""Names inside archives: which are dangerous, and which desktops added unasked."""

import posixpath

from etils import epath

from dass_jax.errors import UserError


def clean_name(name: str, path: epath.Path) -> str:
    """Brings the name of a member to the form ``folder/file``.

    Args:
      name: as the archive holds it.
      path: of the archive, for the message.

    Raises:
      UserError: it would lead out of the folder it were unpacked to, on any system.
    """
    parts = name.replace("\\", "/").split("/")
    is_absolute = parts[0] == "" or parts[0][1:2] == ":"
    if (is_absolute and name) or ".." in parts:
        raise UserError(f"{path} holds the unsafe path {name!r}; do not use this archive")
    # tar writes "./folder/" when it packs the current folder.
    return posixpath.normpath(name)


def is_visible(name: str) -> bool:
    """False for what desktops put into folders and archives, and for hidden files."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
