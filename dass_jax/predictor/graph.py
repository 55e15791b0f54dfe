"""A student's computation graph as arrays: nodes, and the edges between them.

A node is the stem, an active block or the head. The main path leads from each node to the next one
(``forward``). A block's shortcut carries its input past it to the next node (``skip``).
Features are shares and ratios, so that networks of any depth and width are described alike.

Dimension letters: V nodes (2 + S * D), F features, S stages, D blocks of a stage.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from dass_jax.search_space import Architecture, ResNetSpace

FEATURES = (
    "stem",
    "block",
    "head",
    "stage",
    "place in the stage",
    "place in the network",
    "depth of the stage",
    "width",
    "width ratio to the teacher",
    "strided",
    "map size",
    "share of multiply-adds",
    "share of parameters",
    "multiply-adds ratio to the teacher",
    "parameters ratio to the teacher",
)


class Graph(NamedTuple):
    """A computation graph; absent nodes keep their place, without edges.

    Attributes:
      nodes: Features of each node, named by ``FEATURES``; zeros where absent.
      present: Which nodes there are.
      forward: 1 where a node's output enters another one on the main path, [from, to].
      skip: 1 where it enters another one past a block.
    """

    nodes: Float[Array, "*B V F"]
    present: Bool[Array, "*B V"]
    forward: Float[Array, "*B V V"]
    skip: Float[Array, "*B V V"]


class _Costs(NamedTuple):
    """Multiply-adds and parameters of every node, zero where absent, [V]."""

    flops: Array
    params: Array


def _map_sizes(space: ResNetSpace, image_size: int) -> np.ndarray:
    """Height of the maps of each stage, [S], in pixels."""
    sizes = []
    for stride in space.strides:
        image_size = (image_size - 1) // stride + 1
        sizes.append(image_size)
    return np.asarray(sizes)


def _node_costs(
    space: ResNetSpace, widths: Float[Array, "S D"], image_size: int, num_classes: int
) -> _Costs:
    """The terms of ``cost.num_flops`` and ``cost.num_params``, by node and traceable."""
    flat = widths.ravel()
    stem = flat[0]
    # the width before each block: of the last present one, the stem's at first
    last = jax.lax.associative_scan(lambda a, b: jnp.where(b > 0, b, a), flat)
    before = jnp.concatenate([stem[None], last[:-1]])
    pixels = np.repeat(np.square(_map_sizes(space, image_size)), space.stage_depth)
    kernels = 9 * (before * flat + flat**2)
    return _Costs(
        jnp.concatenate(
            [27 * image_size**2 * stem[None], kernels * pixels, last[-1:] * num_classes]
        ),
        jnp.concatenate([29 * stem[None], kernels + 4 * flat, (last[-1:] + 1) * num_classes]),
    )


def _path(present: Bool[Array, "V"]) -> tuple[Array, Array]:
    """Edges from each present node to the next one, and to the one after that."""
    order = jnp.cumsum(present) - 1
    ahead = order[None, :] - order[:, None]
    both = present[:, None] & present[None, :]
    return (both & (ahead == 1)).astype(jnp.float32), (both & (ahead == 2)).astype(jnp.float32)


def architecture_graph(
    space: ResNetSpace, architecture: Architecture, *, image_size: int, num_classes: int
) -> Graph:
    """The graph of one student.

    Args:
      space: The search space, static.
      architecture: One architecture, without batch axes.
      image_size: Height and width of the images in pixels.
      num_classes: Outputs of the dense layer.

    Returns:
      The graph, with a node for each block that the space has room for.
    """
    stages, blocks = space.num_stages, space.stage_depth
    active = space.block_mask(architecture)
    widths = jnp.where(active, architecture.widths, 0).astype(jnp.float32)
    ends = jnp.ones(1, bool)
    present = jnp.concatenate([ends, active.ravel(), ends])
    full = jnp.repeat(jnp.asarray(space.stage_widths, jnp.float32), blocks)
    costs = _node_costs(space, widths, image_size, num_classes)
    teacher = _node_costs(space, full.reshape(stages, blocks), image_size, num_classes)
    sizes = _map_sizes(space, image_size)
    stage = np.repeat(np.arange(stages), blocks) / max(stages - 1, 1)
    place = np.tile(np.arange(blocks), stages) / max(blocks - 1, 1)
    strided = (place == 0) & (np.repeat(space.strides, blocks) > 1)
    last = jnp.max(jnp.where(active[-1], jnp.arange(blocks), 0))

    def column(stem: ArrayLike, block: ArrayLike, head: ArrayLike) -> Array:
        return jnp.concatenate(
            [jnp.atleast_1d(jnp.asarray(x, jnp.float32)) for x in (stem, block, head)]
        )

    none = np.zeros(stages * blocks)
    flat = widths.ravel()
    width = column(flat[0], flat, widths[-1, last])
    columns = [
        column(1, none, 0),
        column(0, none + 1, 0),
        column(0, none, 1),
        column(0, stage, 1),
        column(0, place, 0),
        (jnp.cumsum(present) - 1) / (stages * blocks + 1),
        column(0, jnp.repeat(architecture.depths / blocks, blocks), 0),
        jnp.log2(jnp.maximum(width, 1)) / 8,
        width / column(full[0], full, full[-1]),
        column(0, strided, 0),
        column(0, jnp.log2(jnp.repeat(sizes, blocks) / image_size), math.log2(1 / image_size)) / 4,
        costs.flops / costs.flops.sum(),
        costs.params / costs.params.sum(),
        costs.flops / teacher.flops,
        costs.params / teacher.params,
    ]
    nodes = jnp.stack(columns, axis=-1) * present[:, None]
    return Graph(nodes, present, *_path(present))
