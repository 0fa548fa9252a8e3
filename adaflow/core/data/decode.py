"""From the bytes of an image file to an array, and which files are images."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from adaflow.errors import DataError

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)


def is_image_name(name: str) -> bool:
    """Whether a file of this name (with `/` between folders) is taken for an image, judged by its extension."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def is_junk(name: str) -> bool:
    """Whether the file or one of its folders is hidden or a leftover of macOS."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def decode_image(file: BinaryIO, name: str) -> NDArray[np.uint8]:
    """Decode an image as a viewer would show it: turned upright by its EXIF orientation, transparency over black.

    Grey images (8-bit, bilevel, and 16-bit scaled by 255/65535) have one channel; everything else becomes RGB:
    palettes, grey with alpha, CMYK and the like. Of an animation, the first frame.

    Args:
        file: the encoded image.
        name: the image's name, for messages.

    Returns:
        [C, H, W], C = 1 or 3.

    Raises:
        DataError: broken, not an image, too many pixels, or a kind that has no fixed range of values.
    """
    try:
        with Image.open(file) as image:
            pixels = _to_bytes(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError:
        raise DataError(
            f"image {name} has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels",
            "Cut it into smaller images first.",
        ) from None
    except UnidentifiedImageError:
        raise DataError(f"image {name} is broken or in no known format") from None
    except Exception as error:  # On damaged files Pillow raises nearly anything.
        raise DataError(f"image {name} is broken: {' '.join(str(error).split()) or type(error).__name__}") from error
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return np.array(planes, order="C")


def _to_bytes(image: Image.Image) -> NDArray[np.uint8]:
    """[H, W] for grey, [H, W, 3] for the rest."""
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise ValueError("grey values outside 0 to 65535")
        return ((wide * 255 + 32767) // 65535).astype(np.uint8)
    if image.mode == "F":
        raise ValueError("floating-point values have no fixed range")
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", opaque.size, (0, 0, 0, 255)), opaque)
    return np.asarray(image.convert("RGB"))
