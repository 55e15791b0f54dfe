import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dass_jax.data import class_splits
from dass_jax.errors import UserError


def test_the_papers_ten_splits_of_tiny_imagenet():
    splits = class_splits(200, num_train_splits=8, num_valid_splits=2, classes_per_split=40, seed=0)
    assert [len(split) for split in splits.train] == [40] * 8
    assert [len(split) for split in splits.valid] == [40] * 2
    assert len({label for split in splits.valid for label in split}) == 80
    # Eight draws of 40 out of 120 must overlap.
    assert len({label for split in splits.train for label in split}) <= 120


@settings(max_examples=80, deadline=None)
@given(
    num_train=st.integers(1, 6),
    num_valid=st.integers(0, 3),
    size=st.integers(2, 6),
    spare=st.integers(0, 20),
    seed=st.integers(0, 2**31),
)
def test_splits_keep_their_promises(num_train, num_valid, size, spare, seed):
    pool = next(n for n in range(size, 99) if math.comb(n, size) >= num_train)
    num_classes = num_valid * size + pool + spare
    arguments = {
        "num_train_splits": num_train,
        "num_valid_splits": num_valid,
        "classes_per_split": size,
        "seed": seed,
    }
    splits = class_splits(num_classes, **arguments)
    assert splits == class_splits(num_classes, **arguments)
    assert len(splits.train) == len(set(splits.train)) == num_train
    for split in splits.train + splits.valid:
        assert len(set(split)) == size
        assert list(split) == sorted(split)
        assert set(split) <= set(range(num_classes))
    held_out = [label for split in splits.valid for label in split]
    assert len(set(held_out)) == num_valid * size
    assert not set(held_out) & {label for split in splits.train for label in split}
    with pytest.raises(UserError, match=f"need {num_valid * size + pool} classes"):
        class_splits(num_valid * size + pool - 1, **arguments)


def test_seeds_give_different_splits():
    first, second = (
        class_splits(50, num_train_splits=2, num_valid_splits=1, classes_per_split=10, seed=seed)
        for seed in (0, 1)
    )
    assert first.train != second.train
    assert first.valid != second.valid


@pytest.mark.parametrize(
    "changed", [{"num_train_splits": 0}, {"num_valid_splits": -1}, {"classes_per_split": 1}]
)
def test_senseless_numbers_are_refused(changed):
    arguments = {"num_train_splits": 2, "num_valid_splits": 1, "classes_per_split": 5, "seed": 0}
    with pytest.raises(UserError, match="cannot make"):
        class_splits(50, **{**arguments, **changed})
