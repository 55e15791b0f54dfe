"""Search algorithms, on a prediction whose optimum is known."""

import dataclasses

import jax
import numpy as np
import pytest

from dass_jax.budget import Budget, CostModel
from dass_jax.errors import UserError
from dass_jax.search.pareto import pareto_front
from dass_jax.search.problem import Archive, SearchProblem
from dass_jax.search.registry import ALGORITHMS
from dass_jax.search.settings import SearchConfig
from dass_jax.search_space import ResNetSpace, stack, unstack
from dass_jax.uncertainty import Prediction

SPACE = ResNetSpace((8, 16, 16), 3, strides=(1, 2, 2))
MODEL = CostModel(SPACE, image_size=8, num_classes=5)
HALF = Budget(flops=int(MODEL(SPACE.full()).flops) // 2)
CONFIG = SearchConfig(candidates=240, population=24, tournament=6, top_k=3)


def taste(architectures, student_ids):
    """Likes depth in the last stage and width in the first; no two genes act alone."""
    assert len(architectures.depths) == len(student_ids)
    depths = np.asarray(architectures.depths, float)
    widths = np.asarray(architectures.widths, float)
    first = widths[:, 0].sum(1) / 24
    mean = 0.2 * depths[:, 2] / 3 + 0.5 * first * (0.2 + depths[:, 1] / 3) - 0.1 * depths[:, 0] / 3
    return Prediction(mean.astype(np.float32), np.full(len(mean), 0.01, np.float32))


PROBLEM = SearchProblem(MODEL, HALF, taste)


@pytest.fixture(scope="module", params=ALGORITHMS)
def found(request):
    """What each algorithm finds with two keys."""
    search = ALGORITHMS[request.param]
    return request.param, *(search(PROBLEM, jax.random.key(seed), CONFIG) for seed in (0, 1))


def test_every_candidate_respects_the_budget_and_the_space(found):
    name, scored, _ = found
    assert len(scored) == CONFIG.candidates, name
    assert scored.costs.flops.max() <= HALF.flops
    np.testing.assert_array_equal(scored.costs.flops, MODEL(scored.architectures).flops)
    for one in unstack(scored.architectures):
        same = SPACE.from_json(SPACE.to_json(one))
        np.testing.assert_array_equal(same.widths, one.widths)
        for row, choices in zip(one.widths, SPACE.width_choices, strict=True):
            assert set(row[row > 0].tolist()) <= set(choices.tolist())


def test_no_candidate_is_scored_twice(found):
    _, scored, _ = found
    assert len(np.unique(scored.architectures.widths.reshape(len(scored), -1), axis=0)) == len(
        scored
    )
    assert sorted(scored.student_ids.tolist()) == list(range(len(scored)))
    expected = taste(scored.architectures, scored.student_ids)
    np.testing.assert_array_equal(scored.prediction.mean, expected.mean)


def test_a_search_is_a_function_of_its_key(found):
    name, scored, other = found
    again = ALGORITHMS[name](PROBLEM, jax.random.key(0), CONFIG)
    jax.tree.map(
        np.testing.assert_array_equal, dataclasses.astuple(scored), dataclasses.astuple(again)
    )
    assert not np.array_equal(scored.architectures.widths[:5], other.architectures.widths[:5])


def test_all_but_random_put_the_best_first(found):
    name, scored, _ = found
    falling = np.all(np.diff(scored.prediction.mean) <= 0)
    assert falling == (name != "random")
    if name == "random":
        assert scored.student_ids.tolist() == list(range(len(scored)))


def test_improving_beats_sampling():
    best = {}
    for name in ("pool", "random", "evolution", "nsga2"):
        tries = [ALGORITHMS[name](PROBLEM, jax.random.key(seed), CONFIG) for seed in range(4)]
        best[name] = np.mean([scored.prediction.mean[0] for scored in tries])
    assert best["evolution"] > best["pool"] > best["random"]
    # it seeks a whole front, see below, and comes as near to the best of it
    assert best["nsga2"] > 0.95 * best["pool"]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_candidates_are_scored_in_batches_of_one_size(name):
    sizes = []

    def counted(architectures, student_ids):
        sizes.append(len(student_ids))
        return taste(architectures, student_ids)

    config = dataclasses.replace(CONFIG, algorithm=name)
    ALGORITHMS[name](SearchProblem(MODEL, HALF, counted), jax.random.key(0), config)
    # what fills the batches up is little; a first population may be two of them
    passes = sum(-(-size // config.step) for size in sizes)
    assert passes * config.step < 1.5 * sum(sizes)
    assert max(sizes) <= 2 * config.step


def volume(scored):
    """The area that the Pareto front dominates, in predicted accuracy times share of the budget."""
    shares = scored.costs.flops / HALF.flops
    order = np.argsort(shares)
    best = np.maximum.accumulate(scored.prediction.mean[order])
    return float(np.sum(np.diff(np.r_[shares[order], 1.0]) * best))


def test_nsga2_finds_the_better_front():
    volumes = {}
    for name in ("pool", "nsga2"):
        tries = [ALGORITHMS[name](PROBLEM, jax.random.key(seed), CONFIG) for seed in range(4)]
        volumes[name] = np.mean([volume(scored) for scored in tries])
    assert volumes["nsga2"] > volumes["pool"]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_budget_for_one_student_finds_it(name):
    floor = int(MODEL(SPACE.architecture([1, 1, 1], [[4], [8], [8]])).params)
    problem = SearchProblem(MODEL, Budget(params=floor), taste)
    scored = ALGORITHMS[name](problem, jax.random.key(0), CONFIG)
    assert len(scored) == 1
    assert scored.architectures.widths[0, :, 0].tolist() == [4, 8, 8]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_predictions_that_are_not_finite_are_refused(name):
    def broken(architectures, student_ids):
        mean = np.full(len(student_ids), np.nan, np.float32)
        return Prediction(mean, mean)

    problem = SearchProblem(MODEL, Budget(), broken)
    with pytest.raises(UserError, match="not finite: meta-train it again"):
        ALGORITHMS[name](problem, jax.random.key(0), CONFIG)


def test_an_archive_scores_new_candidates_only():
    calls = []

    def counted(architectures, student_ids):
        calls.append(student_ids.tolist())
        return taste(architectures, student_ids)

    def students(*widths):
        batch = [SPACE.architecture([1, 1, 1], [[width], [8], [8]]) for width in widths]
        return jax.device_get(stack(batch))

    archive = Archive(SearchProblem(MODEL, Budget(), counted))
    assert archive.add(students(4, 5, 4)).tolist() == [0, 1, 0]
    assert archive.add(students(5, 4)).tolist() == [1, 0]
    assert archive.add(students(8, 5, 6)).tolist() == [2, 1, 3]
    assert calls == [[0, 1], [2, 3]]
    assert archive.all().architectures.widths[:, 0, 0].tolist() == [4, 5, 8, 6]


def test_equal_predictions_keep_the_order_of_meeting():
    def equal(architectures, student_ids):
        mean = np.float32([0.5, 0.7, 0.5, 0.5])[student_ids]
        return Prediction(mean, mean)

    batch = [SPACE.architecture([1, 1, 1], [[width], [8], [8]]) for width in (8, 4, 6, 5)]
    archive = Archive(SearchProblem(MODEL, Budget(), equal))
    archive.add(jax.device_get(stack(batch)))
    assert archive.all().ranked().student_ids.tolist() == [1, 0, 2, 3]


def test_depth_alone_makes_another_student():
    batch = stack(
        [
            SPACE.architecture([1, 1, 1], [[8], [16], [8]]),
            SPACE.architecture([2, 1, 1], [[8, 8], [16], [8]]),
            SPACE.architecture([1, 2, 1], [[8], [16, 16], [8]]),
        ]
    )
    assert Archive(PROBLEM).add(jax.device_get(batch)).tolist() == [0, 1, 2]


def test_the_front_is_what_nothing_beats():
    rng = np.random.default_rng(0)
    accuracies, costs = rng.integers(0, 12, 60) / 12, rng.integers(0, 12, 60)
    front = pareto_front(accuracies, costs)
    for row in range(60):
        better = (accuracies >= accuracies[row]) & (costs <= costs[row])
        better &= (accuracies > accuracies[row]) | (costs < costs[row])
        equal = (accuracies == accuracies[row]) & (costs == costs[row])
        assert front[row] == (not better.any() and np.flatnonzero(equal)[0] == row)
    assert 1 < front.sum() < 20
