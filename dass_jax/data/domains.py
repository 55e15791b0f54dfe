"""Other visual domains made of the photographs at hand.

A predictor that has only seen tasks of one dataset of photographs takes what holds there for a law.
Rendered in other ways, the same photographs are different problems, as in domain randomisation
(Tobin et al., 2017): outlines, colours or details are missing, and other features have to serve
(Geirhos et al., 2019).
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from dass_jax.data.images import Images

Domain = Literal["gray", "inverted", "edges", "posterized", "blurred", "zoomed"]
_BLUR_RADIUS = 1 / 16


@dataclasses.dataclass(frozen=True)
class Rendering:
    """How images of a domain are made.

    Attributes:
      render: turns an RGB image into one of any mode.
      magnification: how many times too large the image comes; its centre is cut out after.
    """

    render: Callable[[Image.Image], Image.Image]
    magnification: int = 1


def _edges(image: Image.Image) -> Image.Image:
    """Dark lines on white, as of a pencil."""
    # the filter leaves the outermost pixels as they are, which would look like a frame
    pixels = np.pad(np.asarray(ImageOps.grayscale(image)), 1, mode="edge")
    framed = Image.fromarray(pixels).filter(ImageFilter.FIND_EDGES)
    return ImageOps.invert(ImageOps.autocontrast(ImageOps.crop(framed, 1)))


RENDERINGS: dict[Domain, Rendering] = {
    "gray": Rendering(ImageOps.grayscale),
    "inverted": Rendering(ImageOps.invert),
    "edges": Rendering(_edges),
    "posterized": Rendering(lambda image: ImageOps.posterize(image, 1)),
    "blurred": Rendering(
        lambda image: image.filter(ImageFilter.GaussianBlur(image.width * _BLUR_RADIUS))
    ),
    "zoomed": Rendering(lambda image: image, magnification=2),
}


def render(images: Images, domain: Domain) -> Images:
    """Renders images in another domain.

    Args:
      images: of ``magnification`` times the wanted size.
      domain: which one.

    Returns:
      The same images with the same labels, of the wanted size.
    """
    rendering = RENDERINGS[domain]
    size = images.images.shape[1] // rendering.magnification
    first = (images.images.shape[1] - size) // 2
    box = (first, first, first + size, first + size)
    rendered = np.empty((len(images), size, size, 3), np.uint8)
    for place, pixels in enumerate(images.images):
        image = rendering.render(Image.fromarray(pixels).crop(box))
        rendered[place] = np.asarray(image.convert("RGB"))
    return Images(rendered, images.labels)
