"""Scores come back from their file as they were, or not at all."""

import json

import numpy as np
import pytest

from dass_jax.workflow import kept_scores
from dass_jax.workflow.evaluate import Scores, UnseenTask

RECIPE = {"records": "r", "predictors": [["ours", "a"], ["theirs", "b"]]}
TASK = UnseenTask(
    "birds",
    np.array([[0.25, 0.5, 1 / 3], [0.2, 0.6, 0.4]]),
    0.5,
    teacher_accuracy=0.7,
    chance=0.1,
    scores={
        "ours": Scores(np.array([0.1, np.nan, 1 / 3]), 0.01, coverage=1.0),
        "counts": Scores(np.array([3, 1, 2]), 1e-7, saw_last=True),
    },
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "scores" / "birds.json"
    kept_scores.keep_scores(path, TASK, RECIPE)
    return path


def test_scores_come_back_as_they_were(path):
    found = kept_scores.read_scores(path, RECIPE)
    np.testing.assert_array_equal(found.measured, TASK.measured)
    assert list(found.scores) == list(TASK.scores)
    for name, scores in found.scores.items():
        np.testing.assert_array_equal(scores.values, TASK.scores[name].values)
        assert scores[1:] == TASK.scores[name][1:]
    assert found._replace(measured=0, scores=0) == TASK._replace(measured=0, scores=0)


@pytest.mark.parametrize(
    "changed",
    [{"records": "s"}, {"predictors": RECIPE["predictors"][::-1]}, {"kd": 1}],
    ids=str,
)
def test_scores_of_something_else_are_not_read(path, changed):
    assert kept_scores.read_scores(path, RECIPE | changed) is None


def test_other_versions_and_damaged_files_are_not_read(path):
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {"version": 0}))
    assert kept_scores.read_scores(path, RECIPE) is None
    path.write_text(path.read_text()[:99])
    assert kept_scores.read_scores(path, RECIPE) is None
    assert kept_scores.read_scores(path.with_name("none.json"), RECIPE) is None
