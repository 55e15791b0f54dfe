"""Image folders: ``train/CLASS/*`` with ``test/CLASS/*``, or ``CLASS/*`` alone."""

from collections.abc import Sequence

from dass_jax.data.archives import Archive
from dass_jax.data.archives.member_names import is_image
from dass_jax.data.layouts.class_files import (
    ClassFiles,
    FilesByClass,
    complete_class_files,
    files_by_folder,
)
from dass_jax.data.layouts.roots import single_root
from dass_jax.errors import UserError

_TRAIN = ("train", "training")
_TEST = ("test", "testing")
_VALIDATION = ("val", "valid", "validation")
_HELD_OUT = _TEST + _VALIDATION
_HOW_TO_ARRANGE = "arrange them as train/CLASS/*.jpg and test/CLASS/*.jpg, or as CLASS/*.jpg"


def list_image_folder(archive: Archive) -> ClassFiles:
    """Lists images by the folders that hold them.

    The folders of splits may be in capitals. A validation folder serves as the test split where
    there is no other; else its images belong to the training split, from which validation images
    are drawn. Without a ``train`` folder each folder is a class, at the top or in a single top
    folder, and there is one split, ``all``.

    Raises:
      UserError: no images or class folders, a split without its counterpart or in two folders, a
        class without images in a split, classes with images in folders of their own only.
    """
    if not any(is_image(name) for name in archive.names):
        raise UserError(f"{archive.path} holds no images; {_HOW_TO_ARRANGE}")
    root = _find_train_root(archive)
    splits = _list_splits(archive, root) if root is not None else _list_all(archive)
    first = next(iter(splits.values()))
    return complete_class_files(archive, sorted(first), splits)


def _find_train_root(archive: Archive) -> str | None:
    """The prefix above ``train/CLASS/``, at the top or in one top folder; None without it."""
    paths = [name.split("/") for name in archive.names]
    # A class may be called "train" too; only a split has folders inside.
    if any(len(path) > 2 and path[0].lower() in _TRAIN for path in paths):
        return ""
    tops = {path[0] for path in paths if len(path) > 3 and path[1].lower() in _TRAIN}
    return single_root(archive, tops, "train/")


def _list_splits(archive: Archive, root: str) -> dict[str, FilesByClass]:
    train = _list_split(archive, root, _TRAIN)
    held_out = [_list_split(archive, root, names) for names in (_TEST, _VALIDATION)]
    # Without class folders it is a pile of unlabelled images.
    held_out = [by_class for by_class in held_out if by_class]
    if not held_out:
        raise UserError(
            f"{archive.path} has no class folder in {root}test/ nor {root}val/; arrange the test "
            "images as test/CLASS/*.jpg"
        )
    test, *others = held_out
    for by_class in others:
        for class_id, names in by_class.items():
            train.setdefault(class_id, []).extend(names)
    return {"train": train, "test": test}


def _list_split(archive: Archive, root: str, names: Sequence[str]) -> dict[str, list[str]]:
    """The images by class of the folder that has one of the names of a split, in any case."""
    tails = (name.removeprefix(root) for name in archive.names if name.startswith(root))
    folders = {tail.partition("/")[0] for tail in tails}
    found = {
        folder: by_class
        for folder in sorted(folders)
        if folder.lower() in names and (by_class := files_by_folder(archive, f"{root}{folder}/"))
    }
    if len(found) > 1:
        first, second, *_ = found
        raise UserError(
            f"{archive.path} has class folders in {root}{first}/ and in {root}{second}/; "
            f"put the images of both into {root}{names[0]}/"
        )
    return next(iter(found.values()), {})


def _list_all(archive: Archive) -> dict[str, FilesByClass]:
    folders = [name.split("/")[:-1] for name in archive.names if is_image(name)]
    tops = {folder[0] for folder in folders if folder}
    # A single top folder is the dataset itself if it holds folders in turn.
    is_nested = len(tops) == 1 and any(len(folder) > 1 for folder in folders)
    by_class = files_by_folder(archive, f"{tops.pop()}/" if is_nested else "")
    if not by_class:
        raise UserError(f"{archive.path} has no class folder; {_HOW_TO_ARRANGE}")
    for name in by_class:
        if name.lower() in _HELD_OUT:
            raise UserError(
                f"{archive.path} has {name}/ but no train/CLASS/; arrange the training images as "
                "train/CLASS/*.jpg"
            )
    files = [name for names in by_class.values() for name in names]
    class_depth = 2 if is_nested else 1
    # Most likely these folders are the classes, and those above are splits.
    if files and all(name.count("/") > class_depth for name in files):
        raise UserError(
            f"{archive.path} has images only in folders inside its class folders, such as "
            f"{files[0]}; {_HOW_TO_ARRANGE}"
        )
    return {"all": by_class}
