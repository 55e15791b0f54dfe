"""How long a student takes on the present device, measured.

What is timed is the student at its own size, as it would be delivered: no masks, no absent blocks.
"""

import contextlib
import dataclasses
import functools
import math
import os
import pathlib
import platform
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from dass_jax import resnet
from dass_jax.errors import UserError
from dass_jax.search_space import Architecture, ResNetSpace


class Latency(NamedTuple):
    """How long one batch takes.

    Attributes:
      seconds: Median of the repeats.
      spread: Their interquartile range, in seconds; that of a busy machine is large.
      repeats: How many.
    """

    seconds: float
    spread: float
    repeats: int

    def __str__(self) -> str:
        """For progress bars and reports."""
        return f"{1e3 * self.seconds:.2f} ms ± {1e3 * self.spread / 2:.2f}"


@dataclasses.dataclass(frozen=True)
class CompiledStudent:
    """A student at its own size, compiled for one batch size; a call waits for the logits.

    Attributes:
      run: ``run(variables, images)`` returns logits, maybe before they are computed.
      variables: Its variables, on the device.
      images: A batch of noise, on the device.
    """

    run: jax.stages.Compiled
    variables: resnet.Variables
    images: Float[Array, "B H W 3"]

    def __call__(self) -> Float[Array, "B N"]:
        """Evaluates the batch."""
        return self.run(self.variables, self.images).block_until_ready()


def _cpu_model() -> str:
    """The CPU's name, if the system tells it; else that of its architecture."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def device_name() -> str:
    """The kind of the present device; of CPUs, their name and how many cores."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        return str(device.device_kind)
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return f"{_cpu_model()} ({platform.machine()} CPU, {cores} cores)"


@functools.cache
def random_variables(space: ResNetSpace, num_classes: int) -> resnet.Variables:
    """Variables of the teacher's shape on the host, where neither drawing nor cutting compiles.

    What a convolution takes does not depend on its values, as long as none of them is subnormal or
    overflows; but all zeros would draw less power, which lets a GPU run faster.
    """
    rng = np.random.default_rng(0)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1].key == "kernel":
            values = rng.standard_normal(leaf.shape) / math.sqrt(math.prod(leaf.shape[:-1]))
        else:
            values = rng.uniform(0.5, 1.5, leaf.shape)
        return values.astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, resnet.variable_shapes(space, num_classes))


@functools.partial(jax.jit, static_argnums=0)
def _logits(
    space: ResNetSpace, variables: resnet.Variables, images: Float[Array, "B H W 3"]
) -> Float[Array, "B N"]:
    return resnet.apply_dense(space, variables, images, train=False)[0]


def compile_student(
    space: ResNetSpace,
    architecture: Architecture,
    *,
    image_size: int,
    num_classes: int,
    batch_size: int,
) -> CompiledStudent:
    """Compiles a student's evaluation on a batch, ahead of time.

    Args:
      space: The search space.
      architecture: The student, without batch axes; ``space.full()`` is the teacher.
      image_size: Height and width of the images in pixels.
      num_classes: Outputs of the dense layer.
      batch_size: Images of a batch.

    Returns:
      The compiled network, with random weights and images.

    Raises:
      UserError: If the images do not fit the network, or there are none.
    """
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}: give 1 or more")
    cut = resnet.cut(space, random_variables(space, num_classes), architecture)
    noise = np.random.default_rng(0).standard_normal((batch_size, image_size, image_size, 3))
    variables, images = jax.device_put((cut, noise.astype(np.float32)))
    return CompiledStudent(_logits.lower(space, variables, images).compile(), variables, images)


def time_calls(call: Callable[[], Any], *, repeats: int, min_seconds: float) -> Latency:
    """Times a call again and again, after one that does not count.

    Args:
      call: Returns when its work is done.
      repeats: How often at least.
      min_seconds: How long at least, in total; on a machine with other work, short calls need many
        repeats to outlast its bursts.

    Returns:
      The median and the spread.
    """
    # it finds caches cold and memory to be allocated
    call()
    seconds: list[float] = []
    total = 0.0
    while len(seconds) < repeats or total < min_seconds:
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
        total += seconds[-1]
    low, median, high = np.percentile(seconds, [25, 50, 75])
    return Latency(float(median), float(high - low), len(seconds))


def latency_meter(
    space: ResNetSpace,
    architecture: Architecture,
    *,
    image_size: int,
    num_classes: int,
    batch_size: int,
    repeats: int = 7,
    min_seconds: float = 1.0,
) -> Callable[[], Latency]:
    """Compiles a student, to be measured more than once on the present device.

    Images and weights lie on the device; what is timed lasts from the call until the logits are
    there.

    Args:
      space: The search space.
      architecture: The student, without batch axes; ``space.full()`` is the teacher.
      image_size: Height and width of the images in pixels.
      num_classes: Outputs of the dense layer.
      batch_size: Images of a batch.
      repeats: How often at least a measurement times the batch.
      min_seconds: How long at least, in total.

    Returns:
      A function that measures the seconds for a batch.

    Raises:
      UserError: If the images do not fit the network, or there are none.
    """
    student = compile_student(
        space, architecture, image_size=image_size, num_classes=num_classes, batch_size=batch_size
    )
    return functools.partial(time_calls, student, repeats=repeats, min_seconds=min_seconds)


def measure_latency(space: ResNetSpace, architecture: Architecture, **how: Any) -> Latency:
    """Measures once how long a student takes for a batch; arguments as for ``latency_meter``."""
    return latency_meter(space, architecture, **how)()
