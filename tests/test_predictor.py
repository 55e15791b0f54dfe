import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax.adaptation import masked_mse
from dass_jax.errors import UserError
from dass_jax.interop import import_predictor
from dass_jax.predictor.graph import architecture_graph
from dass_jax.predictor.initializers import torch_uniform
from dass_jax.predictor.inputs import PredictorInputs, StudentInputs
from dass_jax.predictor.model import AccuracyPredictor, PredictorConfig
from dass_jax.search_space import ResNetSpace, stack

DATA = pathlib.Path(__file__).parent / "data"
SMALL = {
    "graph_features": 6,
    "graph_layers": 2,
    "dataset_features": 3,
    "hidden_channels": 4,
    "embedding_channels": 6,
    "architecture_features": 5,
    "head_features": 7,
}
COMBINATIONS = [*"STAIKC", "SA", "TI", "AD", "IDK", "KC", "STA", "STAIDKC"]
SPACE = ResNetSpace((3, 6), 2, strides=(1, 2))


def config(letters="STA", **changes):
    return PredictorConfig(letters, **(SMALL | changes))


def random_inputs(students=3, seed=0):
    rng = np.random.default_rng(seed)

    def values(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    def described(architectures, count):
        return StudentInputs(
            noise_map=values(count, 4, 4, 3),
            graph=jax.vmap(lambda one: architecture_graph(SPACE, one, image_size=8, num_classes=3))(
                architectures
            ),
            encoding=jax.vmap(SPACE.encode)(architectures),
            image_map=values(count, 4, 4, 3),
            disagreement=values(count, 4),
            costs=values(count, 3),
        )

    sampled = jax.vmap(SPACE.sample)(jax.random.split(jax.random.key(seed), students))
    teacher = jax.tree.map(lambda leaf: leaf[0], described(stack([SPACE.full()]), 1))
    return PredictorInputs(described(sampled, students), teacher, values(5, 3))


def random_variables(predictor, inputs):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(predictor.init, jax.random.key(0), inputs)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), shapes)


@pytest.mark.parametrize("order", ["first", "second"])
def test_matches_the_official_prediction(order):
    fixture = np.load(DATA / f"predictor_{order}_order.npz")
    state = {k[6:]: fixture[k] for k in fixture.files if k.startswith("state/")}
    imported, variables = import_predictor(state)
    students = StudentInputs(
        noise_map=jnp.asarray(fixture["query/student_features"].transpose(0, 2, 3, 1)),
        encoding=jnp.asarray(fixture["query/arch_encoding"]),
    )
    teacher = jnp.asarray(fixture["support/teacher_features"][0].transpose(1, 2, 0))
    inputs = PredictorInputs(students, StudentInputs(noise_map=teacher))
    with jax.default_matmul_precision("highest"):
        prediction = AccuracyPredictor(imported).apply(variables, inputs)
    expected = fixture["query/prediction_without_adaptation"][:, 0]
    np.testing.assert_allclose(prediction, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("architecture", ["graph", "flat"])
def test_a_batch_equals_its_students_one_by_one(architecture):
    predictor = AccuracyPredictor(config("STAIDKC", architecture=architecture))
    inputs = random_inputs()
    variables = random_variables(predictor, inputs)
    apply = jax.jit(predictor.apply)
    batched = apply(variables, inputs)
    assert batched.shape == (3,)
    for i, prediction in enumerate(batched):
        students = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], inputs.students)
        single = apply(variables, inputs._replace(students=students))
        np.testing.assert_allclose(single[0], prediction, rtol=1e-4, atol=1e-5)


# what each letter reads of the students, the teacher and the images
READS = {
    "S": {"students.noise_map"},
    "T": {"teacher.noise_map"},
    "A": {"students.graph"},
    "I": {"students.image_map", "teacher.image_map"},
    "D": {"images"},
    "K": {"students.disagreement"},
    "C": {"students.costs"},
}


def changed_fields(inputs, other):
    """Every input replaced in turn, by its name."""
    for field in StudentInputs._fields:
        for owner in ("students", "teacher"):
            own = getattr(inputs, owner)._replace(**{field: getattr(getattr(other, owner), field)})
            yield f"{owner}.{field}", inputs._replace(**{owner: own})
    yield "images", inputs._replace(images=other.images)


@pytest.mark.parametrize("letters", COMBINATIONS)
def test_only_inputs_that_are_switched_on_matter(letters):
    predictor = AccuracyPredictor(config(letters))
    inputs, other = random_inputs(seed=0), random_inputs(seed=1)
    variables = random_variables(predictor, inputs)
    apply = jax.jit(predictor.apply)
    baseline = apply(variables, inputs)
    read = set().union(*(READS[letter] for letter in letters))
    for name, changed in changed_fields(inputs, other):
        same = np.array_equal(apply(variables, changed), baseline)
        assert same == (name not in read), name


def test_students_that_pad_a_task_influence_no_gradient():
    """As ``stack_tasks`` pads: zeros, and a graph without any node."""
    predictor, inputs = AccuracyPredictor(config("STAIDKC")), random_inputs(4)
    variables = random_variables(predictor, inputs)

    @jax.jit
    def gradient(students):
        def loss(variables):
            predictions = predictor.apply(variables, inputs._replace(students=students))
            return masked_mse(predictions, jnp.zeros(4), jnp.arange(4) < 2)

        return jax.grad(loss)(variables)

    filled = gradient(inputs.students)
    absent = jax.tree.map(lambda leaf: leaf.at[2:].set(jnp.zeros_like(leaf[2:])), inputs.students)
    for one, other in zip(jax.tree.leaves(gradient(absent)), jax.tree.leaves(filled), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
        assert np.isfinite(one).all()


def test_an_input_that_is_missing_is_said():
    inputs = random_inputs()
    predictor = AccuracyPredictor(config("SK"))
    students = inputs.students._replace(disagreement=None)
    with pytest.raises(ValueError, match="an input that was not given"):
        predictor.init(jax.random.key(0), inputs._replace(students=students))


def test_the_order_of_the_letters_does_not_matter():
    assert PredictorConfig("ATS") == PredictorConfig("STA")
    assert hash(PredictorConfig("AS")) == hash(PredictorConfig("SA"))


@pytest.mark.parametrize("letters", ["", "SS", "SX", "s", "STAT"])
def test_wrong_letters_are_refused(letters):
    with pytest.raises(UserError, match="each once"):
        PredictorConfig(letters)


def test_the_dataset_alone_is_refused():
    with pytest.raises(UserError, match="tell no students apart"):
        PredictorConfig("D")


def test_a_size_of_zero_is_refused():
    with pytest.raises(UserError, match="head_features must be at least 1"):
        PredictorConfig(head_features=0)


def test_initial_weights_fill_the_interval_of_pytorch():
    values = torch_uniform(16)(jax.random.key(0), (10_000,))
    assert float(jnp.abs(values).max()) == pytest.approx(0.25, abs=1e-3)
    assert float(values.std()) == pytest.approx(0.25 / 3**0.5, rel=0.02)
