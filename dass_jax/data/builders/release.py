"""What is known of an official dataset: its files, where they are, how they are arranged."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
from etils import epath

from dass_jax.data.archives import Archive, open_archives
from dass_jax.data.downloads import RemoteFile
from dass_jax.data.layouts import ClassFiles, FilesByClass, list_class_files


class RawExample(NamedTuple):
    """An example as its release holds it.

    Attributes:
      file_name: where it comes from.
      label: its class.
      image: the bytes of an image file, or gray values, uint8 [H, W].
    """

    file_name: str
    label: int
    image: bytes | np.ndarray


class RawSplit(NamedTuple):
    """The examples of one split.

    Attributes:
      num_examples: how many there are.
      read: yields them, in the order in which reading is cheapest.
    """

    num_examples: int
    read: Callable[[], Iterator[RawExample]]


class RawSplits(NamedTuple):
    """The content of a release.

    Attributes:
      class_names: one name per class.
      image_shape: of every image, where they are arrays; None for image files.
      splits: the examples of each split.
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, ...] | None
    splits: Mapping[str, RawSplit]


@dataclasses.dataclass(frozen=True)
class Release:
    """An official dataset.

    Attributes:
      name: what users call it.
      version: of what is prepared from it, ``1.0.0``; raised when that changes.
      description: one sentence.
      homepage: where people read about it and get its files.
      citation: the publication, as BibTeX.
      files: sets of files, each enough to prepare the dataset; the first is downloaded, the others
        are recognised when a user has placed them.
      open: reads such a set.
      configs: names of its variants, the default first; empty if there is only one.
    """

    name: str
    version: str
    description: str
    homepage: str
    citation: str
    files: tuple[tuple[RemoteFile, ...], ...]
    open: Callable[[Sequence[epath.Path], str], AbstractContextManager[RawSplits]]
    configs: tuple[str, ...] = ()


@contextlib.contextmanager
def open_image_archives(
    paths: Sequence[epath.Path],
    config: str,
    list_files: Callable[[Archive, str], ClassFiles] = lambda archive, _: list_class_files(archive),
) -> Iterator[RawSplits]:
    """Opens archives of image files that together are a release.

    Args:
      paths: the archives.
      config: the variant.
      list_files: finds the files of the variant.

    Raises:
      UserError: they are damaged or incomplete.
    """
    with open_archives(paths) as archive:
        files = list_files(archive, config)

        def split(by_class: FilesByClass) -> RawSplit:
            labels = files.labels(by_class)

            def read() -> Iterator[RawExample]:
                for name in archive.in_reading_order(labels):
                    yield RawExample(name, labels[name], archive.read(name))

            return RawSplit(len(labels), read)

        splits = {name: split(by_class) for name, by_class in files.splits.items()}
        yield RawSplits(files.class_names, None, splits)
