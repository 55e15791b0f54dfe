#!/usr/bin/env python3
"""Milliseconds of a 3x3 kernel's gradient inside a compiled loop, in three forms.

Command:  taskset -c 0 python benchmarks/convolution.py
Hardware: any; a minute. One core, since students are spread over cores.

The forms: what JAX derives, the project's gradient over the whole batch, and over four parts of
it. Medians over interleaved rounds, for the second convolution of a block in each stage of a
teacher with 16 to 128 channels on 32x32 images.
"""

import statistics
import time

import jax
import jax.numpy as jnp
from absl import app, flags
from jaxtyping import Array, Float

from dass_jax.console import print_table
from dass_jax.convolution import Window, kernel_gradient

_BATCH = flags.DEFINE_integer("batch", 64, "Images.")
_ROUNDS = flags.DEFINE_integer("rounds", 9, "Rounds.")

# spatial size and channels of each stage
STAGES = ((32, 16), (16, 32), (8, 64), (4, 128))
LOOP = 3
WINDOW = Window(stride=1, padding=((1, 1), (1, 1)), input_dilation=1, kernel_dilation=1)
FORMS = {"derived by JAX": 0, "whole batch": 1, "four parts": 4}


def gradient(
    cotangent: Float[Array, "B H W C"], inputs: Float[Array, "B H W C"], parts: int
) -> Float[Array, "3 3 C C"]:
    """The kernel's gradient; JAX's own if there are no parts."""
    channels = inputs.shape[-1]
    if parts:
        return kernel_gradient(cotangent, inputs, WINDOW, (3, 3, channels, channels), parts)

    def convolve(kernel: Array) -> Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            inputs, kernel, (1, 1), WINDOW.padding, dimension_numbers=numbers
        )

    return jax.vjp(convolve, jnp.zeros((3, 3, channels, channels)))[1](cotangent)[0]


@jax.jit(static_argnames="parts")
def loop(cotangent: Array, inputs: Array, parts: int) -> Array:
    """The gradient again and again, of images that differ from one time to the next."""

    def step(total: Array, number: Array) -> tuple[Array, None]:
        return total + gradient(cotangent * number, inputs, parts), None

    channels = inputs.shape[-1]
    return jax.lax.scan(step, jnp.zeros((3, 3, channels, channels)), jnp.arange(1.0, LOOP + 1))[0]


def milliseconds(cotangent: Array, inputs: Array, parts: int) -> float:
    """Of one gradient."""
    begin = time.perf_counter()
    loop(cotangent, inputs, parts).block_until_ready()
    return 1e3 * (time.perf_counter() - begin) / LOOP


def main(arguments: list[str]) -> None:
    """Measures all forms in turn, round after round."""
    rows = []
    for size, channels in STAGES:
        shape = (_BATCH.value, size, size, channels)
        inputs = jax.random.normal(jax.random.key(0), shape)
        cotangent = jax.random.normal(jax.random.key(1), shape)
        for parts in FORMS.values():
            milliseconds(cotangent, inputs, parts)
        rounds = [
            [milliseconds(cotangent, inputs, parts) for parts in FORMS.values()]
            for _ in range(_ROUNDS.value)
        ]
        medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
        rows.append([f"{size}x{size}", channels, *(f"{median:.2f}" for median in medians)])
    print_table("Milliseconds of a kernel's gradient", ["maps", "channels", *FORMS], rows)


if __name__ == "__main__":
    app.run(main)
