"""Eight devices give the numbers of one, under jit and under pmap, however the work is spread."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from dass_jax.errors import UserError
from dass_jax.evaluation import fitting_batch
from dass_jax.parallel import Devices, Layout, choose_layout, padded_size
from dass_jax.seats import balanced_order, take_seats


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


SEEN = ("unshared", "compiled again", "donated")


def assert_close(ours, theirs, count, rtol, atol):
    for field, expected in theirs.items():
        if field not in SEEN:
            np.testing.assert_allclose(
                ours[field], expected[:count], rtol=rtol, atol=atol, err_msg=field
            )


@pytest.mark.parametrize("transform", ["jit", "pmap"])
def test_spread_networks_are_those_of_one_device(results, transform):
    """Eleven networks on eight devices: padded, each device has two, with nothing in common."""
    assert_close(results[f"{transform}/11"], results["one/11"], 11, 1e-5, 1e-6)


@pytest.mark.parametrize("transform", ["jit", "pmap"])
def test_spread_images_are_those_of_one_device(results, transform):
    """Three networks on eight devices: two images each, statistics and gradients over all 16."""
    assert_close(results[f"{transform}/3"], results["one/11"], 3, 1e-4, 1e-5)


@pytest.mark.parametrize("transform", ["jit", "pmap"])
@pytest.mark.parametrize(("spread", "calls"), [("networks", 14), ("images", 2)])
def test_an_evaluation_in_several_calls_counts_every_image_once(results, spread, transform, calls):
    """Of 27 images, two on each device at a time."""
    ours, alone = results[f"evaluated/{spread}/{transform}"], results["evaluated/one"]
    assert (ours["calls"], alone["calls"]) == (calls, 14)
    counts = [np.round(27 * run["accuracy"]) for run in (ours, alone)]
    np.testing.assert_array_equal(*counts)
    assert len(set(alone["accuracy"].tolist())) > 1


@pytest.mark.parametrize("size", [3, 11])
def test_jit_and_pmap_run_the_same_function(results, size):
    assert_close(results[f"pmap/{size}"], results[f"jit/{size}"], size, 1e-6, 1e-7)


def test_an_incomplete_group_changes_no_bit(results):
    """Three networks, two at a time, are filled up to four."""
    assert_close(results["one/vmap/3"], results["one/vmap/4"], 3, 0, 0)


@pytest.mark.parametrize("kind", ["copy_paste_first", "copy_paste_last"])
def test_untrained_students_are_those_of_one_device(results, kind):
    """Three devices: a call of four students is filled up to six."""
    assert len(results[f"{kind}/3"]["maps"]) == 11
    assert_close(results[f"{kind}/3"], results[f"{kind}/1"], 11, 1e-5, 1e-6)


def test_a_run_on_eight_devices_resumes_to_the_same_bits(results):
    assert_close(results["resumed"], results["jit/11"], 11, 0, 0)


@pytest.mark.parametrize("run", ["jit/11", "pmap/11", "jit/3", "pmap/3", "one/11", "one/vmap/3"])
def test_the_second_epoch_compiles_nothing_and_takes_the_buffers_of_the_first(results, run):
    assert results[run]["compiled again"] == 0
    assert results[run]["donated"]


@pytest.mark.parametrize("run", ["jit/11", "pmap/11", "resumed"])
def test_no_device_holds_the_networks_of_the_others(results, run):
    assert results[run]["unshared"] == 0


DEVICE = jax.devices()[0]


@pytest.mark.parametrize(
    ("population", "spread", "k", "padded"),
    [(8, "networks", 1, 8), (9, "networks", 1, 16), (9, "networks", 3, 24), (3, "images", 2, 4)],
)
def test_padding(population, spread, k, padded):
    assert padded_size(population, Layout((DEVICE,) * 8, spread), k) == padded


@pytest.mark.parametrize(("k", "at_least", "places"), [(1, 0, 5), (2, 0, 6), (1, 8, 8), (3, 7, 9)])
def test_seats_are_filled_up_and_given_back(k, at_least, places):
    seats = take_seats(np.asarray([4, 7, 5, 6, 9]), Layout((DEVICE,)), k, at_least)
    population = {"a": np.arange(10).reshape(5, 2)}
    spread = seats.spread(population)
    assert spread["a"].shape == (places, 2)
    assert sorted(spread["a"][:, 0].tolist()) == [0, 2, 4, 6] + [8] * (places - 4)
    np.testing.assert_array_equal(seats.gather(spread)["a"], population["a"])


@pytest.mark.parametrize("devices", range(1, 9))
def test_any_number_of_devices_seats_eight_networks(devices):
    costs = np.arange(8)
    seats = take_seats(costs, Layout((DEVICE,) * devices), None)
    assert len(seats.networks) == devices * -(-8 // devices)
    assert seats.networks[seats.places].tolist() == list(range(8))


def test_images_are_spread_only_in_equal_parts(monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: [DEVICE] * 8)
    willing = Devices(spread_images=True)
    assert choose_layout(willing, 5, 6) == Layout((DEVICE,) * 6, "images")
    # sharing the images would keep no more devices busy
    for population, batch_size in ((6, 6), (7, 11), (1, 11)):
        expected = Layout((DEVICE,) * population)
        assert choose_layout(willing, population, batch_size) == expected
    assert choose_layout(willing, 9, 6) == Layout((DEVICE,) * 8)
    assert choose_layout(Devices(), 3, 6) == Layout((DEVICE,) * 3)


@pytest.mark.parametrize(
    ("spread", "images", "batch"), [("networks", 9, 9), ("images", 9, 2), ("images", 900, 64)]
)
def test_devices_that_share_images_evaluate_few_that_are_none(spread, images, batch):
    assert fitting_batch(64, images, Layout((DEVICE,) * 8, spread)) == batch


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
