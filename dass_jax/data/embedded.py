"""Real images inside a package that is installed anyway."""

import numpy as np

from dass_jax.data.decoding import resize_array
from dass_jax.data.images import Collection, Images, check_image_size


def load_digits(image_size: int) -> Collection:
    """Scikit-learn's 1797 handwritten digits, 8x8 gray, without a test split of their own."""
    check_image_size(image_size)
    # The package takes a second to import.
    from sklearn import datasets

    raw = datasets.load_digits()
    gray = np.round(raw.images * (255 / 16)).astype(np.uint8)
    order = np.argsort(raw.target, kind="stable")
    pixels = np.stack([resize_array(image, image_size) for image in gray[order]])
    images = Images(pixels, raw.target[order].astype(np.int32))
    return Collection("digits", tuple(str(name) for name in raw.target_names), {"all": images})
