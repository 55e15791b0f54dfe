import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax import meta_learning, meta_tasks
from dass_jax.errors import UserError
from dass_jax.interop import import_predictor
from dass_jax.meta_learning import MetaConfig
from dass_jax.meta_tasks import TaskBatch
from dass_jax.predictor.model import AccuracyPredictor, PredictorConfig

DATA = pathlib.Path(__file__).parent / "data"
SIZES = {
    "hidden_channels": 4,
    "embedding_channels": 5,
    "architecture_features": 3,
    "head_features": 6,
}
PREDICTOR = AccuracyPredictor(PredictorConfig(**SIZES))
QUICK = AccuracyPredictor(PredictorConfig("S", **SIZES))  # Compiles in half the time.
TAKE = jax.jit(meta_tasks.take_queries, static_argnames="queries")
STEP = jax.jit(meta_learning.meta_step, static_argnames=("predictor", "config"))
ADAPT = jax.jit(meta_learning.adapt_to_task, static_argnames="predictor")
PREDICT = jax.jit(meta_learning.predict, static_argnames="predictor")


def random_tasks(tasks=3, students=6, seed=0):
    rng = np.random.default_rng(seed)
    return TaskBatch(
        student_features=jnp.asarray(rng.normal(size=(tasks, students, 4, 4, 3)), jnp.float32),
        encodings=jnp.asarray(rng.integers(0, 2, (tasks, students, 5)), jnp.float32),
        accuracies=jnp.asarray(rng.uniform(size=(tasks, students)), jnp.float32),
        valid=jnp.ones((tasks, students), bool),
        teacher_features=jnp.asarray(rng.normal(size=(tasks, 4, 4, 3)), jnp.float32),
        teacher_encoding=jnp.ones((tasks, 5), jnp.float32),
        teacher_accuracy=jnp.asarray(rng.uniform(size=tasks), jnp.float32),
    )


def padded(tasks, by):
    """Adds students of nonsense values that are not valid."""

    def pad(array, value):
        widths = [(0, 0), (0, by)] + [(0, 0)] * (array.ndim - 2)
        return jnp.pad(array, widths, constant_values=value)

    return tasks._replace(
        student_features=pad(tasks.student_features, 3.0),
        encodings=pad(tasks.encodings, -2.0),
        accuracies=pad(tasks.accuracies, 50.0),
        valid=pad(tasks.valid, False),
    )


def initial(config, tasks, predictor=PREDICTOR):
    state = meta_learning.init_meta_state(predictor, tasks, config)
    return state, state.params, state.inner_lr


def assert_trees_close(found, expected, rtol):
    def check(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * max(np.abs(b).max(), 1e-12))

    jax.tree.map(check, found, expected)


def assert_trees_equal(found, expected):
    def raw(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    jax.tree.map(lambda a, b: np.testing.assert_array_equal(raw(a), raw(b)), found, expected)


class Official:
    """One bi-level step of the official code, in this project's layout."""

    def __init__(self, order):
        self.arrays = np.load(DATA / f"predictor_{order}_order.npz")
        config, variables = import_predictor(self.part("state/"))
        self.predictor, self.params = AccuracyPredictor(config), variables["params"]
        rate = float(self["inner_lr"])
        self.inner_lr = jax.tree.map(lambda x: jnp.full_like(x, rate), self.params)
        maps = self["support/teacher_features"].transpose(0, 2, 3, 1)
        self.task = TaskBatch(
            student_features=jnp.asarray(self["query/student_features"].transpose(0, 2, 3, 1)),
            encodings=jnp.asarray(self["query/arch_encoding"]),
            accuracies=jnp.asarray(self["query/accuracy"][:, 0]),
            valid=jnp.ones(len(self["query/accuracy"]), bool),
            teacher_features=jnp.asarray(maps[0]),
            teacher_encoding=jnp.asarray(self["support/arch_encoding"]),
            teacher_accuracy=jnp.asarray(self["support/accuracy"][0, 0]),
        )

    def __getitem__(self, name):
        return self.arrays[name]

    def part(self, prefix):
        return {k.removeprefix(prefix): self[k] for k in self.arrays.files if k.startswith(prefix)}


@pytest.fixture(params=["first", "second"])
def official(request):
    with jax.default_matmul_precision("highest"):
        yield Official(request.param)


def test_official_support_and_adapted_predictions(official):
    parts = official.predictor, official.params
    support = meta_learning.predict_with(*parts, official.task.support())
    inner_loss = jnp.mean((support - official.task.teacher_accuracy) ** 2)
    adapted = PREDICT(*parts, official.inner_lr, official.task)
    assert_trees_close(support, official["support/prediction"][:, 0], 1e-4)
    assert_trees_close(inner_loss, official["inner_loss"], 1e-4)
    assert_trees_close(adapted, official["query/prediction_after_adaptation"][:, 0], 1e-4)


def test_official_outer_loss_and_gradients(official):
    config = MetaConfig(first_order=bool(official["first_order"]))
    tasks = jax.tree.map(lambda array: array[None], official.task)
    loss = functools.partial(
        meta_learning.meta_loss, official.predictor, tasks=tasks, config=config
    )
    value, gradients = jax.jit(jax.value_and_grad(lambda learned: loss(*learned)))(
        (official.params, official.inner_lr)
    )
    assert_trees_close(value, official["outer_loss"], 1e-4)
    for name, gradient in zip(("params", "inner_lr"), gradients, strict=True):
        expected = import_predictor(official.part(f"outer_grad/{name}/"))[1]["params"]
        assert_trees_close(gradient, expected, 1e-4)


def test_inner_gradient_matches_finite_differences():
    task = jax.tree.map(lambda array: array[0], random_tasks())
    _, params, _ = initial(MetaConfig(), random_tasks())
    ones = jax.tree.map(jnp.ones_like, params)
    adapted = ADAPT(PREDICTOR, params, ones, task)
    gradient = jax.tree.map(jnp.subtract, params, adapted)
    # Along the gradient, where the slope is its squared length.
    length = float(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))

    @jax.jit
    def loss(step):
        moved = jax.tree.map(lambda p, g: p + step * g, params, gradient)
        prediction = meta_learning.predict_with(PREDICTOR, moved, task.support())
        return (prediction[0] - task.teacher_accuracy) ** 2

    step = 1e-2 / length**0.5
    assert float(loss(step) - loss(-step)) / (2 * step) == pytest.approx(length, rel=1e-2)


def test_adaptation_uses_each_entrys_own_rate():
    task = jax.tree.map(lambda array: array[0], random_tasks())
    _, params, rates = initial(MetaConfig(), random_tasks())
    rates = rates | {"student_encoder": jax.tree.map(jnp.zeros_like, rates["student_encoder"])}
    adapted = ADAPT(PREDICTOR, params, rates, task)
    assert_trees_equal(adapted["student_encoder"], params["student_encoder"])
    assert not np.array_equal(adapted["head_output"]["bias"], params["head_output"]["bias"])


def test_vectorized_tasks_equal_the_mean_of_a_loop_over_tasks():
    tasks = random_tasks()
    _, params, rates = initial(MetaConfig(), tasks, QUICK)

    def grad(loss):
        return jax.jit(jax.value_and_grad(lambda learned, tasks: loss(QUICK, *learned, tasks)))

    single = grad(functools.partial(meta_learning.query_loss, first_order=True))
    loop = [single((params, rates), jax.tree.map(lambda a, i=i: a[i], tasks)) for i in range(3)]
    expected = jax.tree.map(lambda *values: sum(values) / 3, *loop)
    for task_batch in (None, 1, 2, 9):
        config = MetaConfig(first_order=True, task_batch=task_batch)
        found = grad(functools.partial(meta_learning.meta_loss, config=config))
        assert_trees_close(found((params, rates), tasks), expected, 1e-5)


def test_the_outer_loss_counts_each_valid_student_once():
    task = jax.tree.map(lambda array: array[0], padded(random_tasks(), 3))
    _, params, rates = initial(MetaConfig(), random_tasks())
    errors = np.asarray(PREDICT(PREDICTOR, params, rates, task) - task.accuracies)
    loss = jax.jit(meta_learning.query_loss, static_argnums=0)(PREDICTOR, params, rates, task)
    assert float(loss) == pytest.approx(np.mean(errors[:6] ** 2), rel=1e-5)


def test_padding_influences_no_loss_update_or_prediction():
    # More queries than valid students, so that padding is among the drawn.
    config, results = MetaConfig(queries=5), []
    for fill in (0.0, 3.0):
        tasks = random_tasks()
        tasks = tasks._replace(
            student_features=tasks.student_features.at[:, 4:].set(fill),
            encodings=tasks.encodings.at[:, 4:].set(fill),
            accuracies=tasks.accuracies.at[:, 4:].set(fill),
            valid=tasks.valid.at[:, 4:].set(False),
        )
        state, params, rates = initial(config, tasks)
        after, loss = STEP(PREDICTOR, state, tasks, config)
        task = jax.tree.map(lambda array: array[0], tasks)
        prediction = PREDICT(PREDICTOR, params, rates, task)[:4]
        results.append((loss, prediction, after.params, after.inner_lr))
    assert_trees_close(results[1], results[0], 1e-6)


def test_padding_does_not_change_the_draw():
    key, tasks = jax.random.key(0), random_tasks()
    drawn = TAKE(key, tasks, 4)
    assert_trees_equal(TAKE(key, padded(tasks, 3), 4), drawn)


def test_queries_are_drawn_without_replacement_among_the_valid():
    valid = jnp.array([True, False] * 10)
    keys = jax.random.split(jax.random.key(0), 200)
    draws = np.asarray(jax.vmap(lambda key: meta_tasks.draw_queries(key, valid, 4))(keys))
    assert all(len(set(draw)) == 4 for draw in draws)
    assert np.asarray(valid)[draws].all()
    assert np.bincount(draws.ravel())[::2].min() > 50  # 80 of each are expected.


def test_tasks_draw_their_own_queries():
    tasks = jax.tree.map(lambda array: jnp.stack([array[0]] * 3), random_tasks(students=9))
    drawn = TAKE(jax.random.key(0), tasks, 4)
    assert drawn.encodings.shape == (3, 4, 5)
    assert not np.array_equal(drawn.accuracies[0], drawn.accuracies[1])
    for i in range(3):  # A drawn student keeps its map, its encoding and its accuracy together.
        index = [np.argmin(np.abs(tasks.accuracies[i] - a)) for a in drawn.accuracies[i]]
        assert_trees_equal(drawn.student_features[i], tasks.student_features[i][np.array(index)])
        assert_trees_equal(drawn.encodings[i], tasks.encodings[i][np.array(index)])


def test_episodes_draw_other_queries():
    tasks, config = random_tasks(), MetaConfig(queries=5)
    state, *_ = initial(config, tasks)
    later = state._replace(step=state.step + 1)
    losses = [float(STEP(PREDICTOR, s, tasks, config)[1]) for s in (state, state, later)]
    assert losses[0] == losses[1] != losses[2]


def test_interrupted_episodes_equal_uninterrupted_ones_and_learn():
    tasks, config = random_tasks(), MetaConfig(queries=4, learning_rate=1e-2)
    state, params, rates = initial(config, tasks, QUICK)
    run = functools.partial(meta_learning.run_episodes, QUICK, tasks=tasks, config=config)
    whole, losses = run(state=state, num=10)
    half, first = run(state=state, num=5)
    resumed, second = run(state=half, num=5)
    assert_trees_equal((resumed, jnp.concatenate([first, second])), (whole, losses))
    assert losses[-1] < losses[0]
    for before, after in ((params, whole.params), (rates, whole.inner_lr)):
        assert not np.array_equal(before["head_output"]["bias"], after["head_output"]["bias"])


@pytest.mark.parametrize(
    "wrong",
    [{"episodes": 0}, {"queries": 0}, {"eval_every": 0}, {"learning_rate": 0.0}, {"task_batch": 0}],
)
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        MetaConfig(**wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {"student_features": t.student_features[0]}, r"not \[T, N, h, w, C\]"),
        (lambda t: {"accuracies": t.accuracies[:, :2]}, "accuracies has shape"),
        (lambda t: {"teacher_encoding": t.teacher_encoding[:, :2]}, "teacher_encoding has shape"),
        (lambda t: {"valid": t.valid.at[1].set(False)}, "no valid student"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(change, message):
    tasks = random_tasks()
    with pytest.raises(UserError, match=message):
        meta_tasks.check_tasks(tasks._replace(**change(tasks)), "training")
