"""Folders, zip and tar files as lists of names that can be read into memory.

``open_archive`` opens one, ``open_archives`` several as if they were one. Nothing is unpacked.
"""

from dass_jax.data.archives.archive import Archive
from dass_jax.data.archives.opening import ARCHIVE_SUFFIXES, open_archive, open_archives

__all__ = ["ARCHIVE_SUFFIXES", "Archive", "open_archive", "open_archives"]
