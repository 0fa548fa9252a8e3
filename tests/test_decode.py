"""From encoded images to pixels."""

import io
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, PngImagePlugin

from adaflow.core.data import decode as module
from adaflow.core.data.decode import decode, decode_image, is_colour, is_image_name, is_junk, is_table_name
from adaflow.errors import DataError
from tests.images import encode, pixels

pytest_plugins = ["tests.images"]

# Between tests pytest forgets the filter that keeps Pillow's warnings from users.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

SECRET = "Jane Doe, born 1961"


def data(image, form="png", **options):
    return encode(image, form, **options).getvalue()


def as_array(decoded):
    return np.asarray(decoded.image)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, *chunks, depth=8, colour=0, raw=b""):
    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0))
    end = chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + end


def tiff(tags, content):
    """A little-endian TIFF of one strip, which begins at byte 8."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 8 + len(content)) + content + struct.pack("<H", len(tags)) + entries + bytes(4)


def profile(space, tags, connection=b"XYZ ", device=b"mntr"):
    """An ICC profile of version 2."""
    position, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">2I", position + len(body), len(content))
        body += content
    head = struct.pack(">I4xI", position + len(body), 0x02100000) + device + space + connection + bytes(12) + b"acsp"
    head += bytes(28) + struct.pack(">3i", *(round(value * 65536) for value in (0.9642, 1.0, 0.8249)))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def curve(gamma):
    return b"curv" + struct.pack(">4xIH2x", 1, round(gamma * 256))


def rgb_profile(gamma, order=(0, 1, 2)):
    """The primaries of sRGB, in the order given, with another curve."""
    primaries = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
    xyz = [b"XYZ " + struct.pack(">4x3i", *(round(value * 65536) for value in primaries[i])) for i in order]
    tags = {b"rXYZ": xyz[0], b"gXYZ": xyz[1], b"bXYZ": xyz[2]}
    return profile(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(gamma)))


def grey_profile(gamma):
    return profile(b"GRAY", {b"kTRC": curve(gamma)})


def cmyk_profile():
    """Lightness falls evenly with black; the other inks do nothing; the paper is yellowish."""
    ramp = bytes(range(256))
    corners = b"".join(bytes((0 if corner & 1 else 255, 128, 128)) for corner in range(16))
    matrix = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    table = b"mft1" + bytes((0, 0, 0, 0, 4, 3, 2, 0)) + matrix + 4 * ramp + corners + 3 * ramp
    paper = b"XYZ " + struct.pack(">4x3i", 60000, 60000, 30000)
    return profile(b"CMYK", {b"A2B0": table, b"wtpt": paper}, b"Lab ", b"prtr")


def test_rgb_and_grey_come_out_as_they_went_in():
    rgb, grey = pixels(0, 5, 7), pixels(1, 5, 7, channels=1)
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(rgb)), "x"), rgb.transpose(2, 0, 1))
    np.testing.assert_array_equal(decode_image(data(Image.fromarray(grey)), "x"), grey[None])


@pytest.mark.parametrize("form", ["png", "tiff", "bmp", "gif", "webp", "jpeg2000", "ppm", "jpeg"])
def test_every_format_is_read(form):
    options = {"webp": {"lossless": True}, "jpeg": {"quality": 100, "subsampling": 0}}.get(form, {})
    array = np.repeat(np.arange(0, 96, 8, dtype=np.uint8)[:, None, None], 7, axis=1) + np.zeros(3, np.uint8)
    decoded = decode(data(Image.fromarray(array), form, **options), "x")
    assert decoded.format == form.upper()
    assert np.abs(as_array(decoded).astype(int) - array).max() <= (1 if form == "jpeg" else 0)
    assert decoded.notes == ({"palette"} if form == "gif" else set())


def test_formats_outside_the_list_are_not_tried():
    for form in ("tga", "ico", "eps"):
        with pytest.raises(DataError, match="in no known format"):
            decode(data(Image.new("RGB", (16, 16)), form), "x")


def test_decoded_arrays_can_become_tensors_without_a_warning(recwarn):
    for channels in (1, 3):
        torch.from_numpy(decode_image(encode(Image.fromarray(pixels(0, channels=channels))), "x"))
    assert not recwarn.list


@pytest.mark.parametrize(
    ("form", "kind"), [("png", "<u2"), ("tiff", "<u2"), ("tiff", ">u2"), ("ppm", "<i4"), ("tiff", "<i4")]
)
def test_sixteen_bit_grey_is_scaled(form, kind):
    wide = np.array([[0, 128, 129, 65535, 257 * 100]]).astype(kind)
    decoded = decode(data(Image.fromarray(wide), form), "x")
    np.testing.assert_array_equal(as_array(decoded), [[0, 0, 1, 255, 100]])
    assert decoded.notes == {"16-bit"}


def test_every_sixteen_bit_value_is_rounded_to_the_nearest():
    wide = np.arange(65536).reshape(256, 256)
    decoded = decode(data(Image.fromarray(wide.astype(np.uint16))), "x")
    np.testing.assert_array_equal(as_array(decoded), (wide * 255 + 32767) // 65535)


def test_tiff_with_twelve_bits_and_with_white_as_zero():
    packed = tiff({256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 3}, b"\xff\xf0\x00")
    assert as_array(decode(packed, "x")).tolist() == [[255, 0]]
    wide = Image.fromarray(np.array([[0, 65535, 257]], np.uint16))
    assert as_array(decode(data(wide, "tiff", tiffinfo={262: 0}), "x")).tolist() == [[255, 0, 254]]


def test_sixteen_bit_colour_is_reduced_and_noted():
    decoded = decode(png(2, 1, depth=16, colour=2, raw=bytes((0, 10, 0, 20, 0, 30, 0, 255, 255, 0, 0, 128, 0))), "x")
    assert as_array(decoded).tolist() == [[[10, 20, 30], [255, 0, 128]]]
    assert decoded.notes == {"16-bit"}


@pytest.mark.parametrize("value", [-1, 65536])
def test_grey_values_without_a_known_range_are_refused(value):
    image = Image.fromarray(np.array([[0, value]], dtype=np.int32))
    with pytest.raises(DataError, match=r"x\.tif cannot be used: it has grey values outside 0 to 65535"):
        decode(data(image, "tiff"), "x.tif")


def test_floating_point_images_are_refused():
    with pytest.raises(DataError, match="no fixed range"):
        decode_image(encode(Image.new("F", (4, 4)), "tiff"), "x.tif")


def test_transparency_is_shown_over_black():
    rgba = np.array([[[200, 100, 50, 255], [200, 100, 50, 0], [200, 100, 50, 51]]], dtype=np.uint8)
    for form, options in (("png", {}), ("tiff", {}), ("webp", {"lossless": True, "exact": True})):
        decoded = decode(data(Image.fromarray(rgba), form, **options), "x")
        assert as_array(decoded).tolist() == [[[200, 100, 50], [0, 0, 0], [40, 20, 10]]]
        assert decoded.notes == {"transparent"}
    opaque = decode(data(Image.fromarray(rgba[:, :1])), "x")
    assert as_array(opaque).tolist() == [[[200, 100, 50]]]
    assert not opaque.notes


def test_grey_with_transparency_stays_grey():
    decoded = decode(data(Image.fromarray(np.array([[[90, 255], [90, 0]]], dtype=np.uint8), "LA")), "x")
    assert as_array(decoded).tolist() == [[90, 0]]
    decoded = decode(data(Image.fromarray(np.array([[90, 80]], dtype=np.uint8)), transparency=90), "x")
    assert as_array(decoded).tolist() == [[0, 80]]
    assert decoded.notes == {"transparent"}


def test_palettes_and_bilevel():
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    decoded = decode(data(palette), "x")
    assert as_array(decoded).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert decoded.notes == {"palette"}
    decoded = decode(data(palette, transparency=1), "x")
    assert as_array(decoded).tolist() == [[[10, 20, 30], [0, 0, 0]]]
    assert decoded.notes == {"palette", "transparent"}
    bilevel = Image.fromarray(np.array([[True, False]]))
    for form in ("png", "tiff", "ppm"):
        assert as_array(decode(data(bilevel, form), "x")).tolist() == [[255, 0]]


def test_cmyk_and_lab():
    for form in ("jpeg", "tiff"):
        decoded = decode(data(Image.new("CMYK", (4, 4), (0, 0, 0, 128)), form), "x")
        assert decoded.image.getextrema() == ((127, 127),) * 3
        assert decoded.notes == {"CMYK"}
    decoded = decode(data(Image.new("LAB", (4, 4), (128, 128, 128)), "tiff"), "x")
    np.testing.assert_allclose(decoded.image.getpixel((0, 0)), 119, atol=1)


@pytest.mark.parametrize("form", ["gif", "webp", "png", "tiff", "mpo"])
def test_of_several_pictures_the_first_is_taken(form):
    red, blue = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    options = {"webp": {"lossless": True}}.get(form, {})
    decoded = decode(data(red, form, save_all=True, append_images=[blue], **options), "x")
    np.testing.assert_allclose(decoded.image.getpixel((4, 4)), (255, 0, 0), atol=1)
    # The second picture in a phone's JPEG is no animation.
    assert ("animated" in decoded.notes) == (form != "mpo")
    assert decoded.format == {"mpo": "JPEG"}.get(form, form.upper())


@pytest.mark.parametrize("form", ["png", "jpeg", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_image_upright(form, orientation):
    array = np.zeros((16, 32, 3), np.uint8)
    array[:8, :8] = 255  # The mark that shows where the upper left corner goes.
    stored = array
    if orientation in (3, 4, 7, 8):
        stored = stored[::-1]
    if orientation in (2, 3, 6, 7):
        stored = stored[:, ::-1]
    if orientation >= 5:
        stored = stored.transpose(1, 0, 2)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"webp": {"lossless": True}, "jpeg": {"quality": 100}}.get(form, {})
    decoded = decode(data(Image.fromarray(np.ascontiguousarray(stored)), form, exif=exif, **options), "x")
    assert np.abs(as_array(decoded).astype(int) - array).max() <= 3
    assert decoded.notes == ({"turned upright"} if orientation > 1 else set())


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0nonsense",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04six\0\0\0\0\0",
    ],
    ids=["nonsense", "offset", "cut short", "a word for a number"],
)
def test_broken_exif_does_not_lose_the_image(exif):
    decoded = decode(data(Image.new("L", (8, 8), 9), "jpeg", exif=exif), "x")
    assert decoded.image.getextrema() == (9, 9)
    assert not decoded.notes


def test_a_colour_profile_is_converted_to_srgb():
    array = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    for form in ("png", "jpeg", "tiff", "webp"):
        swapped = data(Image.fromarray(array), form, icc_profile=rgb_profile(2.2, order=(2, 1, 0)))
        decoded = decode(swapped, "x")
        np.testing.assert_allclose(decoded.image.getpixel((4, 4)), (50, 100, 200), atol=5)
        assert decoded.notes == {"colour profile"}
    linear = decode(data(Image.new("RGB", (8, 8), (55, 55, 55)), icc_profile=rgb_profile(1.0)), "x")
    np.testing.assert_allclose(linear.image.getpixel((4, 4)), 128, atol=1)


def test_profiles_of_grey_cmyk_and_palettes():
    grey = decode(data(Image.new("L", (8, 8), 55), icc_profile=grey_profile(1.0)), "x")
    assert grey.image.mode == "L"
    assert abs(grey.image.getpixel((0, 0)) - 128) <= 1
    assert grey.notes == {"colour profile"}
    cmyk = decode(data(Image.new("CMYK", (8, 8), (0, 0, 0, 128)), "tiff", icc_profile=cmyk_profile()), "x")
    np.testing.assert_allclose(cmyk.image.getpixel((0, 0)), 119, atol=2)
    # Perceptual intent: paper becomes white, whatever its colour.
    paper = decode(data(Image.new("CMYK", (8, 8)), "tiff", icc_profile=cmyk_profile()), "x")
    np.testing.assert_allclose(paper.image.getpixel((0, 0)), 255, atol=1)
    assert cmyk.notes == {"CMYK", "colour profile"}
    palette = Image.new("RGB", (8, 8), (55, 55, 55)).quantize(2)
    palette = decode(data(palette, icc_profile=rgb_profile(1.0)), "x")
    np.testing.assert_allclose(palette.image.getpixel((4, 4)), 128, atol=1)


def test_a_profile_is_applied_before_transparency():
    image = Image.new("RGBA", (8, 8), (55, 55, 55, 128))
    decoded = decode(data(image, icc_profile=rgb_profile(1.0)), "x")
    np.testing.assert_allclose(decoded.image.getpixel((4, 4)), 64, atol=1)
    assert decoded.notes == {"colour profile", "transparent"}


@pytest.mark.parametrize(
    "icc",
    [
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        b"nonsense" * 30,
        rgb_profile(1.0)[:-60],
        cmyk_profile(),
        grey_profile(1.0),
    ],
    ids=["sRGB", "nonsense", "truncated", "CMYK", "grey"],
)
def test_profiles_that_are_srgb_or_useless_change_nothing(icc):
    array = pixels(0)
    decoded = decode(data(Image.fromarray(array), icc_profile=icc), "x")
    np.testing.assert_array_equal(as_array(decoded), array)
    assert not decoded.notes


@pytest.mark.parametrize("converted", [False, True])
@pytest.mark.parametrize("form", ["png", "jpeg", "tiff", "webp", "gif"])
def test_no_metadata_is_left(form, converted):
    exif, info = Image.Exif(), PngImagePlugin.PngInfo()
    exif[0x010E] = exif[0x9286] = SECRET
    info.add_text("Patient", SECRET)
    options = {"exif": exif, "comment": SECRET.encode(), "dpi": (300, 300)}
    options["icc_profile"] = rgb_profile(2.2) if converted else SECRET.encode()
    if form == "png":
        options["pnginfo"] = info
    original = data(Image.fromarray(pixels(0)), form, **options)
    assert SECRET.encode() in original
    image = decode(original, "x").image
    assert type(image) is Image.Image
    assert image.info == {}
    assert not dict(image.getexif())
    for again in ("png", "jpeg", "tiff", "webp", "gif"):
        assert SECRET.encode() not in data(image, again)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no image",
        b"\x89PNG\r\n\x1a\n",
        b"#!/bin/sh\necho pwned\n",
        b"\x89PNG\r\n\x1a\n#!/bin/sh\necho pwned\n",
        data(Image.new("RGB", (9, 9)))[:-30],
        data(Image.new("RGB", (99, 99)), "jpeg")[:-30],
        data(Image.new("RGB", (99, 99)), "webp")[:-30],
        png(4, 4, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 22))), raw=bytes(20)),
        png(4, 4, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1000000))) * 80, raw=bytes(20)),
        tiff({256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 273: 8, 277: 65535, 278: 4, 279: 16}, bytes(16)),
        tiff({256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 273: 0x7FFFFFFF, 277: 1, 278: 4, 279: 0x7FFFFFFF}, bytes(16)),
        tiff({256: 4, 257: 4, 258: 8, 259: 8, 262: 1, 273: 8, 277: 1, 278: 4, 279: 16}, bytes(16)),
    ],
)
def test_broken_images_are_named(content):
    for read in (decode, decode_image):
        with pytest.raises(DataError, match=r"^image sub/x\.png is broken"):
            read(content, "sub/x.png")


def test_names_in_messages_are_printable():
    with pytest.raises(DataError) as caught:
        decode(b"", "a\nb\x1b[31m\udcff\u202ec")
    assert caught.value.message == r"image a\nb\x1b[31m\udcff\u202ec is broken or in no known format"


def test_whatever_goes_wrong_is_told_on_one_line(monkeypatch):
    for error, told in ((RuntimeError(), "RuntimeError"), (SystemError("two\nlines\x1b"), r"two lines\x1b")):
        monkeypatch.setattr(module, "_decode", Mock(side_effect=error))
        with pytest.raises(DataError) as caught:
            decode(data(Image.new("L", (4, 4))), "x")
        assert caught.value.message == f"image x is broken: {told}"


@pytest.mark.parametrize(
    "content",
    [
        png(60000, 60000),
        b"GIF89a" + struct.pack("<2H3x", 60000, 60000) + b"," + struct.pack("<4Hx", 0, 0, 60000, 60000) + b"\x02\0;",
        b"P6 60000 60000 255 ",
        b"BM" + struct.pack("<I4xI", 0, 54) + struct.pack("<IiiHH6I", 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0),
        tiff({256: 60000, 257: 60000, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 60000, 279: 9}, bytes(9)),
        tiff({256: 9, 257: 9, 258: 8, 259: 8, 262: 1, 277: 1, 322: 60000, 323: 60000, 324: 8, 325: 9}, bytes(9)),
        data(Image.new("L", (9, 9)), "jpeg").replace(b"\x08\0\x09\0\x09", b"\x08\xea\x60\xea\x60"),
        data(Image.new("RGBA", (9, 9)), "webp").replace(b"\x08\0\0\x08\0\0", b"\x00\x40\0\x00\x40\0"),
    ],
    ids=["png", "gif", "ppm", "bmp", "tiff", "tiff tile", "jpeg", "webp"],
)
def test_too_many_pixels_are_refused_by_the_header_alone(content, monkeypatch):
    monkeypatch.setattr(module, "_decode", lambda *_: pytest.fail("pixels were decoded"))
    with pytest.raises(DataError, match=r"image x has more than 150,000,000 pixels"):
        decode(content, "x")


def test_the_limit_of_pixels_is_exact(monkeypatch):
    monkeypatch.setattr(module, "MAX_PIXELS", 400)
    decode(data(Image.new("L", (20, 20))), "x")
    with pytest.raises(DataError, match="more than 400 pixels"):
        decode(data(Image.new("L", (401, 1))), "x")


def test_a_jpeg_of_endless_scans_is_refused():
    content = data(Image.new("L", (64, 64)), "jpeg", progressive=True)
    scan = content[content.rindex(b"\xff\xda") : -2]
    decode(content[:-2] + scan * 50 + content[-2:], "x")
    with pytest.raises(DataError, match="more than 200 scans"):
        decode(content[:-2] + scan * 200 + content[-2:], "x")


def test_a_file_is_read_to_a_limit(monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 100)

    class Endless(io.BytesIO):
        def read(self, size=-1):
            assert 0 <= size <= 101
            return bytes(size)

    for content in (bytes(101), Endless()):
        with pytest.raises(DataError, match="larger than 1 GiB"):
            decode_image(content, "x")


def test_pillow_does_not_warn_or_log():
    program = r"""
import io, logging
from PIL import Image
from adaflow.core.data.decode import decode
def check(image, form, **options):
    data = io.BytesIO()
    image.save(data, form, **options)
    decode(data.getvalue(), "x")
palette = Image.new("P", (4, 4))
palette.putpalette(bytes(range(12)))
check(palette, "PNG", transparency=bytes(4))
check(Image.new("L", (10000, 9000)), "PNG")
check(Image.new("L", (8, 8)), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
logging.getLogger("PIL.TiffImagePlugin").error("More samples per pixel than can be decoded")
"""
    result = subprocess.run([sys.executable, "-W", "always", "-c", program], capture_output=True, text=True, check=True)
    assert result.stderr == ""


def test_images_are_decoded_the_same_in_many_threads():
    profiles = [None, rgb_profile(1.0), rgb_profile(2.2, (1, 0, 2)), rgb_profile(1.8)]
    contents = [data(Image.fromarray(pixels(i, 40, 40)), icc_profile=profiles[i % 4]) for i in range(12)]
    expected = [as_array(decode(content, "x")).tobytes() for content in contents]
    assert len(set(expected)) == len(expected)
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda i: as_array(decode(contents[i % 12], "x")).tobytes(), range(240))
        assert list(found) == expected * 20


def test_a_lack_of_memory_says_nothing_of_the_image(monkeypatch):
    monkeypatch.setattr(module, "_decode", Mock(side_effect=MemoryError))
    with pytest.raises(MemoryError):
        decode(data(Image.new("L", (4, 4))), "x")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F"])
def test_the_header_tells_colour_as_decoding_does(mode):
    content = data(Image.new(mode, (4, 4)), "tiff")
    try:
        expected = decode(content, "x").image.mode == "RGB"
    except DataError:
        expected = False
    assert is_colour(content) == expected
    assert not is_colour(content[:3])


def test_names_tell_the_kind_of_file():
    assert all(is_image_name(name) for name in ("a.PNG", "b/c.jpeg", "d.tif", "e.jp2"))
    assert not any(is_image_name(name) for name in ("a", "png", "a.csv", "a.mp4", "a.eps", ".png"))
    assert is_table_name("x/train.CSV")
    assert is_table_name("x.tsv")
    assert not is_table_name("x.png")
    assert is_junk("a/.hidden/b.png")
    assert is_junk("__MACOSX/a.png")
    assert not is_junk("a.b/c.png")
