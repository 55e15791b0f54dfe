"""Image folders: ``train/CLASS/*`` with ``test/CLASS/*``, or ``CLASS/*`` alone."""

from dass_jax.data.archives import Archive
from dass_jax.data.layouts.class_files import (
    ClassFiles,
    FilesByClass,
    complete_class_files,
    files_by_folder,
    is_image,
)
from dass_jax.data.layouts.roots import single_root
from dass_jax.errors import UserError

_VALIDATION = ("val", "valid", "validation")
_HELD_OUT = ("test", *_VALIDATION)
_HOW_TO_ARRANGE = "arrange them as train/CLASS/*.jpg and test/CLASS/*.jpg, or as CLASS/*.jpg"


def list_image_folder(archive: Archive) -> ClassFiles:
    """Lists images by the folders that hold them.

    A validation folder serves as the test split where there is no other; else its images belong
    to the training split, from which validation images are drawn. Without a ``train`` folder
    each folder is a class, at the top or in a single top folder, and there is one split, ``all``.

    Raises:
      UserError: no images or class folders, a split without its counterpart, a class without
        images in a split.
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
    if any(len(path) > 2 and path[0] == "train" for path in paths):
        return ""
    tops = {path[0] for path in paths if len(path) > 3 and path[1] == "train"}
    return single_root(archive, tops, "train/")


def _list_splits(archive: Archive, root: str) -> dict[str, FilesByClass]:
    train = files_by_folder(archive, f"{root}train/")
    # Without class folders it is a pile of unlabelled images.
    held_out = {name: files_by_folder(archive, f"{root}{name}/") for name in _HELD_OUT}
    held_out = {name: by_class for name, by_class in held_out.items() if by_class}
    if not held_out:
        raise UserError(
            f"{archive.path} has no class folder in {root}test/ nor {root}val/; arrange the test "
            "images as test/CLASS/*.jpg"
        )
    # The first found, so that "test" goes before the others.
    test = held_out.pop(next(iter(held_out)))
    for by_class in held_out.values():
        for class_id, names in by_class.items():
            train.setdefault(class_id, []).extend(names)
    return {"train": train, "test": test}


def _list_all(archive: Archive) -> dict[str, FilesByClass]:
    folders = [name.split("/")[:-1] for name in archive.names if is_image(name)]
    tops = {folder[0] for folder in folders if folder}
    # A single top folder is the dataset itself if it holds folders in turn.
    is_nested = len(tops) == 1 and any(len(folder) > 1 for folder in folders)
    by_class = files_by_folder(archive, f"{tops.pop()}/" if is_nested else "")
    if not by_class:
        raise UserError(f"{archive.path} has no class folder; {_HOW_TO_ARRANGE}")
    for name in _HELD_OUT:
        if name in by_class:
            raise UserError(
                f"{archive.path} has {name}/ but no train/CLASS/; arrange the training images as "
                "train/CLASS/*.jpg"
            )
    return {"all": by_class}
