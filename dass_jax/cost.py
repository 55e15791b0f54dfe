"""What a student costs: multiply-adds, parameters and bytes, exactly those of the dense network.

Costs are host functions over int64 arrays, so that no network is too large to be counted, and
they broadcast over leading axes of the architecture.

Dimension letters: K students, S stages, D blocks of a stage.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from dass_jax.search_space import Architecture, ResNetSpace

_KERNEL = 9  # every convolution is 3x3


class Convolutions(NamedTuple):
    """Channels of all convolutions; the width is 0 where a block is absent."""

    stem: np.ndarray  # [..., ] output channels of the stem
    inputs: np.ndarray  # [..., S, D] input channels of each block
    widths: np.ndarray  # [..., S, D] output channels of each block
    last: np.ndarray  # [..., ] input features of the dense layer


def convolutions(architecture: Architecture) -> Convolutions:
    """The channels of one architecture's convolutions, or of a batch's."""
    depths = np.asarray(architecture.depths, np.int64)
    widths = np.asarray(architecture.widths, np.int64)
    stage_outputs = np.take_along_axis(widths, depths[..., None] - 1, axis=-1)[..., 0]
    stem = widths[..., 0, 0]
    stage_inputs = np.concatenate([stem[..., None], stage_outputs[..., :-1]], axis=-1)
    inputs = np.concatenate([stage_inputs[..., None], widths[..., :-1]], axis=-1)
    return Convolutions(stem, inputs, widths, stage_outputs[..., -1])


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
    conv = convolutions(architecture)
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
    conv = convolutions(architecture)
    blocks = _KERNEL * (conv.inputs * conv.widths + conv.widths**2) + 4 * conv.widths
    stem = _KERNEL * image_channels * conv.stem + 2 * conv.stem
    return np.asarray(stem + blocks.sum((-2, -1)) + (conv.last + 1) * num_classes)


def num_bytes(
    space: ResNetSpace, architecture: Architecture, *, num_classes: int, image_channels: int = 3
) -> Int[np.ndarray, "*K"]:
    """Size of the saved network in float32: parameters and running statistics.

    Args:
      space: The search space.
      architecture: One architecture or a batch of them.
      num_classes: Outputs of the dense layer.
      image_channels: Channels of the image.

    Returns:
      Bytes for each architecture, int64.
    """
    sizes = {"num_classes": num_classes, "image_channels": image_channels}
    conv = convolutions(architecture)
    # two normalisations in a block, each with a mean and a variance per channel
    statistics = 2 * conv.stem + 4 * conv.widths.sum((-2, -1))
    return np.asarray(4 * (num_params(space, architecture, **sizes) + statistics))


def log_shares(
    space: ResNetSpace, architecture: Architecture, *, image_size: int
) -> Float[np.ndarray, "*K 3"]:
    """Logarithms of a student's shares of its teacher's multiply-adds, parameters and blocks.

    The dense layer is left out, so that the number of classes changes nothing.

    Args:
      space: The search space.
      architecture: One architecture or a batch of them.
      image_size: Height and width of the image in pixels.

    Returns:
      Three numbers for each architecture, 0 for the teacher, float32.
    """

    def counts(one: Architecture) -> np.ndarray:
        flops = num_flops(space, one, image_size=image_size, num_classes=0)
        blocks = np.asarray(one.depths).sum(-1)
        return np.stack([flops, num_params(space, one, num_classes=0), blocks], -1)

    return np.log(counts(architecture) / counts(space.full())).astype(np.float32)


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
