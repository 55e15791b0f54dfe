"""A student as one program with its weights inside: StableHLO and ONNX.

Both take raw images, so that no normalisation can be forgotten, in batches of any size.
"""

import contextlib
import functools
import importlib
import logging
import pathlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dass_jax.deployment.network import Network, logits
from dass_jax.deployment.student_config import StudentConfig
from dass_jax.errors import UserError
from dass_jax.resnet import Variables
from dass_jax.workdir import write_atomically

# what a StableHLO file can be run on
PLATFORMS = ("cpu", "cuda", "tpu")
# known to runtimes for years; earlier ones take the axes of a mean in another way
_ONNX_OPSET = 18
_CONVERTER_LOGGERS = ("jax2onnx", "onnx_ir")


def _student(config: StudentConfig, variables: Variables) -> Callable[[Array], Array]:
    """The student as a function of images alone."""
    return functools.partial(logits, config.strides, jax.tree.map(jnp.asarray, variables))


def _images(config: StudentConfig) -> jax.ShapeDtypeStruct:
    """Any number of images."""
    (batch,) = jax.export.symbolic_shape("batch")
    return jax.ShapeDtypeStruct((batch, config.image.size, config.image.size, 3), jnp.uint8)


def write_stablehlo(path: pathlib.Path, config: StudentConfig, variables: Variables) -> None:
    """Writes a program for ``jax.export.deserialize``, for CPU, CUDA and TPU."""
    student = jax.jit(_student(config, variables))
    exported = jax.export.export(student, platforms=PLATFORMS)(_images(config))
    write_atomically(path, bytes(exported.serialize()))


def read_stablehlo(path: pathlib.Path, config: StudentConfig) -> Network:
    """Reads what ``write_stablehlo`` wrote.

    Raises:
      UserError: If this version of JAX cannot read it.
    """
    del config
    try:
        exported = jax.export.deserialize(bytearray(path.read_bytes()))
    except ValueError as error:
        raise UserError(
            f"jax {jax.__version__} cannot read {path}: export the student again"
        ) from error
    return Network(jax.jit(exported.call), None)


def _require(module: str) -> ModuleType:
    """A package of the extra ``onnx``."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"ONNX needs the package {module}: pip install -e '.[onnx]' in the checkout"
        ) from error


@contextlib.contextmanager
def _quiet_converter() -> Iterator[None]:
    """The converter warns of its own plugins for networks of other kinds."""
    loggers = [logging.getLogger(name) for name in _CONVERTER_LOGGERS]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def write_onnx(path: pathlib.Path, config: StudentConfig, variables: Variables) -> None:
    """Writes an ONNX model with the input ``images`` and the output ``logits``.

    Raises:
      UserError: If no converter is installed.
    """
    with _quiet_converter():
        model = _require("jax2onnx").to_onnx(
            _student(config, variables),
            [_images(config)],
            model_name="student",
            opset=_ONNX_OPSET,
            input_names=["images"],
            output_names=["logits"],
        )
    write_atomically(path, model.SerializeToString())


def read_onnx(path: pathlib.Path, config: StudentConfig) -> Network:
    """Reads what ``write_onnx`` wrote; it runs on the CPU, under onnxruntime.

    Raises:
      UserError: If onnxruntime is not installed.
    """
    del config
    runtime = _require("onnxruntime")
    session = runtime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

    def run(images: Any) -> Array:
        return jnp.asarray(session.run(["logits"], {"images": np.asarray(images)})[0])

    return Network(run, None)
