"""Encodes a dataset by what the teacher sees in a set of its images.

A set encoder in the sense of Deep Sets (Zaheer et al., 2017): every image is embedded by itself,
then the embeddings are averaged, so that neither order nor number of the images matters.

Dimension letters: P images, C features of an image, F features of the dataset.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float


class DatasetEncoder(nn.Module):
    """Embeds a set of images, given as the teacher's pooled features.

    Attributes:
      features: Length of the embedding, F.
    """

    features: int

    @nn.compact
    def __call__(self, images: Float[Array, "P C"]) -> Float[Array, "F"]:
        """Embeds one dataset."""
        # the teacher's features have no fixed scale
        scale = jnp.sqrt(jnp.mean(images**2) + 1e-6)
        embedded = nn.Dense(self.features, name="image")(images / scale)
        mean = jax.nn.silu(embedded).mean(0)
        return nn.Dense(self.features, name="set")(mean)
