"""Eight devices give the numbers of one, under jit and under pmap, however the work is spread."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from dass_jax.errors import UserError
from dass_jax.parallel import Devices, Layout, balanced_order, choose_layout, padded_size


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    output = tmp_path_factory.mktemp("parallel") / "results.npz"
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    # as many threads as can wait for each other, and as many again that compute
    environment = os.environ | {"XLA_FLAGS": flags, "NPROC": "16"}
    script = pathlib.Path(__file__).with_name("eight_devices.py")
    subprocess.run([sys.executable, str(script), str(output)], check=True, env=environment)
    with np.load(output) as arrays:
        assert arrays["devices"] == 8
        runs = {}
        for key in arrays.files:
            name, _, field = key.partition(":")
            runs.setdefault(name, {})[field] = arrays[key]
    return runs


@pytest.mark.parametrize("transform", ["jit", "pmap"])
def test_spread_networks_are_those_of_one_device(results, transform):
    """Eleven networks on eight devices: padded, each device has two, with nothing in common."""
    ours, one = results[f"{transform}/11"], results["one/11"]
    for field, expected in one.items():
        np.testing.assert_allclose(ours[field], expected, rtol=1e-5, atol=1e-6, err_msg=field)


@pytest.mark.parametrize("transform", ["jit", "pmap"])
def test_spread_images_are_those_of_one_device(results, transform):
    """Three networks on eight devices: two images each, statistics and gradients over all 16."""
    ours, one = results[f"{transform}/3"], results["one/3"]
    for field, expected in one.items():
        np.testing.assert_allclose(ours[field], expected, rtol=1e-4, atol=1e-5, err_msg=field)


def test_jit_and_pmap_run_the_same_function(results):
    for size in (3, 11):
        for field, expected in results[f"jit/{size}"].items():
            np.testing.assert_allclose(
                results[f"pmap/{size}"][field], expected, rtol=1e-6, atol=1e-7, err_msg=field
            )


def test_an_incomplete_group_changes_no_bit(results):
    """Three networks, two at a time, are filled up to four."""
    for field, expected in results["one/vmap/4"].items():
        np.testing.assert_array_equal(results["one/vmap/3"][field], expected[:3], err_msg=field)


DEVICE = jax.devices()[0]


@pytest.mark.parametrize(
    ("population", "spread", "k", "padded"),
    [(8, "networks", 1, 8), (9, "networks", 1, 16), (9, "networks", 3, 24), (3, "images", 2, 4)],
)
def test_padding(population, spread, k, padded):
    assert padded_size(population, Layout((DEVICE,) * 8, spread), k) == padded


def test_images_are_spread_only_in_equal_parts(monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: [DEVICE] * 8)
    willing = Devices(spread_images=True)
    assert choose_layout(willing, 8, 6).spread == "networks"
    layout = choose_layout(willing, 7, 6)
    assert (layout.spread, len(layout.devices)) == ("images", 6)
    assert choose_layout(willing, 7, 11) == Layout((DEVICE,))
    assert choose_layout(Devices(), 3, 6) == Layout((DEVICE,) * 3)


def test_too_many_devices():
    with pytest.raises(UserError, match="1000, but there"):
        Devices(1000).local()
    with pytest.raises(UserError, match="give 1 or more"):
        Devices(0)


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_devices_get_equal_numbers_and_nearly_equal_costs(shards):
    costs = np.random.default_rng(shards).integers(4, 13, 24)
    order = balanced_order(costs, shards)
    assert sorted(order) == list(range(24))
    sums = costs[order].reshape(shards, -1).sum(-1)
    assert sums.max() - sums.min() <= costs.max() - costs.min()
    assert sums.max() <= 1.05 * costs.sum() / shards
