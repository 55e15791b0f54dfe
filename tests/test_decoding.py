import io
from unittest import mock

import numpy as np
import pytest
from miniatures import encode
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from dass_jax.data.decoding import decode_image, resize_array
from dass_jax.errors import UserError


def decode(data, size=8):
    return decode_image(data, size, "picture")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(120, mode="L"), (120, 120, 120)),
        (encode(120 << 8, mode="I;16"), (120, 120, 120)),
        (encode((1, 2, 3, 0), mode="RGBA"), (255, 255, 255)),
        (encode((0, 100, 255, 51), mode="RGBA"), (204, 224, 255)),
        (encode((1, 2, 3, 255), mode="RGBA"), (1, 2, 3)),
        (encode((0, 51), mode="LA"), (204, 204, 204)),
        (encode(7, mode="L", transparency=7), (255, 255, 255)),
        (encode((1, 2, 3), transparency=(1, 2, 3)), (255, 255, 255)),
        (encode((1, 2, 3), transparency=(1, 2, 4)), (1, 2, 3)),
        (encode(1, mode="1"), (255, 255, 255)),
        (encode(0, mode="P", transparency=b"\x33"), (204, 204, 204)),
        (encode(120 << 8, mode="I;16", file_format="PPM"), (120, 120, 120)),
        (encode(120 << 8, mode="I;16", file_format="TIFF"), (120, 120, 120)),
        (encode(120 << 8, mode="I", file_format="TIFF"), (120, 120, 120)),
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


@pytest.mark.parametrize("size", [16, 150])
def test_large_jpeg_is_reduced_while_it_is_decoded(size):
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (12, 16, 3)).astype(np.uint8))
    smooth = np.asarray(coarse.resize((2000, 1500), Image.Resampling.BICUBIC)).astype(int)
    fine = np.clip(smooth + rng.integers(-60, 60, smooth.shape), 0, 255).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(fine).save(data, "JPEG", quality=95)
    drafts = []

    def draft(image, mode, wanted):
        drafts.append((wanted, original(image, mode, wanted), image.size))

    original = JpegImageFile.draft
    with mock.patch.object(JpegImageFile, "draft", draft):
        reduced = decode(data.getvalue(), size).astype(int)
    [(wanted, _, (width, height))] = drafts
    assert min(wanted) >= 2 * size
    assert 2 * size <= height <= 1500 // 4
    assert 2 * size <= width <= 2000 // 4
    # Compared with what pillow makes of all pixels.
    with Image.open(data) as image:
        reference = resize_array(np.asarray(image), size).astype(int)
    assert abs(reduced - reference).mean() < 2
    assert abs(reduced - reference).max() < 25


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


def test_drawings_on_nothing_are_seen():
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 8))
    data = io.BytesIO()
    image.save(data, "WEBP", lossless=True)
    pixels = decode(data.getvalue())
    assert (tuple(pixels[4, 1]), tuple(pixels[4, 6])) == ((0, 0, 0), (255, 255, 255))


@pytest.mark.parametrize(("mode", "value"), [("F", 0.5), ("I", 0x10000), ("I", -1)])
def test_values_beyond_16_bits_are_refused(mode, value):
    with pytest.raises(UserError, match=r"picture is broken \(its values do not fit into 16 bits"):
        decode(encode(value, mode=mode, file_format="TIFF"))


def test_formats_that_other_programs_decode_are_refused():
    with pytest.raises(UserError, match=r"picture is broken \(no known format"):
        decode(encode((1, 2, 3), file_format="EPS"))


def test_images_of_stereo_cameras_are_decoded():
    other = Image.new("RGB", (10, 6))
    data = encode((90, 90, 90), file_format="MPO", save_all=True, append_images=[other])
    assert tuple(decode(data)[3, 3]) == (90, 90, 90)


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP"])
def test_damaged_exif_is_named(file_format):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x011A] = 72.0
    data = encode((1, 2, 3), file_format=file_format, exif=exif)
    # The type of the resolution, which turning the image writes anew, is no longer a number.
    damaged = data.replace(b"\x01\x1a\x00\x05", b"\x01\x1a\x00\x07")
    assert damaged != data
    with pytest.raises(UserError, match=r"picture is broken \(bad operand"):
        decode(damaged)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP"])
def test_truncated_image_is_named(file_format):
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).save(data, file_format)
    with pytest.raises(UserError, match="picture is broken"):
        decode(data.getvalue()[: len(data.getvalue()) // 2])
