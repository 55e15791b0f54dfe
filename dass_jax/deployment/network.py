"""A student as a function of raw images, at its own size and without masks.

Dimension letters: B images, S their size, N classes.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from dass_jax import resnet
from dass_jax.data.augmentation import normalize
from dass_jax.deployment.student_config import StudentConfig, smallest_space
from dass_jax.resnet import Variables


class Network(NamedTuple):
    """A student that can be run.

    Attributes:
      run: From images, uint8 [B, S, S, 3], to logits, float32 [B, N].
      variables: Its weights; None if they are part of a program.
    """

    run: Callable[[Any], Array]
    variables: Variables | None


def logits(
    strides: tuple[int, ...], variables: Variables, images: UInt8[Array, "B S S 3"]
) -> Float[Array, "B N"]:
    """The logits of a student.

    Args:
      strides: Stride of each stage's first block.
      variables: The student's variables at its own size.
      images: RGB values in 0..255; they are normalised here.

    Returns:
      What the softmax is taken of.
    """
    space = smallest_space(resnet.block_widths(variables), strides)
    # float32 means float32, also where the hardware would round to TF32 or bfloat16 by itself
    with jax.default_matmul_precision("float32"):
        return resnet.apply_dense(space, variables, normalize(images), train=False)[0]


_compiled_logits = jax.jit(logits, static_argnums=0)


def dense_network(strides: tuple[int, ...], variables: Variables) -> Network:
    """A student made of its weights; compiled once for each number of images."""
    variables = jax.tree.map(jnp.asarray, variables)
    return Network(functools.partial(_compiled_logits, strides, variables), variables)


def variable_shapes(config: StudentConfig) -> Variables:
    """Shapes and types of a student's variables, as ``jax.ShapeDtypeStruct`` leaves."""
    module = resnet.ResNet(config.block_widths, config.strides, config.num_classes)
    images = jnp.zeros((1, config.image.size, config.image.size, 3))
    return jax.eval_shape(lambda: module.init(jax.random.key(0), images, None, False))
