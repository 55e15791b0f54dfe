"""Fingerprints of files, by which a cache notices that its source changed."""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from etils import epath

from dass_jax.data.archives import FolderArchive


def file_stamps(path: epath.Path) -> Mapping[str, Any]:
    """Where a file or folder lies, and a digest of its files' names, sizes and times.

    Contents are not read: a second look at 50,000 files takes well under a second.
    """
    if path.is_dir():
        names = [name for name in FolderArchive(path).names if not name.endswith("/")]
        stamps = [(name, *_stamp(path / name)) for name in names]
    else:
        stamps = [(path.name, *_stamp(path))]
    digest = hashlib.sha256(repr(stamps).encode()).hexdigest()
    return {"path": os.fspath(path.resolve()), "files": len(stamps), "stamps": digest}


def _stamp(path: epath.Path) -> tuple[int, int]:
    if "://" in os.fspath(path):
        remote = path.stat()
        return remote.length, int(remote.mtime)
    local = os.stat(path)
    return local.st_size, local.st_mtime_ns
