"""Thousands of damaged image files: each gives an image or one clear error, soon."""

import io
import random
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from adaflow.core.data import decode as module
from adaflow.core.data.decode import decode
from adaflow.errors import DataError
from tests.images import encode, pixels

pytest_plugins = ["tests.images"]

# Between tests pytest forgets the filter that keeps Pillow's warnings from users.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

MUTANTS = 250
SECONDS = 5.0


@pytest.fixture(autouse=True)
def _few_pixels(monkeypatch):
    """Where chance makes an image of a hundred million pixels, it is refused without costing gigabytes."""
    monkeypatch.setattr(module, "MAX_PIXELS", 4_000_000)


def smooth(seed, channels=3):
    small = Image.fromarray(pixels(seed, 6, 5, channels))
    return small.resize((24, 20), Image.Resampling.BICUBIC)


def originals():
    """Name → an image file. Each has metadata where its format knows any."""
    rgb, grey, other = smooth(0), smooth(1, channels=1), smooth(2)
    rgba = rgb.copy()
    rgba.putalpha(grey)
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    exif, text = Image.Exif(), PngImagePlugin.PngInfo()
    exif[0x0112], exif[0x010E] = 6, "a lesion"
    text.add_text("Comment", "a lesion", zip=True)
    extras = {"exif": exif, "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()}
    frames = {"save_all": True, "append_images": [other]}
    files = {
        "png rgb": encode(rgb, "png", pnginfo=text, **extras),
        "png rgba": encode(rgba, "png"),
        "png 16 bit": encode(wide, "png"),
        "png palette": encode(rgb.quantize(16), "png", transparency=3),
        "png animated": encode(rgb, "png", **frames),
        "gif animated": encode(rgb, "gif", comment="a lesion", **frames),
        "tiff raw": encode(rgb, "tiff", **extras),
        "tiff lzw": encode(rgb, "tiff", compression="tiff_lzw"),
        "tiff deflate": encode(rgba, "tiff", compression="tiff_adobe_deflate"),
        "tiff packbits": encode(wide, "tiff", compression="packbits"),
        "tiff jpeg": encode(rgb, "tiff", compression="jpeg"),
        "tiff group 4": encode(grey.convert("1"), "tiff", compression="group4"),
        "tiff lab": encode(rgb.convert("LAB"), "tiff"),
        "tiff of two": encode(rgb, "tiff", **frames),
        "webp lossy": encode(rgb, "webp", **extras),
        "webp lossless": encode(rgba, "webp", lossless=True),
        "webp animated": encode(rgb, "webp", **frames),
        "bmp": encode(rgb, "bmp"),
        "bmp palette": encode(rgb.quantize(16), "bmp"),
        "ppm": encode(rgb, "ppm"),
        "pgm plain": io.BytesIO(b"P2\n4 3\n900\n" + b" ".join(str(70 * i).encode() for i in range(12))),
        "jpeg 2000": encode(rgb, "jpeg2000"),
        "jpeg 2000 grey": encode(wide, "jpeg2000", no_jp2=True, irreversible=True),
        # Last, as Pillow would use the settings of a JPEG for the TIFF that it writes of the same image next.
        "jpeg baseline": encode(rgb, "jpeg", comment="a lesion", **extras),
        "jpeg progressive": encode(rgb, "jpeg", progressive=True, restart_marker_rows=1),
        "jpeg grey": encode(grey, "jpeg"),
        "jpeg cmyk": encode(rgb.convert("CMYK"), "jpeg"),
        "jpeg of two": encode(rgb, "mpo", **frames),
    }
    return {name: file.getvalue() for name, file in files.items()} | {"png interlaced": interlaced()}


def interlaced():
    """A PNG with Adam7 interlacing, which Pillow reads but does not write."""
    array, stream = pixels(3, 20, 24, channels=1), b""
    for top, left, down, right in (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):
        stream += b"".join(b"\0" + row.tobytes() for row in array[top::down, left::right])
    chunks = ((b"IHDR", struct.pack(">2I5B", 24, 20, 8, 0, 0, 0, 1)), (b"IDAT", zlib.compress(stream)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


FILES = originals()


def mutate(data, rng):
    """One to four random injuries, as a bad disk, an aborted download or an attacker would do them."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        place = rng.randrange(len(data))
        match rng.randrange(6):
            case 0:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                del data[place:]
            case 2:
                start = rng.randrange(len(data))
                data[place:place] = data[start : start + rng.randint(1, 40)]
            case 3:
                del data[place : place + rng.randint(1, 40)]
            case 4:
                # Lengths and sizes of segments, chunks and tags are such words.
                form = rng.choice((">H", "<H", ">I", "<I"))
                word = struct.pack(form, rng.choice((0, 1, 2, 0x7FFF, 0xFFFF, rng.randrange(1 << 16))))
                data[place : place + len(word)] = word
            case _:
                # Most formats keep what matters in the first bytes.
                data[rng.randrange(min(64, len(data)))] = rng.choice((0, 1, 8, 16, 127, 255, rng.randrange(256)))
    return bytes(data)


def outcome(data):
    """ "image" or "error"; all else fails the test, as does one that takes long."""
    began = time.process_time()
    try:
        decoded = decode(data, "a\nb")
    except DataError as error:
        decoded, message = None, str(error)
    assert time.process_time() - began < SECONDS
    if decoded is None:
        assert message.startswith(r"image a\nb ")
        assert message.isprintable()
        return "error"
    assert decoded.image.mode in ("L", "RGB")
    assert decoded.image.tobytes()
    assert decoded.image.info == {}
    return "image"


@pytest.mark.parametrize("name", FILES)
def test_the_originals_are_images(name):
    assert outcome(FILES[name]) == "image"


def test_interlaced_pixels_are_put_in_order():
    np.testing.assert_array_equal(np.asarray(decode(FILES["png interlaced"], "x").image), pixels(3, 20, 24, channels=1))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", FILES)
def test_damaged_files_give_an_image_or_one_error(name):
    rng = random.Random(name)
    results = [outcome(mutate(FILES[name], rng)) for _ in range(MUTANTS)]
    assert len(results) * len(FILES) >= 2000
    assert "error" in results


@pytest.mark.parametrize("name", FILES)
def test_files_cut_short_anywhere_give_an_image_or_one_error(name):
    data = FILES[name]
    assert [outcome(data[:size]) for size in (0, 1, 8, 16, len(data) // 3)] == ["error"] * 5
    for size in range(1, len(data), max(1, len(data) // 25)):
        outcome(data[:size])
