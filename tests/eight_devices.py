"""Distils small populations on one and on eight virtual devices; run by test_parallel.py.

Usage: python eight_devices.py OUTPUT.npz, in a process of its own, because the number of devices is
fixed when JAX starts.
"""

import dataclasses
import gc
import pathlib
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from dass_jax import distillation, functional, pace, resnet
from dass_jax.compilations import compilations
from dass_jax.data.augmentation import Augmentation
from dass_jax.distillation import Assignment, DistillConfig
from dass_jax.evaluation import Split, evaluate
from dass_jax.parallel import Devices, Layout
from dass_jax.search_space import ResNetSpace
from dass_jax.seats import take_seats
from dass_jax.snapshots import Snapshots
from dass_jax.training import OnlineTeacher, SGDConfig
from dass_jax.untrained import Untrained

SPACE = ResNetSpace((8,), 2, strides=(2,))
CLASSES = 3
# three steps each: rounding has no time to grow
CONFIG = DistillConfig(sgd=SGDConfig(epochs=2, batch_size=16), teacher_logits="online", num_views=1)
RUNS = {
    # name: (networks, networks per step, devices)
    "jit/11": (11, 1, Devices(8, spread_images=True)),
    "pmap/11": (11, 1, Devices(8, "pmap", spread_images=True)),
    "jit/3": (3, 1, Devices(8, spread_images=True)),
    "pmap/3": (3, 1, Devices(8, "pmap", spread_images=True)),
    "one/11": (11, 1, Devices(1)),
    "one/vmap/3": (3, 2, Devices(1)),
    "one/vmap/4": (4, 2, Devices(1)),
}
STOPPED = "jit/11"


class Stopped(Exception):
    """Stands for the process's death."""


class Observer:
    """What is seen of a run after each of its two epochs."""

    def __init__(self, networks, *, stop=False):
        self.networks, self.stop, self.seen = networks, stop, {}

    def __call__(self, report):
        if self.stop:
            raise Stopped
        if report.epoch == 1:
            self.compiled, self.states = compilations().number, report.progress.states
            self.seen["unshared"] = self.unshared()
        else:
            self.seen["compiled again"] = compilations().number - self.compiled
            self.seen["donated"] = all(leaf.is_deleted() for leaf in jax.tree.leaves(self.states))

    def unshared(self):
        """How many arrays of all networks, two for each device or not, lie on one device."""
        gc.collect()
        kernels = [leaf for leaf in jax.live_arrays() if leaf.ndim == 5]
        return sum(
            len(leaf) in (self.networks, 16) and len(leaf.devices()) == 1 for leaf in kernels
        )


def assignment() -> Assignment:
    """48 random images to train with, which make three batches."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (75, 8, 8, 3), dtype=np.uint8))
    labels = jnp.asarray(rng.integers(0, CLASSES, 75), jnp.int32)
    train, valid = Split(images[:48], labels[:48]), Split(images[48:], labels[48:])
    teacher = resnet.init(SPACE, jax.random.key(0), CLASSES)
    return Assignment("task", 0, teacher, train, valid, valid, lambda view: OnlineTeacher(teacher))


def distil(size, k, devices, observer, snapshots=None):
    """One run; its result and what was seen, as arrays."""
    students = jax.vmap(SPACE.sample)(jax.random.split(jax.random.key(5), 11))
    students = jax.tree.map(lambda leaf: leaf[:size], students)
    config = dataclasses.replace(CONFIG, networks_per_step=k)
    result = distillation.distil_population(
        SPACE, config, Augmentation(), assignment(), students, np.arange(size, dtype=np.int32),
        snapshots=snapshots, on_epoch=observer, devices=devices,
    )  # fmt: skip
    named = {name: getattr(result, name) for name in ("loss", "initial", "final")}
    for path, leaf in jax.tree_util.tree_leaves_with_path(result.variables):
        named[jax.tree_util.keystr(path)] = leaf
    return named | observer.seen


def stopped_and_resumed(size, k, devices):
    """As ``distil``, by two runs; what the second one saw does not tell the epochs apart."""
    with tempfile.TemporaryDirectory() as folder:

        def run(*, stop):
            snapshots = Snapshots(pathlib.Path(folder), "students", {}, every_seconds=0.0)
            return distil(size, k, devices, Observer(size, stop=stop), snapshots)

        try:
            run(stop=True)
        except Stopped:
            return run(stop=False)
        raise AssertionError("it was not stopped")


def untrained_maps(kind, devices):
    """What eleven untrained students make of noise, four of them to a call."""
    teacher = resnet.init(SPACE, jax.random.key(0), CLASSES)
    students = jax.vmap(SPACE.sample)(jax.random.split(jax.random.key(5), 11))
    ids = np.arange(11, dtype=np.int32)
    untrained = Untrained(SPACE, teacher, students, ids, jax.random.key(1), kind, devices)
    return {"maps": functional.noise_maps(untrained, functional.noise_image(8), batch_size=4)}


def evaluated(layout):
    """Accuracies of three networks over 27 images, two on each device, batch after batch."""
    students = jax.vmap(SPACE.sample)(jax.random.split(jax.random.key(5), 3))
    keys = jax.random.split(jax.random.key(6), 3)
    variables = jax.vmap(lambda key: resnet.init(SPACE, key, CLASSES))(keys)
    seats = take_seats(np.asarray(students.depths).sum(-1), layout, 1)
    placed, images = seats.spread((variables, students)), assignment().valid
    calls = []
    found = evaluate(
        SPACE, *placed, images, layout=layout, batch_size=2, on_call=lambda: calls.append(None)
    )
    return {"accuracy": seats.gather(found), "calls": len(calls)}


def main(output: str) -> None:
    """Writes the result of every run."""
    runs = {name: distil(*run, Observer(run[0])) for name, run in RUNS.items()}
    runs["resumed"] = stopped_and_resumed(*RUNS[STOPPED])
    for kind in ("copy_paste_first", "copy_paste_last"):
        for count in (1, 3):
            runs[f"{kind}/{count}"] = untrained_maps(kind, Devices(count))
    pace.SECONDS_PER_CALL = 0.0
    for spread in ("networks", "images"):
        for transform in ("jit", "pmap"):
            layout = Layout(tuple(jax.devices()), spread, transform)
            runs[f"evaluated/{spread}/{transform}"] = evaluated(layout)
    runs["evaluated/one"] = evaluated(Layout((jax.devices()[0],)))
    arrays = {
        f"{name}:{key}": np.asarray(value)
        for name, named in runs.items()
        for key, value in named.items()
    }
    np.savez(output, devices=len(jax.devices()), **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
