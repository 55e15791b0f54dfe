"""What every kind of source offers: examples that are decoded one by one, on demand."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8


class Example(NamedTuple):
    """A decoded example.

    Attributes:
      row: its position in its part.
      label: its class.
      pixels: RGB values, uint8 [S, S, 3].
    """

    row: int
    label: int
    pixels: UInt8[np.ndarray, "S S 3"]


class PartReader(NamedTuple):
    """The examples of one part.

    Attributes:
      num_examples: how many there are.
      read: decodes them all for an image size in pixels, in whatever order is cheapest.
    """

    num_examples: int
    read: Callable[[int], Iterator[Example]]


class Reader(NamedTuple):
    """An opened source.

    Attributes:
      class_names: one name per class.
      parts: ``train`` and ``test``, or ``all``.
    """

    class_names: tuple[str, ...]
    parts: Mapping[str, PartReader]


@dataclasses.dataclass(frozen=True)
class FileSource:
    """A dataset in files, not yet opened.

    Attributes:
      name: what messages call it.
      fingerprint: what changes when the files do; plain values.
      open: opens it for reading; raises a UserError where the files are damaged.
    """

    name: str
    fingerprint: Mapping[str, Any]
    open: Callable[[], AbstractContextManager[Reader]]
