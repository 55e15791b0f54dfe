"""Members that hold tasks out have not seen them, and are the ones that judge them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_meta_training import CONFIG, PREDICTOR, assert_same, learnable_tasks

from dass_jax import meta_training
from dass_jax.errors import UserError
from dass_jax.folds import by_judges, judged_together, make_folds, spearman_of_others_choice
from dass_jax.metrics import correlate

TASKS = learnable_tasks(3, seed=0)
FOLDS = make_folds(members=3, tasks=3, count=1)
SHORT = dataclasses.replace(CONFIG, episodes=10, eval_every=5, ensemble=3, held_out=1)


@given(st.integers(2, 12), st.data())
def test_members_hold_out_all_tasks_alike(tasks, data):
    count = data.draw(st.integers(1, tasks - 1))
    members = data.draw(st.integers(-(-tasks // count), 3 * tasks))
    folds = make_folds(members, tasks, count)
    assert (folds.held_out.sum(1) == count).all()
    judges = folds.held_out.sum(0)
    assert judges.min() >= 1
    assert np.ptp(judges) <= 1
    for trains, held_out in zip(*folds, strict=True):
        assert sorted({*trains, *np.flatnonzero(held_out)}) == list(range(tasks))
        assert len(trains) == tasks - count


@pytest.mark.parametrize(
    ("members", "tasks", "count", "groups"),
    [
        (4, 4, 2, [0, 0, 1, 1]),
        (2, 6, 3, [0, 0, 0, 1, 1, 1]),
        # the third member begins again, so that no two tasks share all judges
        (3, 3, 2, [0, 1, 2]),
    ],
)
def test_tasks_with_the_same_judges_are_a_group(members, tasks, count, groups):
    found = judged_together(tasks, make_folds(members, tasks, count))
    assert (found[:, None] == found).tolist() == np.equal.outer(groups, groups).tolist()


def test_without_folds_each_task_is_a_group():
    assert judged_together(3, None).tolist() == [0, 1, 2]


def train(tasks):
    saved = []
    result = meta_training.meta_train(
        PREDICTOR, tasks, tasks, SHORT, folds=FOLDS, on_chunk=lambda *seen: saved.append(seen[0])
    )
    return result, saved[-1].states.learned


def test_a_member_has_not_seen_what_it_holds_out():
    """Labels of a task change all members but the one that is judged by it."""
    before = train(TASKS)[1]
    other = TASKS._replace(accuracies=TASKS.accuracies.at[1].set(TASKS.accuracies[1, ::-1]))
    after = train(other)[1]
    (judge,) = np.flatnonzero(FOLDS.held_out[:, 1])
    for member in range(3):
        first, second = (
            jax.tree.map(lambda leaf, member=member: leaf[member], learned)
            for learned in (before, after)
        )
        if member == judge:
            assert_same(first, second)
        else:
            assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, first, second)))


def test_tasks_are_judged_by_members_that_held_them_out():
    result, _ = train(TASKS)
    best = next(entry for entry in result.history if entry["episode"] == result.episode)
    predictions = np.asarray(meta_training.predict_tasks(PREDICTOR, result.learned, TASKS, SHORT))
    for task, found in enumerate(best["spearman_per_task"]):
        (judge,) = np.flatnonzero(FOLDS.held_out[:, task])
        expected = correlate(predictions[judge, task], np.asarray(TASKS.accuracies[task]))
        assert found == pytest.approx(expected.spearman)
    judged = by_judges(predictions, FOLDS)
    assert np.isfinite(judged).all(axis=2).tolist() == FOLDS.held_out.tolist()


def test_members_trained_alone_are_those_trained_together():
    """A member's draws depend on the places of its own tasks alone."""
    config = dataclasses.replace(SHORT, task_batch=1)
    states = meta_training.init_states(PREDICTOR, TASKS, config)
    together, losses = meta_training.run_episodes(
        PREDICTOR, states, TASKS, config, 3, trains=FOLDS.trains
    )
    for member, trains in enumerate(FOLDS.trains):
        own = jax.tree.map(lambda leaf, trains=trains: jnp.asarray(leaf)[trains], TASKS)
        one = jax.tree.map(lambda leaf, m=member: leaf[m : m + 1], states)
        alone, loss = meta_training.run_episodes(PREDICTOR, one, own, config, 3)
        np.testing.assert_allclose(loss[0], losses[member], rtol=1e-5)
        for a, b in zip(
            jax.tree.leaves(alone.learned), jax.tree.leaves(together.learned), strict=True
        ):
            np.testing.assert_allclose(a[0], b[member], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("members", "tasks", "count", "message"),
    [
        (4, 3, 3, "leave at least one to train on"),
        (2, 5, 2, "raise meta.ensemble to 3"),
    ],
)
def test_folds_that_leave_a_task_out_are_refused(members, tasks, count, message):
    with pytest.raises(UserError, match=message):
        make_folds(members, tasks, count)


def test_a_support_that_leaves_nothing_to_predict_is_refused():
    config = dataclasses.replace(CONFIG, support_students=10)
    with pytest.raises(UserError, match="support_students is 10, but a task has 10 students"):
        meta_training.meta_train(PREDICTOR, TASKS, TASKS, config)
    # a task of fewer students would have no query, and would never be learned from
    valid = np.array(TASKS.valid)
    valid[0, 4:] = False
    fewer = TASKS._replace(valid=valid)
    config = dataclasses.replace(CONFIG, support_students=4)
    with pytest.raises(UserError, match="support_students is 4, but a task has 4 students"):
        meta_training.meta_train(PREDICTOR, fewer, TASKS, config)


def test_a_task_has_no_say_in_the_evaluation_that_judges_it():
    history = np.array([[0.9, 0.1, 0.2], [0.2, 0.8, 0.3], [0.1, 0.2, 0.7], [0.3, 0.8, 0.1]])
    # the others of task 0 like the second best together, and so on
    expected = []
    for task in range(3):
        others = np.delete(history, task, axis=1).mean(1)
        expected.append(history[np.flatnonzero(others == others.max())[0], task])
    np.testing.assert_array_equal(spearman_of_others_choice(history), expected)
    changed = history.copy()
    changed[:, 0] = changed[::-1, 0]
    moved = spearman_of_others_choice(changed)[0]
    assert moved == changed[np.argmax(history[:, 1:].mean(1)), 0]
    np.testing.assert_array_equal(spearman_of_others_choice(history[:, :1]), [0.9])
