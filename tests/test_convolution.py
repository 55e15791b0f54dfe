"""Convolutions equal XLA's own, in value and in first and second derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax.convolution import conv2d, patch_product


def reference(inputs, kernel, stride):
    margin = (kernel.shape[0] - 1) // 2
    return jax.lax.conv_general_dilated(
        inputs,
        kernel,
        (stride, stride),
        ((margin, margin),) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


# from 32 images on, a kernel's gradient is summed over parts of the batch;
# maps of 2 and, in gradients of stride 2, of 4 pixels are laid out before they are convolved
BATCHES = (2, 32)


def arrays(size, channels=(3, 5), kernel=3, batch=2):
    keys = jax.random.split(jax.random.key(0), 2)
    inputs = jax.random.normal(keys[0], (batch, size, size, channels[0]))
    return inputs, jax.random.normal(keys[1], (kernel, kernel, *channels))


@functools.partial(jax.jit, static_argnums=(0, 1))
def value_and_gradients(convolve, stride, operands):
    """The outputs, and both gradients for a random cotangent."""
    out, vjp = jax.vjp(lambda x, k: convolve(x, k, stride), *operands)
    return out, vjp(jax.random.normal(jax.random.key(1), out.shape))


def assert_close(found, expected, tolerance):
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [2, 4, 7, 8])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("batch", BATCHES)
def test_values_and_gradients_equal_xla(size, stride, kernel, batch):
    operands = arrays(size, kernel=kernel, batch=batch)
    found, expected = (value_and_gradients(f, stride, operands) for f in (conv2d, reference))
    assert_close(found, expected, 1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("size", "kernel"), [(2, 3), (7, 3), (8, 3), (4, 5), (3, 1)])
def test_products_of_patches_equal_xla(size, stride, kernel):
    operands = arrays(size, kernel=kernel)
    found, expected = (value_and_gradients(f, stride, operands) for f in (patch_product, reference))
    assert_close(found, expected, 1e-4)


@functools.partial(jax.jit, static_argnums=(0, 1))
def gradient_of_gradient_norm(convolve, stride, operands):
    def loss(x, k):
        return jnp.sum(jnp.tanh(convolve(x, k, stride)))

    def norm(x, k):
        return sum(jnp.sum(g**2) for g in jax.grad(loss, argnums=(0, 1))(x, k))

    return jax.grad(norm, argnums=(0, 1))(*operands)


@pytest.mark.parametrize(("stride", "batch"), [(1, 32), (2, 2), (2, 32)])
def test_second_derivatives_equal_xla(stride, batch):
    operands = arrays(4, batch=batch)
    found, expected = (gradient_of_gradient_norm(f, stride, operands) for f in (conv2d, reference))
    assert_close(found, expected, 1e-3)


def test_vmap_over_kernels_equals_a_loop():
    inputs, kernel = arrays(8)
    kernels = jnp.stack([kernel, 2 * kernel, kernel - 1])
    together = jax.vmap(lambda k: conv2d(inputs, k, 2))(kernels)
    for out, k in zip(together, kernels, strict=True):
        np.testing.assert_allclose(out, conv2d(inputs, k, 2), rtol=1e-5, atol=1e-5)


def test_no_gradient_permutes_dimension_numbers():
    # The CPU backend's slow path is taken exactly when a convolution does not read NHWC x HWIO.
    inputs, kernel = arrays(8)
    gradient = jax.make_jaxpr(jax.grad(lambda x, k: conv2d(x, k, 2).sum(), argnums=(0, 1)))
    specs = str(gradient(inputs, kernel)).split("dimension_numbers=")[1:]
    assert len(specs) >= 2
    plain = "ConvDimensionNumbers(lhs_spec=(0, 3, 1, 2), rhs_spec=(3, 2, 0, 1), "
    assert all(spec.startswith(plain) for spec in specs)
