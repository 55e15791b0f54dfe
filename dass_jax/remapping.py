"""A student inherits its initial weights from the teacher (DaSS, ICLR 2023).

The result is teacher-shaped and masked, so that remapping is itself a compiled function of the
architecture that vmaps over students. Block b of a student's stage lies at position b of the
stage, whichever of the teacher's blocks it came from.

Dimension letters: C channels of the teacher, c channels of the student (C after padding).
"""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from dass_jax import resnet
from dass_jax.errors import UserError
from dass_jax.search_space import Architecture, ResNetSpace

Kind = Literal[
    "copy_paste_first",
    "copy_paste_last",
    "copy_paste_uniform",
    "copy_paste_uniform_last",
    "random_init",
]
KINDS: tuple[str, ...] = get_args(Kind)

_LAST_BLOCKS = ("copy_paste_last", "copy_paste_uniform_last")


def _source_channels(
    kind: str, student: Int[Array, ""], teacher: int | Int[Array, ""], size: int
) -> Int[Array, " size"]:
    """Which of the teacher's channels each of the student's takes; -1 outside of the student."""
    position = jnp.arange(size)
    if kind == "copy_paste_last":
        source = position + teacher - student
    elif kind in ("copy_paste_uniform", "copy_paste_uniform_last"):
        source = position * (teacher // jnp.maximum(student, 1))
    else:
        source = position
    return jnp.where(position < student, source, -1)


def _take(values: Array, channels: Int[Array, " c"], axis: int) -> Array:
    """Gathers channels; those marked -1 become zero."""
    kept = jnp.take(values, jnp.maximum(channels, 0), axis=axis)
    shape = [1] * values.ndim
    shape[axis] = -1
    return jnp.where((channels >= 0).reshape(shape), kept, 0)


def _take_leaf(path: Any, values: Array, ins: Array, outs: Array) -> Array:
    """One leaf of a block: its output channels, and the input channels of a kernel."""
    values = _take(values, outs, axis=-1)
    if values.ndim == 1:
        return values
    return _take(values, outs if path[0].key == "conv2" else ins, axis=-2)


def _pad_inputs(path: Any, values: Array, channels: int) -> Array:
    """Pads the input channels of conv1, so that all blocks of a stage can be stacked."""
    if path[0].key != "conv1":
        return values
    missing = channels - values.shape[-2]
    return jnp.pad(values, ((0, 0), (0, 0), (0, missing), (0, 0)))


def _map_with_path(function: Any, tree: Any, *rest: Any) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, leaf: function(path, leaf, *rest), tree)


def _remap_stage(
    space: ResNetSpace, modules: dict, architecture: Architecture, kind: str, stage: int
) -> dict:
    """All blocks of one stage of one collection of variables."""
    wide = space.stage_widths[stage]
    wide_in = space.stage_widths[max(stage - 1, 0)]
    depth = architecture.depths[stage]
    blocks = [modules[resnet.block_name(stage, b)] for b in range(space.stage_depth)]
    common = max(wide, wide_in)
    stacked = jax.tree.map(
        lambda *leaves: jnp.stack(leaves),
        *[_map_with_path(_pad_inputs, block, common) for block in blocks],
    )
    if stage == 0:
        student_in = architecture.widths[0, 0]
    else:
        student_in = architecture.widths[stage - 1, architecture.depths[stage - 1] - 1]
    result = {}
    for index in range(space.stage_depth):
        source = index + (space.stage_depth - depth if kind in _LAST_BLOCKS else 0)
        # an absent block asks for a source past the end: any will do, it is masked
        source = jnp.minimum(source, space.stage_depth - 1)
        teacher_in = jnp.where(source == 0, wide_in, wide)
        size_in = wide_in if index == 0 else wide
        ins = _source_channels(kind, student_in, teacher_in, size_in)
        outs = _source_channels(kind, architecture.widths[stage, index], wide, wide)
        block = jax.tree.map(lambda leaf, source=source: leaf[source], stacked)
        result[resnet.block_name(stage, index)] = _map_with_path(_take_leaf, block, ins, outs)
        student_in = architecture.widths[stage, index]
    return result


def _remap_collection(
    space: ResNetSpace, modules: dict, architecture: Architecture, kind: str
) -> dict:
    stem = _source_channels(
        "copy_paste_first", architecture.widths[0, 0], space.stage_widths[0], space.stage_widths[0]
    )
    result = {
        name: jax.tree.map(lambda leaf: _take(leaf, stem, axis=-1), modules[name])
        for name in ("stem_conv", "stem_norm")
        if name in modules
    }
    for stage in range(space.num_stages):
        result |= _remap_stage(space, modules, architecture, kind, stage)
    if "dense" in modules:
        wide = space.stage_widths[-1]
        last = architecture.widths[-1, architecture.depths[-1] - 1]
        rows = _source_channels(kind, last, wide, wide)
        dense = modules["dense"]
        result["dense"] = dense | {"kernel": _take(dense["kernel"], rows, axis=0)}
    return result


def check_kind(space: ResNetSpace, kind: str) -> None:
    """Refuses an unknown kind, or one that this space cannot have.

    Raises:
      UserError: If the kind is unknown, or takes last blocks where a stage narrows.
    """
    if kind not in KINDS:
        raise UserError(f"unknown remapping {kind!r}: choose one of {', '.join(KINDS)}")
    narrows = any(a > b for a, b in zip(space.stage_widths, space.stage_widths[1:], strict=False))
    if kind in _LAST_BLOCKS and narrows:
        raise UserError(
            f"{kind} needs stages that never narrow, got {space.stage_widths}: a stage's last "
            "blocks have fewer input channels than its first needs"
        )


def remap(
    space: ResNetSpace,
    variables: resnet.Variables,
    architecture: Architecture,
    kind: Kind = "copy_paste_first",
    key: Key[Array, ""] | None = None,
) -> resnet.Variables:
    """Gives a student its initial weights.

    Args:
      space: The search space, static.
      variables: The teacher's variables.
      architecture: The student, without batch axes; may be traced and vmapped over.
      kind: ``copy_paste_first``: first blocks, first channels. ``copy_paste_last``: last blocks,
        last channels. ``copy_paste_uniform``: first blocks, every (teacher // student)-th channel;
        ``copy_paste_uniform_last``: the same from the last blocks. The stem always takes first
        channels; the dense layer's inputs follow the rule of the last block's outputs.
        ``random_init``: fresh weights at the scale of the student's own size.
      key: Random key, needed by ``random_init`` alone.

    Returns:
      Teacher-shaped variables, zero outside of the student.

    Raises:
      UserError: If the kind is unknown, impossible in this space, or lacks its key.
    """
    check_kind(space, kind)
    if kind == "random_init":
        if key is None:
            raise UserError("random_init needs a random key")
        variables = resnet.init(space, key, resnet.num_classes(variables), architecture)
    return {
        collection: _remap_collection(space, modules, architecture, kind)
        for collection, modules in variables.items()
    }
