"""From pixels to the content of an image file that holds pixels and nothing else."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, JpegImagePlugin

from adaflow.core.data.decode import Decoded

CODECS = ("png", "webp", "keep")


def encode(image: Image.Image, codec: str, original: Decoded | None, data: bytes | None) -> tuple[bytes, str]:
    """Encode an image; no metadata of any kind gets into the file.

    Codecs:

    - "png": uncompressed PNG, the fastest to read and what the customary data sets hold.
    - "webp": lossless WebP, about half as large. WebP knows no grey: grey images become compressed PNG.
    - "keep": the format of the original where that is JPEG, PNG (compressed) or WebP (lossless), else compressed PNG.
      A JPEG that was not changed keeps its quality; a changed one gets quality 95 without loss of colour resolution.

    Args:
        image: of mode "L" or "RGB". It counts as unchanged if it is `original.image` itself, and that has no notes.
        codec: one of `CODECS`.
        original: what the image was made from; None where there is no file, as for drawn images.
        data: the file `original` was decoded from; None where there is none.

    Returns:
        The file's content, and its suffix, such as ".png".
    """
    if codec == "png":
        return _plain_png(image), ".png"
    kind = "WEBP" if codec == "webp" else original.format if original is not None else "PNG"
    if kind == "JPEG":
        unchanged = original is not None and image is original.image and not original.notes
        return _jpeg(image, data if unchanged else None), ".jpg"
    file = io.BytesIO()
    if kind == "WEBP" and image.mode == "RGB":
        image.save(file, "WEBP", lossless=True, quality=0, method=2)  # A fifth of the usual effort; hardly 1% larger.
        return file.getvalue(), ".webp"
    image.save(file, "PNG")
    return file.getvalue(), ".png"


def _plain_png(image: Image.Image) -> bytes:
    """Uncompressed and unfiltered; several times faster than Pillow, which tries all filters on each row."""
    width, channels = image.width, len(image.getbands())
    rows = np.zeros((image.height, 1 + width * channels), np.uint8)  # Each row begins with the number of its filter.
    rows[:, 1:] = np.asarray(image).reshape(image.height, -1)
    header = struct.pack(">2I5B", width, image.height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.data, 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
        for kind, content in chunks
    )


def _jpeg(image: Image.Image, data: bytes | None) -> bytes:
    """JPEG of quality 95 and full colour resolution, or of the quality and colour resolution that `data` has."""
    file = io.BytesIO()
    if data is None:
        image.save(file, "JPEG", quality=95, subsampling="4:4:4")
    else:
        with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as header:
            tables, subsampling = header.quantization, JpegImagePlugin.get_sampling(header)
        image.save(file, "JPEG", qtables=tables, subsampling=subsampling)
    return file.getvalue()
