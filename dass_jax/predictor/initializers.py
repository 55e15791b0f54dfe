"""PyTorch's default initialization, which the official predictor starts from.

Every weight and bias of a dense or convolutional layer is uniform within ``1 / sqrt(fan_in)``.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer, PRNGKey, Shape


def torch_uniform(fan_in: int) -> Initializer:
    """Returns an initializer that draws uniformly from ``(-1, 1) / sqrt(fan_in)``.

    Args:
      fan_in: Number of inputs that each output of the layer sums over.
    """
    bound = 1.0 / math.sqrt(fan_in)

    def initialize(key: PRNGKey, shape: Shape, dtype: Dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, minval=-bound, maxval=bound)

    return initialize


def torch_dense(features: int, fan_in: int, name: str) -> nn.Dense:
    """Returns a dense layer that is initialized as PyTorch's ``nn.Linear(fan_in, features)``."""
    initializer = torch_uniform(fan_in)
    return nn.Dense(features, kernel_init=initializer, bias_init=initializer, name=name)
