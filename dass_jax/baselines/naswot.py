"""NASWOT: whether an untrained network tells images apart by which of its ReLUs are on.

Dimension letters: N students, B probe images, H W image size, h w C a feature map.
"""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt8

from dass_jax import resnet
from dass_jax.baselines.candidates import Candidates
from dass_jax.baselines.network import Block, convolve, fold_blocks, normalize_batch
from dass_jax.data.augmentation import normalize
from dass_jax.layers import channel_mask, shortcut
from dass_jax.search_space import Architecture, ResNetSpace

_State = tuple[Array, Array]  # a feature map, and the agreements counted so far


def _agreements(units: Float[Array, "B h w C"], width: Int[Array, ""]) -> Float[Array, "B B"]:
    """How many units are on in both or off in both images; missing channels are no units.

    Exact: every product is 0 or 1, and float32 counts to 16 million.
    """
    on = (units > 0).astype(jnp.float32)
    off = channel_mask(width, units.shape[-1]) - on
    on, off = (part.reshape(len(units), -1) for part in (on, off))
    return on @ on.T + off @ off.T


def _pass_block(state: _State, block: Block) -> _State:
    inputs, kernel = state
    params, stats, width = block.params, block.batch_stats, block.width
    hidden = convolve(params["conv1"], inputs, width, block.stride)
    hidden = nn.relu(normalize_batch(params["norm1"], stats["norm1"], hidden, width))
    kernel += _agreements(hidden, width)
    hidden = convolve(params["conv2"], hidden, width)
    hidden = normalize_batch(params["norm2"], stats["norm2"], hidden, width)
    hidden = nn.relu(hidden + shortcut(inputs, block.channels, block.stride, width))
    return hidden, kernel + _agreements(hidden, width)


def _kernel(
    space: ResNetSpace,
    variables: resnet.Variables,
    architecture: Architecture,
    images: UInt8[Array, "B H W 3"],
) -> Float[Array, "B B"]:
    """The kernel of all ReLUs, with normalisation by the batch as the authors run networks."""
    params, stats = variables["params"], variables["batch_stats"]
    width = architecture.widths[0, 0]
    hidden = convolve(params["stem_conv"], normalize(images), width)
    hidden = nn.relu(normalize_batch(params["stem_norm"], stats["stem_norm"], hidden, width))
    state = (hidden, _agreements(hidden, width))
    return fold_blocks(space, variables, architecture, state, _pass_block)[1]


def relu_kernels(candidates: Candidates) -> Float[np.ndarray, "N B B"]:
    """Units that agree between each two images of the probe, counted over the student's ReLUs.

    Args:
      candidates: N students.

    Returns:
      Whole numbers; the diagonal is the student's number of units.
    """
    return candidates.map(_kernel, candidates.probe.images).astype(float)


def naswot(candidates: Candidates) -> Float[np.ndarray, " N"]:
    """Logarithm of the determinant of the kernel of ReLU patterns.

    Mellor et al., "Neural Architecture Search without Training", ICML 2021: the kernel of two
    images is the number of units less the Hamming distance of their patterns.

    Args:
      candidates: N students.

    Returns:
      One score per student, minus infinity where two images have the same pattern.
    """
    # in float64 on the host: the counts are large and nearly equal
    return np.linalg.slogdet(relu_kernels(candidates))[1]
