import importlib.util
import subprocess
import time

import pytest
import requests
from test_tfds_reader import BALANCED, NAMES, prepare

from dass_jax.data import catalog, load
from dass_jax.errors import UserError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def with_tensorflow(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: name if name == "tensorflow" else find_spec(name)
    )


def test_without_tensorflow_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = r"cifar10 is not prepared in .* TensorFlow, once: pip install -e '\.\[catalog\]'"
    with pytest.raises(UserError, match=message):
        load("cifar10", image_size=8)


@pytest.mark.usefixtures("with_tensorflow")
def test_without_network_it_fails_at_once(monkeypatch):
    def refuse(url, timeout):
        raise requests.ConnectionError(url)

    monkeypatch.setattr(requests, "head", refuse)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("TFDS was started"))
    begin = time.monotonic()
    with pytest.raises(UserError, match=r"cifar10 cannot be downloaded: www\.cs\.toronto\.edu"):
        load("cifar10", image_size=8)
    assert time.monotonic() - begin < 5


@pytest.mark.usefixtures("with_tensorflow")
def test_what_another_process_prepared_is_loaded(folder, monkeypatch):
    monkeypatch.setattr(requests, "head", lambda *_, **__: None)
    started = []

    def run(command, **_):
        started.append(command)
        prepare(folder, BALANCED, name="cifar10")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    for _ in range(2):
        assert load("cifar10", image_size=8).class_names == tuple(NAMES)
    assert [command[2:] for command in started] == [
        ["dass_jax.data.catalog", "cifar10", str(folder)]
    ]


@pytest.mark.usefixtures("with_tensorflow")
def test_a_failure_of_tfds_is_one_line(monkeypatch):
    monkeypatch.setattr(requests, "head", lambda *_, **__: None)
    failed = subprocess.CompletedProcess([], 1)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(UserError, match="TFDS could not prepare cifar10; its own message is above"):
        catalog.prepare_catalog("cifar10")
