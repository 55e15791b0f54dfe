import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax.errors import UserError
from dass_jax.interop import import_predictor
from dass_jax.predictor.initializers import torch_uniform
from dass_jax.predictor.model import AccuracyPredictor, PredictorConfig, PredictorInputs

DATA = pathlib.Path(__file__).parent / "data"
SMALL = {
    "hidden_channels": 4,
    "embedding_channels": 6,
    "architecture_features": 5,
    "head_features": 7,
}
COMBINATIONS = ["".join(c) for n in (1, 2, 3) for c in itertools.combinations("STA", n)]


def random_inputs(students=3, seed=0):
    rng = np.random.default_rng(seed)
    arrays = rng.normal(size=(students, 4, 4, 3)), rng.normal(size=(4, 4, 3))
    encoding = rng.integers(0, 2, (students, 9))
    return PredictorInputs(*(jnp.asarray(a, jnp.float32) for a in (*arrays, encoding)))


def random_variables(predictor, inputs):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(predictor.init, jax.random.key(0), inputs)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), shapes)


@pytest.mark.parametrize("order", ["first", "second"])
def test_matches_the_official_prediction(order):
    fixture = np.load(DATA / f"predictor_{order}_order.npz")
    state = {k[6:]: fixture[k] for k in fixture.files if k.startswith("state/")}
    config, variables = import_predictor(state)
    inputs = PredictorInputs(
        jnp.asarray(fixture["query/student_features"].transpose(0, 2, 3, 1)),
        jnp.asarray(fixture["support/teacher_features"][0].transpose(1, 2, 0)),
        jnp.asarray(fixture["query/arch_encoding"]),
    )
    with jax.default_matmul_precision("highest"):
        prediction = AccuracyPredictor(config).apply(variables, inputs)
    expected = fixture["query/prediction_without_adaptation"][:, 0]
    np.testing.assert_allclose(prediction, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)


def test_a_batch_equals_its_students_one_by_one():
    predictor, inputs = AccuracyPredictor(PredictorConfig(**SMALL)), random_inputs()
    variables = random_variables(predictor, inputs)
    apply = jax.jit(predictor.apply)
    batched = apply(variables, inputs)
    assert batched.shape == (3,)
    for i, prediction in enumerate(batched):
        single = PredictorInputs(
            inputs.student_features[i : i + 1], inputs.teacher_features, inputs.encoding[i : i + 1]
        )
        np.testing.assert_allclose(apply(variables, single)[0], prediction, rtol=1e-5)


@pytest.mark.parametrize("letters", COMBINATIONS)
def test_only_inputs_that_are_switched_on_matter(letters):
    predictor = AccuracyPredictor(PredictorConfig(letters, **SMALL))
    inputs, other = random_inputs(seed=0), random_inputs(seed=1)
    variables = random_variables(predictor, inputs)
    apply = jax.jit(predictor.apply)
    baseline = apply(variables, inputs)
    for letter, field in zip("STA", PredictorInputs._fields, strict=True):
        changed = apply(variables, inputs._replace(**{field: getattr(other, field)}))
        assert np.array_equal(changed, baseline) == (letter not in letters)


def test_the_order_of_the_letters_does_not_matter():
    assert PredictorConfig("ATS") == PredictorConfig("STA") == PredictorConfig()
    assert hash(PredictorConfig("AS")) == hash(PredictorConfig("SA"))


@pytest.mark.parametrize("letters", ["", "SS", "SD", "s", "STAT"])
def test_wrong_letters_are_refused(letters):
    with pytest.raises(UserError, match="each once"):
        PredictorConfig(letters)


def test_a_size_of_zero_is_refused():
    with pytest.raises(UserError, match="head_features must be at least 1"):
        PredictorConfig(head_features=0)


def test_initial_weights_fill_the_interval_of_pytorch():
    values = torch_uniform(16)(jax.random.key(0), (10_000,))
    assert float(jnp.abs(values).max()) == pytest.approx(0.25, abs=1e-3)
    assert float(values.std()) == pytest.approx(0.25 / 3**0.5, rel=0.02)
