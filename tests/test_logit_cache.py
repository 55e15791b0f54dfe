"""The logit cache is right, and noticed when it is stale, too small or damaged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax import logit_cache, resnet
from dass_jax.data.augmentation import Augmentation, augment
from dass_jax.evaluation import Split
from dass_jax.search_space import ResNetSpace

SPACE = ResNetSpace((4,), 1, strides=(2,))
RNG = np.random.default_rng(0)
DATA = Split(
    jnp.asarray(RNG.integers(0, 256, (10, 8, 8, 3), np.uint8)),
    jnp.asarray(RNG.integers(0, 3, 10).astype(np.int32)),
)
TEACHER = resnet.init(SPACE, jax.random.key(0), 3)
KEY = jax.random.key(1)


def load(folder, *, teacher=TEACHER, data=DATA, key=KEY, views=2, augmentation=None, **options):
    """Returns the logits and how many views had to be computed."""
    computed = []
    logits = logit_cache.load_or_compute(
        folder, SPACE, augmentation or Augmentation(), teacher, data, key, views,
        on_view=computed.append, batch_size=4, **options,
    )  # fmt: skip
    assert len(computed) == views
    return logits, sum(computed)


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
    ],
    ids=["teacher", "images", "view key", "augmentation"],
)
def test_stale_cache_is_replaced(tmp_path, change):
    load(tmp_path / "cache")
    fresh, computed = load(tmp_path / "cache", **change)
    assert computed == 2
    np.testing.assert_array_equal(fresh, load(tmp_path / "other", **change)[0])
    assert load(tmp_path / "cache", **change)[1] == 0


def test_damaged_cache_is_replaced(tmp_path):
    first, _ = load(tmp_path / "cache")
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    second, computed = load(tmp_path / "cache")
    assert computed == 2
    np.testing.assert_array_equal(first, second)


def test_size_is_predicted():
    assert logit_cache.cache_bytes(50, 6000, 200) == 50 * 6000 * 200 * 2
