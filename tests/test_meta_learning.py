import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dass_jax import adaptation, meta_learning, meta_tasks, meta_training
from dass_jax.adaptation import Learned
from dass_jax.errors import UserError
from dass_jax.interop import import_predictor
from dass_jax.meta_learning import MetaConfig
from dass_jax.meta_tasks import Measured, TaskBatch
from dass_jax.predictor.inputs import StudentInputs
from dass_jax.predictor.model import AccuracyPredictor, PredictorConfig

DATA = pathlib.Path(__file__).parent / "data"
SIZES = {
    "hidden_channels": 4,
    "embedding_channels": 5,
    "architecture_features": 3,
    "head_features": 6,
}
PREDICTOR = AccuracyPredictor(PredictorConfig(architecture="flat", **SIZES))
QUICK = AccuracyPredictor(PredictorConfig("S", **SIZES))  # Compiles in half the time.
STEP = jax.jit(meta_learning.meta_step, static_argnames=("predictor", "config"))
OUTER = jax.jit(meta_learning.outer_gradient, static_argnums=(0, 3))
KEY = jax.random.key(0)
ADAPT = jax.jit(adaptation.adapt_to_task, static_argnames="predictor")
PREDICT = jax.jit(adaptation.predict, static_argnames="predictor")


def random_tasks(tasks=3, students=6, seed=0):
    rng = np.random.default_rng(seed)

    def described(*axes):
        return StudentInputs(
            noise_map=jnp.asarray(rng.normal(size=(*axes, 4, 4, 3)), jnp.float32),
            encoding=jnp.asarray(rng.integers(0, 2, (*axes, 5)), jnp.float32),
        )

    return TaskBatch(
        students=described(tasks, students),
        accuracies=jnp.asarray(rng.uniform(size=(tasks, students)), jnp.float32),
        valid=jnp.ones((tasks, students), bool),
        teacher=described(tasks),
        teacher_accuracy=jnp.asarray(rng.uniform(0.3, 1, size=tasks), jnp.float32),
        chance=jnp.full(tasks, 0.1),
    )


@functools.partial(jax.jit, static_argnums=1)
def take(tasks, queries):
    """Queries of every task, by keys of their own."""
    keys = jax.random.split(jax.random.key(0), len(tasks.valid))
    return jax.vmap(lambda key, task: meta_tasks.take_queries(key, task, queries))(keys, tasks)


def padded(tasks, by):
    """Adds students of nonsense values that are not valid."""

    def pad(array, value):
        widths = [(0, 0), (0, by)] + [(0, 0)] * (array.ndim - 2)
        return jnp.pad(array, widths, constant_values=value)

    return tasks._replace(
        students=jax.tree.map(lambda leaf: pad(leaf, 3.0), tasks.students),
        accuracies=pad(tasks.accuracies, 50.0),
        valid=pad(tasks.valid, False),
    )


def initial(config, tasks, predictor=PREDICTOR):
    state = meta_learning.init_meta_state(predictor, tasks, config)
    return state, state.learned


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
        self.predictor = AccuracyPredictor(config)
        rate = float(self["inner_lr"])
        rates = jax.tree.map(lambda x: jnp.full_like(x, rate), variables["params"])
        self.learned = Learned(variables["params"], rates)
        maps = self["support/teacher_features"].transpose(0, 2, 3, 1)
        self.task = TaskBatch(
            students=StudentInputs(
                noise_map=jnp.asarray(self["query/student_features"].transpose(0, 2, 3, 1)),
                encoding=jnp.asarray(self["query/arch_encoding"]),
            ),
            accuracies=jnp.asarray(self["query/accuracy"][:, 0]),
            valid=jnp.ones(len(self["query/accuracy"]), bool),
            teacher=StudentInputs(
                noise_map=jnp.asarray(maps[0]),
                encoding=jnp.asarray(self["support/arch_encoding"]),
            ),
            teacher_accuracy=jnp.asarray(self["support/accuracy"][0, 0]),
            chance=jnp.asarray(0.0),
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
    parts = official.predictor, official.learned
    support = official.predictor.apply({"params": official.learned.params}, official.task.support())
    inner_loss = jnp.mean((support - official.task.teacher_accuracy) ** 2)
    adapted = PREDICT(*parts, official.task)
    assert_trees_close(support, official["support/prediction"][:, 0], 1e-4)
    assert_trees_close(inner_loss, official["inner_loss"], 1e-4)
    assert_trees_close(adapted, official["query/prediction_after_adaptation"][:, 0], 1e-4)


def test_official_outer_loss_and_gradients(official):
    config = MetaConfig(first_order=bool(official["first_order"]))
    tasks = jax.tree.map(lambda array: array[None], official.task)
    value, gradients = OUTER(official.predictor, official.learned, tasks, config, KEY)
    assert_trees_close(value, official["outer_loss"], 1e-4)
    for name, gradient in zip(("params", "inner_lr"), gradients, strict=True):
        expected = import_predictor(official.part(f"outer_grad/{name}/"))[1]["params"]
        assert_trees_close(gradient, expected, 1e-4)


def test_inner_gradient_matches_finite_differences():
    task = jax.tree.map(lambda array: array[0], random_tasks())
    params = initial(MetaConfig(), random_tasks())[1].params
    ones = jax.tree.map(jnp.ones_like, params)
    adapted = ADAPT(PREDICTOR, Learned(params, ones), task)
    gradient = jax.tree.map(jnp.subtract, params, adapted)
    # Along the gradient, where the slope is its squared length.
    length = float(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))

    @jax.jit
    def loss(step):
        moved = jax.tree.map(lambda p, g: p + step * g, params, gradient)
        prediction = PREDICTOR.apply({"params": moved}, task.support())
        return (prediction[0] - task.teacher_accuracy) ** 2

    step = 1e-2 / length**0.5
    assert float(loss(step) - loss(-step)) / (2 * step) == pytest.approx(length, rel=1e-2)


def test_adaptation_uses_each_entrys_own_rate():
    task = jax.tree.map(lambda array: array[0], random_tasks())
    params, rates = initial(MetaConfig(), random_tasks())[1]
    rates = rates | {"student_encoder": jax.tree.map(jnp.zeros_like, rates["student_encoder"])}
    adapted = ADAPT(PREDICTOR, Learned(params, rates), task)
    assert_trees_equal(adapted["student_encoder"], params["student_encoder"])
    assert not np.array_equal(adapted["head_output"]["bias"], params["head_output"]["bias"])


def test_vectorized_tasks_equal_the_mean_of_a_loop_over_tasks():
    tasks = random_tasks()
    learned = initial(MetaConfig(), tasks, QUICK)[1]

    @jax.jit
    def single(task):
        loss = functools.partial(meta_learning.query_loss, QUICK, task=task, config=config)
        return jax.value_and_grad(loss)(learned)

    config = MetaConfig(first_order=True)
    loop = [single(jax.tree.map(lambda a, i=i: a[i], tasks)) for i in range(3)]
    expected = jax.tree.map(lambda *values: sum(values) / 3, *loop)
    for task_batch in (1, 2, 9):
        batched = dataclasses.replace(config, task_batch=task_batch)
        assert_trees_close(OUTER(QUICK, learned, tasks, batched, KEY), expected, 1e-5)


def test_the_outer_loss_counts_each_valid_student_once():
    task = jax.tree.map(lambda array: array[0], padded(random_tasks(), 3))
    learned = initial(MetaConfig(), random_tasks())[1]
    errors = np.asarray(PREDICT(PREDICTOR, learned, task) - task.accuracies)
    loss = jax.jit(meta_learning.query_loss, static_argnums=(0, 3))(
        PREDICTOR, learned, task, MetaConfig()
    )
    assert float(loss) == pytest.approx(np.mean(errors[:6] ** 2), rel=1e-5)


def test_padding_influences_no_loss_update_or_prediction():
    # More queries than valid students, so that padding is among the drawn.
    config, results = MetaConfig(queries=5), []
    for fill in (0.0, 3.0):
        tasks = random_tasks()
        tasks = tasks._replace(
            students=jax.tree.map(lambda a, fill=fill: a.at[:, 4:].set(fill), tasks.students),
            accuracies=tasks.accuracies.at[:, 4:].set(fill),
            valid=tasks.valid.at[:, 4:].set(False),
        )
        state, learned = initial(config, tasks)
        after, loss = STEP(PREDICTOR, state, tasks, config)
        task = jax.tree.map(lambda array: array[0], tasks)
        prediction = PREDICT(PREDICTOR, learned, task)[:4]
        results.append((loss, prediction, after.learned))
    assert_trees_close(results[1], results[0], 1e-6)


def test_padding_does_not_change_the_draw():
    tasks = random_tasks()
    assert_trees_equal(take(padded(tasks, 3), 4), take(tasks, 4))


def test_queries_are_drawn_without_replacement_among_the_valid():
    valid = jnp.array([True, False] * 10)
    keys = jax.random.split(jax.random.key(0), 200)
    draws = np.asarray(jax.vmap(lambda key: meta_tasks.draw_queries(key, valid, 4))(keys))
    assert all(len(set(draw)) == 4 for draw in draws)
    assert np.asarray(valid)[draws].all()
    assert np.bincount(draws.ravel())[::2].min() > 50  # 80 of each are expected.


def test_tasks_draw_their_own_queries():
    tasks = jax.tree.map(lambda array: jnp.stack([array[0]] * 3), random_tasks(students=9))
    drawn = take(tasks, 4)
    assert drawn.students.encoding.shape == (3, 4, 5)
    assert not np.array_equal(drawn.accuracies[0], drawn.accuracies[1])
    for i in range(3):  # A drawn student keeps its map, its encoding and its accuracy together.
        index = [np.argmin(np.abs(tasks.accuracies[i] - a)) for a in drawn.accuracies[i]]
        chosen = jax.tree.map(lambda a, i=i, j=index: a[i][np.array(j)], tasks.students)
        assert_trees_equal(jax.tree.map(lambda a, i=i: a[i], drawn.students), chosen)


def test_episodes_draw_other_queries():
    tasks, config = random_tasks(), MetaConfig(queries=5)
    state, *_ = initial(config, tasks)
    later = state._replace(step=state.step + 1)
    losses = [float(STEP(PREDICTOR, s, tasks, config)[1]) for s in (state, state, later)]
    assert losses[0] == losses[1] != losses[2]


def test_interrupted_episodes_equal_uninterrupted_ones_and_learn():
    tasks, config = random_tasks(), MetaConfig(queries=4, learning_rate=1e-2, ensemble=2)
    states = meta_training.init_states(QUICK, tasks, config)
    run = functools.partial(meta_training.run_episodes, QUICK, tasks=tasks, config=config)
    whole, losses = run(states=states, num=10)
    half, first = run(states=states, num=5)
    resumed, second = run(states=half, num=5)
    assert_trees_equal((resumed, jnp.concatenate([first, second], 1)), (whole, losses))
    assert (losses[:, -1] < losses[:, 0]).all()
    jax.tree.map(
        lambda before, after: np.testing.assert_array_less(0, np.abs(after - before).max()),
        states.learned,
        whole.learned,
    )


def test_a_member_learns_as_if_it_were_alone():
    tasks, config = random_tasks(), MetaConfig(queries=4, learning_rate=1e-2, ensemble=3)
    states = meta_training.init_states(QUICK, tasks, config)
    together, losses = meta_training.run_episodes(QUICK, states, tasks, config, 3)
    assert len(set(np.asarray(losses)[:, 0])) == 3
    state = meta_learning.init_meta_state(QUICK, tasks, config, member=2)
    for episode in range(3):
        state, loss = STEP(QUICK, state, tasks, config)
        assert float(loss) == pytest.approx(float(losses[2, episode]), rel=1e-5)
    assert_trees_close(jax.tree.map(lambda leaf: leaf[2], together.learned), state.learned, 1e-5)


def test_measured_students_join_the_teacher_in_the_support():
    task = jax.tree.map(lambda array: array[0], random_tasks())
    learned = initial(MetaConfig(), random_tasks())[1]
    learned = learned._replace(inner_lr=jax.tree.map(lambda x: 0 * x + 0.1, learned.inner_lr))

    def adapted(accuracies, valid):
        measured = Measured(
            jax.tree.map(lambda leaf: leaf[:3], task.students),
            jnp.asarray(accuracies, jnp.float32),
            jnp.asarray(valid),
        )
        return ADAPT(PREDICTOR, learned, task, measured)

    alone = ADAPT(PREDICTOR, learned, task)
    assert_trees_close(adapted([9.0, 9.0, 9.0], [False] * 3), alone, 1e-5)
    two = adapted([0.2, 0.5, 9.0], [True, True, False])
    assert_trees_close(two, adapted([0.2, 0.5, -9.0], [True, True, False]), 1e-6)

    def loss(params):
        answers = PREDICTOR.apply({"params": params}, task.queries())[:2]
        teacher = PREDICTOR.apply({"params": params}, task.support())[0] - task.teacher_accuracy
        return (teacher**2 + jnp.sum((answers - jnp.asarray([0.2, 0.5])) ** 2)) / 3

    expected = jax.tree.map(
        lambda p, g: p - 0.1 * g, learned.params, jax.grad(loss)(learned.params)
    )
    assert_trees_close(two, expected, 1e-5)


def test_support_students_are_no_queries():
    task = jax.tree.map(lambda array: array[0], random_tasks())
    learned = initial(MetaConfig(), random_tasks())[1]
    config = MetaConfig(support_students=2)
    split = jax.tree.map(lambda x: x[:2], (task.students, task.accuracies, task.valid))
    rest = jax.tree.map(lambda x: x[2:], (task.students, task.accuracies, task.valid))
    queries = task._replace(students=rest[0], accuracies=rest[1], valid=rest[2])
    answers = PREDICT(PREDICTOR, learned, queries, Measured(*split))
    loss = meta_learning.query_loss(PREDICTOR, learned, task, config)
    assert float(loss) == pytest.approx(float(jnp.mean((answers - rest[1]) ** 2)), rel=1e-4)


@pytest.mark.parametrize("steps", [0, 2])
def test_inner_steps(steps):
    task = jax.tree.map(lambda array: array[0], random_tasks())
    learned = initial(MetaConfig(), random_tasks())[1]
    expected = learned.params
    for _ in range(steps):
        expected = ADAPT(PREDICTOR, learned._replace(params=expected), task)
    found = adaptation.adapt_to_task(PREDICTOR, learned, task, steps=steps)
    assert_trees_close(found, expected, 1e-5)


def test_the_teachers_scale_makes_tasks_alike_and_is_undone():
    scaled = AccuracyPredictor(PredictorConfig(architecture="flat", scale="teacher", **SIZES))
    tasks = random_tasks()
    task = jax.tree.map(lambda array: array[0], tasks)
    learned = initial(MetaConfig(), tasks)[1]
    answers = adaptation.adapt_to_task(scaled, learned, task)
    raw = scaled.apply({"params": answers}, task.queries())
    unit = task.teacher_accuracy - 0.1
    np.testing.assert_allclose(PREDICT(scaled, learned, task), 0.1 + unit * raw, rtol=1e-5)
    # the same task with half the classes' difficulty has the same loss
    easier = task._replace(
        teacher_accuracy=0.2 + 0.5 * (task.teacher_accuracy - 0.1),
        accuracies=0.2 + 0.5 * (task.accuracies - 0.1),
        chance=jnp.asarray(0.2),
    )
    first, second = (
        meta_learning.query_loss(scaled, learned, t, MetaConfig()) for t in (task, easier)
    )
    assert float(first) == pytest.approx(float(second), rel=1e-4)


def test_correlation_loss_is_pearsons():
    rng = np.random.default_rng(0)
    predictions, targets = jnp.asarray(rng.normal(size=(2, 9)), jnp.float32)
    valid = jnp.arange(9) < 7
    found = meta_learning.correlation_loss(predictions, targets, valid)
    expected = 1 - stats.pearsonr(predictions[:7], targets[:7]).statistic
    assert float(found) == pytest.approx(expected, abs=1e-5)
    # neither level nor unit matters
    other = meta_learning.correlation_loss(5 + 0.1 * predictions, 3 * targets - 1, valid)
    assert float(other) == pytest.approx(expected, abs=1e-4)


def test_correlation_loss_where_all_are_equal():
    # the mean of seven times 0.3 is not quite 0.3
    equal, spread = jnp.full(7, 0.3), jnp.arange(7.0) ** 2
    valid = jnp.ones(7, bool)
    assert float(meta_learning.correlation_loss(spread, equal, valid)) == 0
    value, gradient = jax.value_and_grad(meta_learning.correlation_loss)(equal, spread, valid)
    assert float(value) == pytest.approx(1)
    assert np.isfinite(gradient).all()
    assert float(gradient @ spread) < 0


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_parameters_decay_and_inner_learning_rates_do_not(optimizer):
    config = MetaConfig(optimizer=optimizer, learning_rate=0.1, weight_decay=0.5)
    learned = Learned({"kernel": jnp.ones(3)}, {"kernel": jnp.ones(())})
    still = jax.tree.map(jnp.zeros_like, learned)
    transform = meta_learning._optimizer(config)
    updates, _ = transform.update(still, transform.init(learned), learned)
    np.testing.assert_allclose(updates.params["kernel"], -0.05, rtol=1e-6)
    np.testing.assert_array_equal(updates.inner_lr["kernel"], 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"episodes": 0},
        {"queries": 0},
        {"eval_every": 0},
        {"ensemble": 0},
        {"learning_rate": 0.0},
        {"task_batch": 0},
        {"support_students": -1},
        {"inner_steps": -1},
        {"weight_decay": -0.1},
        {"correlation_weight": -1.0},
    ],
)
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        MetaConfig(**wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {"valid": t.valid[0]}, r"not \[T, N\]"),
        (lambda t: {"accuracies": t.accuracies[:, :2]}, "accuracies has shape"),
        (
            lambda t: {"teacher": t.teacher._replace(encoding=t.teacher.encoding[:, :2])},
            "students.encoding has shape",
        ),
        (lambda t: {"teacher": t.teacher._replace(noise_map=None)}, "but not for the teacher"),
        (lambda t: {"valid": t.valid.at[1].set(False)}, "no valid student"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(change, message):
    tasks = random_tasks()
    with pytest.raises(UserError, match=message):
        meta_tasks.check_tasks(tasks._replace(**change(tasks)), "training")
