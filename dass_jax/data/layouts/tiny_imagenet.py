"""Tiny-ImageNet: ``train/WNID/images/*``, and ``val/images/*`` with a list of their classes."""

from dass_jax.data.archives import Archive
from dass_jax.data.layouts.annotations import AnnotatedFiles, bad_line, read_lines
from dass_jax.data.layouts.class_files import ClassFiles, complete_class_files, files_by_folder

TINY_IMAGENET_MARKER = "wnids.txt"


def list_tiny_imagenet(archive: Archive, root: str) -> ClassFiles:
    """Lists its images; ``val`` is the test split, since the labels of ``test`` are secret.

    Args:
      archive: what holds it.
      root: prefix of its names.

    Raises:
      UserError: a file or class is missing, or a line is wrong.
    """
    class_ids = [line.text for line in read_lines(archive, f"{root}{TINY_IMAGENET_MARKER}")]
    folders = files_by_folder(archive, f"{root}train/")
    train = {class_id: folders[class_id] for class_id in class_ids if class_id in folders}
    annotated = AnnotatedFiles(archive, class_ids)
    for line in read_lines(archive, f"{root}val/val_annotations.txt"):
        file, *fields = line.text.split("\t")
        if not fields:
            raise bad_line(archive, line, "names no class")
        annotated.add("test", fields[0].strip(), f"{root}val/images/{file}", line)
    words = _read_words(archive, f"{root}words.txt")
    names = [words.get(class_id, class_id) for class_id in class_ids]
    splits = {"train": train, "test": annotated.splits["test"]}
    return complete_class_files(archive, class_ids, splits, names)


def _read_words(archive: Archive, name: str) -> dict[str, str]:
    if name not in archive.names:
        return {}
    rows = (line.text.split("\t") for line in read_lines(archive, name))
    # "goldfish, Carassius auratus": the first synonym is name enough.
    return {row[0]: row[1].split(",")[0].strip() for row in rows if len(row) > 1}
