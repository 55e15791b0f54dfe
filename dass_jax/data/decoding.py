"""Image bytes and arrays of any size to RGB squares."""

import concurrent.futures
import io
import itertools
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from dass_jax.data.readers import Example
from dass_jax.errors import UserError

# Examples in the hands of the threads at a time; bounds the memory of undecoded files.
_CHUNK = 256
# Pillow would run Ghostscript for others. MPO, which some cameras write, is opened as JPEG.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "PPM", "TIFF")
# What pillow's decoders raise on broken input differs from format to format.
_DAMAGE = (
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    Image.DecompressionBombError,
)
_Item = TypeVar("_Item")


def decode_in_parallel(
    items: Iterable[_Item], decode: Callable[[_Item], Example]
) -> Iterator[Example]:
    """Decodes examples in threads, in order; pillow leaves Python's lock while it works."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        pending = iter(items)
        while chunk := list(itertools.islice(pending, _CHUNK)):
            yield from pool.map(decode, chunk)


def decode_image(data: bytes, image_size: int, name: str) -> UInt8[np.ndarray, "S S 3"]:
    """Decodes one image file and resizes it, aspect ratio not kept.

    What is transparent becomes white, as on the pages that most such images were made for.

    Args:
      data: the bytes of the file.
      image_size: height and width of the result, in pixels.
      name: of the image, for the message.

    Raises:
      UserError: it is in no known format, damaged, or has more than 16 bits per value.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            # Large JPEGs are scaled down while they are decoded, to no less than twice the size.
            image.draft(None, (2 * image_size, 2 * image_size))
            image.load()
            # Cameras store how they were held rather than turn the image.
            return _resize(_to_rgb(ImageOps.exif_transpose(image)), image_size)
    except _DAMAGE as error:
        # Pillow's own message would tell a memory address.
        reason = "no known format" if isinstance(error, UnidentifiedImageError) else error
        raise UserError(f"{name} is broken ({reason}); replace or remove it") from error


def resize_array(
    pixels: UInt8[np.ndarray, "H W"] | UInt8[np.ndarray, "H W 1"] | UInt8[np.ndarray, "H W 3"],
    image_size: int,
) -> UInt8[np.ndarray, "S S 3"]:
    """Brings a gray or RGB image to an RGB square of ``image_size`` pixels, aspect not kept."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    rgb = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
    return _resize(Image.fromarray(rgb), image_size)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_gray(image)
    if image.has_transparency_data:
        # Without alpha, black strokes on nothing would be black on black.
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _to_gray(image: Image.Image) -> Image.Image:
    """Scales the 16-bit grays that pillow would clip at 255; they may lie in more bits."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError("its values do not fit into 16 bits")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _resize(image: Image.Image, image_size: int) -> UInt8[np.ndarray, "S S 3"]:
    if image.size != (image_size, image_size):
        # Pillow's filters widen with the reduction, so this is antialiased.
        image = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(image)
