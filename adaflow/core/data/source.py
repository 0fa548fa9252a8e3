"""What a data set plugin provides: a reader that recognises a source by its name, and the source it opens."""

from __future__ import annotations

import hashlib
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from adaflow.errors import DataError, FileError
from adaflow.registry import Registry

Label = int | tuple[float, ...]


class ImageSource(ABC):
    """Images with optional labels, in a fixed order, read one by one.

    `read` is called from several threads at once and must allow it.

    Attributes:
        name: short and fit for a folder name; it becomes part of the run folder's name.
        class_names: the name of class k at position k, or None.
        ignored: names of the files that were passed over because they are no images, tables or `dataset.json`.
        labels_from: where its own labels come from, for people, as in "dataset.json"; "" where it has nothing to say.
        unused_labels: names for which it has a label, a group or a place in a division, but no image.
        reopen: opens the same source anew, as it is then; None where it was not opened by `open_source`.
    """

    name: str
    class_names: tuple[str, ...] | None = None
    ignored: Sequence[str] = ()
    labels_from: str = ""
    unused_labels: Sequence[str] = ()
    reopen: Callable[[], ImageSource] | None = None

    @abstractmethod
    def __len__(self) -> int:
        """How many images there are."""

    @abstractmethod
    def image_name(self, index: int) -> str:
        """The image's name as users know it, for example `benign/0001.png`."""

    @abstractmethod
    def read(self, index: int) -> NDArray[np.uint8]:
        """Decode one image.

        Returns:
            [C, H, W], C = 1 (grey) or 3 (RGB), 0 to 255.

        Raises:
            DataError: the image is broken; the message names it.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Hex digest of names, contents, labels, groups and division: equal wherever and whenever it was stored."""

    def label(self, index: int) -> Label | None:
        """The class (from 0), a vector of numbers, or None where the image has no label."""
        return None

    def group(self, index: int) -> int | None:
        """The number, from 0, of the patient or lesion the image belongs to, or None where that is not known."""
        return None

    def is_validation(self, index: int) -> bool | None:
        """Whether the image was set apart from training; None where the source has no such division."""
        return None

    def encoded(self, index: int) -> bytes | None:
        """The image as its file holds it; None where there is no file, as for drawn images.

        Raises:
            DataError: the file cannot be read; the message names it.
        """
        return None

    def tables(self) -> Mapping[str, bytes | DataError]:
        """Name → content of the CSV and TSV files that lie among the images, or why it cannot be read."""
        return {}

    def stamp(self) -> str:
        """Hex digest that changes whenever `fingerprint` may have changed, found without reading the images."""
        return self.fingerprint()

    def close(self) -> None:  # noqa: B027 (most sources have nothing to close)
        """Release open files. The source is not used afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class DatasetReader(Protocol):
    """What a plugin registers under a name, as in `register("folder", FolderReader())`."""

    def can_open(self, spec: str) -> bool:
        """Whether `spec` (what the user gave as `--data`) is this reader's kind. Quick, and never raises."""
        ...

    def open(self, spec: str) -> ImageSource:
        """Open the source.

        Raises:
            DataError: it cannot be opened or has no images.
        """
        ...


def open_source(spec: str, readers: Registry[DatasetReader]) -> ImageSource:
    """Open `spec` with the first reader, in order of their names, that says it can.

    Raises:
        DataError: no reader can open it.
    """
    for entry in readers:
        if entry.value.can_open(spec):
            source = entry.value.open(spec)
            source.reopen = partial(entry.value.open, spec)
            return source
    known = ", ".join(entry.name for entry in readers) or "none"
    if os.path.exists(spec):
        raise DataError(f"no data set reader understands {spec}", f"Readers at hand: {known}.")
    raise DataError(f"there is no data set at {spec}", f"Give a folder or a zip of images. Readers at hand: {known}.")


def check_unchanged(source: ImageSource, stamp: str) -> None:
    """Make sure that the source is there, and what it was when it had this stamp.

    Raises:
        FileError: it is not.
    """
    try:
        with source.reopen() if source.reopen is not None else nullcontext(source) as now:
            reason = "" if now.stamp() == stamp else "its files are not those of before"
    except DataError as error:
        reason = error.message
    if reason:
        raise FileError(
            f"{source.name} changed while it was read: {reason}",
            "Nothing was written. Once it is there, and rests, the same command can be given again.",
        )


def read_or_error(source: ImageSource, index: int) -> NDArray[np.uint8] | DataError:
    """The decoded image [C, H, W], or why there is none."""
    try:
        return source.read(index)
    except DataError as error:
        return error


def first_images(source: ImageSource, indices: Iterable[int], count: int) -> list[NDArray[np.uint8]]:
    """The first images that can be read, each [C, H, W], `count` of them or as many as there are.

    Raises:
        DataError: none can be read.
    """
    return list(islice(readable_images(source, indices), count))


def readable_images(source: ImageSource, indices: Iterable[int]) -> Iterator[NDArray[np.uint8]]:
    """The images that can be read, one at a time, each [C, H, W].

    Raises:
        DataError: none can be read.
    """
    reason = "it is empty"
    for index in indices:
        image = read_or_error(source, index)
        if isinstance(image, DataError):
            reason = reason and image.message
        else:
            reason = ""
            yield image
    if reason:
        raise DataError(f"no image of {source.name} can be read: {reason}")


def short_name(path: str | Path) -> str:
    """The last part of a path without its extension, with only characters fit for a folder name."""
    path = Path(path).resolve()
    stem = path.name if path.is_dir() else path.stem
    return re.sub(r"[^A-Za-z0-9._-]+", "_", stem) or "data"


def printable(name: str) -> str:
    """The name on one line and not too long, with control characters and bytes that are no text written out."""
    if len(name) > 300:
        name = f"{name[:150]}…{name[-149:]}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


def fingerprint(
    contents: Iterable[Sequence[str | int]],
    labels: Iterable[Label | None],
    groups: Iterable[int | None] = (),
    validation: Iterable[bool | None] = (),
) -> str:
    """SHA-256, in hex, over one line for each image and one for each label, group and place in a division, if any.

    Args:
        contents: for each image its name and what stands for its content (size and checksum).
        labels: for each image its label.
        groups: for each image its group.
        validation: for each image whether it was set apart from training.
    """
    digest = hashlib.sha256()

    def add(items: Iterable[Any]) -> None:
        for item in items:
            digest.update(json.dumps(item).encode() + b"\n")
        digest.update(b"\n")

    add(contents)
    add(labels)
    for title, values in (("groups", list(groups)), ("validation", list(validation))):
        if any(value is not None for value in values):
            add([title, *values])
    return digest.hexdigest()
