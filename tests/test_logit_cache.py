"""The logit cache is right, and noticed when it is stale, too small, damaged or has no room."""

import collections
import errno
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax import checkpoints, logit_cache, resnet
from dass_jax.data.augmentation import Augmentation, augment
from dass_jax.errors import UnreadableError, UserError
from dass_jax.evaluation import Split
from dass_jax.logit_cache import LogitCache, read_rows, write_view
from dass_jax.search_space import ResNetSpace

SPACE = ResNetSpace((4,), 1, strides=(2,))
RNG = np.random.default_rng(0)
DATA = Split(
    jnp.asarray(RNG.integers(0, 256, (10, 8, 8, 3), np.uint8)),
    jnp.asarray(RNG.integers(0, 3, 10).astype(np.int32)),
)
TEACHER = resnet.init(SPACE, jax.random.key(0), 3)
KEY = jax.random.key(1)


def cache(folder, *, teacher=TEACHER, data=DATA, key=KEY, augmentation=None, dtype=np.float16):
    return LogitCache(
        folder, SPACE, augmentation or Augmentation(), teacher, data, key, dtype, batch_size=4
    )


def load(folder, *, views=2, **options):
    """Returns the logits and how many views had to be computed."""
    computed = []
    logits = cache(folder, **options)
    logits.fill(views, computed.append)
    assert len(computed) == views
    return np.stack([logits.view(view) for view in range(views)]), sum(computed)


def test_values_are_the_teachers(tmp_path):
    logits, _ = load(tmp_path / "cache", dtype=np.float32)
    indices = jnp.arange(10)
    for view in range(2):
        images = augment(Augmentation(), KEY, view, indices, DATA.images)
        expected, _ = resnet.apply(SPACE, TEACHER, SPACE.full(), images, train=False)
        np.testing.assert_allclose(logits[view], expected, rtol=1e-5, atol=1e-5)


def test_second_load_reads_the_same(tmp_path):
    first, computed = load(tmp_path / "cache")
    assert (first.dtype, first.shape, computed) == (np.float16, (2, 10, 3), 2)
    second, computed = load(tmp_path / "cache")
    assert computed == 0
    np.testing.assert_array_equal(first, second)


def test_views_are_read_and_computed_one_by_one(tmp_path):
    all_views, _ = load(tmp_path / "cache", views=3)
    part, computed = load(tmp_path / "cache", views=2)
    assert computed == 0
    np.testing.assert_array_equal(part, all_views[:2])
    more, computed = load(tmp_path / "cache", views=4)
    assert computed == 1
    np.testing.assert_array_equal(more[:3], all_views)


@pytest.mark.parametrize(
    "change",
    [
        {"teacher": jax.tree.map(lambda leaf: leaf * 1.01, TEACHER)},
        {"data": DATA._replace(images=DATA.images.at[0, 0, 0, 0].add(1))},
        {"key": jax.random.key(2)},
        {"augmentation": Augmentation(flip=False)},
        {"dtype": np.float32},
    ],
    ids=["teacher", "images", "view key", "augmentation", "type"],
)
def test_stale_cache_is_replaced(tmp_path, change):
    load(tmp_path / "cache")
    fresh, computed = load(tmp_path / "cache", **change)
    assert computed == 2
    np.testing.assert_array_equal(fresh, load(tmp_path / "other", **change)[0])
    assert load(tmp_path / "cache", **change)[1] == 0


def files_of(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_damaged_cache_is_replaced(tmp_path):
    first, _ = load(tmp_path / "cache")
    for path in files_of(tmp_path / "cache"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    second, computed = load(tmp_path / "cache")
    assert computed == 2
    np.testing.assert_array_equal(first, second)


@pytest.fixture
def computed(monkeypatch):
    """The views that the teacher was asked for."""
    views = []
    compute = logit_cache.view_logits

    def counted(*arguments, **options):
        views.append(int(arguments[-1]))
        return compute(*arguments, **options)

    monkeypatch.setattr(logit_cache, "view_logits", counted)
    return views


def test_views_are_not_held_in_memory_but_read(tmp_path, computed):
    first, _ = load(tmp_path / "cache")
    assert computed == [0, 1]
    logits = cache(tmp_path / "cache")
    np.testing.assert_array_equal(logits.rows(1, 3, 7), first[1, 3:7])
    # a view may be lost between two epochs
    shutil.rmtree(tmp_path / "cache" / "view0001")
    np.testing.assert_array_equal(logits.rows(1, 3, 7), first[1, 3:7])
    np.testing.assert_array_equal(logits.view(1), first[1])
    assert computed == [0, 1, 1]


def test_views_do_not_stand_for_each_other(tmp_path, computed):
    first, _ = load(tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache" / "view0000")
    (tmp_path / "cache" / "view0001").rename(tmp_path / "cache" / "view0000")
    np.testing.assert_array_equal(load(tmp_path / "cache")[0], first)
    assert computed == [0, 1, 0, 1]


# rows that fill three blocks and part of a fourth; a prime number cannot be cut evenly
COUNT = 83
VIEW = RNG.normal(size=(COUNT, 50)).astype(np.float16)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(logit_cache, "BLOCK_BYTES", 20 * 50 * 2)


@pytest.mark.parametrize("start", [0, 1, 19, 20, 45])
@pytest.mark.parametrize("length", [1, 20, 38])
def test_any_rows_are_those_of_the_whole_view(tmp_path, small_blocks, start, length):
    write_view(tmp_path / "view", VIEW, "mark")
    stored = checkpoints.open_array(tmp_path / "view", 0, "blocks")
    assert (stored.shape, stored.chunk_layout.read_chunk.shape) == ((5, 20, 50), (1, 20, 50))
    rows = read_rows(tmp_path / "view", VIEW.shape, VIEW.dtype, "mark", start, start + length)
    np.testing.assert_array_equal(rows, VIEW[start : start + length])


def test_rows_that_do_not_exist(tmp_path):
    write_view(tmp_path / "view", VIEW, "mark")
    for start, stop in ((-1, 3), (3, 3), (0, COUNT + 1)):
        with pytest.raises(IndexError):
            read_rows(tmp_path / "view", VIEW.shape, VIEW.dtype, "mark", start, stop)


def test_changed_bytes_are_noticed_where_they_lie(tmp_path, small_blocks):
    write_view(tmp_path / "view", VIEW, "mark")
    seen = collections.Counter()

    def outcome(start, stop):
        try:
            rows = read_rows(tmp_path / "view", VIEW.shape, VIEW.dtype, "mark", start, stop)
        except UserError:
            return "noticed"
        np.testing.assert_array_equal(rows, VIEW[start:stop])
        return "intact"

    for path in files_of(tmp_path / "view"):
        content = path.read_bytes()
        for place in RNG.integers(0, len(content), 2 + len(content) // 400):
            changed = bytearray(content)
            changed[place] ^= 1 << int(RNG.integers(8))
            path.write_bytes(changed)
            seen[outcome(0, COUNT), outcome(0, 20)] += 1
        path.write_bytes(content)
    # not every file is needed for reading, and a changed block leaves the others as they are
    assert seen["noticed", "intact"] > 5
    assert seen["noticed", "noticed"] > 5
    assert not seen["intact", "noticed"]


def test_size_is_predicted():
    assert logit_cache.cache_bytes(50, 6000, 200) == 50 * 6000 * 200 * 2


Usage = collections.namedtuple("Usage", "total used free")


def test_too_little_room_is_noticed_before_anything_is_computed(tmp_path, monkeypatch, computed):
    view_bytes = 10 * 3 * 2 + 80 * 1024
    load(tmp_path / "cache", views=1)
    usage = Usage(2**40, 2**40, 3 * view_bytes)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError) as caught:
        load(tmp_path / "cache", views=5)
    assert str(caught.value) == (
        f"the teacher's logits of 4 views need 0.3 MB in {tmp_path / 'cache'}, and 0.2 MB are "
        "free: make room, use fewer views (kd.num_views), or cache none "
        "(kd.teacher_logits=online)"
    )
    assert computed == [0]
    # what is there needs no room
    assert load(tmp_path / "cache", views=4)[1] == 3


# what tensorstore and orbax raise
@pytest.mark.parametrize(
    "error",
    [
        ValueError("RESOURCE_EXHAUSTED: Failed to write 9 bytes: No space left on device"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
    ids=["tensorstore", "orbax"],
)
def test_a_disk_that_fills_up_is_one_line_and_keeps_earlier_views(
    tmp_path, monkeypatch, computed, error
):
    save = checkpoints.ocp.CheckpointManager.save

    def full(manager, *arguments, **options):
        if len(computed) < 2:
            return save(manager, *arguments, **options)
        (manager.directory / "0.orbax-checkpoint-tmp").mkdir()
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.ocp.CheckpointManager, "save", full)
        with pytest.raises(UserError) as caught:
            load(tmp_path / "cache", views=3)
    folder = tmp_path / "cache" / "view0001"
    assert str(caught.value) == (
        f"the disk is full: cannot write {folder}; make room and run the same command again to "
        "go on"
    )
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["view0000"]
    assert computed == [0, 1]
    assert load(tmp_path / "cache", views=3)[1] == 2


def test_a_view_that_cannot_be_read_now_is_not_computed_again(tmp_path, monkeypatch):
    logits = cache(tmp_path / "cache")
    logits.fill(1)

    def refuse(*arguments):
        raise ValueError(f"UNAVAILABLE: {os.strerror(errno.EIO)}")

    monkeypatch.setattr(checkpoints, "open_array", refuse)
    for use in (lambda: logits.fill(1), lambda: logits.view(0)):
        with pytest.raises(UnreadableError, match="cannot read"):
            use()
    assert logit_cache.missing_views(logits.folder, 1) == 0
