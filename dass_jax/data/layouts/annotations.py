"""Annotation files: text read line by line, and images assigned to classes by them."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dass_jax.data.archives import Archive
from dass_jax.data.archives.member_names import is_image
from dass_jax.errors import UserError


class Line(NamedTuple):
    """A line of a text file, or a record of another annotation file.

    Attributes:
      file: its name in the archive.
      number: counted from 1.
      text: its content, stripped; empty for a record.
      kind: ``line`` or ``record``, for messages.
    """

    file: str
    number: int
    text: str = ""
    kind: str = "line"


class AnnotatedFiles:
    """Collects images by split and class as annotations name them, and refuses wrong ones.

    Attributes:
      splits: names of the images of each class id, for ``train`` and ``test``.
    """

    def __init__(self, archive: Archive, class_ids: Iterable[str]) -> None:
        class_ids = tuple(class_ids)
        self.splits: dict[str, dict[str, list[str]]] = {
            split: {class_id: [] for class_id in class_ids} for split in ("train", "test")
        }
        self._archive = archive
        self._images = {name for name in archive.names if is_image(name)}
        self._assigned: set[str] = set()

    def add(self, split: str, class_id: str, name: str, line: Line) -> None:
        """Assigns an image.

        Args:
          split: ``train`` or ``test``.
          class_id: its class.
          name: of the image in the archive.
          line: what says so, for messages.

        Raises:
          UserError: the image or the class is not there, or an earlier line named the image.
        """
        if class_id not in self.splits[split]:
            raise bad_line(self._archive, line, f"names the unknown class {class_id!r}")
        if name not in self._images:
            raise bad_line(self._archive, line, f"names the image {name}, which is not there")
        if name in self._assigned:
            raise bad_line(self._archive, line, f"names the image {name} a second time")
        self._assigned.add(name)
        self.splits[split][class_id].append(name)


def bad_line(archive: Archive, line: Line, wrong: str) -> UserError:
    """The error to raise about a line.

    Args:
      archive: what holds the file.
      line: the line.
      wrong: what it does, ``names no class``.
    """
    return UserError(
        f"{archive.path}: {line.kind} {line.number} of {line.file} {wrong}; "
        "download the archive again"
    )


def read_lines(archive: Archive, name: str) -> Iterator[Line]:
    """Reads the lines of a text file that are not blank.

    Raises:
      UserError: there is no such file, or it is not UTF-8.
    """
    try:
        text = read_annotation(archive, name).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{archive.path}: {name} is not UTF-8 text; download it again") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield Line(name, number, line.strip())


def read_annotation(archive: Archive, name: str) -> bytes:
    """Reads an annotation file.

    Raises:
      UserError: there is no such file, or it cannot be read.
    """
    if name not in archive.names:
        raise UserError(f"{archive.path} has no {name}; add it or download it again")
    return archive.read(name)
