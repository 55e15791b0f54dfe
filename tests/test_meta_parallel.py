"""Meta-training on eight devices gives the numbers of one, under jit and under pmap."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    output = tmp_path_factory.mktemp("parallel") / "results.npz"
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    # as many threads as can wait for each other, and as many again that compute
    environment = os.environ | {"XLA_FLAGS": flags, "NPROC": "16"}
    script = pathlib.Path(__file__).with_name("eight_devices_meta.py")
    subprocess.run([sys.executable, str(script), str(output)], check=True, env=environment)
    with np.load(output) as arrays:
        assert arrays["devices"] == 8
        runs = {}
        for key in arrays.files:
            name, _, field = key.partition(":")
            runs.setdefault(name, {})[field] = arrays[key]
    return runs


# six tasks on six of the devices, nine members padded to sixteen
@pytest.mark.parametrize("work", ["1/6", "9/3"])
@pytest.mark.parametrize("transform", ["jit", "pmap"])
def test_eight_devices_learn_what_one_does(results, transform, work):
    ours, one = results[f"{transform}/{work}"], results[f"one/{work}"]
    assert np.abs(np.diff(one["losses"])).max() > 1e-4
    for field, expected in one.items():
        np.testing.assert_allclose(ours[field], expected, rtol=1e-4, atol=1e-6, err_msg=field)
