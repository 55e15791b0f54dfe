"""The layers of the masked ResNet: convolution, batch normalisation, shortcut and their block.

A layer takes the ``width`` of the student it serves and zeroes the parameters of all channels
from there on, so that the student's missing channels are exactly zero. Parameters get their
initial values from ``initialization.py``, not from the modules.

Dimension letters: B batch, H W input size, h w output size, I C channels.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
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
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, inputs: Float[Array, "B H W I"], width: Width) -> Float[Array, "B h w C"]:
        """Convolves; output channels from ``width`` on are zero."""
        shape = (3, 3, inputs.shape[-1], self.channels)
        kernel = self.param("kernel", nn.initializers.zeros, shape)
        kernel = mask_channels(kernel, width).astype(self.dtype)
        return conv2d(inputs.astype(self.dtype), kernel, self.stride)


def _max_pool(inputs: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """Takes the greatest of each 2x2 window; the gradient goes to the first of equals.

    The gradient of reduce-window is slow on CPU. That of ``max`` compares the inputs with the
    result and is NaN where XLA recomputed one of them with another rounding; a choice made once
    cannot contradict itself.
    """
    batch, height, across, channels = inputs.shape
    windows = inputs.reshape(batch, height // 2, 2, across // 2, 2, channels)
    left, right = windows[..., 0, :], windows[..., 1, :]
    rows = jnp.where(left >= right, left, right)
    top, bottom = rows[:, :, 0], rows[:, :, 1]
    return jnp.where(top >= bottom, top, bottom)


def shortcut(
    inputs: Float[Array, "B H W I"], channels: int, stride: int, width: Width
) -> Float[Array, "B h w C"]:
    """Pools 2x2 where the stride is 2, then zero-pads or crops the last channels."""
    if stride == 2:
        inputs = _max_pool(inputs)
    missing = max(channels - inputs.shape[-1], 0)
    padded = jnp.pad(inputs, ((0, 0), (0, 0), (0, 0), (0, missing)))[..., :channels]
    return mask_channels(padded, width)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalize_batch(
    inputs: Float[Array, "B h w C"],
    scale: Float[Array, " C"],
    bias: Float[Array, " C"],
    axis_name: str | None,
) -> tuple[Float[Array, "B h w C"], Float[Array, " C"], Float[Array, " C"]]:
    """Normalises by the batch; also returns its mean and biased variance, without gradients.

    The derivative is written out because the derived one keeps and reads several intermediate
    maps, and normalisation is bound by memory.
    """
    return _normalize_forward(inputs, scale, bias, axis_name)[0]


def _over_devices(values: Array, axis_name: str | None) -> Array:
    """The mean over the devices that share the batch in equal parts."""
    return values if axis_name is None else jax.lax.pmean(values, axis_name)


def _normalize_forward(inputs: Array, scale: Array, bias: Array, axis_name: str | None) -> Any:
    mean = _over_devices(jnp.mean(inputs, (0, 1, 2)), axis_name)
    var = _over_devices(jnp.mean(jnp.square(inputs - mean), (0, 1, 2)), axis_name)
    inverse = jax.lax.rsqrt(var + _EPSILON)
    outputs = (inputs - mean) * (inverse * scale) + bias
    return (outputs, mean, var), (inputs, mean, inverse, scale)


def _normalize_backward(
    axis_name: str | None, residuals: Any, cotangents: Any
) -> tuple[Array, Array, Array]:
    inputs, mean, inverse, scale = residuals
    cotangent, _, _ = cotangents
    count = math.prod(inputs.shape[:3])
    bias_gradient = jnp.sum(cotangent, (0, 1, 2))
    scale_gradient = jnp.sum(cotangent * (inputs - mean), (0, 1, 2)) * inverse
    # parameters get this device's share; the inputs feel all images through mean and variance
    offset, slope = _over_devices(jnp.stack([bias_gradient, scale_gradient]), axis_name) / count
    centred = cotangent - offset - (inputs - mean) * (inverse * slope)
    return centred * (inverse * scale), scale_gradient, bias_gradient


_normalize_batch.defvjp(_normalize_forward, _normalize_backward)


class BatchNorm(nn.Module):
    """Batch normalisation as PyTorch has it: the running variance takes the unbiased variance.

    Attributes:
      axis_name: Mapped axis over which the batch is spread in equal parts, if it is.
    """

    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "B h w C"], width: Width, train: bool
    ) -> Float[Array, "B h w C"]:
        """Normalises by the batch in training, by the running statistics in evaluation."""
        # sums over a batch need more digits than bfloat16 has
        inputs, dtype = inputs.astype(jnp.float32), inputs.dtype
        shape = inputs.shape[-1:]
        scale = mask_channels(self.param("scale", nn.initializers.ones, shape), width)
        bias = mask_channels(self.param("bias", nn.initializers.zeros, shape), width)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        if not train:
            inverse = jax.lax.rsqrt(running_var.value + _EPSILON)
            return ((inputs - running_mean.value) * (inverse * scale) + bias).astype(dtype)
        outputs, mean, var = _normalize_batch(inputs, scale, bias, self.axis_name)
        if not self.is_initializing():
            devices = 1 if self.axis_name is None else jax.lax.axis_size(self.axis_name)
            count = math.prod(inputs.shape[:3]) * devices
            unbiased = var * (count / max(count - 1, 1))
            running_mean.value += (1 - _MOMENTUM) * (mean - running_mean.value)
            running_var.value += (1 - _MOMENTUM) * (unbiased - running_var.value)
        return outputs.astype(dtype)


class BasicBlock(nn.Module):
    """conv - BN - ReLU - conv - BN, plus the parameter-free shortcut, ReLU.

    Attributes:
      channels: Output channels of both convolutions.
      stride: Stride of the first one and of the shortcut.
      axis_name: Mapped axis over which the batch is spread in equal parts, if it is.
      dtype: What convolutions compute in.
      shares_weights: Whether other students have the same parameters, which then stay as they are:
        maps are masked instead, and ``vmap`` over students is one convolution of all their maps.
    """

    channels: int
    stride: int
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32
    shares_weights: bool = False

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "B H W I"], width: Width, train: bool
    ) -> Float[Array, "B h w C"]:
        """Runs the block; output channels from ``width`` on are zero."""
        of_params, of_maps = (None, width) if self.shares_weights else (width, None)
        hidden = Conv(self.channels, self.stride, self.dtype, name="conv1")(inputs, of_params)
        hidden = nn.relu(BatchNorm(self.axis_name, name="norm1")(hidden, of_params, train))
        hidden = mask_channels(hidden, of_maps)
        hidden = Conv(self.channels, dtype=self.dtype, name="conv2")(hidden, of_params)
        hidden = BatchNorm(self.axis_name, name="norm2")(hidden, of_params, train)
        hidden = hidden + shortcut(inputs, self.channels, self.stride, of_params)
        return mask_channels(nn.relu(hidden), of_maps)
