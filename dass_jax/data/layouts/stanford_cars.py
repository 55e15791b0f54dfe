"""Stanford Cars in its two official forms, annotated by MATLAB files.

One has ``car_ims/`` with ``cars_annos.mat``; the other ``cars_train/`` and ``cars_test/`` with
the files of ``devkit/``. The annotation files are published beside the archives of the images,
so a file is looked for in every folder.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from dass_jax.data.archives import Archive
from dass_jax.data.archives.member_names import is_image
from dass_jax.data.layouts.annotations import AnnotatedFiles, Line, bad_line, read_annotation
from dass_jax.data.layouts.class_files import ClassFiles, complete_class_files
from dass_jax.errors import UserError

JOINT_MARKER = "cars_annos.mat"
SEPARATE_MARKER = "cars_train_annos.mat"
_TEST_ANNOTATIONS = "cars_test_annos_withlabels.mat"
_SPLITS = {0: "train", 1: "test"}


def list_joint_cars(archive: Archive, root: str) -> ClassFiles:
    """Lists the form in which one file annotates all images.

    Args:
      archive: what holds it.
      root: prefix of its names; files are found elsewhere too.

    Raises:
      UserError: a file, class or image is missing, or a record is wrong.
    """
    del root
    content = _Matlab(archive, JOINT_MARKER)
    cars = _Cars(archive, content.class_names())
    for line, (path, number, test) in content.records("relative_im_path", "class", "test"):
        split = _SPLITS.get(_whole_number(test))
        if split is None:
            raise bad_line(archive, line, f"says test = {test}, neither 0 nor 1")
        cars.add(split, str(path), number, line)
    return cars.class_files()


def list_separate_cars(archive: Archive, root: str) -> ClassFiles:
    """Lists the form in which each split has a folder and an annotation file.

    Args:
      archive: what holds it.
      root: prefix of its names; files are found elsewhere too.

    Raises:
      UserError: a file, class or image is missing, or a record is wrong.
    """
    del root
    cars = _Cars(archive, _Matlab(archive, "cars_meta.mat").class_names())
    for split, file in (("train", SEPARATE_MARKER), ("test", _TEST_ANNOTATIONS)):
        for line, (name, number) in _Matlab(archive, file).records("fname", "class"):
            cars.add(split, f"cars_{split}/{name}", number, line)
    return cars.class_files()


class _Cars:
    """Assigns images by their folder and name, wherever the folder is."""

    def __init__(self, archive: Archive, class_names: Sequence[str]) -> None:
        self._archive = archive
        self._class_names = class_names
        self._annotated = AnnotatedFiles(archive, class_names)
        images = (name for name in archive.names if is_image(name))
        self._names = {"/".join(name.split("/")[-2:]): name for name in images}

    def add(self, split: str, path: str, number: Any, line: Line) -> None:
        """Assigns an image to the class of a number counted from 1."""
        label = _whole_number(number)
        if not 1 <= label <= len(self._class_names):
            raise bad_line(self._archive, line, f"names the unknown class {number}")
        name = self._names.get(path, path)
        self._annotated.add(split, self._class_names[label - 1], name, line)

    def class_files(self) -> ClassFiles:
        return complete_class_files(self._archive, self._class_names, self._annotated.splits)


class _Matlab:
    """A MATLAB file of the dataset."""

    def __init__(self, archive: Archive, file_name: str) -> None:
        # scipy.io takes time to import, and few datasets need it.
        from scipy.io import loadmat

        found = [name for name in archive.names if name.split("/")[-1] == file_name]
        self._archive = archive
        self._name = found[0] if found else file_name
        data = read_annotation(archive, self._name)
        try:
            self._variables = loadmat(io.BytesIO(data), squeeze_me=True)
        # What scipy raises on damage differs with the place of the damage.
        except Exception as error:
            raise UserError(
                f"{archive.path}: {self._name} is not a MATLAB file ({error}); download it again"
            ) from error

    def class_names(self) -> list[str]:
        """The names of the classes, by number."""
        return [str(name) for name in self._variable("class_names")]

    def records(self, *fields: str) -> list[tuple[Line, tuple[Any, ...]]]:
        """The values of some fields of each annotation."""
        annotations = self._variable("annotations")
        for field in fields:
            if field not in (annotations.dtype.names or ()):
                raise UserError(
                    f"{self._archive.path}: the annotations in {self._name} have no field "
                    f"{field!r}; give the file with labels"
                )
        return [
            (Line(self._name, number, kind="record"), tuple(record[field] for field in fields))
            for number, record in enumerate(annotations, start=1)
        ]

    def _variable(self, name: str) -> np.ndarray:
        if name not in self._variables:
            raise UserError(
                f"{self._archive.path}: {self._name} has no variable {name!r}; download it again"
            )
        # A single element is squeezed to a scalar.
        return np.atleast_1d(self._variables[name])


def _whole_number(value: Any) -> int:
    """The number in a field; -1 for anything else, which no field allows."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return -1
    # MATLAB's numbers are floats.
    return int(number) if number.is_integer() else -1
