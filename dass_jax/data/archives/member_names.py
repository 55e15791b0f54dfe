"""Names inside archives: which are dangerous, which desktops added unasked, which are images."""

import posixpath
import re

from etils import epath

from dass_jax.errors import UserError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
)
# "x: y" is a name like any other.
_DRIVE = re.compile("[A-Za-z]:/")


def clean_name(name: str, path: epath.Path) -> str:
    """Brings the name of a member to the form ``folder/file``.

    Args:
      name: as the archive holds it.
      path: of the archive, for the message.

    Raises:
      UserError: it would lead out of the folder it were unpacked to, on any system.
    """
    # Old tools on Windows write "folder\\file".
    slashed = name.replace("\\", "/")
    if slashed.startswith("/") or _DRIVE.match(slashed) or ".." in slashed.split("/"):
        raise UserError(f"{path} holds the unsafe path {name!r}; do not use this archive")
    # tar writes "./folder/" when it packs the current folder.
    return posixpath.normpath(slashed)


def is_visible(name: str) -> bool:
    """False for what desktops put into folders and archives, and for hidden files."""
    is_hidden = name.startswith(".") or "/." in name
    return not is_hidden and "__MACOSX" not in name.split("/")


def is_image(name: str) -> bool:
    """Whether a file is an image, by its suffix."""
    return posixpath.splitext(name)[1].lower() in IMAGE_SUFFIXES
