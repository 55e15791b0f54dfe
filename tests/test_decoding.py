import io

import numpy as np
import pytest
from miniatures import encode
from PIL import Image

from dass_jax.data.decoding import decode_image, resize_array
from dass_jax.errors import UserError


def decode(data, size=8):
    return decode_image(data, size, "picture")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(120, mode="L"), (120, 120, 120)),
        (encode(120 << 8, mode="I;16"), (120, 120, 120)),
        (encode((1, 2, 3, 9), mode="RGBA"), (1, 2, 3)),
        (encode(1, mode="1"), (255, 255, 255)),
        (encode(0, mode="P", transparency=b"\x80"), (0, 0, 0)),
        (encode((1, 2, 3), size=(300, 200)), (1, 2, 3)),
        (encode((90, 90, 90), file_format="JPEG"), (90, 90, 90)),
    ],
)
def test_every_kind_of_image_becomes_rgb(data, expected):
    pixels = decode(data)
    assert pixels.shape == (8, 8, 3)
    assert tuple(int(value) for value in pixels[3, 3]) == expected


def checkerboard(side):
    return (np.indices((side, side)).sum(0) % 2 * 255).astype(np.uint8)


def test_reduction_is_antialiased():
    # Nearest or plain bilinear sampling would show black or white.
    reduced = resize_array(checkerboard(64), 8)
    assert reduced.shape == (8, 8, 3)
    assert abs(reduced.astype(int) - 127).max() < 8


def test_large_jpeg_is_reduced_like_its_pixels():
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    smooth = Image.fromarray(noise).resize((512, 512), Image.Resampling.BICUBIC)
    data = io.BytesIO()
    smooth.save(data, "JPEG", quality=95)
    reference = resize_array(np.asarray(smooth), 16).astype(int)
    assert abs(decode(data.getvalue(), 16) - reference).mean() < 3


def test_photographs_are_turned_as_the_camera_was_held():
    image = Image.new("RGB", (16, 8), (255, 0, 0))
    image.paste((0, 0, 255), (8, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = 3  # held upside down
    data = io.BytesIO()
    image.save(data, "PNG", exif=exif)
    assert tuple(decode(data.getvalue())[4, 1]) == (0, 0, 255)


@pytest.mark.parametrize(("data", "reason"), [(b"no image", "no known format"), (b"", "no known")])
def test_what_is_no_image_is_named(data, reason):
    with pytest.raises(UserError, match=f"picture is broken .{reason}.*; replace or remove it"):
        decode(data)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP"])
def test_truncated_image_is_named(file_format):
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).save(data, file_format)
    with pytest.raises(UserError, match="picture is broken"):
        decode(data.getvalue()[: len(data.getvalue()) // 2])
