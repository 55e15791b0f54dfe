"""Where datasets lie: the user's files, prepared TFDS datasets, decoded arrays.

Folders of datasets may be remote (``gs://``); decoded arrays are memory-mapped and so are local.
"""

import os
import pathlib

from etils import epath

from dass_jax.errors import UserError

DATA_DIR_VARIABLE = "DASS_DATA_DIR"
TFDS_DIR_VARIABLE = "TFDS_DATA_DIR"
CACHE_DIR_VARIABLE = "DASS_CACHE_DIR"


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a URL such as ``gs://bucket/folder``."""
    # pathlib would make "gs:/" of this in a local path.
    return "://" in os.fspath(path)


def data_dir() -> epath.Path | None:
    """The user's folder of dataset files, if the environment names one."""
    value = os.environ.get(DATA_DIR_VARIABLE)
    return epath.Path(value).expanduser() if value else None


def tfds_dir() -> epath.Path:
    """The folder of prepared TFDS datasets, by TFDS's own convention."""
    value = os.environ.get(TFDS_DIR_VARIABLE) or "~/tensorflow_datasets"
    return epath.Path(value).expanduser()


def cache_dir() -> pathlib.Path:
    """The local folder of what can be made again from the datasets.

    Raises:
      UserError: the environment names a remote one.
    """
    value = os.environ.get(CACHE_DIR_VARIABLE)
    if value and is_remote(value):
        raise UserError(f"{CACHE_DIR_VARIABLE}={value} is remote; name a local folder")
    if value:
        return pathlib.Path(value).expanduser()
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dass_jax"


def find(source: str) -> epath.Path | None:
    """The file or folder of this path, as it is or in the user's folder of datasets.

    Raises:
      UserError: a kind of URL that cannot be read here.
    """
    if not source:
        return None
    try:
        path, folder = epath.Path(source).expanduser(), data_dir()
        # An absolute path stays what it is when it is joined.
        candidates = [path] if folder is None else [path, folder / source]
        return next((candidate for candidate in candidates if candidate.exists()), None)
    # What epath raises for https:// and, where no backend is installed, for gs://.
    except (KeyError, ImportError) as error:
        raise UserError(
            f"cannot read {source}: download the file and give its path; for gs:// and s3:// "
            "install fsspec and gcsfs or s3fs"
        ) from error
