"""Class splits as a file, and as the tasks of a configuration."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from dass_jax.data.class_splits import ClassSplits
from dass_jax.data.locations import find
from dass_jax.errors import UserError
from dass_jax.workdir import write_json


def write_splits(
    path: pathlib.Path, splits: ClassSplits, source: str, class_names: Sequence[str], seed: int
) -> None:
    """Writes class splits as readable JSON, with the names of their classes.

    Args:
      path: of the file.
      splits: what to write.
      source: what ``data.load`` takes.
      class_names: of all classes of the source.
      seed: that the splits were drawn with.
    """

    def described(split: Sequence[int]) -> dict[str, list]:
        return {"classes": list(split), "class_names": [class_names[label] for label in split]}

    manifest = {"source": source, "num_classes": len(class_names), "seed": seed}
    write_json(
        path,
        manifest
        | {
            "train": [described(split) for split in splits.train],
            "valid": [described(split) for split in splits.valid],
        },
    )


def read_splits(path: str) -> tuple[str, ClassSplits]:
    """Reads what ``write_splits`` has written.

    Args:
      path: of the file, as it is or in the folder that DASS_DATA_DIR names.

    Returns:
      The source, and its splits.

    Raises:
      UserError: there is no such file, or it holds something else.
    """
    file = find(path)
    if file is None:
        raise UserError(f"no class splits {path}: write them with bin/prepare_data.py splits")
    try:
        manifest = json.loads(file.read_text())
        train, valid = (
            tuple(tuple(int(label) for label in split["classes"]) for split in manifest[role])
            for role in ("train", "valid")
        )
        return str(manifest["source"]), ClassSplits(train, valid)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} holds no class splits ({error!r}): write them with bin/prepare_data.py splits"
        ) from error


def split_tasks(source: str, splits: ClassSplits, **fields: Any) -> dict[str, dict[str, Any]]:
    """The tasks of a configuration for class splits.

    Args:
      source: what ``data.load`` takes.
      splits: the classes of each task.
      **fields: further fields of every task, such as ``valid_per_class``.

    Returns:
      For ``config.tasks``: ``train0``, ``train1``, ... and ``valid0``, ...
    """
    return {
        f"{name}{index}": {"role": role, "source": source, "classes": classes, **fields}
        for name, role, members in (
            ("train", "meta_train", splits.train),
            ("valid", "meta_valid", splits.valid),
        )
        for index, classes in enumerate(members)
    }
