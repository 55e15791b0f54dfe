import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dass_jax.data.images import Collection, Images
from dass_jax.data.splitting import limit_per_class, split_rows
from dass_jax.errors import UserError


def numbered(labels, size=8):
    """Images whose pixels tell their position."""
    labels = np.asarray(labels, np.int32)
    pixels = np.zeros((len(labels), size, size, 3), np.uint8)
    pixels += np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    return Images(pixels, labels)


def positions(images):
    return images.images[:, 0, 0, 0].tolist()


def collection(train=(0, 0, 1, 1, 2, 2), test=(0, 1, 2), names=("a", "b", "c")):
    return Collection("toy", names, {"train": numbered(train), "test": numbered(test)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ("a",), "train": [0], "test": [0]}, "'toy' has 1 class"),
        ({"train": []}, "'toy' has no train image"),
        ({"test": []}, "'toy' has no test image"),
        ({"train": [0, 1, 3]}, "'toy': train labels run from 0 to 3"),
        ({"test": [-1, 0]}, "'toy': test labels run from -1 to 0"),
        ({"train": [0, 2]}, "'toy': class 'b' has no image in train"),
    ],
)
def test_bad_collection_is_refused_by_name(arguments, message):
    with pytest.raises(UserError, match=message):
        collection(**arguments)


def test_other_parts_and_different_sizes_are_refused():
    small, large = numbered([0, 1]), numbered([0, 1], size=16)
    with pytest.raises(UserError, match="'toy' has the parts train; give train and test, or all"):
        Collection("toy", ("a", "b"), {"train": small})
    with pytest.raises(UserError, match="'toy': images are 8 and 16 pixels wide"):
        Collection("toy", ("a", "b"), {"train": small, "test": large})


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 8, 8, 3)), np.zeros(2, np.int32), "images are float64"),
        (np.zeros((2, 8, 8), np.uint8), np.zeros(2, np.int32), r"shape \[2, 8, 8\]"),
        (np.zeros((2, 8, 16, 3), np.uint8), np.zeros(2, np.int32), "images are 8x16"),
        (np.zeros((2, 8, 8, 3), np.uint8), np.zeros(2), "labels are float64"),
        (np.zeros((2, 8, 8, 3), np.uint8), np.zeros(3, np.int32), r"shape \[3\]"),
    ],
)
def test_wrong_arrays_are_refused(images, labels, message):
    with pytest.raises(UserError, match=message):
        Images(images, labels)


def test_neighbours_are_taken_without_a_copy():
    images = numbered([0, 1, 2, 0])
    assert np.shares_memory(images.take(np.array([1, 2])).images, images.images)
    assert positions(images.take(np.array([1, 2]))) == [1, 2]
    assert positions(images.take(np.array([2, 0]))) == [2, 0]
    assert len(images.take(np.array([], np.int64))) == 0


def test_limit_per_class_keeps_small_classes_whole():
    limited = limit_per_class(numbered([0] * 5 + [1] * 2 + [2] * 9), 3, seed=1)
    assert np.bincount(limited.labels).tolist() == [3, 2, 3]
    assert positions(limited) == sorted(positions(limited))
    again = limit_per_class(numbered([0] * 5 + [1] * 2 + [2] * 9), 3, seed=1)
    assert positions(limited) == positions(again)
    with pytest.raises(UserError, match="at least 1"):
        limit_per_class(numbered([0, 1]), 0, seed=0)


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60).map(lambda drawn: drawn + drawn),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**31),
)
def test_validation_part_is_a_stratified_partition(labels, fraction, seed):
    labels = np.asarray(labels, np.int32)
    train, validation = split_rows(labels, fraction, seed=seed)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    assert set(labels[train]) == set(labels[validation]) == set(labels)
    for label in set(labels):
        available, drawn = (labels == label).sum(), (labels[validation] == label).sum()
        assert abs(drawn - fraction * available) <= 1
    np.testing.assert_array_equal(split_rows(labels, fraction, seed=seed)[1], validation)


def test_validation_part_by_count():
    labels = np.array([0, 1] * 10, np.int32)
    train, validation = split_rows(labels, 3, seed=0)
    assert np.bincount(labels[validation]).tolist() == [3, 3]
    assert np.bincount(labels[train]).tolist() == [7, 7]
    assert not np.array_equal(split_rows(labels, 3, seed=1)[1], validation)


def test_only_classes_in_use_must_have_enough_images():
    labels = np.array([0, 0, 1, 2, 2, 2], np.int32)
    with pytest.raises(UserError, match=r"class 1 has 1 image\(s\)"):
        split_rows(labels, 1, seed=0)
    train, validation = split_rows(labels, 1, seed=0, classes=[0, 2])
    assert labels[train].tolist() == [0, 2, 2]
    assert labels[validation].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("size", "seed", "message"),
    [
        (1.0, 0, "share 1.0 of each class .* between 0 and 1"),
        (0.0, 0, "share 0.0 of each class"),
        (0, 0, "0 images of each class"),
        (2, 0, r"class 0 has 2 image\(s\), too few"),
        (0.5, 0, r"class 1 has 1 image\(s\), too few"),
        (0.5, -1, "seed -1 is negative"),
    ],
)
def test_impossible_part_is_refused(size, seed, message):
    with pytest.raises(UserError, match=message):
        split_rows(np.array([0, 0, 1], np.int32), size, seed=seed)
