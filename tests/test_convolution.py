"""The convolution equals XLA's own, in value and in first and second derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax.convolution import conv2d


def reference(inputs, kernel, stride):
    margin = (kernel.shape[0] - 1) // 2
    return jax.lax.conv_general_dilated(
        inputs,
        kernel,
        (stride, stride),
        ((margin, margin),) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


# from 32 images on, a kernel's gradient is summed over parts of the batch
BATCHES = (2, 32)


def arrays(size, channels=(3, 5), kernel=3, batch=2):
    keys = jax.random.split(jax.random.key(0), 2)
    inputs = jax.random.normal(keys[0], (batch, size, size, channels[0]))
    return inputs, jax.random.normal(keys[1], (kernel, kernel, *channels))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [2, 4, 7, 8])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("batch", BATCHES)
def test_values_and_gradients_equal_xla(size, stride, kernel, batch):
    operands = arrays(size, kernel=kernel, batch=batch)
    out, vjp = jax.vjp(lambda x, k: conv2d(x, k, stride), *operands)
    expected, expected_vjp = jax.vjp(lambda x, k: reference(x, k, stride), *operands)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    cotangent = jax.random.normal(jax.random.key(1), out.shape)
    for ours, theirs in zip(vjp(cotangent), expected_vjp(cotangent), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("stride", "batch"), [(1, 32), (2, 2), (2, 32)])
def test_second_derivatives_equal_xla(stride, batch):
    inputs, kernel = arrays(4, batch=batch)

    def gradient_norm(convolve):
        def loss(x, k):
            return jnp.sum(jnp.tanh(convolve(x, k, stride)))

        def norm(x, k):
            return sum(jnp.sum(g**2) for g in jax.grad(loss, argnums=(0, 1))(x, k))

        return jax.grad(norm, argnums=(0, 1))(inputs, kernel)

    for ours, theirs in zip(gradient_norm(conv2d), gradient_norm(reference), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


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
