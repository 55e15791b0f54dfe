"""Intervals hold what they promise on tasks like those that they were calibrated on."""

import json

import numpy as np
import pytest

from dass_jax.level import Level
from dass_jax.uncertainty import (
    COVERAGE,
    Calibration,
    calibrate,
    level_of,
    read_calibration,
    with_intervals,
)


def labelled(rng, tasks, students, error=0.05, slope=0.0):
    """Predictions of three members that share an error in proportion to the task's range.

    They are too low by ``slope`` of that range for a unit of the first fact.
    """
    teacher, chance = rng.uniform(0.3, 0.9, tasks), np.full(tasks, 0.1)
    accuracies = rng.uniform(0.1, 0.8, (tasks, students))
    units = (teacher - chance)[:, None]
    shared = accuracies + error * units * rng.normal(size=accuracies.shape)
    members = shared + 0.01 * units * rng.normal(size=(3, *accuracies.shape))
    facts = rng.normal(size=(tasks, 2))
    members -= slope * units * facts[:, :1]
    valid, groups = np.ones(accuracies.shape, bool), np.arange(tasks)
    return members, accuracies, valid, teacher, chance, facts, groups


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_new_tasks_are_covered_as_promised(slope):
    """By intervals that are as narrow as if facts did not move the level."""
    rng = np.random.default_rng(0)
    calibration = calibrate(*labelled(rng, 100, 50, slope=slope))
    assert calibration.common_error == pytest.approx(0.05, rel=0.1)
    members, accuracies, _, teacher, chance, facts, _ = labelled(rng, 20, 50, slope=slope)
    covered = []
    for task in range(20):
        known = float(teacher[task]), float(chance[task]), facts[task]
        prediction = with_intervals(calibration, members[:, task], *known)
        level = level_of(calibration, *known)
        np.testing.assert_allclose(prediction.mean, members[:, task].mean(0) + level)
        covered.append(np.abs(prediction.mean - accuracies[task]) <= prediction.half_width)
    assert np.mean(covered) == pytest.approx(COVERAGE, abs=0.03)


def test_padding_has_no_influence():
    rng = np.random.default_rng(0)
    # so many tasks that their levels count, too
    members, accuracies, valid, *known = labelled(rng, 12, 8, slope=0.3)
    expected = calibrate(members, accuracies, valid, *known)
    assert expected.level.weights
    members = np.pad(members, ((0, 0), (0, 0), (0, 2)), constant_values=7.0)
    accuracies, valid = (np.pad(array, ((0, 0), (0, 2))) for array in (accuracies, valid))
    assert calibrate(members, accuracies, valid, *known) == expected


def test_where_members_disagree_intervals_are_wider():
    rng = np.random.default_rng(0)
    calibration = calibrate(*labelled(rng, 5, 20))
    members = np.array([[0.5, 0.2], [0.5, 0.5], [0.5, 0.8]])
    prediction = with_intervals(calibration, members, 0.8, 0.1, np.zeros(2))
    assert prediction.half_width[1] > 2 * prediction.half_width[0] > 0


def test_perfect_predictions_promise_no_certainty():
    accuracies = np.array([[0.3, 0.5, 0.7]])
    task = np.array([0.8]), np.array([0.1]), np.zeros((1, 2)), np.zeros(1, int)
    known = accuracies, accuracies == accuracies, *task
    calibration = calibrate(np.stack([accuracies, accuracies]), *known)
    assert calibration.common_error > 0


def test_a_spread_that_nobody_calibrated_does_not_count():
    """Each task has one judge among three members."""
    rng = np.random.default_rng(0)
    members, *known = labelled(rng, 3, 20)
    alone = np.where(np.eye(3, dtype=bool)[:, :, None], members, np.nan)
    calibration = calibrate(alone, *known)
    wide, narrow = np.array([[0.1], [0.5], [0.9]]), np.array([[0.5], [0.5], [0.5]])
    task = 0.8, 0.1, np.zeros(2)
    widths = [with_intervals(calibration, one, *task).half_width for one in (wide, narrow)]
    np.testing.assert_array_equal(*widths)
    errors = np.abs(np.nanmean(alone, axis=0) - known[0])
    units = (known[2] - known[3])[:, None]
    assert np.mean(errors <= widths[0] * units / 0.7) == pytest.approx(COVERAGE, abs=0.03)


def test_with_a_single_judge_of_some_tasks_all_students_are_covered():
    """Ten members hold one of seven tasks each, so that four tasks have one judge and three two."""
    rng = np.random.default_rng(0)
    members, *known = labelled(rng, 7, 30)
    members = np.concatenate([members, members, members, members])[:10]
    members = members + 0.1 * rng.normal(size=members.shape)
    judges = np.arange(10)[:, None] % 7 == np.arange(7)
    judged = np.where(judges[:, :, None], members, np.nan)
    calibration = calibrate(judged, *known)
    accuracies, _, teacher, chance, facts, _ = known
    covered = []
    for task in range(7):
        own = members[judges[:, task], task]
        prediction = with_intervals(calibration, own, teacher[task], chance[task], facts[task])
        covered.append(np.abs(prediction.mean - accuracies[task]) <= prediction.half_width)
    # by construction, as these are the students that it was calibrated on
    assert np.mean(covered) >= COVERAGE - 1e-9


def test_a_calibration_is_read_as_it_was_written():
    rng = np.random.default_rng(0)
    calibration = calibrate(*labelled(rng, 20, 10, slope=0.3))
    assert calibration.level.weights
    assert read_calibration(json.loads(json.dumps(calibration.plain()))) == calibration


def test_a_calibration_from_before_there_were_levels_moves_nothing():
    older = read_calibration({"common_error": 0.1, "quantile": 1.5, "spread_weight": 0.0})
    assert older == Calibration(0.1, 1.5, 0.0, Level())
    assert level_of(older, 0.8, 0.1, np.ones(2)) == 0
