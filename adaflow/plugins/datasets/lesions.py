"""The demonstration data set `demo:lesions`: procedurally drawn, dermoscopy-like images with their ground truth.

Nothing is downloaded or stored; image `index` is a pure function of the seed. Options follow the name:
`demo:lesions,resolution=64,images=2000,seed=0`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from adaflow.core.data.source import DatasetReader, ImageSource
from adaflow.errors import DataError
from adaflow.hookspecs import hookimpl
from adaflow.plugins.datasets.lesion_painter import MAX_RESOLUTION, MIN_RESOLUTION, paint_lesion
from adaflow.plugins.datasets.lesion_truth import CLASS_NAMES, PICTURES_VERSION, Lesion, draw_lesion

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register

NAME = "demo:lesions"
DEFAULTS = {"resolution": 64, "images": 2000, "seed": 0}
LIMITS = {"resolution": (MIN_RESOLUTION, MAX_RESOLUTION), "images": (1, 10_000_000), "seed": (0, 2**63 - 1)}


class Lesions(ImageSource):
    """Drawn lesions, benign (label 0) and melanoma (label 1, about one in four).

    Args:
        resolution: side of the images in pixels, 16 to 1024.
        images: how many, 1 or more.
        seed: which data set; the first images of a longer one with the same seed are the same.
    """

    class_names = CLASS_NAMES
    labels_from = "the drawing"

    def __init__(self, resolution: int = 64, images: int = 2000, seed: int = 0) -> None:
        self.resolution = resolution
        self.images = images
        self.seed = seed
        self.name = f"lesions{resolution}"

    def __len__(self) -> int:
        return self.images

    def image_name(self, index: int) -> str:
        """The image's number as a name."""
        return f"lesion-{self._checked(index):05d}"

    def read(self, index: int) -> NDArray[np.uint8]:
        """Paint one image, `[3, resolution, resolution]`."""
        image, _ = paint_lesion(self.seed, self._checked(index), self.resolution)
        return image

    def label(self, index: int) -> int:
        """0 benign, 1 melanoma."""
        return self.truth(index).label

    def truth(self, index: int) -> Lesion:
        """What the image shows: class, skin, shape, colours, artefacts."""
        return draw_lesion(self.seed, self._checked(index))

    def fingerprint(self) -> str:
        """SHA-256, in hex, over everything the images follow from."""
        recipe = f"{NAME} version={PICTURES_VERSION} resolution={self.resolution} images={self.images} seed={self.seed}"
        return hashlib.sha256(recipe.encode()).hexdigest()

    def _checked(self, index: int) -> int:
        """The index itself, if there is such an image: the painter would draw any."""
        if not 0 <= index < self.images:
            raise IndexError(f"image {index} of {self.images}")
        return index


class LesionsReader:
    """Opens `demo:lesions`, with options or without."""

    def can_open(self, spec: str) -> bool:
        """Whether the source is the demonstration data set."""
        return spec == NAME or spec.startswith(NAME + ",")

    def open(self, spec: str) -> Lesions:
        """Open the data set.

        Raises:
            DataError: an option is unknown, given twice, no whole number or out of range.
        """
        options: dict[str, int] = {}
        for part in spec.split(",")[1:]:
            key, _, value = part.strip().partition("=")
            if key in options:
                raise DataError(f"{NAME} is given {key} twice", "Give every option once.")
            options[key] = _parse(key, value)
        return Lesions(**{**DEFAULTS, **options})


def _parse(key: str, value: str) -> int:
    """One option's value.

    Raises:
        DataError: the option is unknown, or its value no whole number or out of range.
    """
    if key not in DEFAULTS:
        example = ",".join(f"{name}={default}" for name, default in DEFAULTS.items())
        raise DataError(f"{NAME} has no option {key!r}", f"Options and their defaults: {NAME},{example}.")
    low, high = LIMITS[key]
    if not value.isascii() or not value.isdecimal() or not low <= int(value) <= high:
        raise DataError(
            f"{key}={value} is no whole number from {low} to {high}", f"For example {NAME},{key}={DEFAULTS[key]}."
        )
    return int(value)


@hookimpl
def register_datasets(register: Register[DatasetReader]) -> None:
    """Offer the data set under its name."""
    register(NAME, LesionsReader())
