"""Fingerprints of files, by which a cache notices that its source changed."""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from etils import epath

from dass_jax.data.archives.file_system import stamp_file, stamp_files


def file_stamps(path: epath.Path) -> Mapping[str, Any]:
    """Where a file or folder lies, and a digest of its files' names, sizes and times.

    Contents are not read: a second look at 50,000 files takes well under a second.
    """
    stamps = stamp_files(path) if path.is_dir() else [(path.name, *stamp_file(path))]
    digest = hashlib.sha256(repr(stamps).encode()).hexdigest()
    return {"path": os.fspath(path.resolve()), "files": len(stamps), "stamps": digest}
