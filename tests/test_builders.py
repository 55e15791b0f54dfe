import dataclasses
import json
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath
from miniatures import (
    COLOURS,
    cars_devkit_files,
    cars_files,
    class_folder_files,
    cub_files,
    dtd_files,
    image_folder_files,
    tiny_imagenet_files,
    write_archive,
)

from dass_jax.data import load
from dass_jax.data.builders import RELEASES, preparing, quickdraw
from dass_jax.data.builders.preparing import prepare_release, release_folder
from dass_jax.errors import UserError


@pytest.fixture(autouse=True)
def folders(own_folders):
    return own_folders


def drawings(classes, count=quickdraw.TRAIN_PER_CLASS + quickdraw.TEST_PER_CLASS, path=None):
    """A class file of Quick, Draw! for each class; pixels tell the class and the row."""
    for label, name in enumerate(classes):
        pixels = np.full((count, 784), label % 256, np.uint8)
        pixels[:, 0] = np.arange(count)
        np.save(path / f"{name}.npy", pixels)


OFFICIAL = {
    "tiny_imagenet": {"tiny-imagenet-200.zip": tiny_imagenet_files(count=3)},
    "cub200_2011": {"CUB_200_2011.tgz": cub_files()},
    "dtd": {"dtd-r1.0.1.tar.gz": dtd_files()},
}
COUNTS = {"tiny_imagenet": (9, 3, 3), "cub200_2011": (4, 2, 2), "dtd": (4, 2, 2)}


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_archives_are_prepared_and_loaded_by_name(folders, name):
    for file, content in OFFICIAL[name].items():
        write_archive(folders / "own" / file, content)
    dataset = load(name, image_size=8)
    train, test, classes = COUNTS[name]
    assert (len(dataset.train) + len(dataset.valid), len(dataset.test)) == (train, test)
    assert dataset.num_classes == classes
    for label in range(classes):
        colour = list(COLOURS.values())[label]
        assert np.abs(dataset.test.images[dataset.test.labels == label] - [*colour]).max() <= 4
    assert "tensorflow" not in sys.modules


def test_what_is_written_is_an_ordinary_tfds_dataset(folders):
    write_archive(folders / "own" / "CUB_200_2011.tgz", cub_files())
    folder = prepare_release(RELEASES["cub200_2011"])
    assert folder == folders / "tfds" / "cub200_2011" / "1.0.0"
    builder = tfds.builder_from_directory(folder)
    assert builder.info.features["label"].names == ["Black footed Albatross", "Laysan Albatross"]
    assert builder.info.supervised_keys == ("image", "label")
    source = builder.as_data_source("train")
    assert sorted(example["label"] for example in source) == [0, 0, 1, 1]
    assert source[0]["image"].shape == (6, 10, 3)
    assert source[0]["file_name"].startswith(b"CUB_200_2011/images/001.")
    origin = json.loads((folder / "metadata.json").read_text())
    assert origin["CUB_200_2011.tgz"]["official"] == "different"


@pytest.mark.parametrize("place", ["own", "own/stanford_cars", "tfds/downloads/manual"])
@pytest.mark.parametrize("form", ["joint", "separate"])
def test_both_forms_of_stanford_cars(folders, place, form):
    (folders / place).mkdir(parents=True, exist_ok=True)
    files = cars_files() if form == "joint" else cars_devkit_files()
    tops = {"car_ims": "car_ims", "cars_train": "cars_train", "cars_test": "cars_test",
            "devkit": "car_devkit"}  # fmt: skip
    for top, archive in tops.items():
        members = {name: data for name, data in files.items() if name.startswith(f"{top}/")}
        if members:
            write_archive(folders / place / f"{archive}.tgz", members)
    for name, data in files.items():
        if "/" not in name:
            (folders / place / name).write_bytes(data)
    cars = load("stanford_cars", image_size=8, valid_per_class=1)
    assert cars.class_names == ("AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012")
    assert [len(part) for part in (cars.train, cars.valid, cars.test)] == [2, 2, 2]


def test_an_image_folder_can_stand_in_for_a_release(folders):
    archive = write_archive(folders / "cars.zip", image_folder_files())
    prepare_release(RELEASES["stanford_cars"], files=[epath.Path(archive)])
    assert load("stanford_cars", image_size=8).class_names == tuple(COLOURS)


def test_an_image_folder_without_a_test_split_is_cut_when_it_is_loaded(folders):
    archive = write_archive(folders / "cars.zip", class_folder_files(count=10))
    prepare_release(RELEASES["stanford_cars"], files=[epath.Path(archive)])
    cars = load("stanford_cars", image_size=8)
    assert [len(part) for part in (cars.train, cars.valid, cars.test)] == [21, 3, 6]


def test_other_files_are_not_ignored_when_a_release_is_prepared(folders):
    archive = epath.Path(write_archive(folders / "cars.zip", image_folder_files()))
    folder = prepare_release(RELEASES["stanford_cars"], files=[archive])
    with pytest.raises(UserError, match=r"is prepared already, in .* remove it to prepare it from"):
        prepare_release(RELEASES["stanford_cars"], files=[archive])
    assert prepare_release(RELEASES["stanford_cars"]) == folder


def test_textures_without_numbered_splits_have_no_fold(folders):
    archive = epath.Path(write_archive(folders / "dtd.zip", image_folder_files()))
    with pytest.raises(UserError, match=r"has no labels/train1\.txt and so no numbered splits"):
        prepare_release(RELEASES["dtd"], "split3", [archive])


def test_the_missing_file_of_a_set_is_asked_for(folders, monkeypatch):
    names = ["cars_train.tgz", "cars_test.tgz", "car_devkit.tgz"]
    for name in names:
        write_archive(folders / "own" / name, {"a": b"b"})
    asked = []

    def refuse(file, *_, **__):
        asked.append(file.name)
        return epath.Path(folders / "own" / names[0])

    monkeypatch.setattr(preparing, "find_or_fetch", refuse)
    with pytest.raises(UserError):
        prepare_release(RELEASES["stanford_cars"])
    assert "cars_test_annos_withlabels.mat" in asked
    assert "car_ims.tgz" not in asked


def test_folds_of_dtd_are_datasets_of_their_own(folders):
    write_archive(folders / "own" / "dtd-r1.0.1.tar.gz", dtd_files())
    assert prepare_release(RELEASES["dtd"]) == prepare_release(RELEASES["dtd"], "split1")
    second = prepare_release(RELEASES["dtd"], "split2")
    assert second == folders / "tfds" / "dtd" / "split2" / "1.0.0"
    names = [
        {example["file_name"] for example in
         tfds.builder_from_directory(release_folder(RELEASES["dtd"], fold)).as_data_source("test")}
        for fold in ("split1", "split2")
    ]  # fmt: skip
    assert not names[0] & names[1]


def test_quickdraw_takes_the_first_drawings(folders, monkeypatch):
    release = RELEASES["quickdraw"]
    assert len(release.files[0]) == len(set(quickdraw.CLASS_NAMES)) == 345
    # All of them would take half a minute.
    few = dataclasses.replace(release, files=(release.files[0][:9],))
    monkeypatch.setitem(RELEASES, "quickdraw", few)
    drawings(quickdraw.CLASS_NAMES[:9], path=folders / "own")
    sketches = load("quickdraw", image_size=28, valid_per_class=5)
    assert sketches.class_names[:2] == ("aircraft carrier", "airplane")
    assert [len(part) // 9 for part in (sketches.train, sketches.valid, sketches.test)] == [
        15, 5, 100,
    ]  # fmt: skip
    assert sorted(sketches.test.images[sketches.test.labels == 7][:, 0, 0, 0]) == [*range(20, 120)]
    assert (sketches.test.images[:, 5, 5, 0] == sketches.test.labels).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>not found</html>", "is no numpy file"),
        (np.zeros((200, 100), np.uint8), r"holds uint8 of shape \[200, 100\], not uint8 of"),
        (np.zeros((200, 784)), r"holds float64 of shape \[200, 784\]"),
        (np.zeros((50, 784), np.uint8), "ends after 50 drawings, 120 are needed"),
    ],
)
def test_bad_drawings_are_named(folders, content, message):
    path = folders / "own" / "ant.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    drawings(["bee"], path=folders / "own")
    files = [epath.Path(path), epath.Path(folders / "own" / "bee.npy")]
    with pytest.raises(UserError, match=rf"ant\.npy {message}"):
        prepare_release(RELEASES["quickdraw"], files=files)


@pytest.mark.parametrize("name", RELEASES)
def test_without_network_the_error_tells_what_to_get_and_where_to_put_it(
    folders, name, monkeypatch
):
    # A name that no name server knows, by convention.
    unreachable = tuple(
        tuple(dataclasses.replace(file, url=f"http://nowhere.invalid/{number}") for file in files)
        for number, files in enumerate(RELEASES[name].files)
    )
    release = dataclasses.replace(RELEASES[name], files=unreachable)
    monkeypatch.setitem(RELEASES, name, release)
    begin = time.monotonic()
    with pytest.raises(UserError) as caught:
        load(name, image_size=8)
    assert time.monotonic() - begin < 8
    file = release.files[0][0]
    assert file.name in str(caught.value)
    assert file.url in str(caught.value)
    assert str(folders / "own") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_archive_leaves_nothing_prepared(folders):
    path = folders / "own" / "CUB_200_2011.tgz"
    write_archive(path, cub_files())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"CUB_200_2011\.tgz"):
        prepare_release(RELEASES["cub200_2011"])
    path.write_bytes(whole)
    assert load("cub200_2011", image_size=8).num_classes == 2


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(28, "No space left on device"),
            "the disk is full .* make room or set TFDS_DATA_D",
        ),
        (RuntimeError("RESOURCE_EXHAUSTED: No space left on device"), "the disk is full"),
        (PermissionError(13, "Permission denied"), "cannot prepare cub200_2011 in .*Permission"),
    ],
)
def test_errors_of_writing_are_one_line(folders, monkeypatch, error, message):
    write_archive(folders / "own" / "CUB_200_2011.tgz", cub_files())

    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(tfds.core.GeneratorBasedBuilder, "download_and_prepare", fail)
        with pytest.raises(UserError, match=message):
            load("cub200_2011", image_size=8)
    assert load("cub200_2011", image_size=8).num_classes == 2


def test_killed_preparation_starts_clean(folders):
    """Killed between two examples; the next one removes what is left and is complete."""
    write_archive(folders / "own" / "tiny-imagenet-200.zip", tiny_imagenet_files(count=3))
    program = """
import os
from dass_jax.data.builders import RELEASES, builder, preparing
original = builder.ReleaseBuilder._generate_examples
def dying(self, examples):
    for number, example in enumerate(original(self, examples)):
        if number == 5:
            os.kill(os.getpid(), 9)
        yield example
builder.ReleaseBuilder._generate_examples = dying
preparing.prepare_release(RELEASES["tiny_imagenet"])
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == -9
    parent = folders / "tfds" / "tiny_imagenet"
    assert list(parent.glob("incomplete.*"))
    assert not preparing.prepared_folder(epath.Path(parent))
    tiny = load("tiny_imagenet", image_size=8)
    assert len(tiny.train) + len(tiny.valid) == 9
    assert not list(parent.glob("incomplete.*"))
