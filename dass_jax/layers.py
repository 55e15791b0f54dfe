"""The layers of the masked ResNet: convolution and batch normalisation.

A layer takes the ``width`` of the student it serves and zeroes the parameters of all channels
from there on, so that the student's missing channels are exactly zero. Parameters get their
initial values from ``initialization.py``, not from the modules.

Dimension letters: B batch, H W input size, h w output size, I C channels.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dass_jax.convolution import conv2d

Width = Int[Array, ""] | None  # None: a dense layer, nothing is masked

_EPSILON = 1e-5
_MOMENTUM = 0.9


def channel_mask(width: Int[Array, ""], size: int) -> Bool[Array, " size"]:
    """True for the first ``width`` of ``size`` channels."""
    return jnp.arange(size) < width


def mask_channels(values: Array, width: Width) -> Array:
    """Zeroes all channels (last axis) from ``width`` on."""
    return values if width is None else values * channel_mask(width, values.shape[-1])


class Conv(nn.Module):
    """3x3 convolution without bias."""

    channels: int
    stride: int = 1

    @nn.compact
    def __call__(self, inputs: Float[Array, "B H W I"], width: Width) -> Float[Array, "B h w C"]:
        """Convolves; output channels from ``width`` on are zero."""
        shape = (3, 3, inputs.shape[-1], self.channels)
        kernel = self.param("kernel", nn.initializers.zeros, shape)
        return conv2d(inputs, mask_channels(kernel, width), self.stride)


class BatchNorm(nn.Module):
    """Batch normalisation as PyTorch has it: the running variance takes the unbiased variance."""

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "B h w C"], width: Width, train: bool
    ) -> Float[Array, "B h w C"]:
        """Normalises by the batch in training, by the running statistics in evaluation."""
        shape = inputs.shape[-1:]
        scale = mask_channels(self.param("scale", nn.initializers.ones, shape), width)
        bias = mask_channels(self.param("bias", nn.initializers.zeros, shape), width)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        mean, var = running_mean.value, running_var.value
        if train:
            count = math.prod(inputs.shape[:3])
            mean = jnp.mean(inputs, (0, 1, 2))
            var = jnp.mean(jnp.square(inputs - mean), (0, 1, 2))
            if not self.is_initializing():
                unbiased = var * (count / max(count - 1, 1))
                running_mean.value += (1 - _MOMENTUM) * (mean - running_mean.value)
                running_var.value += (1 - _MOMENTUM) * (unbiased - running_var.value)
        return (inputs - mean) * (jax.lax.rsqrt(var + _EPSILON) * scale) + bias
