"""Image bytes and arrays of any size to RGB squares."""

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from dass_jax.data.archives import Archive
from dass_jax.data.images import Images
from dass_jax.data.layouts import FilesByClass
from dass_jax.errors import UserError


def decode_files(
    archive: Archive, files: FilesByClass, class_ids: Sequence[str], image_size: int
) -> Images:
    """Decodes the images of some classes, labelled by position in ``class_ids``.

    Args:
      archive: where the files are.
      files: image names of each class id.
      class_ids: the classes to decode, in the order of their labels.
      image_size: height and width of the result, in pixels.

    Raises:
      UserError: an image is broken.
    """
    names = [name for class_id in class_ids for name in files[class_id]]
    counts = [len(files[class_id]) for class_id in class_ids]
    pixels = np.empty((len(names), image_size, image_size, 3), np.uint8)
    for row, name in enumerate(names):
        pixels[row] = decode_image(archive.read(name), image_size, name, archive.path)
    labels = np.repeat(np.arange(len(class_ids), dtype=np.int32), counts)
    return Images(pixels, labels)


def decode_image(data: bytes, image_size: int, name: str, path: Path) -> UInt8[np.ndarray, "S S 3"]:
    """Decodes one image file and resizes it, aspect ratio not kept.

    Args:
      data: the bytes of the file.
      image_size: height and width of the result, in pixels.
      name: of the file, for the message.
      path: of the dataset, for the message.

    Raises:
      UserError: pillow cannot decode it.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return _resize(_to_rgb(image), image_size)
    # What pillow's decoders raise on broken input differs from format to format.
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        # Pillow's own message would tell a memory address.
        reason = "no known format" if isinstance(error, UnidentifiedImageError) else error
        raise UserError(
            f"image {name} in {path} is broken ({reason}); replace or remove it"
        ) from error


def resize_arrays(
    pixels: UInt8[np.ndarray, "N H W"]
    | UInt8[np.ndarray, "N H W 1"]
    | UInt8[np.ndarray, "N H W 3"],
    image_size: int,
) -> UInt8[np.ndarray, "N S S 3"]:
    """Brings gray or RGB images to RGB squares of ``image_size`` pixels, aspect ratio not kept."""
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    pixels = np.broadcast_to(pixels, (*pixels.shape[:3], 3))
    if pixels.shape[1:3] == (image_size, image_size):
        return np.ascontiguousarray(pixels)
    resized = np.empty((len(pixels), image_size, image_size, 3), np.uint8)
    for row, image in enumerate(pixels):
        resized[row] = _resize(Image.fromarray(np.ascontiguousarray(image)), image_size)
    return resized


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow would clip 16-bit grays at 255 instead of scaling them.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if "transparency" in image.info:
        # Straight to RGB, pillow warns about the lost transparency of a palette.
        image = image.convert("RGBA")
    return image.convert("RGB")


def _resize(image: Image.Image, image_size: int) -> UInt8[np.ndarray, "S S 3"]:
    if image.size != (image_size, image_size):
        # Pillow's filters widen with the reduction, so this is antialiased.
        image = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(image)
