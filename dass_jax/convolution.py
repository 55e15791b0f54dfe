"""A 2-D convolution whose gradients stay fast inside compiled loops, to any order.

XLA's CPU backend rewrites convolutions into the form that its fast kernels want only in the entry
computation of a compiled function. The gradient that JAX derives for a convolution permutes its
dimension numbers, so inside ``lax.scan``, ``lax.map`` or ``lax.cond`` it runs about ten times
slower (jax-ml/jax issue 12868). Here every gradient is written as a plain NHWC x HWIO convolution
of explicitly transposed operands. Gradients are built with the function itself, so derivatives of
derivatives are as fast.

Dimension letters: B batch, H W input size, h w output size, k kernel size, I input channels,
O output channels.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Window(NamedTuple):
    """Static parameters of a convolution, equal in both spatial axes but for the padding."""

    stride: int
    padding: tuple[tuple[int, int], tuple[int, int]]
    input_dilation: int
    kernel_dilation: int


def _is_tiny(inputs: Array, kernel: Array) -> bool:
    """Whether XLA's fast kernels on CPU refuse a map because it is smaller than the kernel.

    Maps of one pixel are matrix products to XLA, which are fast.
    """
    smaller = any(1 < inputs.shape[axis + 1] < kernel.shape[axis] for axis in (0, 1))
    return smaller and jax.default_backend() == "cpu"


def _laid_out(inputs: Array, window: Window) -> tuple[Array, Window]:
    """A map with its padding and dilation in memory, and the window that is left to apply."""
    spread = [(low, high, window.input_dilation - 1) for low, high in window.padding]
    padded = jax.lax.pad(inputs, jnp.zeros((), inputs.dtype), [(0, 0, 0), *spread, (0, 0, 0)])
    # or else XLA makes a padding of the convolution of it again
    padded = jax.lax.optimization_barrier(padded)
    return padded, window._replace(padding=((0, 0), (0, 0)), input_dilation=1)


def _dilated(size: int, dilation: int) -> int:
    return (size - 1) * dilation + 1


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(inputs: Array, kernel: Array, window: Window) -> Array:
    if _is_tiny(inputs, kernel):
        inputs, window = _laid_out(inputs, window)
    return jax.lax.conv_general_dilated(
        inputs,
        kernel,
        window_strides=(window.stride,) * 2,
        padding=window.padding,
        lhs_dilation=(window.input_dilation,) * 2,
        rhs_dilation=(window.kernel_dilation,) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _forward(inputs: Array, kernel: Array, window: Window) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(inputs, kernel, window), (inputs, kernel)


def _input_gradient(cotangent: Array, kernel: Array, window: Window, shape: tuple) -> Array:
    """The flipped kernel with swapped channel axes, over the stride-dilated cotangent."""
    padding = []
    for axis in (0, 1):
        reach = _dilated(kernel.shape[axis], window.kernel_dilation) - 1
        low = reach - window.padding[axis][0]
        spread = _dilated(cotangent.shape[axis + 1], window.stride)
        extent = _dilated(shape[axis + 1], window.input_dilation)
        padding.append((low, extent + reach - low - spread))
    transposed = Window(
        stride=window.input_dilation,
        padding=(padding[0], padding[1]),
        input_dilation=window.stride,
        kernel_dilation=window.kernel_dilation,
    )
    return _convolve(cotangent, jnp.swapaxes(kernel[::-1, ::-1], 2, 3), transposed)


def _parts(batch: int) -> int:
    """Into how many parts of the batch a kernel's gradient is cut.

    The gradient is one convolution whose window is the whole batch. On CPU that window falls out
    of the cache; four small ones are up to three times as fast (``benchmarks/convolution.py``).
    """
    return 4 if jax.default_backend() == "cpu" and batch % 4 == 0 and batch >= 32 else 1


def kernel_gradient(
    cotangent: Float[Array, "B h w O"],
    inputs: Float[Array, "B H W I"],
    window: Window,
    shape: tuple[int, ...],
    parts: int,
) -> Float[Array, "k k I O"]:
    """The gradient of a convolution in its kernel, summed over equal parts of the batch.

    Args:
      cotangent: The gradient in the convolution's output.
      inputs: What was convolved.
      window: How it was convolved.
      shape: The kernel's.
      parts: How many; they divide the batch.

    Returns:
      An array of the kernel's shape.
    """
    pairs = zip(jnp.split(cotangent, parts), jnp.split(inputs, parts), strict=True)
    return functools.reduce(jnp.add, (_correlation(*pair, window, shape) for pair in pairs))


def _correlation(cotangent: Array, inputs: Array, window: Window, shape: tuple) -> Array:
    """Batch and channel axes swapped, with the cotangent as the kernel."""
    padding = []
    for axis in (0, 1):
        low = window.padding[axis][0]
        reach = _dilated(shape[axis], window.kernel_dilation) - 1
        spread = _dilated(cotangent.shape[axis + 1], window.stride)
        extent = _dilated(inputs.shape[axis + 1], window.input_dilation)
        padding.append((low, reach + spread - extent - low))
    correlation = Window(
        stride=window.kernel_dilation,
        padding=(padding[0], padding[1]),
        input_dilation=window.input_dilation,
        kernel_dilation=window.stride,
    )
    gradient = _convolve(
        jnp.transpose(inputs, (3, 1, 2, 0)), jnp.transpose(cotangent, (1, 2, 0, 3)), correlation
    )
    return jnp.transpose(gradient, (1, 2, 0, 3))


def _backward(
    window: Window, residuals: tuple[Array, Array], cotangent: Array
) -> tuple[Array, Array]:
    inputs, kernel = residuals
    return (
        _input_gradient(cotangent, kernel, window, inputs.shape),
        kernel_gradient(cotangent, inputs, window, kernel.shape, _parts(inputs.shape[0])),
    )


_convolve.defvjp(_forward, _backward)


def conv2d(
    inputs: Float[Array, "B H W I"], kernel: Float[Array, "k k I O"], stride: int = 1
) -> Float[Array, "B h w O"]:
    """Convolves with zero padding of ``(k - 1) // 2`` on every side, as PyTorch counts it.

    Args:
      inputs: Images or feature maps, [B, H, W, I].
      kernel: Weights, [k, k, I, O] with odd ``k``.
      stride: Step between windows, the same in both axes.

    Returns:
      Feature maps, [B, h, w, O] with ``h = (H - 1) // stride + 1``. Reverse-mode differentiable
      to any order; forward mode is not available.
    """
    margin = (kernel.shape[0] - 1) // 2
    padding = ((margin, margin), (margin, margin))
    return _convolve(inputs, kernel, Window(stride, padding, 1, 1))


def patch_product(
    inputs: Float[Array, "B H W I"], kernel: Float[Array, "k k I O"], stride: int = 1
) -> Float[Array, "B h w O"]:
    """The same as ``conv2d``, as one matrix product with all windows laid out in memory.

    Takes ``(k / stride) ** 2`` times the memory of the inputs. For few pixels with many channels
    it is faster on CPU: a batch of one, and every derivative, is as good a matrix product.

    Args:
      inputs: As ``conv2d`` takes.
      kernel: The same.
      stride: The same.

    Returns:
      What ``conv2d`` returns, differentiable in any mode to any order.
    """
    size = kernel.shape[0]
    margin = (size - 1) // 2
    padded = jnp.pad(inputs, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    height, width = ((extent - 1) // stride + 1 for extent in inputs.shape[1:3])
    windows = [
        padded[:, row : row + stride * height : stride, column : column + stride * width : stride]
        for row in range(size)
        for column in range(size)
    ]
    patches = jnp.concatenate([w[:, :height, :width] for w in windows], axis=-1)
    product = patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(-1, kernel.shape[-1])
    return product.reshape(len(inputs), height, width, -1)
