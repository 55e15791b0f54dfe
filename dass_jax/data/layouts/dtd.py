"""DTD, the describable textures: ``images/CLASS/*`` with ten numbered ways to split them."""

from dass_jax.data.archives import Archive
from dass_jax.data.layouts.annotations import AnnotatedFiles, read_lines
from dass_jax.data.layouts.class_files import ClassFiles, complete_class_files, files_by_folder
from dass_jax.errors import UserError

DTD_MARKER = "labels/train1.txt"
NUM_FOLDS = 10


def list_dtd(archive: Archive, root: str, fold: int = 1) -> ClassFiles:
    """Lists its images; the validation images belong to the training split.

    Args:
      archive: what holds it.
      root: prefix of its names.
      fold: which of the splits, 1 to 10.

    Raises:
      UserError: there is no such fold, a file or class is missing, or a line is wrong.
    """
    if not 1 <= fold <= NUM_FOLDS:
        raise UserError(f"DTD has no split {fold}; choose from 1 to {NUM_FOLDS}")
    class_ids = sorted(files_by_folder(archive, f"{root}images/"))
    annotated = AnnotatedFiles(archive, class_ids)
    for split, list_name in (("train", "train"), ("train", "val"), ("test", "test")):
        for line in read_lines(archive, f"{root}labels/{list_name}{fold}.txt"):
            class_id, _, _ = line.text.partition("/")
            annotated.add(split, class_id, f"{root}images/{line.text}", line)
    names = [class_id.replace("_", " ") for class_id in class_ids]
    return complete_class_files(archive, class_ids, annotated.splits, names)
