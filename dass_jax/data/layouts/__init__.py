"""Which files of an archive belong to which class, for every arrangement in use."""

from dass_jax.data.layouts.class_files import ClassFiles, FilesByClass
from dass_jax.data.layouts.detection import list_class_files
from dass_jax.data.layouts.dtd import DTD_MARKER, list_dtd
from dass_jax.data.layouts.roots import find_root

__all__ = [
    "DTD_MARKER",
    "ClassFiles",
    "FilesByClass",
    "find_root",
    "list_class_files",
    "list_dtd",
]
