"""Decode a whole data set, in order, on several threads, as images of one shape."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import psutil
from numpy.typing import NDArray

from adaflow.core.data.parallel import Progress, enough_memory, ordered_map
from adaflow.core.data.source import ImageSource, read_or_error, readable_images
from adaflow.errors import DataError

MEMORY_SHARE = 0.7
"""The part of the available memory a data set may take."""

PROBED_IMAGES = 16
"""How many images are read ahead to tell the shape of the set."""

Shape = tuple[int, ...]

Put = Callable[[NDArray[np.uint8]], None]
"""Takes the images that are kept, [C, H, W], one after the other."""


@dataclass(frozen=True)
class Decoding:
    """What became of the images of a source; images are known by their index there.

    Args:
        shape: [C, H, W] of all images that were kept: the most frequent one.
        kept: indices, ascending.
        unreadable: index → why the image cannot be read.
        odd: index → the image's own shape, another than most have.
    """

    shape: Shape
    kept: list[int]
    unreadable: dict[int, str]
    odd: dict[int, Shape]

    def among(self, indices: Sequence[int]) -> Decoding:
        """The same for some images of the source only."""
        wanted = set(indices)
        return replace(
            self,
            kept=[index for index in self.kept if index in wanted],
            unreadable={index: reason for index, reason in self.unreadable.items() if index in wanted},
            odd={index: shape for index, shape in self.odd.items() if index in wanted},
        )

    def left_out(self) -> dict[int, str]:
        """Index → reason, in order, for every image that cannot be used."""
        odd = {index: f"it is {in_words(shape)}, most are {in_words(self.shape)}" for index, shape in self.odd.items()}
        return dict(sorted({**self.unreadable, **odd}.items()))


def decode_all(
    source: ImageSource,
    indices: Sequence[int],
    workers: int,
    progress: Progress | None,
    begin: Callable[[Shape], Put],
) -> Decoding:
    """Decode images of the most frequent shape.

    Args:
        source: the data set.
        indices: which of its images, ascending.
        workers: threads that decode.
        progress: told as images are decoded.
        begin: called with the shape, gives what takes the images. Called again, to start anew, where the first images
            misled about the shape.

    Raises:
        DataError: no image can be read, the shape cannot be trained on, or there is not enough memory.
    """
    with enough_memory():
        first = islice(readable_images(source, indices), PROBED_IMAGES)
        shape = Counter(image.shape for image in first).most_common(1)[0][0]
    while True:
        _check_shape(source, shape)
        decoded = _decode_shape(source, indices, shape, workers, progress, begin(shape))
        shapes = Counter({shape: len(decoded.kept)})
        shapes.update(decoded.odd.values())
        majority = shapes.most_common(1)[0][0]
        if shapes[majority] == shapes[shape]:
            return decoded
        shape = majority


def decode_to_memory(
    source: ImageSource, indices: Sequence[int], workers: int, progress: Progress | None
) -> tuple[NDArray[np.uint8], Decoding]:
    """The images that were kept, [n, C, H, W], and what became of the others. Arguments as for `decode_all`.

    Raises:
        DataError: also when they do not fit in memory.
    """
    images = np.empty(0, np.uint8)

    def begin(shape: Shape) -> Put:
        nonlocal images
        _check_memory(source, len(indices), shape)
        images = np.empty((len(indices), *shape), np.uint8)
        places = iter(range(len(indices)))

        def put(image: NDArray[np.uint8]) -> None:
            images[next(places)] = image

        return put

    decoded = decode_all(source, indices, workers, progress, begin)
    return images[: len(decoded.kept)], decoded


def _decode_shape(
    source: ImageSource,
    indices: Sequence[int],
    shape: Shape,
    workers: int,
    progress: Progress | None,
    put: Put,
) -> Decoding:
    def read(index: int) -> NDArray[np.uint8] | Shape | DataError:
        """The image; of one that has another shape, the shape alone."""
        image = read_or_error(source, index)
        return image if isinstance(image, DataError) or image.shape == shape else image.shape

    result = Decoding(shape, [], {}, {})
    with closing(ordered_map(read, indices, workers, shape[1] * shape[2])) as images:
        for done, (index, image) in enumerate(zip(indices, images, strict=True), start=1):
            if isinstance(image, DataError):
                result.unreadable[index] = image.message
            elif isinstance(image, tuple):
                result.odd[index] = image
            else:
                put(image)
                result.kept.append(index)
            if progress is not None:
                progress(done, len(indices))
    return result


def _check_shape(source: ImageSource, shape: Shape) -> None:
    """Refuse sizes that cannot be trained on, before the long work."""
    _, height, width = shape
    if height != width or width < 8 or width & (width - 1):
        raise DataError(
            f"the images of {source.name} are {in_words(shape)}, not square with a side of 8, 16, 32, …",
            "Make a set of them that is: adaflow data prepare SOURCE --dest X.zip --resolution 256.",
        )


def _check_memory(source: ImageSource, count: int, shape: Shape) -> None:
    needed = count * math.prod(shape)
    available = int(psutil.virtual_memory().available * MEMORY_SHARE)
    if needed > available:
        raise DataError(
            f"{source.name} needs {needed / 2**30:.1f} GiB of memory, and {available / 2**30:.1f} GiB can be used",
            "Let it be cached on disk (a writable folder, no --no-cache), or use fewer images (--subset) "
            "or smaller ones (adaflow data prepare … --resolution).",
        )


def in_words(shape: Shape) -> str:
    """A shape [C, H, W] for people: "32x16 RGB"."""
    channels, height, width = shape
    return f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"
