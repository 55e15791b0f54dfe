"""Meta-trains on one and on eight virtual devices; run by test_meta_parallel.py.

Usage: python eight_devices_meta.py OUTPUT.npz, in a process of its own, because the number of
devices is fixed when JAX starts.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from dass_jax import meta_training
from dass_jax.meta_learning import MetaConfig
from dass_jax.meta_tasks import TaskBatch
from dass_jax.parallel import Devices
from dass_jax.predictor.inputs import StudentInputs
from dass_jax.predictor.model import AccuracyPredictor, PredictorConfig

PREDICTOR = AccuracyPredictor(
    PredictorConfig("SA", "flat", hidden_channels=2, embedding_channels=3, head_features=4)
)
EIGHT = {name: Devices(8, name, spread_images=True) for name in ("jit", "pmap")}
# name: (members, tasks, devices); Adam would hide gradients that are a multiple of the right ones
RUNS = {
    f"{name}/{members}/{tasks}": (members, tasks, devices)
    for name, devices in (("one", Devices(1)), *EIGHT.items())
    for members, tasks in ((1, 6), (9, 3))
}


def random_tasks(count: int) -> TaskBatch:
    """Tasks of five students."""
    rng = np.random.default_rng(0)

    def described(*axes: int) -> StudentInputs:
        return StudentInputs(
            noise_map=jnp.asarray(rng.normal(size=(*axes, 4, 4, 2)), jnp.float32),
            encoding=jnp.asarray(rng.integers(0, 2, (*axes, 5)), jnp.float32),
        )

    return TaskBatch(
        students=described(count, 5),
        accuracies=jnp.asarray(rng.uniform(size=(count, 5)), jnp.float32),
        valid=jnp.ones((count, 5), bool),
        teacher=described(count),
        teacher_accuracy=jnp.asarray(rng.uniform(0.3, 1, size=count), jnp.float32),
        chance=jnp.full(count, 0.1),
    )


def main(output: str) -> None:
    """Writes the result of every run."""
    arrays = {"devices": np.asarray(jax.device_count())}
    for name, (members, count, devices) in RUNS.items():
        config = MetaConfig(queries=3, optimizer="sgd", learning_rate=0.1, ensemble=members)
        tasks = random_tasks(count)
        states = meta_training.init_states(PREDICTOR, tasks, config)
        states, losses = meta_training.run_episodes(PREDICTOR, states, tasks, config, 3, devices)
        arrays[f"{name}:losses"] = losses
        for number, leaf in enumerate(jax.tree.leaves(states.learned)):
            arrays[f"{name}:{number}"] = leaf
    np.savez(output, **{name: np.asarray(array) for name, array in arrays.items()})


if __name__ == "__main__":
    main(sys.argv[1])
