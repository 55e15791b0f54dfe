"""Image classification tasks as arrays in memory: where they come from and how they are cut up.

``load`` reads a dataset by name or path, ``class_splits`` makes many tasks out of one dataset.
"""

from dass_jax.data.class_splits import ClassSplits, class_splits
from dass_jax.data.images import ImageDataset, Images
from dass_jax.data.sources import load, resolve

__all__ = ["ClassSplits", "ImageDataset", "Images", "class_splits", "load", "resolve"]
