"""Which files of an archive belong to which class: image folders and Tiny-ImageNet."""

import dataclasses
from collections.abc import Mapping
from pathlib import PurePosixPath

from dass_jax.data.archives import Archive
from dass_jax.errors import UserError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
)

FilesByClass = Mapping[str, list[str]]


@dataclasses.dataclass(frozen=True)
class ClassFiles:
    """The image files of a dataset.

    Attributes:
      class_ids: how the archive calls the classes, in the order of their labels.
      class_names: the same, for people.
      train: names of the training images of each class id.
      test: names of the test images of each class id.
    """

    class_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    train: FilesByClass
    test: FilesByClass


def list_class_files(archive: Archive) -> ClassFiles:
    """Finds the layout of an archive and lists its images.

    Raises:
      UserError: the layout is unknown, a class lacks images in a split, or a split a class.
    """
    root = _find_root(archive)
    if f"{root}wnids.txt" in archive.names:
        files = _list_tiny_imagenet(archive, root)
    else:
        files = _list_image_folder(archive, root)
    for split, by_class, other, other_by_class in (
        ("train", files.train, "test", files.test),
        ("test", files.test, "train", files.train),
    ):
        for class_id in by_class:
            if class_id not in other_by_class:
                raise UserError(
                    f"{archive.path}: class {class_id!r} is in {split} but not in {other}; "
                    "add its images there or remove the class"
                )
            if not by_class[class_id]:
                raise UserError(
                    f"{archive.path}: class {class_id!r} has no image in {split}; "
                    "add some or remove the class"
                )
    return files


def _find_root(archive: Archive) -> str:
    """The prefix of the names above ``train/``: empty, or one top folder."""
    if any(name.startswith("train/") for name in archive.names):
        return ""
    split_names = (name.split("/") for name in archive.names)
    roots = {parts[0] for parts in split_names if len(parts) > 2 and parts[1] == "train"}
    if len(roots) == 1:
        return f"{roots.pop()}/"
    raise UserError(
        f"{archive.path} holds no images in train/CLASS/; arrange them as train/CLASS/*.jpg and "
        "test/CLASS/*.jpg"
    )


def _list_image_folder(archive: Archive, root: str) -> ClassFiles:
    train = _files_below(archive, f"{root}train/")
    test = _files_below(archive, f"{root}test/")
    for split, by_class in (("train", train), ("test", test)):
        if not by_class:
            raise UserError(
                f"{archive.path} has no class folder in {root}{split}/; arrange the images as "
                f"{split}/CLASS/*.jpg"
            )
    class_ids = tuple(sorted(train))
    return ClassFiles(class_ids, class_ids, train, test)


def _list_tiny_imagenet(archive: Archive, root: str) -> ClassFiles:
    class_ids = tuple(_read_text(archive, f"{root}wnids.txt").split())
    train = _files_below(archive, f"{root}train/")
    known = {class_id: train[class_id] for class_id in class_ids if class_id in train}
    words: dict[str, str] = {}
    if f"{root}words.txt" in archive.names:
        rows = (line.split("\t") for line in _read_text(archive, f"{root}words.txt").splitlines())
        # "goldfish, Carassius auratus": the first synonym is name enough.
        words = {row[0]: row[1].split(",")[0].strip() for row in rows if len(row) > 1}
    names = tuple(words.get(class_id, class_id) for class_id in class_ids)
    return ClassFiles(class_ids, names, known, _tiny_imagenet_val(archive, root, class_ids))


def _tiny_imagenet_val(archive: Archive, root: str, class_ids: tuple[str, ...]) -> FilesByClass:
    annotations = f"{root}val/val_annotations.txt"
    present = set(archive.names)
    by_class: dict[str, list[str]] = {class_id: [] for class_id in class_ids}
    for number, line in enumerate(_read_text(archive, annotations).splitlines(), start=1):
        file, _, rest = line.partition("\t")
        class_id = rest.split("\t")[0].strip()
        name = f"{root}val/images/{file}"
        if class_id not in by_class or name not in present:
            raise UserError(
                f"{archive.path}: line {number} of {annotations} names an image or class that is "
                "not there; download the archive again"
            )
        by_class[class_id].append(name)
    return by_class


def _files_below(archive: Archive, prefix: str) -> FilesByClass:
    """Image files by the folder just below ``prefix``; a folder without images has none."""
    by_class: dict[str, list[str]] = {}
    for name in archive.names:
        class_id, slash, file = name.removeprefix(prefix).partition("/")
        if name.startswith(prefix) and slash:
            files = by_class.setdefault(class_id, [])
            if PurePosixPath(file).suffix.lower() in IMAGE_SUFFIXES:
                files.append(name)
    return by_class


def _read_text(archive: Archive, name: str) -> str:
    if name not in archive.names:
        raise UserError(f"{archive.path} has no {name}; download the archive again")
    try:
        return archive.read(name).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{archive.path}: {name} is not UTF-8 text; download it again") from error
