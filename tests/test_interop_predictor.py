import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax.errors import UserError
from dass_jax.interop import import_predictor
from dass_jax.predictor.inputs import PredictorInputs, StudentInputs
from dass_jax.predictor.model import AccuracyPredictor, PredictorConfig

PARTS = {"S": "func_encoder", "T": "teacher_encoder", "A": "arch_encoder"}


def official_state(letters="STA"):
    rng = np.random.default_rng(0)
    convolutions = {"conv1.weight": (4, 3, 3, 3), "conv2.weight": (6, 4, 3, 3)}
    shapes = {f"{PARTS[p]}.{k}": v for p in "ST" if p in letters for k, v in convolutions.items()}
    if "A" in letters:
        shapes |= {"arch_encoder.fc.weight": (5, 9), "arch_encoder.fc.bias": (5,)}
    length = sum({"S": 6, "T": 6, "A": 5}[letter] for letter in letters)
    shapes |= {"proj_layers.0.weight": (7, length), "proj_layers.0.bias": (7,)}
    shapes |= {"proj_layers.2.weight": (1, 7), "proj_layers.2.bias": (1,)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("letters", ["S", "T", "A", "ST", "SA", "TA", "STA"])
def test_sizes_and_inputs_are_read_from_the_weights(letters):
    config, variables = import_predictor(official_state(letters))
    sizes = {"head_features": 7}
    if letters != "A":
        sizes |= {"hidden_channels": 4, "embedding_channels": 6}
    if "A" in letters:
        sizes |= {"architecture_features": 5}
    assert config == PredictorConfig(letters, architecture="flat", **sizes)
    teacher = StudentInputs(noise_map=jnp.ones((4, 4, 3)), encoding=jnp.ones(9))
    inputs = PredictorInputs(jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), teacher), teacher)
    initial = jax.eval_shape(AccuracyPredictor(config).init, jax.random.key(0), inputs)
    assert jax.tree.map(lambda leaf: leaf.shape, initial) == jax.tree.map(jnp.shape, variables)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_prefixes_and_counters_are_dropped():
    state = official_state()
    decorated = {f"module.{name}": array for name, array in state.items()}
    decorated["module.bn.num_batches_tracked"] = np.array(3)
    expected, found = import_predictor(state), import_predictor(decorated)
    assert found[0] == expected[0]
    jax.tree.map(np.testing.assert_array_equal, found[1], expected[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"proj_layers.2.bias": None}, "missing proj_layers.2.bias"),
        ({"teacher_encoder.conv1.weight": None}, "missing teacher_encoder.conv1.weight"),
        ({"extra.weight": np.zeros(3)}, "unknown extra.weight"),
        ({"func_encoder.conv1.weight": np.zeros((4, 3))}, "func_encoder.conv1.weight has shape"),
        ({"func_encoder.conv1.weight": np.zeros((4, 3, 5, 5))}, "student_encoder/conv1_kernel"),
        ({"func_encoder.conv2.weight": np.zeros((6, 5, 3, 3))}, "student_encoder/conv2_kernel"),
        ({"teacher_encoder.conv1.weight": np.zeros((4, 2, 3, 3))}, "teacher_encoder/conv1_kernel"),
        ({"proj_layers.0.weight": np.zeros((7, 16))}, "head_hidden/kernel"),
        ({"proj_layers.0.bias": np.array(1.0)}, "proj_layers.0.bias has shape"),
    ],
)
def test_weights_that_fit_no_predictor_are_refused(change, message):
    state = {k: v for k, v in (official_state() | change).items() if v is not None}
    with pytest.raises(UserError, match=message) as refusal:
        import_predictor(state)
    assert "\n" not in str(refusal.value)


def test_weights_of_something_else_are_refused():
    with pytest.raises(UserError, match="neither"):
        import_predictor({"layer1.0.conv1.weight": np.zeros((1, 1, 3, 3))})
