"""Recognises the layout of an archive by a file that only this layout has."""

from collections.abc import Callable
from typing import NamedTuple

from dass_jax.data.archives import Archive
from dass_jax.data.layouts.class_files import ClassFiles
from dass_jax.data.layouts.cub import CUB_MARKER, list_cub
from dass_jax.data.layouts.dtd import DTD_MARKER, list_dtd
from dass_jax.data.layouts.image_folder import list_image_folder
from dass_jax.data.layouts.roots import find_root
from dass_jax.data.layouts.stanford_cars import (
    JOINT_MARKER,
    SEPARATE_MARKER,
    list_joint_cars,
    list_separate_cars,
)
from dass_jax.data.layouts.tiny_imagenet import TINY_IMAGENET_MARKER, list_tiny_imagenet


class Layout(NamedTuple):
    """A way to arrange a dataset.

    Attributes:
      marker: a file that tells it, at the top of the archive or in a top folder.
      list_files: lists the images, given the prefix above the marker.
    """

    marker: str
    list_files: Callable[[Archive, str], ClassFiles]


LAYOUTS = (
    Layout(TINY_IMAGENET_MARKER, list_tiny_imagenet),
    Layout(CUB_MARKER, list_cub),
    Layout(DTD_MARKER, list_dtd),
    Layout(JOINT_MARKER, list_joint_cars),
    Layout(SEPARATE_MARKER, list_separate_cars),
    Layout(f"devkit/{SEPARATE_MARKER}", list_separate_cars),
)


def list_class_files(archive: Archive) -> ClassFiles:
    """Finds the layout of an archive and lists its images.

    Raises:
      UserError: the layout is unknown; a class lacks images in a split, or a split a class; an
        annotation is wrong.
    """
    for layout in LAYOUTS:
        root = find_root(archive, layout.marker)
        if root is not None:
            return layout.list_files(archive, root)
    return list_image_folder(archive)
