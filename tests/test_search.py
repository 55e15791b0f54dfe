import numpy as np
import pytest

from dass_jax.search import top_candidates
from dass_jax.search_space import ResNetSpace, stack
from dass_jax.uncertainty import Prediction

SPACE = ResNetSpace((8, 16), 2, strides=(1, 2))


def pool_of(*first_widths):
    """Students that differ in the width of their first block alone."""
    return stack([SPACE.architecture([1, 1], [[width], [16]]) for width in first_widths])


def choose(pool, predictions, count):
    """The chosen students' places in the pool; FLOPs and parameters come along."""
    places = np.arange(len(predictions))
    mean = np.asarray(predictions, np.float32)
    chosen = top_candidates(pool, Prediction(mean, mean / 2), places + 50, places + 100, count)
    for candidate in chosen:
        place = candidate.student_id
        assert (candidate.flops, candidate.num_params) == (place + 50, place + 100)
        assert candidate.prediction == np.float32(predictions[place])
        assert candidate.half_width == np.float32(predictions[place]) / 2
        np.testing.assert_array_equal(candidate.architecture.widths, pool.widths[place])
        np.testing.assert_array_equal(candidate.architecture.depths, pool.depths[place])
    return [candidate.student_id for candidate in chosen]


def test_the_best_come_first():
    pool = pool_of(4, 5, 6, 7, 8)
    assert choose(pool, [0.1, 0.9, 0.3, -0.2, 0.5], 3) == [1, 4, 2]
    assert choose(pool, [0.1, 0.9, 0.3, -0.2, 0.5], 1) == [1]


def test_equal_predictions_keep_the_order_of_the_pool():
    assert choose(pool_of(8, 4, 6, 5), [0.5, 0.7, 0.5, 0.5], 3) == [1, 0, 2]


def test_a_student_counts_once():
    pool = pool_of(4, 5, 4, 6, 5, 4)
    assert choose(pool, [0.9, 0.8, 0.9, 0.1, 0.8, 0.9], 3) == [0, 1, 3]


@pytest.mark.parametrize(("count", "expected"), [(4, 3), (100, 3)])
def test_a_small_pool_gives_what_it_has(count, expected):
    assert len(choose(pool_of(4, 5, 4, 6), [0.1, 0.2, 0.1, 0.3], count)) == expected


def test_depth_alone_makes_another_student():
    pool = stack(
        [
            SPACE.architecture([1, 1], [[8], [16]]),
            SPACE.architecture([2, 1], [[8, 8], [16]]),
            SPACE.architecture([1, 2], [[8], [16, 16]]),
        ]
    )
    assert choose(pool, [0.2, 0.2, 0.2], 3) == [0, 1, 2]


def test_what_is_returned_is_plain():
    (candidate,) = top_candidates(
        pool_of(4),
        Prediction(np.float32([0.5]), np.float32([0.1])),
        np.int64([7]),
        np.int32([9]),
        1,
    )
    assert [type(value) for value in candidate[1:]] == [int, float, float, int, int]
