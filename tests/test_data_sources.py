import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dass_jax.data import load
from dass_jax.errors import UserError

COLOURS = {"ant": (250, 0, 0), "bee": (0, 250, 0), "cat": (0, 0, 250)}
DATA_DIR = os.environ.get("DASS_DATA_DIR")


def encode(colour, size=(10, 6), mode="RGB", file_format="PNG", **options):
    data = io.BytesIO()
    Image.new(mode, size, colour).save(data, file_format, **options)
    return data.getvalue()


def image_folder_files(prefix=""):
    """Two training images and one test image of each class."""
    return {
        f"{prefix}{split}/{name}/{number}.png": encode(colour)
        for split, count in (("train", 2), ("test", 1))
        for name, colour in COLOURS.items()
        for number in range(count)
    }


def tiny_imagenet_files(prefix="tiny-imagenet-200/"):
    wnids = ["n3", "n1", "n2"]
    colours = dict(zip(wnids, COLOURS.values(), strict=True))
    files = {f"{prefix}train/{w}/images/{w}_0.JPEG": encode(colours[w]) for w in wnids}
    files |= {f"{prefix}train/{w}/{w}_boxes.txt": b"0\t0" for w in wnids}
    files |= {f"{prefix}val/images/val_{i}.JPEG": encode(colours[w]) for i, w in enumerate(wnids)}
    files[f"{prefix}test/images/test_0.JPEG"] = encode((9, 9, 9))
    files[f"{prefix}wnids.txt"] = b"n3\nn1\nn2\n"
    files[f"{prefix}words.txt"] = b"n1\tgoldfish, Carassius auratus\nn3\tbullfrog\n"
    rows = (f"val_{i}.JPEG\t{w}\t0\t0\t63\t63\n" for i, w in enumerate(wnids))
    files[f"{prefix}val/val_annotations.txt"] = "".join(rows).encode()
    return files


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return str(path)


def write_folder(path, files):
    for name, data in files.items():
        target = Path(path, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return str(path)


def write_npz(path, **changed):
    arrays = {
        "x_train": np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((4, 8, 8), np.uint8),
        "y_train": np.array([1, 0, 1, 0]),
        "x_test": np.full((2, 8, 8), 7, np.uint8),
        "y_test": np.array([0, 1]),
    }
    merged = {**arrays, **changed}
    np.savez(path, **{name: value for name, value in merged.items() if value is not None})
    return str(path)


def colour_of(split, label):
    return tuple(int(value) for value in split.images[split.labels == label][0, 3, 3])


@pytest.mark.parametrize("write", [write_zip, write_folder])
@pytest.mark.parametrize("prefix", ["", "top/"])
def test_image_folder_and_zip_read_alike(tmp_path, write, prefix):
    junk = {f"{prefix}README": b"hello", "__MACOSX/x.png": b"junk", ".DS_Store": b"junk"}
    junk[f"{prefix}train/ant/notes.txt"] = b"not an image"
    source = write(tmp_path / "pets.zip", image_folder_files(prefix) | junk)
    pets = load(source, image_size=16)
    assert pets.class_names == ("ant", "bee", "cat")
    assert pets.name in ("pets", "pets.zip")
    assert pets.train.images.shape == (6, 16, 16, 3)
    assert pets.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert pets.test.labels.tolist() == [0, 1, 2]
    assert [colour_of(pets.test, label) for label in range(3)] == list(COLOURS.values())


def test_only_the_chosen_classes_are_decoded(tmp_path):
    files = image_folder_files() | {"train/bee/broken.png": b"no image"}
    source = write_zip(tmp_path / "pets.zip", files)
    pets = load(source, image_size=8, classes=[2, 0])
    assert pets.class_names == ("cat", "ant")
    assert colour_of(pets.train, 0) == COLOURS["cat"]
    with pytest.raises(
        UserError, match=r"train/bee/broken\.png in .*pets\.zip is broken \(no known"
    ):
        load(source, image_size=8, classes=[0, 1])


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


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(120, mode="L"), (120, 120, 120)),
        (encode(120 << 8, mode="I;16"), (120, 120, 120)),
        (encode((1, 2, 3, 9), mode="RGBA"), (1, 2, 3)),
        (encode(1, mode="1"), (255, 255, 255)),
        (encode(0, mode="P", transparency=b"\x80"), (0, 0, 0)),
        (encode((1, 2, 3), size=(300, 200)), (1, 2, 3)),
        (encode((90, 90, 90), file_format="JPEG"), (90, 90, 90)),
    ],
)
def test_every_kind_of_image_becomes_rgb(tmp_path, data, expected):
    files = image_folder_files() | {"test/ant/0.png": data}
    pets = load(write_zip(tmp_path / "pets.zip", files), image_size=8)
    assert colour_of(pets.test, 0) == expected


@pytest.mark.parametrize("write", [write_zip, write_folder])
def test_tiny_imagenet_layout(tmp_path, write):
    source = write(tmp_path / "tiny.zip", tiny_imagenet_files())
    tiny = load(source, image_size=8)
    # The order of wnids.txt, not of the alphabet.
    assert tiny.class_names == ("bullfrog", "goldfish", "n2")
    assert [colour_of(tiny.train, label) for label in range(3)] == list(COLOURS.values())
    assert [colour_of(tiny.test, label) for label in range(3)] == list(COLOURS.values())
    assert load(source, image_size=8, classes=[2, 0]).class_names == ("n2", "bullfrog")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"val/val_annotations.txt": None}, "has no .*val_annotations.txt"),
        ({"val/val_annotations.txt": b"val_9.JPEG\tn1\n"}, "line 1 of .*val_annotations.txt"),
        ({"val/val_annotations.txt": b"val_0.JPEG\tn1\n"}, "'n3' has no image in test"),
        ({"train/n1/images/n1_0.JPEG": None}, "'n1' has no image in train"),
        ({"wnids.txt": b"n1\nn4\n", "val/val_annotations.txt": b""}, "'n1' has no image in test"),
        ({"wnids.txt": b"n1\nn2\nn3\nn4"}, "'n4' is in test but not in train"),
        ({"words.txt": b"n1\t\xff\xfe"}, "words.txt is not UTF-8"),
    ],
)
def test_incomplete_tiny_imagenet_is_refused(tmp_path, changed, message):
    changed = {f"tiny-imagenet-200/{name}": data for name, data in changed.items()}
    files = {k: v for k, v in (tiny_imagenet_files() | changed).items() if v is not None}
    with pytest.raises(UserError, match=message):
        load(write_zip(tmp_path / "tiny.zip", files), image_size=8)


@pytest.mark.parametrize("write", [write_zip, write_folder])
@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (lambda name: False, "holds no images in train/CLASS/"),
        (lambda name: "train" in name, "no class folder in test/"),
        (lambda name: name != "test/bee/0.png", "'bee' is in train but not in test"),
        (lambda name: "train/cat" not in name, "'cat' is in test but not in train"),
    ],
)
def test_incomplete_image_folder_is_refused(tmp_path, write, keep, message):
    files = {name: data for name, data in image_folder_files().items() if keep(name)}
    (tmp_path / "pets").mkdir()
    source = write(tmp_path / ("pets.zip" if write is write_zip else "pets"), files)
    with pytest.raises(UserError, match=message):
        load(source, image_size=8)


def test_empty_class_folder_is_refused(tmp_path):
    source = write_folder(tmp_path, image_folder_files())
    for split in ("train", "test"):
        (tmp_path / split / "dog").mkdir()
    with pytest.raises(UserError, match="'dog' has no image in train"):
        load(source, image_size=8)


def test_damaged_zip_is_refused(tmp_path):
    path = tmp_path / "pets.zip"
    write_zip(path, image_folder_files())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"pets\.zip is not a complete zip file"):
        load(str(path), image_size=8)
    # One byte of a picture: the directory is fine, the checksum of the member is not.
    place = whole.index(b"IDAT")
    path.write_bytes(whole[:place] + b"X" + whole[place + 1 :])
    with pytest.raises(UserError, match=r"cannot read train/ant/0\.png in .*pets\.zip"):
        load(str(path), image_size=8)


def test_truncated_image_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).save(data, "JPEG")
    files = image_folder_files() | {"train/cat/1.jpg": data.getvalue()[:600]}
    with pytest.raises(UserError, match=r"train/cat/1\.jpg in .* is broken"):
        load(write_folder(tmp_path / "pets", files), image_size=8)


def test_npz_gray_and_rgb(tmp_path):
    names = np.array(["no", "yes"])
    gray = load(write_npz(tmp_path / "a.npz", class_names=names), image_size=8)
    assert (gray.name, gray.class_names) == ("a", ("no", "yes"))
    assert gray.train.images[:, 0, 0].tolist() == [[1] * 3, [3] * 3, [0] * 3, [2] * 3]
    assert gray.train.labels.tolist() == [0, 0, 1, 1]
    rgb = {"x_train": np.zeros((4, 6, 9, 3), np.uint8), "x_test": np.ones((2, 6, 9, 1), np.uint8)}
    resized = load(write_npz(tmp_path / "b.npz", **rgb), image_size=16, classes=[1, 0])
    assert resized.train.images.shape == (4, 16, 16, 3)
    assert resized.class_names == ("1", "0")
    assert resized.test.images.min() == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_test": None}, "has no array 'y_test'"),
        ({"x_train": np.array([None] * 4)}, "damaged or holds objects"),
        ({"class_names": np.array(["a", None])}, "damaged or holds objects"),
        ({"x_train": np.zeros((4, 8, 8))}, "x_train is float64"),
        ({"x_test": np.zeros((2, 8, 8, 4), np.uint8)}, r"x_test is uint8 of shape \[2, 8, 8, 4\]"),
        ({"y_train": np.zeros(4)}, "y_train is float64"),
        ({"y_train": np.array([0, 1])}, r"y_train is int64 of shape \[2\]"),
        ({"y_test": np.array([0, 2])}, "labels in y_test run from 0 to 2"),
        ({"y_test": np.array([0, 0])}, "class 1 has no image in test"),
        ({"y_train": np.array([1, 1, 2, 2]), "y_test": np.array([1, 2])}, "class 0 has no image"),
    ],
)
def test_bad_npz_is_refused(tmp_path, changed, message):
    with pytest.raises(UserError, match=message):
        load(write_npz(tmp_path / "a.npz", **changed), image_size=8)


def test_damaged_npz_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    write_npz(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match=r"a\.npz is damaged"):
        load(str(path), image_size=8)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match="single array"):
        load(str(path), image_size=8)


def test_digits():
    digits = load("digits", image_size=8)
    assert digits.num_classes == 10
    assert abs(len(digits.train) - len(digits.test)) <= 10
    assert (digits.train.images.min(), digits.train.images.max()) == (0, 255)
    again, other = load("digits", image_size=8), load("digits", image_size=8, seed=1)
    np.testing.assert_array_equal(digits.train.images, again.train.images)
    assert not np.array_equal(digits.train.images, other.train.images)
    assert load("digits", image_size=16, classes=[3, 1]).class_names == ("3", "1")


def test_generated():
    blobs = load("generated:blobs", image_size=8, num_classes=3, seed=4)
    assert (len(blobs.train), len(blobs.test), blobs.num_classes) == (600, 300, 3)
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
    with pytest.raises(UserError, match=r"DASS_DATA_DIR=.* did you mean 'pets\.zip'"):
        load("pet.zip", image_size=8)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("digit", "did you mean 'digits'"),
        ("stroks", "did you mean 'generated:strokes'"),
        ("generated:blob", "did you mean 'blobs'"),
        ("generate:blobs", "did you mean 'generated:blobs'"),
        ("nowhere/at/all", "give digits, generated:FAMILY or a path"),
        ("", "no dataset ''"),
    ],
)
def test_unknown_source_is_refused(source, message, monkeypatch):
    monkeypatch.delenv("DASS_DATA_DIR", raising=False)
    with pytest.raises(UserError, match=message):
        load(source, image_size=8)


def test_other_mistakes_are_refused(tmp_path):
    with pytest.raises(UserError, match="image size 12 is not a multiple of 8"):
        load("digits", image_size=12)
    with pytest.raises(UserError, match="num_classes=5 is for generated sources"):
        load("digits", image_size=8, num_classes=5)
    (tmp_path / "data.tar").write_bytes(b"tar")
    with pytest.raises(UserError, match=r"data\.tar is neither a folder"):
        load(str(tmp_path / "data.tar"), image_size=8)


@pytest.mark.skipif(not DATA_DIR, reason="DASS_DATA_DIR is not set")
@pytest.mark.parametrize(
    ("source", "names", "counts"),
    [
        ("tiny-imagenet-200.zip", ("tailed frog", "goldfish"), (500, 50)),
        ("dtd10.zip", None, (160, 80)),
    ],
)
def test_real_archives(source, names, counts):
    if not Path(DATA_DIR, source).exists():
        pytest.skip(f"{source} is not in DASS_DATA_DIR")
    real = load(source, image_size=32, classes=[3, 0])
    assert names is None or real.class_names == names
    assert (len(real.train), len(real.test)) == counts
    assert real.train.images.std() > 20
