"""What sources of image files have in common: names, `dataset.json`, tables, limits of size."""

from __future__ import annotations

import os
import posixpath
import stat
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from io import BufferedReader
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from adaflow.core.data.dataset_json import DATASET_JSON, LabelFile, parse_dataset_json
from adaflow.core.data.decode import decode_image, is_image_name, is_table_name
from adaflow.core.data.source import ImageSource, Label, fingerprint, printable
from adaflow.errors import DataError

MAX_IMAGE_BYTES = 1 << 30
MAX_TABLE_BYTES = 1 << 28
"""Of a table, of all tables together, and of `dataset.json`."""
MAX_TABLES = 50
MOST_KINDS = 5


class ImageFiles(ImageSource):
    """Image files sorted by name, with the labels, groups and division of a `dataset.json` that lies beside them.

    It lies at the top, or deeper in a folder that all images share, and names images from where it lies.

    Args:
        where: the folder or archive, for messages.
        name: short and fit for a folder name.
        files: names of all files, with `/` between folders.

    Raises:
        DataError: no file is an image, or `dataset.json` is malformed.
    """

    def __init__(self, where: str, name: str, files: Collection[str]) -> None:
        self.where = where
        self.name = name
        self.names = sorted(file for file in files if is_image_name(file))
        if not self.names:
            raise _no_images(where, files)
        self.table_names = sorted(file for file in files if is_table_name(file))
        self.labels, self._label_folder = LabelFile(), ""
        self.labels_from = next((file for file in _label_files(self.names) if file in files), "")
        if self.labels_from:
            content = self.content(self.labels_from, MAX_TABLE_BYTES)
            self.labels = parse_dataset_json(content, f"{printable(self.labels_from)} in {where}")
            self._label_folder = self.labels_from.removesuffix(DATASET_JSON)
        self.class_names = self.labels.class_names
        self.ignored = sorted({*files} - {*self.names, *self.table_names, self.labels_from})
        labelled = {*self.labels.by_name, *self.labels.groups, *(self.labels.validation or ())}
        self.unused_labels = sorted(labelled - {self._label_name(index) for index in range(len(self.names))})

    @abstractmethod
    def content(self, name: str, limit: int) -> bytes:
        """Content of the file, which has at most `limit` bytes.

        Raises:
            DataError: it is larger, or cannot be read; the message names it.
        """

    @abstractmethod
    def checksums(self) -> Iterator[Sequence[str | int]]:
        """For each image its name and what stands for its content."""

    def __len__(self) -> int:
        return len(self.names)

    def image_name(self, index: int) -> str:
        """The path within the folder or archive, with `/` between folders."""
        return self.names[index]

    def encoded(self, index: int) -> bytes:
        """The file as it is."""
        return self.content(self.names[index], MAX_IMAGE_BYTES)

    def read(self, index: int) -> NDArray[np.uint8]:
        """Decode one image, see `decode_image`."""
        return decode_image(self.encoded(index), printable(self.names[index]))

    def label(self, index: int) -> Label | None:
        """The label `dataset.json` gives, or None."""
        return self.labels.by_name.get(self._label_name(index))

    def group(self, index: int) -> int | None:
        """The group `dataset.json` gives, or None."""
        return self.labels.groups.get(self._label_name(index))

    def is_validation(self, index: int) -> bool | None:
        """Whether `dataset.json` sets the image apart; None where it sets none apart."""
        return None if self.labels.validation is None else self._label_name(index) in self.labels.validation

    def tables(self) -> dict[str, bytes | DataError]:
        """The CSV and TSV files by name, each with its content or why it cannot be read.

        Raises:
            DataError: they are too many, or too large together.
        """
        if len(self.table_names) > MAX_TABLES:
            raise DataError(
                f"{self.where} has {len(self.table_names)} tables, too many to look for labels in",
                "Name the one that has them.",
            )
        tables: dict[str, bytes | DataError] = {}
        size = 0
        for name in self.table_names:
            try:
                tables[name] = content = self.content(name, MAX_TABLE_BYTES)
            except DataError as error:
                tables[name] = error
                continue
            size += len(content)
            if size > MAX_TABLE_BYTES:
                raise too_large(f"all that the tables of {self.where} hold", MAX_TABLE_BYTES)
        return tables

    def fingerprint(self) -> str:
        """Of names, contents, labels, groups and division."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return self.digest(self.checksums())

    def digest(self, contents: Iterable[Sequence[str | int]]) -> str:
        """Of labels, groups and division, and what stands for the contents of the images."""
        images = range(len(self))
        return fingerprint(contents, map(self.label, images), map(self.group, images), map(self.is_validation, images))

    def _label_name(self, index: int) -> str:
        """What `dataset.json` calls the image."""
        return self.names[index].removeprefix(self._label_folder)


def open_plain_file(path: Path) -> BufferedReader:
    """Open a file for reading, but no pipe or device: these might never end.

    Raises:
        OSError: it is one of these, or cannot be opened.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("it is not a plain file")
    return open(path, "rb")


def read_plain_file(path: Path, name: str, limit: int) -> bytes:
    """Content of a plain file that has at most `limit` bytes.

    Args:
        path: the file.
        name: what messages call it.
        limit: in bytes.

    Raises:
        DataError: larger, no plain file, or not readable.
    """
    try:
        with open_plain_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise too_large(name, limit)
            return file.read(size)
    except OSError as error:
        raise DataError(f"{printable(name)} cannot be read: {error.strerror or error}") from error


def too_large(name: str, limit: int) -> DataError:
    """The error for a file of more than `limit` bytes."""
    return DataError(f"{printable(name)} is larger than {limit / 2**20:,.0f} MiB")


def list_kinds(files: Iterable[str]) -> str:
    """What kinds of files these are and how many of each, the most frequent first: `.dcm 300, .heic 12`."""
    kinds = Counter(PurePosixPath(file).suffix.lower() or "without extension" for file in files)
    shown = [f"{printable(kind)} {count:,}" for kind, count in kinds.most_common(MOST_KINDS)]
    others = kinds.total() - sum(count for _, count in kinds.most_common(MOST_KINDS))
    return ", ".join(shown) + (f" and {others:,} of other kinds" if others else "")


def _label_files(names: Sequence[str]) -> Iterator[str]:
    """Where a `dataset.json` for all images may lie, the top first."""
    ends = posixpath.dirname(names[0]), posixpath.dirname(names[-1])  # in sorted order: what these share, all share
    shared = posixpath.commonpath(ends)
    folders = shared.split("/") if shared else []
    for level in range(len(folders) + 1):
        yield "/".join([*folders[:level], DATASET_JSON])


def _no_images(where: str, files: Collection[str]) -> DataError:
    """The error that says what there is in place of images."""
    if not files:
        return DataError(f"{where} has no images", "It is empty, or all its files are hidden.")
    count = f"{len(files):,} files are of other kinds" if len(files) > 1 else "1 file is of another kind"
    return DataError(
        f"{where} has no images; {count}: {list_kinds(files)}",
        "Images are known by their extension: .png, .jpg, .tif and the like.",
    )
