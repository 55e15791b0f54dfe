"""A student's network taken apart, for proxies that look between its layers.

Dimension letters: B batch, H W input size, h w output size, I C channels.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int

from dass_jax import resnet
from dass_jax.layers import BatchNorm, Conv
from dass_jax.search_space import Architecture, ResNetSpace


class Block(NamedTuple):
    """One residual block.

    Attributes:
      params: Its parameters.
      batch_stats: Its running statistics.
      width: Its own output channels.
      channels: The teacher's output channels.
      stride: Stride of its first convolution and of its shortcut.
    """

    params: dict[str, Any]
    batch_stats: dict[str, Any]
    width: Int[Array, ""]
    channels: int
    stride: int


def fold_blocks(
    space: ResNetSpace,
    variables: resnet.Variables,
    architecture: Architecture,
    state: Any,
    step: Callable[[Any, Block], Any],
) -> Any:
    """Passes a state through the active blocks, first to last.

    Args:
      space: The search space, static.
      variables: The student's variables, teacher-shaped.
      architecture: The student, without batch axes.
      state: What enters the first block.
      step: State and block -> state of the same structure. Shapes may change where a stage begins.

    Returns:
      What leaves the last active block.
    """
    for stage in range(space.num_stages):
        for index in range(space.stage_depth):
            name = resnet.block_name(stage, index)
            block = Block(
                variables["params"][name],
                variables["batch_stats"][name],
                architecture.widths[stage, index],
                space.stage_widths[stage],
                space.strides[stage] if index == 0 else 1,
            )
            if index == 0:
                state = step(state, block)
                continue
            state = jax.lax.cond(
                index < architecture.depths[stage],
                lambda state, block=block: step(state, block),
                lambda state: state,
                state,
            )
    return state


def convolve(
    params: dict[str, Any], inputs: Float[Array, "B H W I"], width: Int[Array, ""], stride: int = 1
) -> Float[Array, "B h w C"]:
    """A convolution of the network; output channels from ``width`` on are zero."""
    return Conv(params["kernel"].shape[-1], stride).apply({"params": params}, inputs, width)


def normalize_batch(
    params: dict[str, Any],
    batch_stats: dict[str, Any],
    inputs: Float[Array, "B h w C"],
    width: Int[Array, ""],
) -> Float[Array, "B h w C"]:
    """A normalisation of the network by the batch's own statistics."""
    variables = {"params": params, "batch_stats": batch_stats}
    return BatchNorm().apply(variables, inputs, width, True, mutable=["batch_stats"])[0]


def kernels(params: dict[str, Any]) -> list[Array]:
    """The weights of all convolutions and of the dense layer, always in the same order.

    These are the parameters that zero-cost proxies count (Abdelfattah et al., ICLR 2021): no
    biases, no normalisation.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [leaf for path, leaf in leaves if path[-1].key == "kernel"]
