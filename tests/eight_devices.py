"""Distils small populations on one and on eight virtual devices; run by test_parallel.py.

Usage: python eight_devices.py OUTPUT.npz, in a process of its own, because the number of devices is
fixed when JAX starts.
"""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np

from dass_jax import distillation, resnet
from dass_jax.data.augmentation import Augmentation
from dass_jax.distillation import Assignment, DistillConfig
from dass_jax.evaluation import Split
from dass_jax.parallel import Devices
from dass_jax.search_space import ResNetSpace
from dass_jax.training import OnlineTeacher, SGDConfig

SPACE = ResNetSpace((8,), 2, strides=(2,))
CLASSES = 3
# five steps: rounding has no time to grow
CONFIG = DistillConfig(sgd=SGDConfig(epochs=1, batch_size=16), teacher_logits="online", num_views=1)
RUNS = {
    # name: (networks, networks per step, devices)
    "one/11": (11, 1, Devices(1)),
    "jit/11": (11, 1, Devices(8, spread_images=True)),
    "pmap/11": (11, 1, Devices(8, "pmap", spread_images=True)),
    "one/3": (3, 1, Devices(1)),
    "jit/3": (3, 1, Devices(8, spread_images=True)),
    "pmap/3": (3, 1, Devices(8, "pmap", spread_images=True)),
    "one/vmap/3": (3, 2, Devices(1)),
    "one/vmap/4": (4, 2, Devices(1)),
}


def assignment() -> Assignment:
    """80 random images, as many to train as make five batches."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (107, 8, 8, 3), dtype=np.uint8))
    labels = jnp.asarray(rng.integers(0, CLASSES, 107), jnp.int32)
    train, valid = Split(images[:80], labels[:80]), Split(images[80:], labels[80:])
    teacher = resnet.init(SPACE, jax.random.key(0), CLASSES)
    return Assignment("task", 0, teacher, train, valid, valid, lambda view: OnlineTeacher(teacher))


def main(output: str) -> None:
    """Writes the result of every run."""
    arrays = {}
    for name, (size, k, devices) in RUNS.items():
        students = jax.vmap(SPACE.sample)(jax.random.split(jax.random.key(5), 11))
        students = jax.tree.map(lambda leaf, size=size: leaf[:size], students)
        config = dataclasses.replace(CONFIG, networks_per_step=k)
        result = distillation.distil_population(
            SPACE, config, Augmentation(), assignment(), students, np.arange(size, dtype=np.int32),
            devices=devices,
        )  # fmt: skip
        named = {"loss": result.loss, "initial": result.initial, "final": result.final}
        for path, leaf in jax.tree_util.tree_leaves_with_path(result.variables):
            named[jax.tree_util.keystr(path)] = leaf
        arrays |= {f"{name}:{key}": np.asarray(value) for key, value in named.items()}
    arrays["devices"] = np.asarray(len(jax.devices()))
    np.savez(output, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
