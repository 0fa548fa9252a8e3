"""From an image of any size to one of the size wanted: which part is kept, and how it is resized."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adaflow.errors import ConfigError

CROPS = ("center", "wide", "none", "pad")
FILTERS = ("lanczos", "box", "area")
MAX_SIDE = 16383  # of a WebP file

_PILLOW_FILTERS = {"lanczos": Image.Resampling.LANCZOS, "box": Image.Resampling.BOX}


@dataclass(frozen=True)
class Geometry:
    """How images are brought to one size.

    Crops:

    - "center": the largest central area of the aspect ratio asked for; a square where width equals height.
    - "wide": as the customary tools do it for landscape pictures in square sets: of an image W x H the central
      `round(width * H / W)` rows are kept, resized to width x height, and put in the middle of a black square of side
      `width`. Meant for images that are about as wide as `width` already: larger ones are squeezed.
    - "none": all of the image, stretched to the aspect ratio asked for.
    - "pad": all of the image in its own aspect ratio, in the middle of a black area.

    Filters: "lanczos" and "box" are Pillow's. "area" is the exact mean of the area an output pixel covers, fractions of
    pixels included (box rounds to whole pixels); along an axis that is enlarged it interpolates linearly.

    Args:
        width: of the image in pixels, 1 to 16383.
        height: of the image in pixels, 1 to 16383; less than `width` for "wide".
        crop: one of `CROPS`.
        filter: one of `FILTERS`.

    Raises:
        ConfigError: a value out of range.
    """

    width: int
    height: int
    crop: str = "center"
    filter: str = "lanczos"

    def __post_init__(self) -> None:
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise ConfigError(
                f"images of {self.width}x{self.height} pixels cannot be made", f"Each side is 1 to {MAX_SIDE} pixels."
            )
        if self.crop not in CROPS:
            raise ConfigError(f"there is no crop {self.crop!r}", f"Use {', '.join(CROPS[:-1])} or {CROPS[-1]}.")
        if self.filter not in FILTERS:
            raise ConfigError(f"there is no filter {self.filter!r}", f"Use {', '.join(FILTERS[:-1])} or {FILTERS[-1]}.")
        if self.crop == "wide" and self.width <= self.height:
            raise ConfigError(
                f"crop wide needs a width larger than the height, not {self.width}x{self.height}",
                "Give a size such as 256x192, or use center.",
            )

    @property
    def output_size(self) -> tuple[int, int]:
        """Width and height in pixels of what `fit` returns."""
        return (self.width, self.width) if self.crop == "wide" else (self.width, self.height)


def fit(image: Image.Image, geometry: Geometry) -> tuple[Image.Image, bool]:
    """Bring an image to the size asked for.

    Args:
        image: of mode "L" or "RGB", any size.
        geometry: how.

    Returns:
        An image of the same mode and of `geometry.output_size`, which is `image` itself where nothing needs to be done;
        and whether it was enlarged along one axis or both.
    """
    width, height = geometry.width, geometry.height
    if geometry.crop == "pad":
        scale = min(width / image.width, height / image.height)
        width = min(width, max(1, round(image.width * scale)))
        height = min(height, max(1, round(image.height * scale)))
    elif geometry.crop == "wide":
        image = _central_part(image, image.width, round(width * image.height / image.width))
    elif geometry.crop == "center":
        image = _central_part(image, round(image.height * width / height), round(image.width * height / width))
    enlarged = width > image.width or height > image.height
    if geometry.filter == "area":
        image = _resize_area(image, width, height)
    elif image.size != (width, height):
        image = image.resize((width, height), _PILLOW_FILTERS[geometry.filter])
    return _on_black(image, geometry.output_size), enlarged


def _central_part(image: Image.Image, width: int, height: int) -> Image.Image:
    """The middle of an image, at least one pixel and at most all of it along each axis."""
    width, height = min(image.width, max(1, width)), min(image.height, max(1, height))
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _on_black(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image in the middle of a black area of that size."""
    if image.size == size:
        return image
    canvas = Image.new(image.mode, size)
    canvas.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return canvas


def _resize_area(image: Image.Image, width: int, height: int) -> Image.Image:
    """Area mean along an axis that shrinks, linear interpolation along one that grows; exact; halves go to even."""
    if image.size == (width, height):
        return image
    channels = len(image.getbands())
    rows = np.asarray(image).reshape(image.height, -1)
    rows, divisor = _resize_rows(rows, height)
    columns = rows.reshape(height, image.width, channels).transpose(1, 0, 2).reshape(image.width, -1)
    columns, factor = _resize_rows(columns, width)
    divisor *= factor
    flat = np.rint(columns / divisor).astype(np.uint8)  # Rounding all halves up would brighten images.
    pixels = flat.reshape(width, height, channels).transpose(1, 0, 2)
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if channels == 1 else pixels))


def _resize_rows(rows: NDArray[np.integer], size: int) -> tuple[NDArray[np.integer], int]:
    """Resize along the first axis, [N, M] to [size, M], and what the result is to be divided by.

    All weights are whole multiples of one fraction, so that sums of whole numbers are exact.
    """
    length = len(rows)
    if size == length:
        return rows, 1
    positions = np.arange(size)
    if size < length:
        # An output pixel begins `part / size` into row `first` and ends as far into the row where the next one begins.
        first, part = np.divmod(positions * length, size)
        sums = np.empty((size, rows.shape[1]), np.int64)
        for position, (begin, end) in enumerate(pairwise([*first.tolist(), length])):
            np.add.reduce(rows[begin:end], axis=0, dtype=np.int64, out=sums[position])
        cut = rows[first] * part[:, None]
        sums *= size
        sums -= cut
        sums[:-1] += cut[1:]
        return sums, length
    # The middle of an output pixel lies `part / (2 * size)` past the middle of row `first`; before the first middle and
    # after the last there is nothing to interpolate with.
    first, part = np.divmod((2 * positions + 1) * length - size, 2 * size)
    before, after = rows[np.maximum(first, 0)], rows[np.minimum(first + 1, length - 1)]
    return before * (2 * size - part)[:, None] + after * part[:, None], 2 * size
