import os
from pathlib import Path

import numpy as np
import pytest
from miniatures import (
    COLOURS,
    class_folder_files,
    image_folder_files,
    tiny_imagenet_files,
    write_archive,
    write_folder,
    write_npz,
    write_zip,
)

from dass_jax.data import load
from dass_jax.errors import UserError

DATA_DIR = os.environ.get("DASS_DATA_DIR")
SPLITS = ("train", "valid", "test")


def colour_of(split, label):
    return tuple(int(value) for value in split.images[split.labels == label][0, 3, 3])


@pytest.mark.parametrize("file", ["pets", "pets.zip", "pets.tar", "pets.tar.gz", "pets.tgz"])
@pytest.mark.parametrize("prefix", ["", "top/"])
def test_image_folders_and_archives_of_them_read_alike(tmp_path, file, prefix):
    junk = {f"{prefix}README": b"hello", "__MACOSX/x.png": b"junk", ".DS_Store": b"junk"}
    junk[f"{prefix}train/ant/notes.txt"] = b"not an image"
    source = write_archive(tmp_path / file, image_folder_files(prefix) | junk)
    pets = load(source, image_size=16)
    assert pets.class_names == ("ant", "bee", "cat")
    assert (pets.name, pets.num_classes, pets.image_size) == ("pets", 3, 16)
    for split in SPLITS:
        part = getattr(pets, split)
        assert part.images.shape == (3, 16, 16, 3)
        assert part.labels.tolist() == [0, 1, 2]
        assert [colour_of(part, label) for label in range(3)] == list(COLOURS.values())
        same = load(source, image_size=16, split=split)
        np.testing.assert_array_equal(same.images, part.images)


@pytest.mark.parametrize("file", ["pets", "pets.zip", "pets.tar.xz"])
def test_classes_without_a_test_split_are_split_by_the_seed(tmp_path, file):
    source = write_archive(tmp_path / file, class_folder_files(count=10))
    pets = load(source, image_size=8, test_fraction=0.3, valid_per_class=2)
    for split, count in zip(SPLITS, (5, 2, 3), strict=True):
        assert np.bincount(getattr(pets, split).labels).tolist() == [count] * 3
    assert len(load(source, image_size=8, split="test")) == 6
    for fraction in (1.5, 1, np.float32(2)):
        with pytest.raises(UserError, match=r"'pets': the share .* of each class"):
            load(source, image_size=8, test_fraction=float(fraction))


@pytest.mark.parametrize("split", SPLITS)
def test_which_split_an_image_is_in_does_not_depend_on_the_chosen_classes(split):
    whole = load("digits", image_size=8, split=split, seed=3)
    chosen = load("digits", image_size=8, split=split, seed=3, classes=[7, 2])
    for new, old in enumerate([7, 2]):
        np.testing.assert_array_equal(
            chosen.images[chosen.labels == new], whole.images[whole.labels == old]
        )


@pytest.mark.parametrize("split", SPLITS)
def test_seed_cuts_other_splits(split):
    first, again, other = (
        load("digits", image_size=8, split=split, seed=seed).images for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_classes_that_are_not_used_may_be_small(tmp_path):
    files = image_folder_files(splits=(("train", 4), ("test", 1)))
    files = {name: data for name, data in files.items() if not name.startswith("train/cat/1")}
    for number in (2, 3):
        del files[f"train/cat/{number}.png"]
    source = write_zip(tmp_path / "pets.zip", files)
    assert len(load(source, image_size=8, valid_per_class=2, classes=[0, 1]).train) == 4
    with pytest.raises(UserError, match="class 2 has 1 image"):
        load(source, image_size=8, valid_per_class=2)


def test_names_of_this_project_win_over_files_and_files_over_the_catalog(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "cifar10"):
        write_folder(tmp_path / name, image_folder_files())
    assert load("digits", image_size=8).num_classes == 10
    assert load("./digits", image_size=8).num_classes == 3
    assert load("cifar10", image_size=8).num_classes == 3
    assert load(tmp_path / "cifar10", image_size=8).num_classes == 3


@pytest.mark.parametrize("url", ["https://example.org/a.zip", "nothing://a/b"])
def test_urls_that_cannot_be_read_are_refused(url):
    with pytest.raises(UserError, match=f"cannot read {url}: download the file"):
        load(url, image_size=8)


def test_splits_are_disjoint_and_complete():
    digits = load("digits", image_size=8, valid_per_class=20, test_fraction=0.4)
    images = np.concatenate([getattr(digits, split).images for split in SPLITS])
    assert len(images) == 1797
    distinct = np.unique(images.reshape(1797, -1), axis=0)
    assert len(distinct) > 1790  # scikit-learn's own repeats


@pytest.mark.parametrize("classes", [[0, 3], [1, 1], [0]])
@pytest.mark.parametrize("kind", ["pets.zip", "pets.npz", "digits"])
def test_impossible_classes_are_refused(tmp_path, classes, kind):
    if kind == "digits":
        classes = [99 if label == 3 else label for label in classes]
        source = kind
    elif kind == "pets.npz":
        source = write_npz(tmp_path / kind)
    else:
        source = write_zip(tmp_path / kind, image_folder_files())
    with pytest.raises(UserError, match=r"no class|chosen twice|at least 2"):
        load(source, image_size=8, classes=classes)


@pytest.mark.parametrize("write", [write_zip, write_folder])
def test_tiny_imagenet_layout(tmp_path, write):
    source = write(tmp_path / "tiny.zip", tiny_imagenet_files(count=2))
    tiny = load(source, image_size=8)
    # The order of wnids.txt, not of the alphabet.
    assert tiny.class_names == ("bullfrog", "goldfish", "n2")
    assert [colour_of(tiny.train, label) for label in range(3)] == list(COLOURS.values())
    assert [colour_of(tiny.test, label) for label in range(3)] == list(COLOURS.values())
    assert load(source, image_size=8, classes=[2, 0]).class_names == ("n2", "bullfrog")


def test_digits():
    digits = load("digits", image_size=8)
    assert digits.num_classes == 10
    assert (len(digits.train), len(digits.valid), len(digits.test)) == (1295, 143, 359)
    assert (digits.train.images.min(), digits.train.images.max()) == (0, 255)
    again, other = load("digits", image_size=8), load("digits", image_size=8, seed=1)
    np.testing.assert_array_equal(digits.train.images, again.train.images)
    assert not np.array_equal(digits.train.images, other.train.images)
    assert load("digits", image_size=16, classes=[3, 1]).class_names == ("3", "1")


def test_generated():
    blobs = load("generated:blobs", image_size=8, num_classes=3, seed=4)
    assert (len(blobs.train), len(blobs.test), blobs.num_classes) == (540, 300, 3)
    assert load("generated:blobs", image_size=8).num_classes == 10
    chosen = load("generated:blobs", image_size=8, num_classes=3, seed=4, classes=[2, 1])
    np.testing.assert_array_equal(chosen.test.images[:100], blobs.test.images[100:200])


def test_data_dir_is_searched(tmp_path, monkeypatch):
    write_zip(tmp_path / "pets.zip", image_folder_files())
    monkeypatch.delenv("DASS_DATA_DIR", raising=False)
    with pytest.raises(UserError, match=r"'pets\.zip'.* DASS_DATA_DIR not set"):
        load("pets.zip", image_size=8)
    monkeypatch.setenv("DASS_DATA_DIR", str(tmp_path))
    assert load("pets.zip", image_size=8).num_classes == 3
    assert load("~/pets.zip".replace("~", str(tmp_path)), image_size=8).num_classes == 3
    with pytest.raises(UserError, match=r"DASS_DATA_DIR=.* did you mean 'pets\.zip'"):
        load("pet.zip", image_size=8)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("digit", "did you mean 'digits'"),
        ("stroks", "did you mean 'generated:strokes'"),
        ("generated:blob", "did you mean 'blobs'"),
        ("generate:blobs", "did you mean 'generated:blobs'"),
        ("nowhere/at/all", "give a path, digits, tiny_imagenet, .*generated:FAMILY or a name of"),
        ("tinyimagenet", "did you mean 'tiny_imagenet'"),
        ("cub200_2012", "did you mean 'cub200_2011'"),
        ("dtd/split11", "dtd has no variant 'split11'; its variants: split1, split2"),
        ("cifar10x", "did you mean 'cifar10'"),
        # a file that is missing is no other dataset
        ("cub200-2011.zip", "no such file here and DASS_DATA_DIR not set; give a path, digits"),
        ("bird/", "give a path, digits"),
        ("", "no dataset ''"),
    ],
)
def test_unknown_source_is_refused(source, message, monkeypatch):
    monkeypatch.delenv("DASS_DATA_DIR", raising=False)
    with pytest.raises(UserError, match=message):
        load(source, image_size=8)


def test_other_mistakes_are_refused(tmp_path):
    with pytest.raises(UserError, match="image size 0: give a positive number"):
        load("digits", image_size=0)
    with pytest.raises(UserError, match="no split 'validation'; choose train, valid or test"):
        load("digits", image_size=8, split="validation")
    with pytest.raises(UserError, match="'generated:blobs' has a test split of its own"):
        load("generated:blobs", image_size=8, test_fraction=0.5)
    with pytest.raises(UserError, match=r"'digits': class 0 has .* too few to set 500 aside"):
        load("digits", image_size=8, valid_per_class=500)
    with pytest.raises(UserError, match="num_classes=5 is for generated sources"):
        load("digits", image_size=8, num_classes=5)
    (tmp_path / "data.csv").write_bytes(b"1,2")
    with pytest.raises(UserError, match=r"data\.csv is neither a folder nor an archive \(\.zip"):
        load(str(tmp_path / "data.csv"), image_size=8)


@pytest.mark.skipif(not DATA_DIR, reason="DASS_DATA_DIR is not set")
@pytest.mark.parametrize(
    ("source", "names", "counts"),
    [
        ("cub-200-2010.zip", None, (48, 16)),
        ("dtd10.zip", ("chequered", "banded"), (160, 80)),
        ("quickdraw345.npz", None, (160, 40)),
        ("stanford-cars.zip", None, (69, 17)),
    ],
)
def test_real_files(source, names, counts):
    if not Path(DATA_DIR, source).exists():
        pytest.skip(f"{source} is not in DASS_DATA_DIR")
    real = load(source, image_size=32, classes=[5, 0], valid_per_class=4)
    assert names is None or real.class_names == names
    assert (len(real.train) + len(real.valid), len(real.test)) == counts
    assert real.train.images.std() > 20
