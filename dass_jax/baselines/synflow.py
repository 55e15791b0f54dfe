"""SynFlow: how much flows through all synapses of a network, without any data.

Dimension letters: N students, H W image size, C channels.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dass_jax import resnet
from dass_jax.baselines.candidates import Candidates
from dass_jax.baselines.network import Block, convolve, fold_blocks, kernels
from dass_jax.layers import shortcut
from dass_jax.search_space import Architecture, ResNetSpace


def _rescaled(hidden: Float[Array, "1 H W C"], log_scale: Float[Array, ""]) -> tuple[Array, Array]:
    """Divides by the greatest value, a constant to gradients, and keeps account of it."""
    top = jax.lax.stop_gradient(jnp.max(hidden))
    top = jnp.where(top > 0, top, 1.0)
    return hidden / top, log_scale + jnp.log(top)


def _pass_block(state: tuple[Array, Array], block: Block) -> tuple[Array, Array]:
    """Nothing is negative here, so that ReLUs do nothing; normalisation is left out."""
    inputs, log_scale = state
    hidden = convolve(block.params["conv1"], inputs, block.width, block.stride)
    hidden = convolve(block.params["conv2"], hidden, block.width)
    hidden += shortcut(inputs, block.channels, block.stride, block.width)
    return _rescaled(hidden, log_scale)


def _log_synflow(
    space: ResNetSpace,
    variables: resnet.Variables,
    architecture: Architecture,
    image: Float[Array, "1 H W 3"],
) -> Float[Array, ""]:
    """The logarithm of the sum of weight x gradient over all layers.

    The output of 40 layers of absolute weights overflows float32. From any layer on the network is
    homogeneous: dividing a map by a constant divides the output and all gradients by it.
    """

    def output(params: Any) -> tuple[Array, Array]:
        hidden = convolve(params["stem_conv"], image, architecture.widths[0, 0])
        state = _rescaled(hidden, jnp.zeros(()))
        student = variables | {"params": params}
        hidden, log_scale = fold_blocks(space, student, architecture, state, _pass_block)
        # the dense layer's bias adds nothing to the gradient in any weight
        return jnp.sum(jnp.mean(hidden, (0, 1, 2)) @ params["dense"]["kernel"]), log_scale

    params = jax.tree.map(jnp.abs, variables["params"])
    gradient, log_scale = jax.grad(output, has_aux=True)(params)
    pairs = zip(kernels(gradient), kernels(params), strict=True)
    total = jnp.sum(jnp.stack([jnp.sum(slope * weight) for slope, weight in pairs]))
    return jnp.log(total) + log_scale


def synflow(candidates: Candidates) -> Float[np.ndarray, " N"]:
    """Natural logarithm of SynFlow, the sum of |weight| x d(sum of outputs) / d|weight|.

    Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic
    flow", NeurIPS 2020: on an image of ones, with the absolute values of all weights. Summed over
    the network, and with normalisation left out, as Abdelfattah et al. (ICLR 2021) do.

    Args:
      candidates: N students.

    Returns:
      One score per student, minus infinity where nothing flows.
    """
    image = jnp.ones((1, candidates.image_size, candidates.image_size, 3))
    return candidates.map(_log_synflow, image).astype(float)
