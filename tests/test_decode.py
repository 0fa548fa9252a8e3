"""From encoded images to pixels."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from adaflow.core.data.decode import decode_image
from adaflow.errors import DataError
from tests.images import encode, pixels

pytest_plugins = ["tests.images"]


def test_rgb_and_grey_come_out_as_they_went_in():
    rgb, grey = pixels(0, 5, 7), pixels(1, 5, 7, channels=1)
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(rgb)), "x"), rgb.transpose(2, 0, 1))
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(grey)), "x"), grey[None])


def test_decoded_arrays_can_become_tensors_without_a_warning(recwarn):
    for channels in (1, 3):
        torch.from_numpy(decode_image(encode(Image.fromarray(pixels(0, channels=channels))), "x"))
    assert not recwarn.list


def test_sixteen_bit_grey_is_scaled():
    wide = np.array([[0, 128, 129, 65535, 257 * 100]], dtype=np.uint16)
    for form in ("png", "tiff"):
        np.testing.assert_array_equal(decode_image(encode(Image.fromarray(wide), form), "x"), [[[0, 0, 1, 255, 100]]])


def test_transparency_is_shown_over_black():
    rgba = np.array([[[200, 100, 50, 255], [200, 100, 50, 0], [200, 100, 50, 51]]], dtype=np.uint8)
    decoded = decode_image(encode(Image.fromarray(rgba)), "x")
    np.testing.assert_array_equal(decoded[:, 0].T, [[200, 100, 50], [0, 0, 0], [40, 20, 10]])


def test_grey_with_alpha_palettes_bilevel_and_cmyk():
    grey_alpha = Image.fromarray(np.array([[[90, 255], [90, 0]]], dtype=np.uint8), "LA")
    np.testing.assert_array_equal(decode_image(encode(grey_alpha), "x")[:, 0].T, [[90] * 3, [0] * 3])
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    np.testing.assert_array_equal(decode_image(encode(palette), "x")[:, 0].T, [[10, 20, 30], [40, 50, 60]])
    np.testing.assert_array_equal(decode_image(encode(palette, transparency=1), "x")[:, 0].T, [[10, 20, 30], [0, 0, 0]])
    bilevel = Image.fromarray(np.array([[True, False]]))
    np.testing.assert_array_equal(decode_image(encode(bilevel), "x"), [[[255, 0]]])
    assert decode_image(encode(Image.new("CMYK", (4, 4)), "jpeg"), "x").shape == (3, 4, 4)


def test_exif_orientation_turns_the_image_upright():
    array = pixels(0, 2, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side: to be turned clockwise for display
    decoded = decode_image(encode(Image.fromarray(array), exif=exif), "x")
    np.testing.assert_array_equal(decoded.transpose(1, 2, 0), np.rot90(array, -1))


@pytest.mark.parametrize(
    "data", [b"", b"no image", b"\x89PNG\r\n\x1a\n", encode(Image.new("RGB", (9, 9))).getvalue()[:-30]]
)
def test_broken_images_are_named(data):
    with pytest.raises(DataError, match=r"image sub/x\.png is broken"):
        decode_image(io.BytesIO(data), "sub/x.png")


def test_floating_point_images_are_refused():
    with pytest.raises(DataError, match="no fixed range"):
        decode_image(encode(Image.new("F", (4, 4)), "tiff"), "x.tif")


def test_a_decompression_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match=r"image x\.png has more than 200 pixels"):
        decode_image(encode(Image.new("L", (20, 20))), "x.png")
