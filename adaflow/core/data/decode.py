"""From the bytes of an image file to pixels, and which files are images."""

from __future__ import annotations

import io
import logging
import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import (  # Importing a plugin makes its format known.
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageCms,
    Jpeg2KImagePlugin,  # noqa: F401
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from adaflow.core.data.parallel import budget
from adaflow.core.data.source import printable
from adaflow.errors import DataError

IMAGE_SUFFIXES = frozenset(
    {".apng", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"}
    | {".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
TABLE_SUFFIXES = frozenset({".csv", ".tsv"})

# Pillow knows dozens of formats more; some of them start other programs, all of them are doors for broken files.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")

# Several times the largest mammograms and photographs of skin, and below the 179 million where Pillow itself refuses.
# Decoding takes 2 to 8 bytes a pixel, more with transparency, and up to 18 in JPEG 2000 and animated WebP.
MAX_PIXELS = 150_000_000
MAX_BYTES = 1 << 30
LOW_VALUES = "12-bit in 16-bit"
"""The note for 16-bit files without a value of 4,096 or more: scaled from the full range, they are nearly black."""
# A progressive JPEG has about ten scans. Each costs a pass over all pixels, but hardly a byte of the file.
MAX_SCANS = 200

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
_GREY = ("1", "L", "LA", "La")

# Pillow divides large images into blocks, of 16 MiB by default. The C library keeps freed blocks of that size for the
# thread that had them; larger ones it gives back to the system at once.
Image.core.set_block_size(1 << 26)  # type: ignore[attr-defined]

# Pillow warns of large images, strange metadata and the like, as does its logger; we say what matters to the user.
# Filters are set for the process once, as setting them around each image would not be safe among threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Decoded:
    """An image as a viewer would show it.

    Args:
        image: of mode "L" (grey) or "RGB", in sRGB, upright, without any metadata.
        notes: what had to be done to it: "animated" (the first frame was taken), "colour profile" (converted to sRGB),
            "turned upright", "16-bit" (reduced to 8), `LOW_VALUES`, "transparent" (shown over black), "CMYK" or
            "palette".
        format: of the file, in Pillow's words, for example "JPEG".
    """

    image: Image.Image
    notes: frozenset[str]
    format: str


def is_image_name(name: str) -> bool:
    """Whether a file of this name (with `/` between folders) is taken for an image, judged by its extension."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def is_table_name(name: str) -> bool:
    """Whether a file of this name is taken for a table of labels, judged by its extension."""
    return PurePosixPath(name).suffix.lower() in TABLE_SUFFIXES


def is_junk(name: str) -> bool:
    """Whether the file or one of its folders is hidden or a leftover of macOS."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def decode(data: bytes, name: str) -> Decoded:
    """Decode an image as a viewer would show it.

    Grey images stay grey: 8-bit, bilevel, 16-bit (scaled by 255/65535), and grey with transparency. All else becomes
    RGB: palettes, CMYK, LAB, 16 bits a colour and so on. Transparent areas are shown over black. Of an animation or a
    file of several pages, the first is taken. The EXIF orientation is applied. An embedded colour profile is converted
    to sRGB with perceptual intent; a broken one, or one that does not fit the image, is passed over. CMYK without a
    profile is converted by its textbook formula.

    Safe to call from several threads at once.

    Args:
        data: the image file's content.
        name: the image's name, for messages.

    Raises:
        DataError: broken, not an image of one of `FORMATS`, too large, or a kind that has no fixed range of values.
            Whatever the data, no other exception is raised, but for a MemoryError: that says nothing of the image.
    """
    shown = printable(name)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as file:
            budget.claim(_checked_size(file, data, shown))
            return _decode(file, shown)
    except (DataError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise _too_large(shown) from None
    except UnidentifiedImageError:
        raise DataError(f"image {shown} is broken or in no known format") from None
    except Exception as error:  # On damaged files Pillow raises nearly anything.
        reason = printable(" ".join(str(error).split())) or type(error).__name__
        raise DataError(f"image {shown} is broken: {reason}") from error


def decode_image(file: bytes | BinaryIO, name: str) -> NDArray[np.uint8]:
    """Decode an image to an array, see `decode`.

    Args:
        file: the encoded image.
        name: the image's name, for messages.

    Returns:
        [C, H, W], C = 1 (grey) or 3 (RGB), contiguous and writable.

    Raises:
        DataError: see `decode`; or the file is larger than 1 GiB.
    """
    if not isinstance(file, bytes):
        file = file.read(MAX_BYTES + 1)
    if len(file) > MAX_BYTES:
        raise DataError(f"image {printable(name)} is larger than 1 GiB")
    image = decode(file, name).image
    pixels = np.empty((len(image.getbands()), image.height, image.width), np.uint8)
    for channel, band in enumerate(pixels):
        band[:] = np.asarray(image.getchannel(channel))
    return pixels


def is_colour(data: bytes) -> bool:
    """Whether the header is that of an image which `decode` makes RGB; False for one that is grey, or is no image."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as file:
            return file.mode not in (*_GREY, "F") and not file.mode.startswith("I")
    except Exception:  # As in `decode`, which will say what is wrong.
        return False


def _checked_size(file: Image.Image, data: bytes, shown: str) -> int:
    """The pixels that will be decoded; refuses too many, by what the header says, before any is."""
    pixels = file.width * file.height
    if isinstance(file, TiffImagePlugin.TiffImageFile):
        # A whole tile is decoded at a time, however small the image.
        tile = [file.tag_v2.get(tag, 0) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH)]
        pixels = max(pixels, tile[0] * tile[1])
    if pixels > MAX_PIXELS:
        raise _too_large(shown)
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > MAX_SCANS:
        raise DataError(f"image {shown} is broken: it has more than {MAX_SCANS} scans")
    return pixels


def _too_large(shown: str) -> DataError:
    return DataError(f"image {shown} has more than {MAX_PIXELS:,} pixels", "Cut it into smaller images first.")


def _decode(file: Image.Image, shown: str) -> Decoded:
    """Decode what `Image.open` found."""
    # Phones put a second picture behind the first in a JPEG (format MPO), which is no animation.
    kind = "JPEG" if file.format == "MPO" else str(file.format)
    deep = file.mode.startswith("I") or re.search(r";(12|16[BLN])", str(getattr(file, "tile", [])[:1]))
    # TIFF files are turned while they are loaded, the others are not.
    turned = kind == "TIFF" and _orientation(file) in _TURNS
    file.load()
    turn = _TURNS.get(_orientation(file))
    image, alpha = _eight_bit(file, shown)
    in_srgb = _to_srgb(image, file.info.get("icc_profile"))
    notes = {
        "animated": getattr(file, "is_animated", False) and kind != "JPEG",
        "colour profile": in_srgb is not None,
        "turned upright": turned or turn is not None,
        "16-bit": deep,
        LOW_VALUES: _has_low_values(file),
        "transparent": alpha is not None,
        "CMYK": file.mode == "CMYK",
        "palette": file.mode in ("P", "PA"),
    }
    image = in_srgb or image
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    if alpha is not None:
        colours, image = image, Image.new(image.mode, image.size)
        image.paste(colours, mask=alpha)
    if turn is not None:
        image = image.transpose(turn)
    if image is file:
        image = file.copy()  # without what the reader keeps of the file
    image.info = {}
    return Decoded(image, frozenset(note for note, holds in notes.items() if holds), kind)


def _orientation(file: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) where there is none that can be read."""
    try:
        return int(file.getexif().get(_ORIENTATION, 1))
    except Exception:  # Broken metadata is no reason to lose the pixels.
        return 1


def _eight_bit(file: Image.Image, shown: str) -> tuple[Image.Image, Image.Image | None]:
    """The image in 8 bits without alpha, as L, RGB, CMYK, LAB or YCbCr; and its alpha channel unless it is opaque."""
    if file.mode == "F":
        raise DataError(f"image {shown} cannot be used: floating-point values have no fixed range")
    if file.mode.startswith("I"):
        return _from_sixteen_bits(file, shown), None
    grey = file.mode in _GREY
    if not file.has_transparency_data:
        return (file.convert("L" if grey else "RGB") if file.mode in ("1", "P") else file), None
    image = file.convert("LA" if grey else "RGBA")
    alpha = image.getchannel("A")
    return image.convert("L" if grey else "RGB"), None if alpha.getextrema() == (255, 255) else alpha


def _has_low_values(file: Image.Image) -> bool:
    """Whether a file of 16-bit grey uses 12 bits at most; files that say they have 12 bits are read as such."""
    if not file.mode.startswith("I"):
        return False
    if isinstance(file, TiffImagePlugin.TiffImageFile) and file.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE) == (12,):
        return False
    return 0 < int(np.asarray(file).max()) < 4096


def _from_sixteen_bits(file: Image.Image, shown: str) -> Image.Image:
    """Grey of 16 bits scaled by 255/65535 and rounded."""
    values = np.asarray(file)
    if values.min() < 0 or values.max() > 65535:
        raise DataError(f"image {shown} cannot be used: it has grey values outside 0 to 65535")
    wide: NDArray[np.integer] = values.astype(np.uint16)
    if isinstance(file, TiffImagePlugin.TiffImageFile):
        if file.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE) == (12,):
            wide = (wide << 4) | (wide >> 8)
        if file.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:  # White is zero, as in X-ray pictures.
            wide = 65535 - wide
    grey = wide // 257
    grey += wide - grey * 257 > 128
    return Image.fromarray(grey.astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    """The image (L, RGB or CMYK) in sRGB, or None where there is nothing to convert."""
    transform = _transform(profile, image.mode) if profile else None
    if transform is None:
        return None
    converted = transform.apply(image)
    return converted.convert("L") if image.mode == "L" else converted


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB, or None where the profile is sRGB itself, broken, or none for this mode."""
    try:
        source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, target, mode, "RGB", ImageCms.Intent.PERCEPTUAL)
    except Exception:  # A broken profile is no reason to lose the pixels.
        return None
    if mode == "CMYK":
        return transform
    # Profiles of sRGB go by many names, so the colours tell: do any of these 216 change by more than rounding?
    grid = np.stack(np.meshgrid(*[np.arange(0, 256, 51, dtype=np.uint8)] * 3), axis=-1).reshape(12, 18, 3)
    before = Image.fromarray(grid).convert(mode)
    change = np.asarray(transform.apply(before), np.int16) - np.asarray(before.convert("RGB"), np.int16)
    return transform if np.abs(change).max() > 1 else None
