"""Datasets as a user manages them: listed, prepared, verified, looked at, split."""

import json
import os
import pathlib
from collections.abc import Sequence

from etils import epath

from dass_jax.console import console, count, print_table
from dass_jax.data import array_cache, class_splits, load, resolve
from dass_jax.data.builders import RELEASES, Release
from dass_jax.data.builders.preparing import (
    files_at_hand,
    prepare_release,
    release_folder,
)
from dass_jax.data.contact_sheet import save_contact_sheet
from dass_jax.data.downloads import Checksum, check
from dass_jax.data.generated import FAMILIES, GENERATED_PREFIX
from dass_jax.data.locations import (
    CACHE_DIR_VARIABLE,
    DATA_DIR_VARIABLE,
    TFDS_DIR_VARIABLE,
    cache_dir,
    data_dir,
    find,
    tfds_dir,
)
from dass_jax.data.sources import class_names, is_embedded
from dass_jax.data.split_manifest import write_splits as write_split_manifest
from dass_jax.data.tfds_reader import INFO_FILE, prepared_folder, prepared_names, read_all
from dass_jax.errors import UserError

_SHOWN_SIZE = 64


def print_datasets() -> None:
    """Prints what is known, what is prepared and where files are looked for."""
    folders = [
        [DATA_DIR_VARIABLE, data_dir() or "not set", "your files"],
        [TFDS_DIR_VARIABLE, tfds_dir(), "prepared TFDS datasets"],
        [CACHE_DIR_VARIABLE, cache_dir(), "decoded images"],
    ]
    print_table("Folders", ["variable", "folder", "holds"], folders, text_columns=3)
    rows = [
        ["digits", "ready", "scikit-learn's handwritten digits"],
        [f"{GENERATED_PREFIX}FAMILY", "ready", f"FAMILY is {', '.join(FAMILIES)}"],
    ]
    rows += [[release.name, _state(release), release.description] for release in RELEASES.values()]
    others = [name for name in prepared_names(tfds_dir()) if name.split("/")[0] not in RELEASES]
    rows += [[name, "prepared", "TFDS"] for name in others]
    rows += [[name, "file", "in the folder of your files"] for name in _own_files()]
    print_table("Datasets", ["source", "state", "what it is"], rows, text_columns=3)
    entries = array_cache.entries()
    if entries:
        rows = [[entry.name, count(array_cache.num_bytes(entry)) + "B"] for entry in entries]
        print_table(f"Decoded images in {cache_dir()}", ["entry", "size"], rows)


def prepare(sources: Sequence[str], files: Sequence[str] | None, image_size: int | None) -> None:
    """Prepares datasets, and decodes their images if a size is given.

    Args:
      sources: what ``data.load`` takes, or ``all`` for every official dataset.
      files: the user's own files of the one official dataset that is named.
      image_size: height and width, in pixels.

    Raises:
      UserError: a dataset that cannot be prepared; with several, after the others are.
    """
    names = list(RELEASES) if list(sources) == ["all"] else list(sources)
    if files is not None:
        _prepare_from(names, files)
    failed = []
    for name in names:
        try:
            if not is_embedded(name):
                source = resolve(name)
                if image_size is not None:
                    array_cache.load_or_decode(source, image_size)
            console.print(f"{name}: ready")
        except UserError as error:
            if len(names) == 1:
                raise
            failed.append(name)
            console.print(f"{name}: {error}")
    if failed:
        raise UserError(f"{len(failed)} of {len(names)} not prepared: {', '.join(failed)}")


def verify(sources: Sequence[str]) -> None:
    """Compares official files and decoded images with their checksums.

    Raises:
      UserError: something is damaged, or there is nothing to be verified.
    """
    names = list(RELEASES) if list(sources) == ["all"] else list(sources)
    rows, damaged = [], []
    for name in names:
        found = [state for kind in _VERIFIERS for state in kind(name)]
        rows += [[name, *state] for state in found]
        damaged += [path for path, state in found if state == "damaged"]
        if not found and list(sources) != ["all"]:
            raise UserError(f"there is nothing of {name!r} to verify: see prepare_data.py list")
    print_table("Checksums", ["source", "file", "state"], rows, text_columns=3)
    if damaged:
        raise UserError(f"damaged: {', '.join(damaged)}; remove them and prepare again")


def show(source: str, output: str | None, num_classes: int, image_size: int | None) -> None:
    """Writes a contact sheet of a dataset as PNG.

    Raises:
      UserError: the source cannot be read, or no class shall be shown.
    """
    if num_classes < 1:
        raise UserError(f"--classes={num_classes}: show at least one class")
    dataset = load(source, image_size=_SHOWN_SIZE if image_size is None else image_size)
    path = pathlib.Path(output or f"{dataset.name.replace('/', '_').replace(':', '_')}.png")
    save_contact_sheet(dataset, path, num_classes=num_classes)
    console.print(f"{source}: {dataset.num_classes} classes, see {path}")


def clean() -> None:
    """Removes all decoded images; they are made again when they are needed."""
    console.print(f"{count(array_cache.remove_all())}B of decoded images removed")


def write_splits(
    source: str,
    output: str | None,
    num_train_splits: int,
    num_valid_splits: int,
    classes_per_split: int,
    seed: int,
) -> None:
    """Draws class splits of a dataset and writes their manifest."""
    names = class_names(source)
    splits = class_splits(
        len(names), num_train_splits=num_train_splits, num_valid_splits=num_valid_splits,
        classes_per_split=classes_per_split, seed=seed,
    )  # fmt: skip
    path = pathlib.Path(output or "class_splits.json")
    write_split_manifest(path, splits, source, names, seed)
    console.print(
        f"{source}: {num_train_splits} + {num_valid_splits} splits of {classes_per_split} of its "
        f"{len(names)} classes, see {path}"
    )


def _release_folders(release: Release) -> list[epath.Path]:
    return [release_folder(release, config) for config in release.configs or ("",)]


def _state(release: Release) -> str:
    prepared = [folder for folder in _release_folders(release) if prepared_folder(folder)]
    if prepared:
        unofficial = any(not _is_official(folder) for folder in prepared)
        return "prepared from other files" if unofficial else "prepared"
    return "files at hand" if files_at_hand(release) else "not here"


def _is_official(folder: epath.Path) -> bool:
    """Whether no file that a dataset was prepared from differs from the official one."""
    origin = json.loads((folder / "metadata.json").read_text())
    return all(file["official"] != Checksum.DIFFERENT.value for file in origin.values())


def _own_files() -> list[str]:
    folder = data_dir()
    if folder is None or not folder.is_dir():
        return []
    return sorted(
        child.name for child in folder.iterdir()
        if not child.name.startswith(".") and child.suffix.lower() not in (".md", ".txt")
    )  # fmt: skip


def _prepare_from(names: Sequence[str], files: Sequence[str]) -> None:
    name, _, config = names[0].partition("/")
    if len(names) != 1 or name not in RELEASES:
        raise UserError(f"--file goes with one of {', '.join(RELEASES)}")
    paths = [epath.Path(file).expanduser() for file in files]
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist")
    prepare_release(RELEASES[name], config, paths)


def _verify_files(name: str) -> list[tuple[str, str]]:
    release = RELEASES.get(name.partition("/")[0])
    paths = None if release is None else files_at_hand(release)
    if release is None or not paths:
        return []
    known = {file.name: file for alternative in release.files for file in alternative}
    names = {
        Checksum.OFFICIAL: "official",
        Checksum.DIFFERENT: "not the official file",
        Checksum.UNKNOWN: "no checksum known",
    }
    # QuickDraw has hundreds of files without checksums: one line says it all.
    states = [(os.fspath(path), names[check(known[path.name], path)]) for path in paths]
    return states if len(states) < 10 else [(f"{len(states)} files", states[0][1])]


def _prepared_folders(name: str) -> list[epath.Path]:
    """Where a dataset is prepared, if it is; all its configurations unless one is named."""
    release = RELEASES.get(name)
    if release is not None:
        folders = [prepared_folder(folder) for folder in _release_folders(release)]
    elif (path := find(name)) is not None:
        folders = [prepared_folder(path)] if path.is_dir() else []
    else:
        folders = [prepared_folder(tfds_dir() / name)]
    return [folder for folder in folders if folder is not None]


def _verify_prepared(name: str) -> list[tuple[str, str]]:
    found = []
    for folder in _prepared_folders(name):
        try:
            read_all(folder)
            found.append((os.fspath(folder), "readable"))
        except UserError:
            found.append((os.fspath(folder), "damaged"))
    return found


def _verify_decoded(name: str) -> list[tuple[str, str]]:
    paths = {os.fspath((folder / INFO_FILE).resolve()) for folder in _prepared_folders(name)}
    if name not in RELEASES and (path := find(name)) is not None:
        paths.add(os.fspath(path.resolve()))
    found = []
    for entry in array_cache.entries():
        if array_cache.belongs_to(entry, paths):
            files = array_cache.damaged_files(entry)
            found += [(f"{entry.name}/{file}", "damaged") for file in files]
            if not files:
                found.append((entry.name, "as written"))
    return found


_VERIFIERS = (_verify_files, _verify_prepared, _verify_decoded)
