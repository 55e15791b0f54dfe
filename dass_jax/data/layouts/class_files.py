"""The image files of a dataset by class, and what makes them complete."""

import dataclasses
import itertools
import os
import posixpath
from collections.abc import Iterable, Mapping

from dass_jax.data.archives import Archive
from dass_jax.data.archives.member_names import is_image
from dass_jax.errors import UserError

FilesByClass = Mapping[str, list[str]]


@dataclasses.dataclass(frozen=True)
class ClassFiles:
    """The image files of a dataset.

    Attributes:
      class_ids: how the archive calls the classes, in the order of their labels.
      class_names: the same, for people.
      splits: names of the images of each class id; for ``train`` and ``test``, or for ``all``
        if the dataset has no test split of its own.
    """

    class_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    splits: Mapping[str, FilesByClass]

    def labels(self, by_class: FilesByClass) -> dict[str, int]:
        """Returns the label of every image of a split, ordered by label."""
        return {
            name: label
            for label, class_id in enumerate(self.class_ids)
            for name in by_class[class_id]
        }


def complete_class_files(
    archive: Archive,
    class_ids: Iterable[str],
    splits: Mapping[str, FilesByClass],
    class_names: Iterable[str] | None = None,
) -> ClassFiles:
    """Makes the class files of an archive if nothing is missing.

    Args:
      archive: for messages.
      class_ids: the classes, in the order of their labels.
      splits: names of the images of each class id, for ``train`` and ``test`` or for ``all``.
      class_names: the classes for people; the ids by default.

    Raises:
      UserError: fewer than two classes, one of them listed twice, a class that a split lacks or
        has no image of, or a file that is in two splits by a link.
    """
    class_ids = tuple(class_ids)
    if len(set(class_ids)) < len(class_ids):
        twice = next(class_id for class_id in class_ids if class_ids.count(class_id) > 1)
        raise UserError(
            f"{archive.path} lists the class {twice!r} twice; download the archive again"
        )
    for split in splits:
        for other in splits:
            _check_split(archive, split, splits[split], other, splits[other])
    if len(class_ids) < 2:
        found = f"one class only, {class_ids[0]!r}" if class_ids else "no class"
        raise UserError(f"{archive.path} holds {found}; give at least two classes of images")
    _check_shared_files(archive, splits)
    return ClassFiles(class_ids, tuple(class_names or class_ids), splits)


def _check_split(
    archive: Archive, split: str, by_class: FilesByClass, other: str, in_other: FilesByClass
) -> None:
    for class_id, names in by_class.items():
        if class_id not in in_other:
            raise UserError(
                f"{archive.path}: class {class_id!r} is in {split} but not in {other}; "
                "add its images there or remove the class"
            )
        if not names:
            where = "" if split == "all" else f" in {split}"
            raise UserError(
                f"{archive.path}: class {class_id!r} has no image{where}; "
                "add some or remove the class"
            )


def _check_shared_files(archive: Archive, splits: Mapping[str, FilesByClass]) -> None:
    """Refuses splits that share files because a folder of one is a link to one of the other."""
    real_files = {split: _real_files(archive, by_class) for split, by_class in splits.items()}
    for (split, files), (other, in_other) in itertools.combinations(real_files.items(), 2):
        for shared in sorted(files.keys() & in_other.keys()):
            raise UserError(
                f"{archive.path}: {files[shared]} in {split} and {in_other[shared]} in {other} are "
                "the same file by a link between folders; give each split its own images"
            )


def _real_files(archive: Archive, by_class: FilesByClass) -> dict[tuple[str, str], str]:
    """The names of files by where they really are, as far as links to folders tell."""
    real_files, real_folders = {}, {}
    for name in itertools.chain.from_iterable(by_class.values()):
        folder, file = posixpath.split(name)
        if folder not in real_folders:
            # In a zip or tar file, where no folder is a link, this is but another name for it.
            real_folders[folder] = os.path.realpath(archive.path / folder)
        real_files[real_folders[folder], file] = name
    return real_files


def files_by_folder(archive: Archive, prefix: str) -> dict[str, list[str]]:
    """Image files by the folder just below ``prefix``; a folder without images has none."""
    by_class: dict[str, list[str]] = {}
    for name in archive.names:
        class_id, slash, file = name.removeprefix(prefix).partition("/")
        if name.startswith(prefix) and slash:
            files = by_class.setdefault(class_id, [])
            if is_image(file):
                files.append(name)
    return by_class
