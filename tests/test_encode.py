"""From pixels to image files that hold nothing else."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from adaflow.core.data import encode as encode_module
from adaflow.core.data.decode import decode
from adaflow.core.data.encode import CODECS, encode
from adaflow.core.data.geometry import Geometry, fit
from tests.images import encode as file_of
from tests.images import pixels

pytest_plugins = ["tests.images"]

SECRET = "Jane Doe, born 1961"


def photo(seed=0):
    return Image.fromarray(pixels(seed, 6, 8)).resize((48, 36), Image.Resampling.BICUBIC)


def opened(content):
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def with_secrets(form, **options):
    """An image file with something personal wherever its format has a place for it."""
    exif, info = Image.Exif(), PngImagePlugin.PngInfo()
    exif[0x010E] = exif[0x8298] = SECRET
    info.add_text("Patient", SECRET)
    info.add_itxt("Patient", SECRET)
    info.add(b"prVt", SECRET.encode())
    plain = SECRET.encode()
    options |= {"exif": exif, "comment": plain, "icc_profile": plain * 9, "xmp": plain, "dpi": (300, 300)}
    if form == "png":
        options["pnginfo"] = info
    return file_of(photo(), form, **options).getvalue() + plain


@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from((1, 3)), st.sampled_from(("png", "webp", "keep")))
def test_pixels_and_mode_come_back(height, width, channels, codec):
    image = Image.fromarray(pixels(0, height, width, channels))
    content, suffix = encode(image, codec, None, None)
    back = decode(content, "x").image
    assert back.mode == image.mode
    np.testing.assert_array_equal(np.asarray(back), np.asarray(image))
    # WebP knows no grey, and without an original there is no format to keep.
    assert suffix == (".webp" if codec == "webp" and channels == 3 else ".png")


def test_png_is_uncompressed_and_well_formed():
    array = pixels(0, 5, 7)
    content, _ = encode(Image.fromarray(array), "png", None, None)
    position, kinds, stream = 8, [], b""
    while position < len(content):
        (length,) = struct.unpack_from(">I", content, position)
        kind, body = content[position + 4 : position + 8], content[position + 8 : position + 8 + length]
        assert struct.unpack_from(">I", content, position + 8 + length) == (zlib.crc32(kind + body),)
        kinds.append(kind)
        stream += body if kind == b"IDAT" else b""
        position += 12 + length
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
    assert zlib.decompress(stream) == b"".join(b"\0" + row.tobytes() for row in array)
    assert array.size < len(content) < array.size + 100
    Image.open(io.BytesIO(content)).verify()


def test_large_pngs_are_whole():
    array = pixels(0, 300, 400)
    content, _ = encode(Image.fromarray(array), "png", None, None)
    np.testing.assert_array_equal(np.asarray(opened(content)), array)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("jpeg", {}),
        ("jpeg", {"progressive": True}),
        ("png", {}),
        ("webp", {}),
        ("webp", {"lossless": True}),
        ("tiff", {}),
    ],
)
@pytest.mark.parametrize("geometry", [Geometry(48, 36), Geometry(32, 32), Geometry(48, 36, "wide")])
def test_no_metadata_gets_through(form, options, codec, geometry):
    data = with_secrets(form, **options)
    original = decode(data, "x")
    content, suffix = encode(fit(original.image, geometry)[0], codec, original, data)
    assert SECRET.encode() not in content
    back = opened(content)
    assert not dict(back.getexif())
    assert set(back.info) <= {
        "jfif",
        "jfif_version",
        "jfif_unit",
        "jfif_density",
        "loop",
        "background",
        "timestamp",
        "duration",
        "progressive",
        "progression",
    }
    assert back.info.get("jfif_density", (1, 1)) == (1, 1)
    assert back.format == {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}[suffix]
    for mark in (
        b"Exif",
        b"EXIF",
        b"ICC",
        b"iCCP",
        b"XMP",
        b"xmp",
        b"tEXt",
        b"iTXt",
        b"zTXt",
        b"eXIf",
        b"pHYs",
        b"Adobe",
    ):
        assert mark not in content


@pytest.mark.parametrize(
    ("form", "suffix"), [("jpeg", ".jpg"), ("png", ".png"), ("webp", ".webp"), ("tiff", ".png"), ("mpo", ".jpg")]
)
def test_keep_keeps_the_format(form, suffix):
    data = file_of(photo(), form).getvalue()
    original = decode(data, "x")
    for image in (original.image, photo(1)):
        content, found = encode(image, "keep", original, data)
        assert found == suffix
        if suffix != ".jpg":
            np.testing.assert_array_equal(np.asarray(opened(content)), np.asarray(image))


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_an_unchanged_jpeg_keeps_its_quality(subsampling):
    data = file_of(photo(), "jpeg", quality=62, subsampling=subsampling).getvalue()
    original = decode(data, "x")
    content, _ = encode(original.image, "keep", original, data)
    before, after = opened(data), opened(content)
    assert after.quantization == before.quantization
    assert [component[1:3] for component in after.layer] == [component[1:3] for component in before.layer]
    assert len(content) <= len(data)
    assert content.endswith(data[data.index(b"\xff\xda") :])


def test_a_grey_jpeg_stays_grey():
    data = file_of(photo().convert("L"), "jpeg", quality=40).getvalue()
    original = decode(data, "x")
    after = opened(encode(original.image, "keep", original, data)[0])
    assert after.mode == "L"
    assert after.quantization == opened(data).quantization


JPEGS = {
    "plain": {"quality": 62},
    "progressive": {"progressive": True},
    "colours in full": {"quality": 90, "subsampling": "4:4:4"},
    "restarts": {"restart_marker_blocks": 2},
    "optimized": {"optimize": True, "quality": 35},
    "RGB, by Adobe": {"keep_rgb": True},
}


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_an_unchanged_jpeg_keeps_its_very_pixels(kind, mode):
    image = photo().convert(mode)
    data = file_of(image, "jpeg", comment=SECRET.encode(), **JPEGS[kind]).getvalue()
    thumbnail = file_of(photo(1), "jpeg").getvalue()
    exif = b"\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
    fill = b"\xff\xff"
    data = data[:2] + exif + fill + data[2:-2] + b"\xff" + data[-2:] + thumbnail + SECRET.encode()
    original = decode(data, "x")
    content, suffix = encode(original.image, "keep", original, data)
    assert suffix == ".jpg"
    assert SECRET.encode() not in content
    assert content.count(b"\xff\xd8") == content.count(b"\xff\xd9") == 1
    assert decode(content, "x").image.tobytes() == original.image.tobytes()
    scan = data[data.index(b"\xff\xda", len(exif)) : -len(thumbnail) - len(SECRET) - 3]
    assert scan in content


def test_what_says_how_colours_are_meant_is_written_anew():
    data = file_of(photo(), "jpeg", keep_rgb=True).getvalue()
    place = data.index(b"Adobe")
    secret = b"Adobe" + SECRET[:6].encode() + data[place + 11 : place + 12] + SECRET.encode()
    data = data[: place - 2] + struct.pack(">H", 2 + len(secret)) + secret + data[place + 12 :]
    original = decode(data, "x")
    content, _ = encode(original.image, "keep", original, data)
    assert b"Adobe\0\x64\0\0\0\0\0" in content
    assert SECRET[:6].encode() not in content
    assert decode(content, "x").image.tobytes() == original.image.tobytes()


@pytest.mark.parametrize("segment", [b"\xff\xcc\x00\x04\x00\x10", b"\xff\xdc\x00\x08SECRET"])
def test_a_jpeg_with_unusual_parts_is_compressed_again(segment):
    data = file_of(photo(), "jpeg", quality=62).getvalue()
    data = data[:2] + segment + data[2:]
    original = decode(data, "x")
    content, _ = encode(original.image, "keep", original, data)
    assert segment not in content
    assert opened(content).quantization == opened(data).quantization


@pytest.mark.parametrize("copy", [file_of(photo(9), "jpeg").getvalue(), b"\xff\xd8\xff\xd9", None])
def test_a_copy_that_is_another_picture_is_not_taken(monkeypatch, copy):
    monkeypatch.setattr(encode_module, "_bare_jpeg", lambda data: copy)
    data = file_of(photo(), "jpeg").getvalue()
    original = decode(data, "x")
    after = opened(encode(original.image, "keep", original, data)[0])
    assert np.abs(np.subtract(after, original.image, dtype=np.int16)).mean() < 5


def test_a_long_run_of_fill_bytes_costs_no_time():
    data = file_of(photo(), "jpeg").getvalue()
    data = data[:-2] + b"\xff" * 3_000_000 + data[-2:]
    original = decode(data, "x")
    assert len(encode(original.image, "keep", original, data)[0]) < 10_000


def test_a_changed_jpeg_gets_the_best_quality():
    exif = Image.Exif()
    exif[0x0112] = 3
    for options, image in (({}, photo(1)), ({"exif": exif}, None)):
        data = file_of(photo(), "jpeg", quality=30, **options).getvalue()
        original = decode(data, "x")
        after = opened(encode(image or original.image, "keep", original, data)[0])
        assert [component[1:3] for component in after.layer] == [(1, 1)] * 3
        best = opened(file_of(photo(), "jpeg", quality=95).getvalue())
        assert after.quantization == best.quantization


def test_equal_pixels_make_equal_files():
    for codec in CODECS:
        assert encode(photo(), codec, None, None) == encode(photo(), codec, None, None)
