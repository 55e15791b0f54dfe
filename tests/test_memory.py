"""The prediction of memory agrees with XLA's own account of a compiled step."""

import jax
import jax.numpy as jnp
import pytest

from dass_jax import memory, parallel, resnet, training
from dass_jax.data.augmentation import Augmentation
from dass_jax.distillation import KDLoss
from dass_jax.evaluation import Split
from dass_jax.search_space import ResNetSpace, stack

SPACE = ResNetSpace((8, 16), 2, strides=(1, 2))
LAYOUT = parallel.Layout((jax.devices()[0],))
SIZES = {
    "space": SPACE,
    "layout": LAYOUT,
    "population": 4,
    "batch_size": 32,
    "image_size": 16,
    "num_classes": 5,
    "num_images": 64,
}


@pytest.mark.parametrize("k", [1, 4])
def test_prediction_agrees_with_the_compiler(k):
    plan = training.Plan(SPACE, training.SGDConfig(1, 32), KDLoss(), Augmentation(), 9, LAYOUT, k)
    one = resnet.variable_shapes(SPACE, 5)
    variables = jax.tree.map(lambda leaf: jnp.zeros((4, *leaf.shape), leaf.dtype), one)
    data = Split(jnp.zeros((64, 16, 16, 3), jnp.uint8), jnp.zeros(64, jnp.int32))
    teacher = training.CachedTeacher(jnp.zeros((64, 5), jnp.float32))
    order = jnp.zeros((2, 32), jnp.int32)
    batches = training.Batches(data, teacher, order, jax.random.key(0), jnp.int32(0))
    run = parallel.compiled(training._train_steps, (plan,), LAYOUT)
    compiled = run.lower(
        (training.init_states(plan, variables), jnp.zeros(4)),
        stack([SPACE.full()] * 4),
        (batches, jnp.int32(0), jnp.int32(1)),
    ).compile()
    account = compiled.memory_analysis()
    counted = account.temp_size_in_bytes + account.argument_size_in_bytes
    predicted = memory.predict_memory(networks_per_step=k, **SIZES).total
    assert 0.8 * counted < predicted < 1.4 * counted


def test_the_largest_k_that_fits():
    def predict(k):
        return memory.predict_memory(networks_per_step=k, **SIZES)

    needed = {k: predict(k).total for k in (1, 2, 4)}
    assert needed[1] < needed[2] < needed[4]
    limit = (needed[2] + needed[4]) / 2 / memory._USABLE
    assert memory.fitting_networks_per_step(predict, int(limit), 4) == 2
    assert memory.fitting_networks_per_step(predict, 1000, 4) == 1
    assert memory.fitting_networks_per_step(predict, 10**12, 4) == 4


def test_networks_that_fill_up_groups_are_counted():
    # two groups of three
    three, four = (memory.predict_memory(networks_per_step=k, **SIZES) for k in (3, 4))
    assert three.states * 4 == four.states * 6


@pytest.mark.parametrize(
    ("population", "devices", "fitting", "requested", "k"),
    [
        # two groups of five rather than one of eight and two
        (10, 1, 8, None, 5),
        (10, 1, 10, None, 10),
        (10, 1, 4, None, 4),
        (10, 2, 4, None, 3),
        (1, 1, 8, None, 1),
        # what is asked for is not balanced, but no device trains copies alone
        (10, 1, 8, 4, 4),
        (1, 1, 8, 8, 1),
        (10, 2, 8, 8, 5),
    ],
)
def test_how_many_networks_an_accelerator_vmaps(
    monkeypatch, population, devices, fitting, requested, k
):
    def arrange(requested):
        return memory.arrange(
            SPACE, parallel.Devices(), population, networks_per_step=requested, batch_size=32,
            image_size=16, num_classes=5, num_images=64,
        )  # fmt: skip

    monkeypatch.setattr(jax, "local_devices", lambda: [jax.devices()[0]] * devices)
    enough = arrange(fitting).memory.total / memory._USABLE
    monkeypatch.setattr(memory, "device_bytes", lambda layout: int(enough) + 1)
    arrangement = arrange(requested)
    assert arrangement.networks_per_step == k
    assert arrangement.memory == memory.predict_memory(
        **SIZES | {"population": population, "layout": arrangement.layout}, networks_per_step=k
    )


def test_a_cpu_takes_networks_one_by_one():
    sizes = {"batch_size": 32, "image_size": 16, "num_classes": 5, "num_images": 64}
    devices = parallel.Devices(1)
    arranged = memory.arrange(SPACE, devices, 4, networks_per_step=None, **sizes)
    assert arranged.networks_per_step == 1


def test_devices_share_networks_or_images():
    eight = (jax.devices()[0],) * 8
    sizes = SIZES | {"population": 8, "networks_per_step": 1}
    networks = memory.predict_memory(**sizes | {"layout": parallel.Layout(eight)})
    images = memory.predict_memory(**sizes | {"layout": parallel.Layout(eight, "images")})
    alone = memory.predict_memory(**sizes)
    assert networks.states * 8 == images.states == alone.states
    assert images.activations == pytest.approx(alone.activations / 8, abs=1)
    assert networks.activations == alone.activations
