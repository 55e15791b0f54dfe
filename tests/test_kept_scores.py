"""Scores come back from their file as they were, or not at all."""

import json

import numpy as np
import pytest

from dass_jax.workflow import kept_scores
from dass_jax.workflow.evaluate import Scores

RECIPE = {"records": "r", "weights": "w"}
SCORES = {
    "ours": Scores(np.array([0.1, np.nan, 1 / 3]), 0.01, coverage=1.0, machine="a CPU"),
    "ours and 8 students": Scores(np.array([3, 1, 2]), 1e-7, saw_last=True),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "scores" / "birds.json"
    kept_scores.keep_scores(path, "ours", SCORES, RECIPE)
    return path


def check_scores(found):
    assert list(found) == list(SCORES)
    for name, scores in found.items():
        np.testing.assert_array_equal(scores.values, SCORES[name].values)
        assert scores[1:] == SCORES[name][1:]


def test_scores_come_back_as_they_were(path):
    check_scores(kept_scores.read_scores(path, "ours", RECIPE))


@pytest.mark.parametrize("changed", [{"records": "s"}, {"weights": "v"}, {"kd": 1}], ids=str)
def test_scores_of_something_else_are_not_read(path, changed):
    assert kept_scores.read_scores(path, "ours", RECIPE | changed) is None


def test_a_change_is_named(path):
    assert kept_scores.what_changed(path, "ours", RECIPE) is None
    assert kept_scores.what_changed(path, "theirs", RECIPE) is None
    change = kept_scores.what_changed(path, "ours", RECIPE | {"records": "s"})
    assert change == "records was 'r' and is now 's'"
    saved = json.loads(path.read_text())
    del saved["groups"]["ours"]["recipe"]
    path.write_text(json.dumps(saved))
    assert kept_scores.what_changed(path, "ours", RECIPE) == "it has no recipe"


def test_each_group_is_kept_by_its_own_recipe(path):
    other = {"counts": Scores(np.ones(3), 0.0)}
    kept_scores.keep_scores(path, "baselines", other, RECIPE | {"weights": "none"})
    check_scores(kept_scores.read_scores(path, "ours", RECIPE))
    assert kept_scores.read_scores(path, "baselines", RECIPE) is None
    assert kept_scores.read_scores(path, "theirs", RECIPE) is None
    # a group that is scored anew takes the place of what it was
    kept_scores.keep_scores(path, "ours", other, RECIPE | {"weights": "v"})
    assert kept_scores.read_scores(path, "ours", RECIPE) is None
    assert list(kept_scores.read_scores(path, "ours", RECIPE | {"weights": "v"})) == ["counts"]


def test_other_versions_and_damaged_files_are_not_read(path):
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {"version": 0}))
    assert kept_scores.read_scores(path, "ours", RECIPE) is None
    path.write_text(path.read_text()[:99])
    assert kept_scores.read_scores(path, "ours", RECIPE) is None
    assert kept_scores.read_scores(path.with_name("none.json"), "ours", RECIPE) is None
    # and what is scored next is kept in spite of them
    kept_scores.keep_scores(path, "ours", SCORES, RECIPE)
    check_scores(kept_scores.read_scores(path, "ours", RECIPE))
