"""The official datasets that this project prepares by itself, as TFDS datasets."""

from dass_jax.data.builders import cub200_2011, dtd, quickdraw, stanford_cars, tiny_imagenet
from dass_jax.data.builders.release import Release

RELEASES: dict[str, Release] = {
    module.RELEASE.name: module.RELEASE
    for module in (tiny_imagenet, cub200_2011, stanford_cars, dtd, quickdraw)
}

__all__ = ["RELEASES", "Release"]
