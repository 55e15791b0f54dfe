"""Views are a pure function of (key, view, image index)."""

import jax
import jax.numpy as jnp
import numpy as np

from dass_jax.data.augmentation import Augmentation, augment, normalize, view_parameters

KEY = jax.random.key(3)
SIZE = 16


def pictures(count=32):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8))


def test_normalize_maps_bytes_to_plus_minus_one():
    ends = jnp.asarray([[[[0, 255, 51]]]], jnp.uint8)
    np.testing.assert_allclose(np.ravel(normalize(ends)), [-1, 1, -0.6], atol=1e-6)


def test_without_crop_and_flip_a_view_is_the_image():
    images = pictures()
    indices = jnp.arange(len(images))
    out = augment(Augmentation(crop=False, flip=False), KEY, 5, indices, images)
    np.testing.assert_array_equal(out, normalize(images))


def test_place_in_the_batch_has_no_influence():
    images, indices = pictures(), jnp.arange(32)
    whole = augment(Augmentation(), KEY, 2, indices, images)
    chosen = jnp.asarray([7, 3, 30])
    part = augment(Augmentation(), KEY, 2, chosen, images[chosen])
    np.testing.assert_array_equal(part, whole[chosen])


def test_a_view_is_a_window_of_the_padded_image():
    images, indices = pictures(), jnp.arange(32)
    out = np.asarray(augment(Augmentation(), KEY, 1, indices, images))
    view = view_parameters(Augmentation(), KEY, 1, indices, SIZE)
    margin = SIZE // 8
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    for i in range(32):
        top, left = int(view.top[i]), int(view.left[i])
        window = padded[i, top : top + SIZE, left : left + SIZE]
        window = window[:, ::-1] if view.mirrored[i] else window
        np.testing.assert_array_equal(out[i], normalize(jnp.asarray(window)[None])[0])


def test_parameters_cover_their_range():
    indices = jnp.arange(2000)
    view = view_parameters(Augmentation(), KEY, 0, indices, SIZE)
    assert set(np.unique(view.top)) == set(range(2 * (SIZE // 8) + 1)) == set(np.unique(view.left))
    assert 0.45 < np.mean(view.mirrored) < 0.55
    assert abs(np.corrcoef(view.top, view.left)[0, 1]) < 0.1


def test_views_and_keys_differ():
    indices = jnp.arange(64)
    first = view_parameters(Augmentation(), KEY, 0, indices, SIZE)
    for key, view in ((KEY, 1), (jax.random.key(4), 0)):
        other = view_parameters(Augmentation(), key, view, indices, SIZE)
        assert not np.array_equal(first.top, other.top)
        assert not np.array_equal(first.mirrored, other.mirrored)
