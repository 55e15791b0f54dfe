"""A student's weights as files: an orbax checkpoint, and one safetensors file.

In the safetensors file a weight has the name of its path, ``params.stem_conv.kernel``; convolution
kernels are HWIO, dense kernels (in, out).
"""

import hashlib
import pathlib

import jax
import numpy as np
import safetensors
import safetensors.numpy

from dass_jax import checkpoints
from dass_jax.deployment.network import Network, dense_network, variable_shapes
from dass_jax.deployment.student_config import StudentConfig
from dass_jax.errors import UserError
from dass_jax.resnet import Variables
from dass_jax.workdir import write_atomically


def _names(variables: Variables) -> Variables:
    """The name of each weight, in its place."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jax.tree_util.keystr(path, simple=True, separator="."), variables
    )


def named(variables: Variables) -> dict[str, np.ndarray]:
    """All weights by name, in alphabetical order, on the host."""
    names, leaves = jax.tree.leaves(_names(variables)), jax.tree.leaves(variables)
    return {
        name: np.ascontiguousarray(leaf) for name, leaf in sorted(zip(names, leaves, strict=True))
    }


def digest(variables: Variables) -> str:
    """SHA-256 of all weights with their names, shapes and types: what makes a student this one."""
    result = hashlib.sha256()
    for name, array in named(variables).items():
        result.update(f"{name} {array.dtype} {array.shape}\n".encode())
        result.update(array.tobytes())
    return result.hexdigest()


def write_checkpoint(path: pathlib.Path, config: StudentConfig, variables: Variables) -> None:
    """Writes the weights as an orbax checkpoint."""
    metadata = {"task": config.task, "weights_digest": config.weights_digest}
    checkpoints.save(path, 0, variables, metadata)


def read_checkpoint(path: pathlib.Path, config: StudentConfig) -> Network:
    """Reads what ``write_checkpoint`` wrote.

    Raises:
      UserError: If it is damaged or holds another network.
    """
    variables, _ = checkpoints.restore(path, variable_shapes(config))
    return dense_network(config.strides, variables)


def write_safetensors(path: pathlib.Path, config: StudentConfig, variables: Variables) -> None:
    """Writes the weights as a safetensors file."""
    del config
    write_atomically(path, safetensors.numpy.save(named(variables)))


def read_safetensors(path: pathlib.Path, config: StudentConfig) -> Network:
    """Reads what ``write_safetensors`` wrote.

    Raises:
      UserError: If it is damaged or holds another network.
    """
    try:
        arrays = safetensors.numpy.load(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise UserError(f"{path} is damaged: export the student again") from error
    shapes = variable_shapes(config)
    expected = dict(zip(jax.tree.leaves(_names(shapes)), jax.tree.leaves(shapes), strict=True))
    for name in sorted(arrays.keys() | expected.keys()):
        found, wanted = (
            (leaf.shape, leaf.dtype) if leaf is not None else "missing"
            for leaf in (arrays.get(name), expected.get(name))
        )
        if found != wanted:
            raise UserError(
                f"{path} does not fit its config.json: {name} is {found} there, {wanted} here"
            )
    variables = jax.tree.map(arrays.__getitem__, _names(shapes))
    return dense_network(config.strides, variables)
