"""Imported official networks compute what the official implementation computed."""

import functools
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax import cost, remapping, resnet
from dass_jax.errors import UserError
from dass_jax.interop import import_resnet
from dass_jax.search_space import ResNetSpace

FILE = pathlib.Path(__file__).parent / "data" / "resnet_remap.npz"
COPIES = remapping.KINDS[:4]
STUDENTS = range(4)
PLACES = ["stem", "stage1", "stage2", "stage3", "stage4"]


@pytest.fixture(scope="module", autouse=True)
def _full_precision():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="module")
def official():
    with np.load(FILE) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def space(official):
    widths, strides = (
        tuple(int(n) for n in official[f"teacher/{name}"]) for name in ("stage_widths", "strides")
    )
    return ResNetSpace(widths, int(official["teacher/stage_depth"]), strides)


@pytest.fixture(scope="module")
def state(official):
    prefix = "teacher/state/"
    return {k.removeprefix(prefix): v for k, v in official.items() if k.startswith(prefix)}


@pytest.fixture(scope="module")
def variables(state, space):
    return import_resnet(state, space)


@pytest.fixture(scope="module")
def run(official, space):
    """One compiled function for the teacher and every student: both modes at once."""
    images = jnp.asarray(official["input"].transpose(0, 2, 3, 1))

    @jax.jit
    def both_modes(variables, architecture):
        evaluation = resnet.apply(space, variables, architecture, images, train=False)
        return evaluation, resnet.apply(space, variables, architecture, images, train=True)

    return both_modes


@pytest.fixture(scope="module")
def remap(space):
    return jax.jit(functools.partial(remapping.remap, space), static_argnums=2)


def student(official, space, index):
    return space.architecture(
        official[f"student{index}/depths"], official[f"student{index}/widths"]
    )


def to_official(features):
    return np.transpose(features, (0, 3, 1, 2))


def assert_close(ours, theirs):
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


def test_teacher(official, space, variables, run):
    (logits, features), (logits_train, _, batch_stats) = run(variables, space.full())
    assert_close(logits, official["teacher/logits_eval"])
    assert features.keys() == set(PLACES)
    for index, place in enumerate(PLACES):
        assert_close(to_official(features[place]), official[f"teacher/features_eval/{index}"])
    assert_close(logits_train, official["teacher/logits_train"])
    for ours, theirs in (("mean", "running_mean"), ("var", "running_var")):
        expected = official[f"teacher/bn1.{theirs}_after_train_step"]
        assert_close(batch_stats["stem_norm"][ours], expected)


@pytest.mark.parametrize("kind", COPIES)
@pytest.mark.parametrize("index", STUDENTS)
def test_students(official, space, variables, run, remap, index, kind):
    architecture = student(official, space, index)
    (logits, features), (logits_train, *_) = run(remap(variables, architecture, kind), architecture)
    prefix = f"student{index}/{kind}"
    assert_close(logits, official[f"{prefix}/logits_eval"])
    assert_close(logits_train, official[f"{prefix}/logits_train"])
    theirs = official[f"{prefix}/features_eval/4"]
    ours = to_official(features["stage4"])
    assert_close(ours[:, : theirs.shape[1]], theirs)
    assert not ours[:, theirs.shape[1] :].any()


@pytest.mark.parametrize("index", STUDENTS)
def test_parameter_counts(official, space, index):
    counted = cost.num_params(space, student(official, space, index), num_classes=10)
    assert counted == official[f"student{index}/num_params"]


def test_prefixes_and_counters_do_not_matter(state, space, variables):
    wrapped = {f"module.{name}": array for name, array in state.items()}
    assert "module.bn1.num_batches_tracked" in wrapped
    chex.assert_trees_all_equal(import_resnet(wrapped, space), variables)
    bare = {name: array for name, array in state.items() if "num_batches" not in name}
    chex.assert_trees_all_equal(import_resnet(bare, space), variables)


def test_variables_are_those_of_a_fresh_network(space, variables):
    fresh = jax.eval_shape(lambda: resnet.init(space, jax.random.key(0), 10))
    chex.assert_trees_all_equal_shapes_and_dtypes(variables, fresh)


def export(variables):
    """The official names and layouts of a network of any size, written down a second time."""
    state = {}

    def add_norm(name, module, index=None):
        for collection, ours, theirs in (
            ("params", "scale", "weight"),
            ("params", "bias", "bias"),
            ("batch_stats", "mean", "running_mean"),
            ("batch_stats", "var", "running_var"),
        ):
            node = variables[collection][module]
            state[f"{name}.{theirs}"] = np.asarray((node if index is None else node[index])[ours])

    params = variables["params"]
    state["conv1.weight"] = np.asarray(params["stem_conv"]["kernel"]).transpose(3, 2, 0, 1)
    add_norm("bn1", "stem_norm")
    for stage, row in enumerate(resnet.block_widths(variables)):
        for block in range(len(row)):
            ours, theirs = f"stage{stage + 1}_block{block}", f"layer{stage + 1}.{block}"
            for number in (1, 2):
                kernel = params[ours][f"conv{number}"]["kernel"]
                state[f"{theirs}.conv{number}.weight"] = np.asarray(kernel).transpose(3, 2, 0, 1)
                add_norm(f"{theirs}.bn{number}", ours, f"norm{number}")
    state["fc.weight"] = np.asarray(params["dense"]["kernel"]).T
    state["fc.bias"] = np.asarray(params["dense"]["bias"])
    return state


def test_export_inverts_import(state, variables):
    ours = export(variables)
    assert ours.keys() == {name for name in state if not name.endswith("num_batches_tracked")}
    for name, array in ours.items():
        np.testing.assert_array_equal(array, state[name], err_msg=name)


@pytest.mark.parametrize("index", STUDENTS)
def test_dense_student_weights(official, space, variables, index):
    architecture = student(official, space, index)
    dense = resnet.cut(space, variables, architecture)
    imported = import_resnet(export(dense), space, architecture=architecture)
    chex.assert_trees_all_equal(imported, dense)
    with pytest.raises(UserError):
        import_resnet(export(dense), space)


@pytest.mark.parametrize(
    "name", ["conv1.weight", "layer2.0.bn1.running_var", "layer1.0.conv2.weight", "fc.bias"]
)
def test_missing_weights_are_named(state, space, name):
    incomplete = {other: array for other, array in state.items() if other != name}
    with pytest.raises(UserError, match=rf"{name}\b.* missing|missing.* {name}\b"):
        import_resnet(incomplete, space)


def test_unknown_weights_are_named(state, space):
    odd = state | {"layer9.0.conv1.weight": state["conv1.weight"]}
    with pytest.raises(UserError, match=r"layer9\.0\.conv1\.weight"):
        import_resnet(odd, space)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv1.weight", (1, 3, 3, 3)),
        ("layer1.0.conv1.weight", (3, 3)),
        ("bn1.bias", (99,)),
        ("fc.weight", (10, 1)),
    ],
)
def test_wrong_shapes_are_named(state, space, name, shape):
    with pytest.raises(UserError, match=rf"{name} has .*shape \({shape[0]},"):
        import_resnet(state | {name: np.zeros(shape, np.float32)}, space)


def test_weights_of_a_deeper_network_are_refused(state, space):
    shallower = ResNetSpace(space.stage_widths, space.stage_depth - 1, space.strides)
    with pytest.raises(UserError, match=r"layer\d\.\d"):
        import_resnet(state, shallower)
