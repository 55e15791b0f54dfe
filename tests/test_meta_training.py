import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax import meta_training
from dass_jax.errors import UserError
from dass_jax.meta_learning import MetaConfig
from dass_jax.meta_tasks import TaskBatch
from dass_jax.predictor.inputs import StudentInputs
from dass_jax.predictor.model import AccuracyPredictor, PredictorConfig

TRACES = []


class TracedPredictor(AccuracyPredictor):
    """Notes every run of the forward pass in Python: none happens once all is compiled."""

    def _embeddings(self, inputs):
        TRACES.append(inputs.students.encoding.shape)
        return super()._embeddings(inputs)


PREDICTOR = TracedPredictor(
    PredictorConfig(
        "SA",
        "flat",
        hidden_channels=4,
        embedding_channels=5,
        architecture_features=3,
        head_features=6,
    )
)
CONFIG = MetaConfig(episodes=120, queries=8, learning_rate=5e-3, eval_every=30, ensemble=2)


def learnable_tasks(tasks, seed, students=10):
    """Accuracies that grow with the strength of the student's map, below the teacher's."""
    rng = np.random.default_rng(seed)
    strength = rng.uniform(size=(tasks, students))
    teacher = rng.uniform(0.6, 0.9, tasks)
    noise = np.abs(rng.normal(size=(tasks, 1, 4, 4, 3)))
    return TaskBatch(
        students=StudentInputs(
            noise_map=jnp.asarray(noise * strength[..., None, None, None], jnp.float32),
            encoding=jnp.asarray(rng.integers(0, 2, (tasks, students, 5)), jnp.float32),
        ),
        accuracies=jnp.asarray(teacher[:, None] * (0.3 + 0.7 * strength), jnp.float32),
        valid=jnp.ones((tasks, students), bool),
        teacher=StudentInputs(
            noise_map=jnp.asarray(noise[:, 0], jnp.float32), encoding=jnp.ones((tasks, 5))
        ),
        teacher_accuracy=jnp.asarray(teacher, jnp.float32),
        chance=jnp.full(tasks, 0.1),
    )


@pytest.fixture(scope="module")
def tasks():
    return learnable_tasks(3, seed=0), learnable_tasks(2, seed=1)


@pytest.fixture(scope="module")
def finished(tasks):
    """A whole run with what its callback saw."""
    saved = []
    result = meta_training.meta_train(
        PREDICTOR, *tasks, CONFIG, on_chunk=lambda *seen: saved.append(seen)
    )
    return result, saved


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_history_and_callbacks(finished):
    result, saved = finished
    assert [entry["episode"] for entry in result.history] == [30, 60, 90, 120]
    assert [len(history) for _, history in saved] == [1, 2, 3, 4]
    assert [progress.step for progress, _ in saved] == [30, 60, 90, 120]
    for entry in result.history:
        mean = np.mean(entry["spearman_per_task"])
        assert entry["spearman"] == pytest.approx(mean, abs=1e-6)
    assert result.history[-1]["loss"] < result.history[0]["loss"]


def test_one_compilation_serves_all_chunks_and_tasks(finished):
    before = len(TRACES)
    others = learnable_tasks(3, seed=2), learnable_tasks(2, seed=3)
    meta_training.meta_train(PREDICTOR, *others, CONFIG, progress=finished[1][0][0])
    assert len(TRACES) == before > 0


@pytest.mark.parametrize("chunk", [0, 2, 3])
def test_a_resumed_run_equals_an_uninterrupted_one(tasks, finished, chunk):
    result, saved = finished
    progress, history = saved[chunk]
    resumed = meta_training.meta_train(
        PREDICTOR, *tasks, CONFIG, progress=progress, history=history
    )
    assert_same(resumed, result)


def test_the_best_checkpoint_is_the_one_returned(tasks, finished):
    result, saved = finished
    scores = [entry["spearman"] for entry in result.history]
    best = int(np.argmax(scores))
    assert (result.score, result.episode) == (scores[best], 30 * (best + 1))
    assert_same(result.learned, saved[best][0].states.learned)
    predictions = meta_training.predict_tasks(PREDICTOR, result.learned, tasks[1], CONFIG)
    assert predictions.shape == (2, 2, 10)
    again = meta_training.spearman_per_task(
        predictions.mean(0), tasks[1].accuracies, tasks[1].valid
    )
    assert np.mean(again) == pytest.approx(result.score, abs=1e-6)


@pytest.mark.parametrize(
    ("scores", "episode"),
    [((0.1, 0.5, 0.5, 0.3), 60), ((0, 0, 0, 0), 30), ((-1, -0.9, -1, 0), 120)],
)
def test_selection_takes_the_earliest_of_the_best(monkeypatch, tasks, finished, scores, episode):
    answers = iter(scores)
    monkeypatch.setattr(
        meta_training, "spearman_per_task", lambda *_: np.full(2, next(answers), np.float64)
    )
    result = meta_training.meta_train(PREDICTOR, *tasks, CONFIG)
    assert (result.episode, result.score) == (episode, np.float32(max(scores)))
    assert_same(result.learned, finished[1][episode // 30 - 1][0].states.learned)


def test_training_improves_the_ranking_of_tasks_it_does_not_train_on(tasks, finished):
    start = meta_training.init_progress(PREDICTOR, tasks[0], CONFIG)
    predictions = meta_training.predict_tasks(PREDICTOR, start.best, tasks[1], CONFIG)
    before = meta_training.spearman_per_task(
        predictions.mean(0), tasks[1].accuracies, tasks[1].valid
    )
    assert np.mean(before) < 0.5 < 0.9 < finished[0].score


def fake_episodes(loss):
    def run(predictor, states, tasks, config, num, devices, trains):
        return states._replace(step=states.step + num), jnp.full((2, num), loss)

    return run


def test_the_last_chunk_may_be_shorter(monkeypatch, tasks):
    monkeypatch.setattr(meta_training, "run_episodes", fake_episodes(0.5))
    config = dataclasses.replace(CONFIG, episodes=7, eval_every=3)
    history = meta_training.meta_train(PREDICTOR, *tasks, config).history
    assert [(entry["episode"], entry["loss"]) for entry in history] == [
        (3, 0.5),
        (6, 0.5),
        (7, 0.5),
    ]


def test_divergence_is_reported(monkeypatch, tasks):
    monkeypatch.setattr(meta_training, "run_episodes", fake_episodes(jnp.nan))
    with pytest.raises(UserError, match="diverged before episode 30: lower"):
        meta_training.meta_train(PREDICTOR, *tasks, CONFIG)


def test_tasks_that_do_not_fit_are_refused(tasks):
    wrong = tasks[1]._replace(accuracies=tasks[1].accuracies[:1])
    with pytest.raises(UserError, match="selecting tasks: accuracies"):
        meta_training.meta_train(PREDICTOR, tasks[0], wrong, CONFIG)


def test_spearman_is_the_rank_correlation_of_valid_students():
    predictions = np.array([[1.0, 2.0, 3.0, -9.0], [3.0, 2.0, 1.0, 0.0]])
    accuracies = np.array([[0.1, 0.2, 0.9, 0.95], [0.1, 0.2, 0.3, 0.4]])
    valid = np.array([[True, True, True, False], [True] * 4])
    found = meta_training.spearman_per_task(predictions, accuracies, valid)
    np.testing.assert_allclose(found, [1.0, -1.0])


def test_spearman_of_a_constant_is_no_ranking():
    ranks, same = np.array([[1.0, 2.0, 3.0]]), np.ones((1, 3))
    valid = np.ones((1, 3), bool)
    for pair in ((ranks, same), (same, ranks), (same, same)):
        assert meta_training.spearman_per_task(*pair, valid).tolist() == [0.0]
    lone = np.array([[True, False, False]])
    assert meta_training.spearman_per_task(ranks, ranks, lone).tolist() == [0.0]
