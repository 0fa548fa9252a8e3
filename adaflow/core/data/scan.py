"""One look at every image of a source: what `adaflow data check` judges by."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adaflow.core.data.duplicates import Look, connected, find_copies, look
from adaflow.core.data.labelling import Labelling, label_images
from adaflow.core.data.parallel import Progress, ordered_map
from adaflow.core.data.source import ImageSource, read_or_error
from adaflow.errors import DataError

MIN_SPREAD = 2.0
"""Standard deviation, of 255 grey levels, below which an image counts as nearly constant."""

DARK, BRIGHT, MOST = 16, 239, 0.99
"""An image counts as nearly black (white) when so many of its values lie below (above) these grey levels."""


@dataclass(frozen=True)
class Facts:
    """What is kept of an image.

    Args:
        width: in pixels.
        height: in pixels.
        channels: 1 or 3.
        pixels: digest of all values.
        constant: whether no channel varies by more than `MIN_SPREAD`.
        dark: whether it is nearly black.
        bright: whether it is nearly white.
        look: to compare it with others; None for constant images, which have nothing to compare.
    """

    width: int
    height: int
    channels: int
    pixels: bytes
    constant: bool
    dark: bool
    bright: bool
    look: Look | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Width, height, channels."""
        return self.width, self.height, self.channels

    @property
    def trainable(self) -> bool:
        """Whether networks exist for this size: square, a power of two from 8."""
        return self.width == self.height >= 8 and self.width & (self.width - 1) == 0


@dataclass(frozen=True)
class Examination:
    """What is known of a source after one look at every image.

    Args:
        source: the source, still open.
        labelling: labels, groups and class names.
        label_error: why labels could not be found though something claims to have them.
        stamp: of the source, from before the first image was read.
        facts: image → what it is like; broken ones are missing.
        broken: image → why it cannot be read.
        exact: sets of images that are equal pixel for pixel, each ascending.
        copies: sets of images that are copies of each other, exactly or nearly; each ascending.
    """

    source: ImageSource
    labelling: Labelling
    label_error: DataError | None
    stamp: str
    facts: Mapping[int, Facts]
    broken: Mapping[int, str]
    exact: Sequence[Sequence[int]]
    copies: Sequence[Sequence[int]]


def examine(
    source: ImageSource,
    labels: str = "auto",
    workers: int = 2,
    progress: Progress | None = None,
    name_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
) -> Examination:
    """Read every image once, and compare all with all.

    Args:
        source: the images.
        labels: where the labels are, see `label_images`.
        workers: threads.
        progress: told how much is done; reading is half of it, comparing the other.
        name_column: column of the image names in the table; None finds it.
        label_column: column of the labels; None finds it.
        group_column: column of the patient or lesion.

    Raises:
        UsageError: see `label_images`.
        DataError: there is not enough memory.
    """
    stamp = source.stamp()
    label_error: DataError | None = None
    try:
        labelling = label_images(source, labels, name_column, label_column, group_column)
    except DataError as error:
        labelling, label_error = label_images(source, "none"), error
    count = len(source)
    facts: dict[int, Facts] = {}
    broken: dict[int, str] = {}
    with closing(ordered_map(partial(_look_at, source), range(count), workers)) as results:
        for index, result in enumerate(results):
            if isinstance(result, DataError):
                broken[index] = result.message
            else:
                facts[index] = result
            if progress is not None:
                progress(index + 1, 2 * count)
    exact = _equal(facts)
    pairs = [(first, other) for first, *others in exact for other in others]
    pairs += _near(
        facts, exact, workers, progress and (lambda done, total: progress(2 * count - total + done, 2 * count))
    )
    if progress is not None:
        progress(2 * count, 2 * count)
    return Examination(source, labelling, label_error, stamp, facts, broken, exact, connected(count, pairs))


def _look_at(source: ImageSource, index: int) -> Facts | DataError:
    pixels = read_or_error(source, index)
    return pixels if isinstance(pixels, DataError) else facts_of(pixels)


def facts_of(pixels: NDArray[np.uint8]) -> Facts:
    """What is kept of an image [C, H, W]."""
    channels, height, width = pixels.shape
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    bands = [Image.fromarray(band) for band in pixels]
    image = bands[0] if channels == 1 else Image.merge("RGB", bands)
    # Of large images, all else would take many times their own memory.
    counts = np.array(image.histogram(), np.float64).reshape(channels, 256) / (height * width)
    levels = np.arange(256)
    means = counts @ levels
    constant = bool((counts @ levels**2 - means**2).max() < MIN_SPREAD**2)
    return Facts(
        width=width,
        height=height,
        channels=channels,
        pixels=digest.digest(),
        constant=constant,
        dark=bool(counts[:, :DARK].sum() >= MOST * channels),
        bright=bool(counts[:, BRIGHT + 1 :].sum() >= MOST * channels),
        look=None if constant else look(image),
    )


def _equal(facts: Mapping[int, Facts]) -> list[list[int]]:
    same: dict[bytes, list[int]] = defaultdict(list)
    for index, fact in facts.items():
        same[fact.pixels].append(index)
    return [indices for indices in same.values() if len(indices) > 1]


def _near(
    facts: Mapping[int, Facts], exact: Sequence[Sequence[int]], workers: int, progress: Progress | None
) -> list[tuple[int, int]]:
    """Pairs of near copies; of exact ones, the first stands for all."""
    repeated = {index for _, *others in exact for index in others}
    looks = {index: fact.look for index, fact in facts.items() if fact.look is not None and index not in repeated}
    indices = list(looks)
    return [(indices[a], indices[b]) for a, b in find_copies(list(looks.values()), workers, progress)]
