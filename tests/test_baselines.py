"""Every baseline against the dense student at its own size, and against formulas worked by hand."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from dass_jax import cost, resnet
from dass_jax.baselines import combined, inherited, naswot, synflow
from dass_jax.baselines.candidates import Candidates
from dass_jax.baselines.registry import BASELINES, MEASURING
from dass_jax.data.augmentation import normalize
from dass_jax.errors import UserError
from dass_jax.evaluation import Split, accuracy
from dass_jax.remapping import remap
from dass_jax.search_space import ResNetSpace, stack, unstack
from dass_jax.untrained import Untrained, map_students, the_teacher

SPACE = ResNetSpace((4, 6), 2, strides=(1, 2))
CLASSES = 5
SIZE = 8
SIZES = {
    "full": ([2, 2], [[4, 4], [6, 6]]),
    "ragged": ([1, 2], [[3], [5, 2]]),
    "shallow": ([1, 1], [[3], [5]]),
}
NAMES = list(SIZES)
# each size compiles a network of its own
COMPARED = ("full", "ragged")
NETWORK_BASELINES = [name for name in BASELINES if name not in MEASURING]


def draw_teacher(space, classes=CLASSES):
    """Random variables, none of them at a value that hides a mistake."""
    rng = np.random.default_rng(0)
    shapes = resnet.variable_shapes(space, classes)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            values = rng.uniform(0.5, 1.5, leaf.shape)
        else:
            fan_in = math.prod(leaf.shape[:-1]) if path[-1].key == "kernel" else 4
            values = rng.normal(0, fan_in**-0.5, leaf.shape)
        return jnp.asarray(values, jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def draw_split(count, seed):
    rng = np.random.default_rng(seed)
    # of a colour each, so that networks tell them apart
    colours = rng.integers(-90, 90, (count, 1, 1, 3))
    images = (rng.integers(90, 166, (count, SIZE, SIZE, 3)) + colours).astype(np.uint8)
    return Split(jnp.asarray(images), jnp.asarray(rng.integers(0, CLASSES, count), jnp.int32))


def draw_task():
    """A teacher that tells images apart, and validation images labelled as it sees them."""
    teacher, images = draw_teacher(SPACE), draw_split(42, 2).images
    run = jax.jit(functools.partial(resnet.apply_dense, SPACE, train=False))
    logits = run(teacher, normalize(images))[0]
    # random networks say the same class of every image
    dense_layer = teacher["params"]["dense"]
    teacher["params"]["dense"] = dense_layer | {"bias": dense_layer["bias"] - logits.mean(0)}
    return teacher, Split(images, jnp.argmax(logits - logits.mean(0), -1))


TEACHER, VALID = draw_task()
PROBE = draw_split(6, 1)
STUDENTS = Untrained(
    SPACE,
    TEACHER,
    stack([SPACE.architecture(*sizes) for sizes in SIZES.values()]),
    np.arange(len(SIZES), dtype=np.int32),
    jax.random.key(3),
)
CANDIDATES = Candidates(STUDENTS, SIZE, PROBE, VALID, students_per_call=2)


@functools.cache
def scores(name):
    """All students' scores; 3 students in calls of 2 also fill up the last call."""
    return BASELINES[name](CANDIDATES)


class Dense(NamedTuple):
    """All that the formulas need of a student at its own size."""

    params: Any
    logits: np.ndarray
    valid_logits: np.ndarray
    logits_train: np.ndarray
    last_map: np.ndarray
    gradient: Any
    flow: Any
    relus: list


def is_relu(path):
    """Which captured outputs feed a ReLU, or come out of one."""
    module = ["", *(str(part.key) for part in path if hasattr(part, "key"))][-2]
    return module in ("stem_norm", "norm1") or "_block" in module


@functools.partial(jax.jit, static_argnums=0)
def dense_outputs(space, variables):
    images = normalize(PROBE.images)
    run = functools.partial(resnet.apply_dense, space)

    module = resnet.ResNet(resnet.block_widths(variables), space.strides, CLASSES)

    def loss(params):
        (logits, features), captured = module.apply(
            variables | {"params": params}, images, None, True, capture_intermediates=True,
            mutable=["batch_stats", "intermediates"],
        )  # fmt: skip
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, PROBE.labels)
        return jnp.mean(losses), (logits, features, captured["intermediates"])

    (_, (logits_train, features, captured)), gradient = jax.value_and_grad(loss, has_aux=True)(
        variables["params"]
    )
    relus = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(captured) if is_relu(path)]
    both = jnp.concatenate([images, normalize(VALID.images)])
    logits, valid_logits = jnp.split(run(variables, both, train=False)[0], [len(images)])
    return Dense(
        variables["params"], logits, valid_logits, logits_train, features["stage2"], gradient,
        dense_flow(run, variables), relus,
    )  # fmt: skip


def dense_flow(run, variables):
    """The gradient of the outputs on ones in absolute weights, normalisation being the identity."""
    values = {"scale": 1.0, "bias": 0.0, "mean": 0.0, "var": 1 - 1e-5}

    def neutral(path, leaf):
        name = path[-1].key
        return jnp.abs(leaf) if name == "kernel" else jnp.full_like(leaf, values[name])

    plain = jax.tree_util.tree_map_with_path(neutral, variables)

    def output(params):
        ones = jnp.ones((1, SIZE, SIZE, 3))
        return jnp.sum(run(plain | {"params": params}, ones, train=False)[0])

    return jax.grad(output)(plain["params"])


# eagerly, every operation would be compiled on its own
run_remap = jax.jit(remap, static_argnums=0)
run_accuracy = jax.jit(accuracy, static_argnums=(0, 4))
run_recalibrate = jax.jit(inherited.recalibrate, static_argnums=0)


def own_variables(architecture):
    return resnet.cut(SPACE, run_remap(SPACE, TEACHER, architecture), architecture)


@functools.cache
def dense(name):
    """The student cut to its own size, and its outputs."""
    architecture = SPACE.architecture(*SIZES[name])
    return jax.tree.map(np.asarray, dense_outputs(SPACE, own_variables(architecture)))


def kernels_of(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [np.asarray(leaf, float) for path, leaf in leaves if path[-1].key == "kernel"]


def softmax(logits):
    powers = np.exp(np.asarray(logits, float) - np.max(logits, -1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def kd_formula(student, teacher):
    """Half the softened cross-entropy with the teacher times 36, half that with the labels."""
    soft = -np.sum(softmax(teacher / 6) * np.log(softmax(student / 6)), -1)
    hard = -np.log(softmax(student)[np.arange(len(PROBE.labels)), PROBE.labels])
    return np.mean(0.5 * 36 * soft + 0.5 * hard)


def kernel_formula(outputs):
    """Units less the Hamming distance of the patterns, over all ReLUs."""
    codes = np.concatenate([(relu > 0).reshape(6, -1) for relu in outputs.relus], axis=1)
    return codes.shape[1] - (codes[:, None] != codes[None]).sum(-1)


def gram_formula(rows):
    gram = np.asarray(rows, float) @ np.asarray(rows, float).T
    return gram / np.linalg.norm(gram, axis=1, keepdims=True)


def diswot_formula(student, teacher):
    distance = 0.0
    for features in (
        lambda outputs: outputs.last_map.reshape(6, -1),
        lambda outputs: outputs.gradient["dense"]["kernel"].T,
    ):
        difference = gram_formula(features(student)) - gram_formula(features(teacher))
        distance += np.square(difference).sum(1).mean()
    return -distance


def saliency_sum(slopes, weights):
    pairs = zip(kernels_of(slopes), kernels_of(weights), strict=True)
    return sum(np.abs(slope * weight).sum() for slope, weight in pairs)


FORMULAS = {
    "SynFlow": lambda student: np.log(saliency_sum(student.flow, student.params)),
    "NASWOT": lambda student: np.linalg.slogdet(kernel_formula(student))[1],
    "gradient norm": lambda student: sum(np.linalg.norm(g) for g in kernels_of(student.gradient)),
    "SNIP": lambda student: saliency_sum(student.gradient, student.params),
    "remapped accuracy": lambda student: np.mean(student.valid_logits.argmax(-1) == VALID.labels),
    "KD loss": lambda student: -kd_formula(student.logits, dense("full").logits),
    # recalibration on a batch is training mode on this batch
    "KD loss, recalibrated": (
        lambda student: -kd_formula(student.logits_train, dense("full").logits)
    ),
    "DisWOT": lambda student: diswot_formula(student, dense("full")),
}


@pytest.mark.parametrize("student", COMPARED)
@pytest.mark.parametrize("name", FORMULAS)
def test_scores_are_those_of_the_dense_student(name, student):
    ours = scores(name)[NAMES.index(student)]
    np.testing.assert_allclose(ours, FORMULAS[name](dense(student)), rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("name", NETWORK_BASELINES)
def test_scores_are_finite_tell_students_apart_and_come_again(name):
    first = scores(name)
    assert first.shape == (len(NAMES),)
    assert first.dtype == np.float64
    assert np.isfinite(first).all()
    assert (np.ptp(first) > 0) == (name != "random choice")
    np.testing.assert_array_equal(BASELINES[name](CANDIDATES), first)


def test_random_weights_are_those_of_students_that_inherit_nothing():
    fresh = CANDIDATES._replace(students=STUDENTS._replace(kind="random_init"))
    for name in ("SynFlow", "NASWOT", "gradient norm", "SNIP"):
        ours = scores(f"{name}, random weights")
        np.testing.assert_array_equal(ours, BASELINES[name](fresh))
        assert not np.array_equal(ours, scores(name))


def test_two_scores_together_rank_by_their_mean_rank():
    ranks = [stats.rankdata(scores(name)) for name in ("parameters", "KD loss, recalibrated")]
    np.testing.assert_array_equal(scores("parameters and KD loss"), np.mean(ranks, axis=0))


def test_a_student_without_a_score_ranks_last_and_leaves_the_others_alone(monkeypatch):
    losses = np.arange(len(NAMES), dtype=float)
    losses[1] = np.nan
    monkeypatch.setattr(combined, "recalibrated_negative_kd_loss", lambda _: losses)
    found = BASELINES["parameters and KD loss"](CANDIDATES)
    ranks = stats.rankdata(np.where(np.isnan(losses), -1.0, losses))
    expected = np.mean([stats.rankdata(scores("parameters")), ranks], axis=0)
    np.testing.assert_array_equal(found, expected)


def test_few_baselines_look_at_records():
    assert set(MEASURING) < set(BASELINES)
    assert CANDIDATES.records is None
    assert len(NETWORK_BASELINES) == 18


def test_counts_are_those_of_the_cost_module():
    for row, architecture in enumerate(unstack(STUDENTS.architectures)):
        flops = cost.num_flops(SPACE, architecture, image_size=SIZE, num_classes=CLASSES)
        assert scores("FLOPs")[row] == flops
        assert scores("parameters")[row] == cost.num_params(
            SPACE, architecture, num_classes=CLASSES
        )
    assert scores("depth").tolist() == [4, 3, 2]


def test_students_side_by_side_score_as_one_after_another():
    """Under vmap absent blocks are computed and thrown away, and so are their gradients."""
    ones = jnp.ones((1, SIZE, SIZE, 3))
    flows = map_students(synflow._log_synflow, STUDENTS, ones, networks_per_step=3)
    np.testing.assert_allclose(flows, scores("SynFlow"), rtol=1e-4)


def test_one_compilation_serves_any_number_of_students():
    traces = []

    def depth(space, variables, architecture):
        traces.append(space)
        return jnp.sum(architecture.depths)

    traced = []
    for rows in ([2, 1], [1, 2, 0], [0, 1, 2, 1, 0]):
        students = STUDENTS._replace(
            architectures=jax.tree.map(lambda leaf, r=rows: leaf[np.array(r)],
                                       STUDENTS.architectures),
            student_ids=np.asarray(rows, np.int32),
        )  # fmt: skip
        found = CANDIDATES._replace(students=students).map(depth)
        assert found.tolist() == [[4, 3, 2][row] for row in rows]
        traced.append(len(traces))
    assert traced[0] == traced[-1] > 0


def test_the_teacher_is_most_like_itself():
    similarity = scores("DisWOT")
    assert similarity[0] == pytest.approx(0, abs=1e-6)
    assert (similarity[1:] < -1e-3).all()
    assert scores("remapped accuracy")[0] == 1
    logits = dense("full").logits
    assert scores("KD loss")[0] == pytest.approx(-kd_formula(logits, logits), rel=1e-5)


def test_accuracy_counts_the_images_of_an_incomplete_batch():
    student = SPACE.architecture(*SIZES["ragged"])
    variables = run_remap(SPACE, TEACHER, student)
    found = run_accuracy(SPACE, variables, student, VALID, 16)
    assert found == pytest.approx(scores("remapped accuracy")[NAMES.index("ragged")])


def test_recalibrated_evaluation_of_the_probe_is_training_mode():
    again = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * 7), PROBE)  # as many as in VALID
    on_probe = BASELINES["remapped accuracy, recalibrated"](CANDIDATES._replace(valid=again))
    for name in COMPARED:
        expected = np.mean(dense(name).logits_train.argmax(-1) == PROBE.labels)
        assert on_probe[NAMES.index(name)] == pytest.approx(expected)


def test_recalibrated_statistics_are_those_of_the_images_alone():
    student = SPACE.architecture(*SIZES["ragged"])
    recalibrated = run_recalibrate(SPACE, TEACHER, student, PROBE.images)
    stem = jax.lax.conv_general_dilated(
        normalize(PROBE.images), TEACHER["params"]["stem_conv"]["kernel"], (1, 1), "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )[..., :3]  # fmt: skip
    stats = recalibrated["batch_stats"]["stem_norm"]
    np.testing.assert_allclose(stats["mean"][:3], stem.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(stats["var"][:3], stem.var((0, 1, 2)), rtol=1e-4)

    stale = jax.tree.map(lambda leaf: 3 * leaf + 1, TEACHER["batch_stats"])
    other = run_recalibrate(SPACE, TEACHER | {"batch_stats": stale}, student, PROBE.images)
    jax.tree.map(np.testing.assert_array_equal, other, recalibrated)


def test_agreements_of_patterns_worked_by_hand():
    # two pixels, three channels of which the last does not exist
    units = jnp.asarray([
        [[[1.0, 0, 0], [2, 3, 0]]],
        [[[1.0, 4, 0], [0, 0, 0]]],
        [[[1.0, 0, 0], [0, 1, 0]]],
    ])  # fmt: skip
    found = naswot._agreements(units, jnp.asarray(2))
    np.testing.assert_array_equal(found, [[4, 1, 3], [1, 4, 2], [3, 2, 4]])


def test_the_kernel_counts_the_students_units_and_no_others():
    kernels = naswot.relu_kernels(CANDIDATES)
    for row, name in enumerate(NAMES):
        if name in COMPARED:
            np.testing.assert_array_equal(kernels[row], kernel_formula(dense(name)))
        first, second = SIZES[name][1]
        units = 64 * (first[0] + 2 * sum(first)) + 16 * 2 * sum(second)
        np.testing.assert_array_equal(np.diag(kernels[row]), np.full(6, units))


def test_equal_patterns_have_the_lowest_score():
    twice = Split(PROBE.images.at[3].set(PROBE.images[0]), PROBE.labels)
    worst = BASELINES["NASWOT"](CANDIDATES._replace(probe=twice))
    assert (worst < scores("NASWOT") - 5).all()


def test_synflow_of_one_channel_worked_by_hand():
    """All kernels are scalars at their centre: the output is 3 a (1 + b c) d."""
    a, b, c, d = 0.5, -2.0, 3.0, -1.5
    space = ResNetSpace((1,), 1, strides=(1,))
    variables = jax.tree.map(jnp.zeros_like, draw_teacher(space, 1))
    params = variables["params"]
    params["stem_conv"]["kernel"] = params["stem_conv"]["kernel"].at[1, 1].set(a)
    block = params["stage1_block0"]
    block["conv1"]["kernel"] = block["conv1"]["kernel"].at[1, 1].set(b)
    block["conv2"]["kernel"] = block["conv2"]["kernel"].at[1, 1].set(c)
    params["dense"] = {"kernel": jnp.full((1, 1), d), "bias": jnp.ones(1)}
    score = synflow.synflow(CANDIDATES._replace(students=the_teacher(space, variables)))[0]
    # stem and dense layer carry all of the output, the block's convolutions one branch of it
    output, branch = 3 * 0.5 * (1 + 6) * 1.5, 3 * 0.5 * 6 * 1.5
    assert score == pytest.approx(math.log(2 * output + 2 * branch), rel=1e-5)


def test_synflow_does_not_overflow():
    """Factors of a layer that all of the flow passes through come out of the logarithm."""
    large = jax.tree.map(lambda leaf: leaf, TEACHER)
    large["params"]["stem_conv"] = {"kernel": 1e30 * TEACHER["params"]["stem_conv"]["kernel"]}
    dense_layer = TEACHER["params"]["dense"]
    large["params"]["dense"] = dense_layer | {"kernel": 1e30 * dense_layer["kernel"]}
    found = synflow.synflow(CANDIDATES._replace(students=STUDENTS._replace(variables=large)))
    np.testing.assert_allclose(found, scores("SynFlow") + 60 * math.log(10), rtol=1e-5)


def stem_weights(space, variables, architecture):
    return variables["params"]["stem_conv"]["kernel"]


def test_random_init_follows_the_student_id():
    fresh = STUDENTS._replace(kind="random_init")
    other = fresh._replace(student_ids=fresh.student_ids + np.int32([0, 9, 0]))
    first, second = (map_students(stem_weights, students) for students in (fresh, other))
    assert [np.array_equal(*pair) for pair in zip(first, second, strict=True)] == [1, 0, 1]
    assert not first[2][..., 3:].any()


def test_impossible_inheritance_is_refused():
    narrowing = ResNetSpace((4, 2), 1, strides=(1, 2))
    students = the_teacher(narrowing, draw_teacher(narrowing))._replace(kind="copy_paste_last")
    with pytest.raises(UserError, match="stages that never narrow"):
        CANDIDATES._replace(students=students).map(stem_weights)
