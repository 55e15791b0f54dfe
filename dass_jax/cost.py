"""What a student costs: multiply-adds and parameters, exactly those of the dense network.

Costs are host functions over int64 arrays, so that no network is too large to be counted, and
they broadcast over leading axes of the architecture.

Dimension letters: K students, S stages, D blocks of a stage.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from dass_jax.errors import UserError
from dass_jax.search_space import Architecture, ResNetSpace

_KERNEL = 9  # every convolution is 3x3


class _Convolutions(NamedTuple):
    """Channels of all convolutions; the width is 0 where a block is absent."""

    stem: np.ndarray  # [..., ] output channels of the stem
    inputs: np.ndarray  # [..., S, D] input channels of each block
    widths: np.ndarray  # [..., S, D] output channels of each block
    last: np.ndarray  # [..., ] input features of the dense layer


def _convolutions(architecture: Architecture) -> _Convolutions:
    depths = np.asarray(architecture.depths, np.int64)
    widths = np.asarray(architecture.widths, np.int64)
    stage_outputs = np.take_along_axis(widths, depths[..., None] - 1, axis=-1)[..., 0]
    stem = widths[..., 0, 0]
    stage_inputs = np.concatenate([stem[..., None], stage_outputs[..., :-1]], axis=-1)
    inputs = np.concatenate([stage_inputs[..., None], widths[..., :-1]], axis=-1)
    return _Convolutions(stem, inputs, widths, stage_outputs[..., -1])


def num_flops(
    space: ResNetSpace,
    architecture: Architecture,
    *,
    image_size: int,
    num_classes: int,
    image_channels: int = 3,
) -> Int[np.ndarray, "*K"]:
    """Multiply-adds of the convolutions and the dense layer for one image.

    Args:
      space: The search space.
      architecture: One architecture or a batch of them.
      image_size: Height and width of the image in pixels.
      num_classes: Outputs of the dense layer.
      image_channels: Channels of the image.

    Returns:
      The count for each architecture, int64.
    """
    sizes = []
    size = image_size
    for stride in space.strides:
        size = (size - 1) // stride + 1
        sizes.append(size)
    pixels = np.square(np.asarray(sizes, np.int64))[:, None]
    conv = _convolutions(architecture)
    blocks = _KERNEL * pixels * (conv.inputs * conv.widths + conv.widths**2)
    stem = _KERNEL * image_size**2 * image_channels * conv.stem
    return np.asarray(stem + blocks.sum((-2, -1)) + conv.last * num_classes)


def num_params(
    space: ResNetSpace, architecture: Architecture, *, num_classes: int, image_channels: int = 3
) -> Int[np.ndarray, "*K"]:
    """Trainable parameters: kernels, BN scales and biases, the dense layer.

    Args:
      space: The search space.
      architecture: One architecture or a batch of them.
      num_classes: Outputs of the dense layer.
      image_channels: Channels of the image.

    Returns:
      The count for each architecture, int64.
    """
    del space  # the widths say it all; the argument keeps the two costs alike
    conv = _convolutions(architecture)
    blocks = _KERNEL * (conv.inputs * conv.widths + conv.widths**2) + 4 * conv.widths
    stem = _KERNEL * image_channels * conv.stem + 2 * conv.stem
    return np.asarray(stem + blocks.sum((-2, -1)) + (conv.last + 1) * num_classes)


def at_full_width(space: ResNetSpace, architecture: Architecture) -> Architecture:
    """The same blocks at the teacher's widths: what training a masked student computes.

    Args:
      space: The search space.
      architecture: One architecture or a batch of them.

    Returns:
      Architectures that are as deep.
    """
    widths = jnp.asarray(space.stage_widths, jnp.int32)[:, None]
    return architecture._replace(widths=jnp.where(architecture.widths > 0, widths, 0))


class Budget(NamedTuple):
    """Upper limits of a student's cost; ``None`` means no limit.

    Attributes:
      flops: Multiply-adds for one image.
      params: Trainable parameters.
    """

    flops: int | None = None
    params: int | None = None


def within_budget(
    space: ResNetSpace,
    architecture: Architecture,
    budget: Budget,
    *,
    image_size: int,
    num_classes: int,
) -> np.ndarray:
    """Which architectures respect every limit of the budget, bool [K]."""
    allowed = np.ones(np.shape(architecture.depths)[:-1], bool)
    if budget.flops is not None:
        flops = num_flops(space, architecture, image_size=image_size, num_classes=num_classes)
        allowed &= flops <= budget.flops
    if budget.params is not None:
        allowed &= num_params(space, architecture, num_classes=num_classes) <= budget.params
    return allowed


def smallest(space: ResNetSpace) -> Architecture:
    """The cheapest architecture of the space by either cost: one narrowest block per stage."""
    widths = [[int(w)] for w in space.width_choices.min(axis=1)]
    return space.architecture([1] * space.num_stages, widths)


@functools.partial(jax.jit, static_argnums=0)
def _draw(space: ResNetSpace, keys: Key[Array, " K"]) -> Architecture:
    return jax.vmap(space.sample)(keys)


def sample_within_budget(
    space: ResNetSpace,
    key: Key[Array, ""],
    count: int,
    budget: Budget,
    *,
    image_size: int,
    num_classes: int,
    max_rounds: int = 100,
) -> Architecture:
    """Samples students by rejection until ``count`` of them respect the budget.

    Args:
      space: The search space.
      key: Random key; the result is a function of it.
      count: K, how many students to return.
      budget: Limits that every student respects.
      image_size: Height and width of the image in pixels.
      num_classes: Outputs of the dense layer.
      max_rounds: Batches of ``4 * count`` (at least 256) proposals before giving up.

    Returns:
      K architectures, [K, S] and [K, S, D], on the host.

    Raises:
      UserError: If even the smallest student breaks the budget, or too few were found.
    """
    sizes = {"image_size": image_size, "num_classes": num_classes}
    floor = smallest(space)
    if not within_budget(space, floor, budget, **sizes):
        flops = int(num_flops(space, floor, **sizes))
        params = int(num_params(space, floor, num_classes=num_classes))
        raise UserError(
            f"no student fits the budget {budget}: the smallest needs {flops} flops "
            f"(multiply-adds) and {params} parameters"
        )
    proposals = max(256, 4 * count)
    accepted: list[Architecture] = []
    found = 0
    for round_key in jax.random.split(key, max_rounds):
        batch = jax.tree.map(np.asarray, _draw(space, jax.random.split(round_key, proposals)))
        allowed = within_budget(space, batch, budget, **sizes)
        accepted.append(jax.tree.map(lambda leaf, keep=allowed: leaf[keep], batch))
        found += int(allowed.sum())
        if found >= count:
            return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *accepted)
    raise UserError(
        f"only {found} of {max_rounds * proposals} sampled students fit the budget {budget}, "
        f"{count} are needed: allow more"
    )
