"""CUB-200-2011: images in ``images/``, their classes and splits in tables by image number."""

import re

from dass_jax.data.archives import Archive
from dass_jax.data.layouts.annotations import AnnotatedFiles, Line, bad_line, read_lines
from dass_jax.data.layouts.class_files import ClassFiles, complete_class_files

CUB_MARKER = "image_class_labels.txt"
_SPLITS = {"0": "test", "1": "train"}


def list_cub(archive: Archive, root: str) -> ClassFiles:
    """Lists its images.

    Args:
      archive: what holds it.
      root: prefix of its names.

    Raises:
      UserError: a file, class or image is missing, or a line is wrong.
    """
    classes = {key: value for key, (value, _) in _read_table(archive, f"{root}classes.txt").items()}
    images = _read_table(archive, f"{root}images.txt")
    labels = _read_values(archive, f"{root}{CUB_MARKER}", images)
    splits = _read_values(archive, f"{root}train_test_split.txt", images)
    annotated = AnnotatedFiles(archive, classes.values())
    for key, (path, line) in images.items():
        number, label_line = labels[key]
        if number not in classes:
            raise bad_line(archive, label_line, f"names the unknown class {number}")
        split, split_line = splits[key]
        if split not in _SPLITS:
            raise bad_line(archive, split_line, f"says {split!r}, neither 0 nor 1")
        annotated.add(_SPLITS[split], classes[number], f"{root}images/{path}", line)
    names = [_name_for_people(class_id) for class_id in classes.values()]
    return complete_class_files(archive, classes.values(), annotated.splits, names)


def _read_table(archive: Archive, name: str) -> dict[str, tuple[str, Line]]:
    """Reads lines of a number and a value."""
    table: dict[str, tuple[str, Line]] = {}
    for line in read_lines(archive, name):
        number, _, value = line.text.partition(" ")
        if not number.isdecimal() or not value:
            raise bad_line(archive, line, "is not a number and a value")
        if number in table:
            raise bad_line(archive, line, f"has the number {number} of an earlier line")
        table[number] = (value, line)
    return table


def _read_values(
    archive: Archive, name: str, images: dict[str, tuple[str, Line]]
) -> dict[str, tuple[str, Line]]:
    """Reads a table that must have one line for each image."""
    table = _read_table(archive, name)
    for number, (_, line) in table.items():
        if number not in images:
            raise bad_line(archive, line, f"names the unknown image {number}")
    for number, (_, line) in images.items():
        if number not in table:
            raise bad_line(archive, line, f"names the image {number}, which {name} lacks")
    return table


def _name_for_people(class_id: str) -> str:
    """``Black footed Albatross`` for ``001.Black_footed_Albatross``."""
    return re.sub(r"^\d+\.", "", class_id).replace("_", " ")
