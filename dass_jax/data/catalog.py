"""Datasets of the TFDS catalog: prepared with TensorFlow, in a process of their own, once.

TensorFlow is needed to prepare them and never to read them, so the process that trains does not
import it.
"""

import importlib.util
import os
import subprocess
import sys
from urllib.parse import urlsplit

from etils import epath

from dass_jax.console import console
from dass_jax.data.locations import TFDS_DIR_VARIABLE, tfds_dir
from dass_jax.data.tfds_reader import prepared_folder
from dass_jax.errors import UserError

_TIMEOUT_SECONDS = 5


def catalog_names() -> list[str]:
    """The names of the TFDS catalog."""
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)


def prepare_catalog(name: str) -> epath.Path:
    """Prepares a dataset of the catalog as array_record, unless it is prepared.

    Args:
      name: ``cifar10``, or ``imagenet_resized/32x32`` with its configuration.

    Returns:
      The folder of the prepared dataset.

    Raises:
      UserError: TensorFlow is not installed, the files cannot be reached, or TFDS fails.
    """
    if (folder := prepared_folder(tfds_dir() / name)) is not None:
        return folder
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"{name} is not prepared in {tfds_dir()} yet, and preparing it needs TensorFlow, once: "
            "pip install -e '.[catalog]' in the checkout, or copy a folder prepared elsewhere as "
            f"array_record there (or set {TFDS_DIR_VARIABLE})"
        )
    _check_reachable(name)
    console.print(f"preparing {name} with TFDS and TensorFlow")
    command = [sys.executable, "-m", "dass_jax.data.catalog", name, os.fspath(tfds_dir())]
    if subprocess.run(command, check=False).returncode:
        raise UserError(f"TFDS could not prepare {name}; its own message is above")
    folder = prepared_folder(tfds_dir() / name)
    if folder is None:
        raise UserError(f"TFDS prepared {name}, but not in {tfds_dir() / name}")
    return folder


def _check_reachable(name: str) -> None:
    """Fails in seconds where TFDS would try for minutes."""
    import requests
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=tfds_dir())
    addresses = {urlsplit(url)._replace(path="/", query="") for url in builder.url_infos}
    for address in sorted(addresses):
        if address.scheme not in ("http", "https"):
            continue
        try:
            # Any answer will do; requests knows of proxies.
            requests.head(address.geturl(), timeout=_TIMEOUT_SECONDS)
        except requests.RequestException as error:
            raise UserError(
                f"{name} cannot be downloaded: {address.hostname} cannot be reached "
                f"({type(error).__name__}); prepare it where there is a network and copy its "
                f"folder to {tfds_dir() / name}"
            ) from error


def _prepare_here(name: str, folder: str) -> None:
    import tensorflow_datasets as tfds

    tfds.builder(name, data_dir=folder, file_format="array_record").download_and_prepare()


if __name__ == "__main__":
    _prepare_here(*sys.argv[1:])
