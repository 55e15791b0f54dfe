import zipfile

import numpy as np
import pytest
from miniatures import npz_arrays, write_npz

from dass_jax.data import load
from dass_jax.errors import UserError


def values(images):
    """The gray value of each image."""
    assert (images.images == images.images[:, :1, :1, :1]).all()
    return images.images[:, 0, 0, 0].tolist()


def test_gray_and_rgb(tmp_path):
    names = np.array(["no", "yes"])
    source = write_npz(tmp_path / "a.npz", class_names=names)
    gray = load(source, image_size=8, valid_per_class=1)
    assert (gray.name, gray.class_names) == ("a", ("no", "yes"))
    everything = {}
    for split in (gray.train, gray.valid):
        everything |= dict(zip(values(split), split.labels.tolist(), strict=True))
    assert everything == dict(enumerate(npz_arrays()["y_train"].tolist()))
    assert gray.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    rgb = {"x_train": np.zeros((8, 6, 9, 3), np.uint8), "x_test": np.ones((2, 6, 9, 1), np.uint8)}
    resized = load(write_npz(tmp_path / "b.npz", **rgb), image_size=16, classes=[1, 0])
    assert resized.train.images.shape == (6, 16, 16, 3)
    assert resized.class_names == ("1", "0")
    assert resized.test.images.min() == 1


def test_arrays_without_a_test_split(tmp_path):
    arrays = npz_arrays()
    np.savez(tmp_path / "a.npz", x=arrays["x_train"], y=arrays["y_train"])
    whole = load(str(tmp_path / "a.npz"), image_size=8, test_fraction=0.25, valid_per_class=1)
    assert [len(split) for split in (whole.train, whole.valid, whole.test)] == [4, 2, 2]
    parts = [set(values(split)) for split in (whole.train, whole.valid, whole.test)]
    assert set.union(*parts) == set(range(8))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_test": None}, "has no array 'y_test'"),
        ({"x_train": np.array([None] * 8)}, "damaged or holds objects"),
        ({"class_names": np.array(["a", None])}, "damaged or holds objects"),
        ({"x_train": np.zeros((8, 8, 8))}, "x_train is float64"),
        ({"x_test": np.zeros((2, 8, 8, 4), np.uint8)}, r"x_test is uint8 of shape \[2, 8, 8, 4\]"),
        ({"y_train": np.zeros(8)}, "y_train is float64"),
        ({"y_train": np.array([0, 1])}, r"y_train is int64 of shape \[2\]"),
        ({"y_test": np.array([0, 2])}, "class '2' has no image in train"),
        ({"y_test": np.array([0, 0])}, "class '1' has no image in test"),
        ({"y_train": np.repeat([1, 2], 4), "y_test": np.array([1, 2])}, "class '0' has no image"),
        ({"y_train": np.repeat([-1, 0], 4)}, "train labels run from -1 to 0"),
        ({"y_train": np.repeat([0, 2**40], 4)}, "labels run up to 1099511627776, but there are 8"),
        ({"y_train": np.zeros(8, int), "y_test": np.zeros(2, int)}, r"has 1 class\(es\); give"),
    ],
)
def test_bad_arrays_are_refused(tmp_path, changed, message):
    with pytest.raises(UserError, match=message):
        load(write_npz(tmp_path / "a.npz", **changed), image_size=8)


def test_member_that_is_no_array_is_named(tmp_path):
    path = tmp_path / "a.npz"
    write_npz(path, x_test=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_test", b"no array")
    with pytest.raises(UserError, match=r"x_test is no array; save it with numpy\.savez"):
        load(str(path), image_size=8)


def test_damaged_file_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    write_npz(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match=r"a\.npz is damaged"):
        load(str(path), image_size=8)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match="single array"):
        load(str(path), image_size=8)
