from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dass_jax.data.domains import RENDERINGS, Domain, render
from dass_jax.data.images import Images
from dass_jax.data.sources import load
from dass_jax.data.tasks import TaskSpec, load_task
from dass_jax.experiment import Experiment
from dass_jax.workflow.recipes import teacher_recipe

SIZE = 16


def random_images(seed=0, count=3, size=SIZE):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)
    return Images(pixels, np.arange(count, dtype=np.int32))


def pixels_of(domain, pixels):
    images = np.broadcast_to(np.asarray(pixels, np.uint8), (1, SIZE, SIZE, 3))
    return render(Images(images, np.zeros(1, np.int32)), domain).images[0]


def test_there_is_a_rendering_of_each_domain():
    assert tuple(RENDERINGS) == get_args(Domain)


@pytest.mark.parametrize("domain", RENDERINGS)
@settings(max_examples=5)
@given(seed=st.integers(0, 2**32 - 1))
def test_each_image_is_rendered_by_itself_and_keeps_its_label(domain, seed):
    size = SIZE * RENDERINGS[domain].magnification
    images = random_images(seed, size=size)
    together = render(images, domain)
    np.testing.assert_array_equal(together.labels, images.labels)
    assert together.images.shape == (3, SIZE, SIZE, 3)
    assert not np.array_equal(together.images, images.images[:, :SIZE, :SIZE])
    for place in range(3):
        alone = render(images.take(np.array([place])), domain)
        np.testing.assert_array_equal(alone.images[0], together.images[place])


def test_gray_images_have_the_luminance_of_their_colours():
    images = random_images()
    gray = render(images, "gray").images
    # ITU-R 601-2
    luminance = images.images @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(gray, luminance[..., None].repeat(3, -1), atol=1)


def test_inverted_images_are_the_complement():
    images = random_images()
    np.testing.assert_array_equal(render(images, "inverted").images, 255 - images.images)


def test_posterized_images_have_two_values_in_each_channel():
    images = random_images()
    np.testing.assert_array_equal(
        render(images, "posterized").images, np.where(images.images < 128, 0, 128)
    )


def test_edges_are_dark_lines_on_white_and_have_no_frame():
    assert (pixels_of("edges", [[[90, 30, 200]]]) == 255).all()
    step = np.zeros((SIZE, SIZE, 3))
    step[:, SIZE // 2 :] = 200
    drawn = pixels_of("edges", step)
    columns = np.flatnonzero((drawn < 255).any((0, 2)))
    assert set(columns) <= {SIZE // 2 - 1, SIZE // 2}
    assert len(columns)
    assert (drawn[:, columns].min(1) == drawn[:, columns].max(1)).all()


def test_blurred_images_have_their_mean_and_less_contrast():
    images = random_images(size=64)
    blurred = render(images, "blurred").images
    axes = (1, 2)
    np.testing.assert_allclose(blurred.mean(axes), images.images.mean(axes), atol=4)
    assert (blurred.std(axes) < images.images.std(axes) / 4).all()


@pytest.mark.parametrize(("size", "centre"), [(8, slice(4, 12)), (9, slice(4, 13))])
def test_zoomed_tasks_are_the_centres_of_larger_images(size, centre):
    spec = TaskSpec("near", "meta_train", "generated:blobs", num_classes=3, domain="zoomed")
    near = load_task(spec, size)
    far = load(
        spec.source, image_size=2 * size, num_classes=3, valid_per_class=spec.valid_per_class
    )
    for split in ("train", "valid", "test"):
        np.testing.assert_array_equal(
            getattr(near, split).images, getattr(far, split).images[:, centre, centre]
        )


def test_a_domain_changes_a_tasks_images_and_its_recipe_and_nothing_else_does():
    specs = {
        domain: TaskSpec("task", "meta_train", "generated:blobs", num_classes=3, domain=domain)
        for domain in (None, "gray")
    }
    plain, gray = (load_task(spec, 8) for spec in specs.values())
    for split in ("train", "valid", "test"):
        np.testing.assert_array_equal(
            getattr(gray, split).images, render(getattr(plain, split), "gray").images
        )
    recipes = [teacher_recipe(Experiment(tasks=(spec,)), spec) for spec in specs.values()]
    # what was recorded before there were domains is of use still
    assert "domain" not in recipes[0]["images"]
    assert recipes[1]["images"] == recipes[0]["images"] | {"domain": "gray"}
