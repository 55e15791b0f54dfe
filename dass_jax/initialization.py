"""Initial values of a ResNet: Kaiming-normal convolutions, PyTorch's default dense layer.

All kernels are cut from one draw: a draw for each of them compiles for half a minute.
"""

import math

import jax
import jax.numpy as jnp
from flax import traverse_util
from flax.typing import VariableDict
from jaxtyping import Array, Int, Key

Widths = dict[str, int | Int[Array, ""]]


def draw_variables(
    shapes: VariableDict, key: Key[Array, ""], widths: Widths, fan_in: int | Int[Array, ""]
) -> VariableDict:
    """Draws the variables of a ResNet.

    Args:
      shapes: The variables' shapes, ``jax.ShapeDtypeStruct`` leaves.
      key: Random key.
      widths: Output channels of each module's convolutions, by the module's name: a kernel is
        normal with variance ``2 / (k * k * width)``, the fan-out of the student's own size.
      fan_in: Input features of the dense layer, which is uniform in ``+-1 / sqrt(fan_in)``.

    Returns:
      Variables of these shapes; BN starts as the identity.
    """
    normal_key, uniform_key = jax.random.split(key)
    flat = traverse_util.flatten_dict(shapes)
    convolutions = {path: leaf for path, leaf in flat.items() if len(leaf.shape) == 4}
    total = sum(math.prod(leaf.shape) for leaf in convolutions.values())
    values = jax.random.normal(normal_key, (total,))
    used = 0
    for path, leaf in convolutions.items():
        size = math.prod(leaf.shape)
        scale = jnp.sqrt(2 / (math.prod(leaf.shape[:2]) * jnp.maximum(widths[path[1]], 1)))
        flat[path] = scale * values[used : used + size].reshape(leaf.shape)
        used += size
    kernel, bias = (("params", "dense", leaf) for leaf in ("kernel", "bias"))
    rows, columns = flat[kernel].shape
    uniform = jax.random.uniform(uniform_key, (rows + 1, columns), minval=-1, maxval=1)
    uniform /= jnp.sqrt(jnp.maximum(fan_in, 1))
    flat[kernel], flat[bias] = uniform[:rows], uniform[rows]
    for path, leaf in flat.items():
        if path[-1] in ("scale", "var"):
            flat[path] = jnp.ones(leaf.shape)
        elif path[-1] == "mean" or (path[-1] == "bias" and path != bias):
            flat[path] = jnp.zeros(leaf.shape)
    return traverse_util.unflatten_dict(flat)
