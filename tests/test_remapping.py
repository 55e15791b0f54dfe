"""Weight inheritance equals a slow loop over the blocks and channels of the dense student."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax import remapping, resnet, search_space
from dass_jax.errors import UserError
from dass_jax.search_space import ResNetSpace

COPIES = remapping.KINDS[:4]
CLASSES = 5
WIDENING = ResNetSpace((4, 6, 10), 3, (1, 2, 2), (0.25, 0.5, 0.75, 1.0))
SMALL = ResNetSpace((4,), 2, (1,))  # random numbers take long to compile
NARROWING = ResNetSpace((8, 5), 2, (1, 2), (0.25, 0.5, 0.75, 1.0))
STUDENTS = {
    WIDENING: [
        WIDENING.full(),
        WIDENING.architecture([1, 3, 2], [[1], [6, 2, 3], [2, 6]]),
        WIDENING.architecture([3, 1, 3], [[2, 4, 1], [3], [5, 10, 4]]),
        *(WIDENING.sample(jax.random.key(seed)) for seed in range(3)),
    ],
    NARROWING: [
        NARROWING.full(),
        NARROWING.architecture([2, 1], [[8, 2], [5]]),
        NARROWING.architecture([1, 2], [[3], [2, 4]]),
    ],
    SMALL: [SMALL.full(), SMALL.architecture([1], [[2]]), SMALL.architecture([2], [[3, 1]])],
}

remap = jax.jit(remapping.remap, static_argnums=(0, 3))


@functools.cache
def remapped(space, kind):
    """All students of a space, remapped together."""
    variables, count = teacher(space), len(STUDENTS[space])
    keys = jax.random.split(jax.random.key(0), count) if kind == "random_init" else None
    together = jax.jit(jax.vmap(lambda a, k: remapping.remap(space, variables, a, kind, k)))(
        search_space.stack(STUDENTS[space]), keys
    )
    students = [jax.tree.map(lambda leaf, i=i: leaf[i], together) for i in range(count)]
    return list(
        zip(STUDENTS[space], students, [None] * count if keys is None else keys, strict=True)
    )


@functools.cache
def teacher(space):
    """Every entry another number, none of them zero."""
    shapes = jax.eval_shape(lambda: resnet.init(space, jax.random.key(0), CLASSES))
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.uniform(1, 2, leaf.shape), jnp.float32), shapes
    )


def source_channel(kind, channel, student, whole):
    if kind == "copy_paste_last":
        return whole - student + channel
    if kind in ("copy_paste_uniform", "copy_paste_uniform_last"):
        return channel * (whole // student)
    return channel


def slow_remap(space, variables, architecture, kind):
    """The dense student, one channel at a time."""
    teacher = jax.tree.map(np.asarray, variables)
    data = space.to_json(architecture)
    params, statistics = {}, {}

    def copy_norm(ours, theirs, picks):
        """Takes channels picks of a norm at path theirs to path ours."""
        for collection, result in (("params", params), ("batch_stats", statistics)):
            node, source = result, teacher[collection]
            for name in ours:
                node = node.setdefault(name, {})
            for name in theirs:
                source = source[name]
            for leaf in source:
                node[leaf] = np.array([source[leaf][pick] for pick in picks])

    def copy_kernel(kernel, ins, outs):
        result = np.empty((3, 3, len(ins), len(outs)), np.float32)
        for i, source_in in enumerate(ins):
            for o, source_out in enumerate(outs):
                result[:, :, i, o] = kernel[:, :, source_in, source_out]
        return result

    width = data["widths"][0][0]
    firsts = list(range(width))
    kernel = copy_kernel(teacher["params"]["stem_conv"]["kernel"], [0, 1, 2], firsts)
    params["stem_conv"] = {"kernel": kernel}
    copy_norm(["stem_norm"], ["stem_norm"], firsts)
    for stage, row in enumerate(data["widths"]):
        for index, channels in enumerate(row):
            source = index
            if kind.endswith("_last"):
                source = space.stage_depth - len(row) + index
            ours, theirs = f"stage{stage + 1}_block{index}", f"stage{stage + 1}_block{source}"
            block = teacher["params"][theirs]
            _, _, whole_in, whole = block["conv1"]["kernel"].shape
            ins = [source_channel(kind, c, width, whole_in) for c in range(width)]
            outs = [source_channel(kind, c, channels, whole) for c in range(channels)]
            params[ours] = {
                "conv1": {"kernel": copy_kernel(block["conv1"]["kernel"], ins, outs)},
                "conv2": {"kernel": copy_kernel(block["conv2"]["kernel"], outs, outs)},
            }
            for norm in ("norm1", "norm2"):
                copy_norm([ours, norm], [theirs, norm], outs)
            width = channels
    dense = teacher["params"]["dense"]
    rows = [source_channel(kind, c, width, len(dense["kernel"])) for c in range(width)]
    kernel = np.stack([dense["kernel"][row] for row in rows])
    params["dense"] = {"kernel": kernel, "bias": dense["bias"]}
    return {"params": params, "batch_stats": statistics}


@pytest.mark.parametrize(
    ("space", "kind"),
    [
        *((WIDENING, kind) for kind in COPIES),
        (NARROWING, "copy_paste_first"),
        (NARROWING, "copy_paste_uniform"),
    ],
)
def test_values_equal_a_slow_loop(space, kind):
    for architecture, whole, _ in remapped(space, kind):
        chex.assert_trees_all_equal(
            resnet.cut(space, whole, architecture),
            slow_remap(space, teacher(space), architecture, kind),
        )


@pytest.mark.parametrize("kind", COPIES)
def test_the_teacher_inherits_everything(kind):
    architecture, whole, _ = remapped(WIDENING, kind)[0]
    chex.assert_trees_all_equal(architecture, WIDENING.full())
    chex.assert_trees_all_equal(whole, teacher(WIDENING))


@pytest.mark.parametrize(
    ("space", "kind"), [*((WIDENING, kind) for kind in COPIES), (SMALL, "random_init")]
)
def test_all_is_zero_outside_of_the_student(space, kind):
    for architecture, whole, _ in remapped(space, kind):
        chex.assert_trees_all_equal_shapes(whole, teacher(space))
        student = resnet.cut(space, whole, architecture)
        for collection, modules in whole.items():
            for name, tree in modules.items():
                inside = student[collection].get(name, {})
                kept = sum(np.count_nonzero(leaf) for leaf in jax.tree.leaves(inside))
                total = sum(np.count_nonzero(leaf) for leaf in jax.tree.leaves(tree))
                assert total == kept, (collection, name)
        if kind != "random_init":  # where fresh biases and means are zero
            assert all(np.all(leaf) for leaf in jax.tree.leaves(student))


@pytest.mark.parametrize("kind", remapping.KINDS)
def test_vmap_equals_a_loop(kind):
    for architecture, whole, key in remapped(SMALL, kind):
        alone = remap(SMALL, teacher(SMALL), architecture, kind, key)
        chex.assert_trees_all_close(whole, alone, rtol=1e-6)


def test_the_default_takes_the_first_channels_in_place():
    variables, architecture = teacher(SMALL), STUDENTS[SMALL][1]
    inherited = remap(SMALL, variables, architecture)
    chex.assert_trees_all_equal(
        resnet.cut(SMALL, inherited, architecture),
        resnet.cut(SMALL, variables, architecture),
    )


def test_random_init_depends_on_its_key_alone():
    def fresh(variables, seed):
        key = jax.random.key(seed)
        return remap(SMALL, variables, STUDENTS[SMALL][1], "random_init", key)

    variables = teacher(SMALL)
    first = fresh(variables, 0)
    chex.assert_trees_all_equal(first, fresh(jax.tree.map(jnp.ones_like, variables), 0))
    other = fresh(variables, 1)
    for name in ("stem_conv", "dense"):
        ours, theirs = (np.asarray(v["params"][name]["kernel"]) for v in (first, other))
        inside = ours != 0
        assert inside.any()
        assert (ours != theirs)[inside].all()


def test_random_init_has_the_scale_of_the_students_own_size():
    space = ResNetSpace((64,), 1, (1,))
    architecture = space.architecture([1], [[16]])
    fresh = remap(space, teacher(space), architecture, "random_init", jax.random.key(0))
    student = resnet.cut(space, fresh, architecture)
    for conv in ("conv1", "conv2"):
        kernel = student["params"]["stage1_block0"][conv]["kernel"]
        assert np.std(kernel) == pytest.approx(math.sqrt(2 / (9 * 16)), rel=0.06)
    dense = student["params"]["dense"]
    assert dense["kernel"].shape == (16, CLASSES)
    assert 0.9 / 4 < np.abs(dense["kernel"]).max() < 1 / 4
    assert 0 < np.abs(dense["bias"]).max() < 1 / 4
    assert np.all(student["batch_stats"]["stem_norm"]["var"] == 1)
    assert np.all(student["params"]["stem_norm"]["scale"] == 1)


def test_random_init_needs_a_key():
    with pytest.raises(UserError, match="random_init needs a random key"):
        remapping.remap(SMALL, teacher(SMALL), SMALL.full(), "random_init")


def test_unknown_kinds_are_refused():
    with pytest.raises(UserError, match="unknown remapping 'copy': choose one of copy_paste_f"):
        remapping.check_kind(WIDENING, "copy")


@pytest.mark.parametrize("kind", ["copy_paste_last", "copy_paste_uniform_last"])
def test_last_blocks_need_stages_that_never_narrow(kind):
    with pytest.raises(UserError, match=rf"{kind} needs stages that never narrow, got \(8, 5\)"):
        remapping.remap(NARROWING, teacher(NARROWING), NARROWING.full(), kind)
    remapping.check_kind(WIDENING, kind)
    for other in set(remapping.KINDS) - {"copy_paste_last", "copy_paste_uniform_last"}:
        remapping.check_kind(NARROWING, other)
