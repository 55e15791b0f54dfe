"""Encodes what a network computes: its last activation map on one fixed noise image.

The functional embedding of DaSS (ICLR 2023). The student's and the teacher's encoder have this form
and weights of their own.

Dimension letters: B students, H W map size, C channels of the map, F channels of the embedding.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from dass_jax.convolution import patch_product
from dass_jax.predictor.initializers import torch_uniform


class FunctionalEncoder(nn.Module):
    """Two bias-free 3x3 convolutions of stride 2, each with ReLU, and a global average pool.

    Attributes:
      hidden_channels: Channels after the first convolution.
      embedding_channels: Channels of the embedding, F.
    """

    hidden_channels: int
    embedding_channels: int

    @nn.compact
    def __call__(self, features: Float[Array, "B H W C"]) -> Float[Array, "B F"]:
        """Embeds a batch of activation maps."""
        hidden = self._convolve("conv1_kernel", features, self.hidden_channels)
        return jnp.mean(
            self._convolve("conv2_kernel", hidden, self.embedding_channels), axis=(1, 2)
        )

    def _convolve(
        self, name: str, maps: Float[Array, "B H W I"], channels: int
    ) -> Float[Array, "B h w O"]:
        shape = (3, 3, maps.shape[-1], channels)
        kernel = self.param(name, torch_uniform(9 * maps.shape[-1]), shape)
        return jax.nn.relu(patch_product(maps, kernel, stride=2))
