import errno
import gc
import os
import pathlib
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from dass_jax import checkpoints
from dass_jax.errors import UnreadableError, UserError
from dass_jax.snapshots import Snapshots


class Progress(NamedTuple):
    params: Any
    opt_state: Any
    key: Any


def example(seed=0):
    """What a run saves: nested dicts, a NamedTuple, an optimiser's state, a typed key."""
    rng = np.random.default_rng(seed)
    params = {
        "dense": {"kernel": jnp.asarray(rng.normal(size=(3, 2)), jnp.float32)},
        "half": jnp.asarray(rng.normal(size=5), jnp.bfloat16),
    }
    optimizer = optax.chain(optax.add_decayed_weights(1e-2), optax.adam(1e-3))
    _, opt_state = optimizer.update(params, optimizer.init(params), params)
    return Progress(params, opt_state, {"draws": jax.random.key(seed + 7)})


def assert_bit_equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        if jax.dtypes.issubdtype(other.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """One save that tests may read and copy, but not change."""
    folder = tmp_path_factory.mktemp("saved") / "run"
    checkpoints.save(folder, 3, example(), {"history": [1.5, None], "name": "a"})
    return folder


def test_everything_comes_back_bit_equal(saved):
    arrays, metadata = checkpoints.restore(saved, example(seed=1))
    assert_bit_equal(arrays, example())
    assert metadata == {"history": [1.5, None], "name": "a"}
    drawn = jax.random.normal(arrays.key["draws"], (2,))
    np.testing.assert_array_equal(drawn, jax.random.normal(example().key["draws"], (2,)))


def test_shapes_suffice_as_template(tmp_path):
    arrays = {"a": jnp.arange(4, dtype=jnp.int32), "b": {"c": jnp.float32(2.5)}}
    checkpoints.save(tmp_path, 0, arrays, {})
    restored, _ = checkpoints.restore(tmp_path, jax.eval_shape(lambda: arrays))
    assert_bit_equal(restored, arrays)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(restored))


def without_half(tree):
    return tree._replace(params={"dense": tree.params["dense"]})


def with_more(tree):
    return tree._replace(params=tree.params | {"more": jnp.zeros(1)})


def with_half(tree, leaf):
    return tree._replace(params=tree.params | {"half": leaf})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_half, "params/half is .*bfloat16.* there, absent here"),
        (with_more, "params/more is missing there"),
        (lambda t: with_half(t, jnp.zeros(6, jnp.bfloat16)), r"params/half is \(\(5,\)"),
        (lambda t: with_half(t, jnp.zeros(5, jnp.float32)), "params/half is .*bfloat16.*float32"),
        (lambda t: t._replace(key={}), "key/draws is .* there, absent here"),
    ],
    ids=["missing leaf", "extra leaf", "shape", "dtype", "missing key"],
)
def test_another_tree_is_refused_by_the_name_of_the_leaf(saved, change, message):
    with pytest.raises(UserError, match=message) as caught:
        checkpoints.restore(saved, change(example()))
    assert str(saved) in str(caught.value)


def test_a_step_is_never_overwritten(tmp_path):
    checkpoints.save(tmp_path, 5, {"a": np.arange(3)}, {"run": 1})
    for step in (5, 4):
        with pytest.raises(UserError, match="already holds step 5: remove it first"):
            checkpoints.save(tmp_path, step, {"a": np.zeros(3, int)}, {"run": 2})
    arrays, metadata = checkpoints.restore(tmp_path, {"a": np.zeros(3, int)})
    assert arrays["a"].tolist() == [0, 1, 2]
    assert metadata == {"run": 1}


def test_only_the_newest_save_is_kept(tmp_path):
    for step in (1, 2, 10):
        checkpoints.save(tmp_path, step, {"a": np.full(2, step)}, {"step": step})
    assert [path.name for path in tmp_path.iterdir()] == ["10"]
    assert checkpoints.latest_step(tmp_path) == 10
    assert checkpoints.read_metadata(tmp_path) == {"step": 10}
    assert checkpoints.restore(tmp_path, {"a": np.zeros(2, int)})[0]["a"].tolist() == [10, 10]


def test_a_save_that_was_killed_leaves_the_one_before(saved, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)

    class Killed(BaseException):
        pass

    def die(*args, **kwargs):
        raise Killed

    # what makes a save final is the renaming of its folder
    with monkeypatch.context() as patched:
        for name in ("rename", "replace"):
            patched.setattr(f"os.{name}", die)
            patched.setattr(f"pathlib.Path.{name}", die)
        with pytest.raises(Killed):
            checkpoints.save(folder, 4, example(seed=2), {"name": "b"})
    assert [path.name for path in folder.iterdir()] != ["3"]
    before = sorted(path.name for path in folder.iterdir())
    assert checkpoints.latest_step(folder) == 3
    arrays, metadata = checkpoints.restore(folder, example())
    assert_bit_equal(arrays, example())
    assert metadata["name"] == "a"
    assert sorted(path.name for path in folder.iterdir()) == before
    checkpoints.save(folder, 4, example(seed=2), {"name": "b"})
    assert [path.name for path in folder.iterdir()] == ["4"]
    assert_bit_equal(checkpoints.restore(folder, example())[0], example(seed=2))


def test_a_first_save_that_was_killed_is_no_save(tmp_path):
    folder = tmp_path / "run"
    partial = folder / "7.orbax-checkpoint-tmp-123" / "arrays"
    partial.mkdir(parents=True)
    (partial / "half-written").write_bytes(b"12")
    assert checkpoints.latest_step(folder) is None
    assert not checkpoints.exists(folder)
    with pytest.raises(UserError, match="no checkpoint in"):
        checkpoints.restore(folder, {"a": np.zeros(1)})


def test_a_missing_folder_is_named_and_not_made(tmp_path):
    folder = tmp_path / "nowhere"
    assert not checkpoints.exists(folder)
    for read in (checkpoints.read_metadata, lambda path: checkpoints.restore(path, {})):
        with pytest.raises(UserError, match=f"no checkpoint in {folder}"):
            read(folder)
    assert not folder.exists()


def halve_files(folder):
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("part", ["arrays/d", "arrays", "metadata"])
def test_damage_is_one_clear_line(tmp_path, part, caplog, capfd):
    folder = tmp_path / "run"
    arrays = {str(i): np.arange(3.0) for i in range(50)}
    checkpoints.save(folder, 3, arrays, {"name": "a"})
    halve_files(folder / "3" / part)
    with pytest.raises(UserError) as caught:
        checkpoints.restore(folder, arrays)
    assert str(caught.value) == f"the checkpoint in {folder} is damaged: remove it"
    if part == "metadata":
        with pytest.raises(UserError, match="is damaged: remove it"):
            checkpoints.read_metadata(folder)
    else:
        assert checkpoints.read_metadata(folder)["name"] == "a"
    # arrays that were still being read when the first failed complain when they are collected
    gc.collect()
    assert not caplog.records
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
        # as tensorstore tells it
        ValueError(f"RESOURCE_EXHAUSTED: Error opening file [OS error 24: {os.strerror(24)}]"),
    ],
)
def test_what_cannot_be_read_now_is_kept(saved, tmp_path, monkeypatch, error):
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)
    snapshots = Snapshots(folder, "the work", {})

    def refuse(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "restore", refuse)
        with pytest.raises(UnreadableError, match=rf"cannot read {folder} \(Too many open files"):
            snapshots.restore_or_discard(example())
    assert checkpoints.read_metadata(folder)["name"] == "a"


def test_arrays_that_may_not_be_looked_at_are_kept(saved, tmp_path, monkeypatch):
    """Orbax takes them for missing."""
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)
    stat = pathlib.Path.stat

    def refuse(path, **options):
        if path == folder / "3" / "arrays" / "_METADATA":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return stat(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "stat", refuse)
        with pytest.raises(UnreadableError, match="Permission denied"):
            checkpoints.restore(folder, example())
    assert checkpoints.restore(folder, example())[1]["name"] == "a"


def test_arrays_that_are_gone_are_damage(saved, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)
    shutil.rmtree(folder / "3" / "arrays")
    with pytest.raises(UserError, match="is damaged: remove it"):
        checkpoints.restore(folder, example())
