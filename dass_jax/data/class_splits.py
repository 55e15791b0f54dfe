"""Class splits: many small classification tasks out of one dataset with many classes."""

import dataclasses
import math

from dass_jax.data.splitting import seeded_rng
from dass_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class ClassSplits:
    """Labels of each task, ascending within a split.

    Attributes:
      train: the splits that train the predictor; they may share classes among themselves.
      valid: the splits that select it; they share no class with any other split.
    """

    train: tuple[tuple[int, ...], ...]
    valid: tuple[tuple[int, ...], ...]


def class_splits(
    num_classes: int,
    *,
    num_train_splits: int,
    num_valid_splits: int,
    classes_per_split: int,
    seed: int,
) -> ClassSplits:
    """Draws the splits of a meta-training database.

    The validation splits come first and take their classes away; each training split is then
    drawn from what is left, so that a predictor is selected on classes that it never saw.

    Args:
      num_classes: classes of the whole dataset.
      num_train_splits: how many different training splits to draw, at least 1.
      num_valid_splits: how many validation splits to draw, 0 or more.
      classes_per_split: classes of each task, at least 2.
      seed: the same seed gives the same splits.

    Raises:
      UserError: a number out of range, or too few classes.
    """
    if num_train_splits < 1 or num_valid_splits < 0 or classes_per_split < 2:
        raise UserError(
            f"cannot make {num_train_splits} training and {num_valid_splits} validation splits of "
            f"{classes_per_split} classes; ask for at least 1 and 0 splits of at least 2 classes"
        )
    reserved = num_valid_splits * classes_per_split
    needed = reserved + _pool_size(num_train_splits, classes_per_split)
    if num_classes < needed:
        raise UserError(
            f"{num_train_splits} different training and {num_valid_splits} disjoint validation "
            f"splits of {classes_per_split} classes need {needed} classes, but there are "
            f"{num_classes}; ask for fewer or smaller splits"
        )
    rng = seeded_rng(seed)
    order = [int(label) for label in rng.permutation(num_classes)]
    valid = [order[i : i + classes_per_split] for i in range(0, reserved, classes_per_split)]
    # A dict keeps the order of drawing and drops a split that was drawn before.
    train: dict[tuple[int, ...], None] = {}
    while len(train) < num_train_splits:
        drawn = rng.choice(order[reserved:], classes_per_split, replace=False)
        train[tuple(sorted(int(label) for label in drawn))] = None
    return ClassSplits(train=tuple(train), valid=tuple(tuple(sorted(split)) for split in valid))


def _pool_size(num_splits: int, classes_per_split: int) -> int:
    """The fewest classes from which so many different splits can be drawn."""
    size = classes_per_split
    while math.comb(size, classes_per_split) < num_splits:
        size += 1
    return size
