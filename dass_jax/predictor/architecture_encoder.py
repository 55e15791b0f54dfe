"""Encodes which network it is: its depths and widths, whatever it computes.

Dimension letters: B students, E length of the encoding, F features.
"""

from flax import linen as nn
from jaxtyping import Array, Float

from dass_jax.predictor.initializers import torch_dense


class FlatArchitectureEncoder(nn.Module):
    """DaSS's encoder: one dense layer with bias, no activation, on a flat one-hot encoding.

    Attributes:
      features: Length of the embedding, F.
    """

    features: int

    @nn.compact
    def __call__(self, encoding: Float[Array, "B E"]) -> Float[Array, "B F"]:
        """Embeds a batch of flat encodings."""
        return torch_dense(self.features, encoding.shape[-1], name="dense")(encoding)
