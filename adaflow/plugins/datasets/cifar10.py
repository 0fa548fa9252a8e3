"""Reader of CIFAR-10, as its authors offer it for Python: the download, the tar in it, or the folder in that."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adaflow.core.data.image_files import open_plain_file, read_plain_file
from adaflow.core.data.source import DatasetReader, ImageSource, fingerprint, printable
from adaflow.errors import DataError
from adaflow.hookspecs import hookimpl
from adaflow.plugins.datasets.plain_pickle import PlainPickleError, Table, read_plain_pickle

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register

FOLDER = "cifar-10-batches-py"
BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
META = "batches.meta"
CLASSES = 10
SHAPE = (3, 32, 32)
PIXELS = 3072
"""Numbers of an image."""

INCOMPLETE = "Was it copied or downloaded to its end?"

MAX_BATCH_BYTES = 1 << 26
"""Of one batch, twice what the genuine ones have."""
MAX_TAR_BYTES = 1 << 29
"""Of the unpacked tar, of which the genuine one has 178 MiB."""
BLOCK = 512
"""Bytes of a tar's header; contents are padded to multiples of it."""


class Cifar10(ImageSource):
    """The training images of CIFAR-10, 50,000 in the genuine set, in the order of the batches.

    The test batch is not used: it stays apart for those who want to test with it. The batches are pickles, and no code
    in them is run, see `plain_pickle`.

    Args:
        files: names and contents, in any order, of the batches and perhaps `batches.meta`.
        where: the archive or folder, for messages.

    Raises:
        DataError: a batch is missing, or something in it is not as in CIFAR-10.
    """

    name = "cifar10"
    labels_from = "the batches"

    def __init__(self, files: Iterable[tuple[str, bytes]], where: str) -> None:
        batches: dict[str, tuple[NDArray[np.uint8], list[int]]] = {}
        for name, content in files:
            if name == META:
                self.class_names = _class_names(content, f"{name} in {where}")
            else:
                batches[name] = _batch(content, f"{name} in {where}")
        missing = [name for name in BATCHES if name not in batches]
        if missing:
            raise DataError(f"{where} has no {missing[0]}", INCOMPLETE)
        self._images = [image for name in BATCHES for image in batches[name][0]]
        self._labels = [label for name in BATCHES for label in batches[name][1]]
        self._names = [f"{name}/{number:05d}.png" for name in BATCHES for number in range(len(batches[name][1]))]

    def __len__(self) -> int:
        return len(self._names)

    def image_name(self, index: int) -> str:
        """Batch and number in it, for example `data_batch_1/00017.png`; there are no such files."""
        return self._names[index]

    def read(self, index: int) -> NDArray[np.uint8]:
        """One image, uint8 [3, 32, 32]."""
        return np.array(self._images[index]).reshape(SHAPE)

    def label(self, index: int) -> int:
        """The class, 0 to 9."""
        return self._labels[index]

    def fingerprint(self) -> str:
        """Of names, pixels and labels; the same for archive and folder."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digests = (hashlib.sha256(image).hexdigest() for image in self._images)
        return fingerprint(zip(self._names, digests, strict=True), self._labels)


class Cifar10Reader:
    """Opens `cifar-10-python.tar.gz` under any name, the tar in it, and the folder `cifar-10-batches-py`."""

    def can_open(self, spec: str) -> bool:
        """Whether `spec` is a folder with a batch, or a tar whose first entry is of the customary folder."""
        if os.path.isdir(spec):
            return os.path.isfile(os.path.join(spec, BATCHES[0]))
        try:
            with _open_tar(Path(spec)) as tar:
                return FOLDER in _parse_header(tar.read(BLOCK))[0]
        except (OSError, ValueError, EOFError, zlib.error):
            return False

    def open(self, spec: str) -> ImageSource:
        """Read the whole set into memory, 150 MiB."""
        path, where = Path(spec), printable(spec)
        return Cifar10(_read_folder(path) if path.is_dir() else _read_tar(path, where), where)


@hookimpl
def register_datasets(register: Register[DatasetReader]) -> None:
    """Offer the reader."""
    register("cifar10", Cifar10Reader())


def _batch(content: bytes, where: str) -> tuple[NDArray[np.uint8], list[int]]:
    """The images uint8 [n, 3072] of a batch, and their labels."""
    batch = _dictionary(content, where)
    data, labels = batch.get("data"), batch.get("labels")
    if (
        not isinstance(data, Table)
        or not hasattr(data, "values")
        or data.values.shape[1:] != (PIXELS,)
        or not len(data.values)
    ):
        raise DataError(f"{where} has no images of 32x32 pixels")
    if not isinstance(labels, list) or len(labels) != len(data.values):
        raise DataError(f"{where} does not have a label for each image")
    if not all(type(label) is int and 0 <= label < CLASSES for label in labels):
        raise DataError(f"{where} has a label that is not a class from 0 to {CLASSES - 1}")
    return data.values, labels


def _class_names(content: bytes, where: str) -> tuple[str, ...]:
    names = _dictionary(content, where).get("label_names")
    if isinstance(names, list) and len(names) == CLASSES and all(isinstance(name, bytes | str) for name in names):
        return tuple(_text(name) for name in names)
    raise DataError(f"{where} does not have the names of {CLASSES} classes")


def _dictionary(content: bytes, where: str) -> dict[str, Any]:
    """The pickled dictionary, with texts as keys."""
    try:
        value = read_plain_pickle(content)
    except PlainPickleError as error:
        raise DataError(f"{where} cannot be read: {printable(str(error))}", "Download CIFAR-10 again.") from error
    if not isinstance(value, dict):
        raise DataError(f"{where} is not a batch of CIFAR-10")
    return {_text(key): item for key, item in value.items()}


def _text(value: bytes | str | int) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


@contextmanager
def _open_tar(path: Path) -> Iterator[BufferedIOBase]:
    """The tar, unpacked while it is read if it is a gzip."""
    with open_plain_file(path) as file:
        if file.peek(2)[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=file) as tar:
                yield tar
        else:
            yield file


def _read_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    for name in (*BATCHES, META):
        if (folder / name).exists():
            yield name, read_plain_file(folder / name, str(folder / name), MAX_BATCH_BYTES)


def _read_tar(path: Path, where: str) -> Iterator[tuple[str, bytes]]:
    """The batches in a tar, which is read to its end: only there does a gzip say whether it is whole.

    An entry is read if its own header calls it a plain file of the customary name. Links, long names, attributes and
    whatever else could make an entry something other than it says are passed over.
    """
    wanted = {f"{FOLDER}/{name}": name for name in (*BATCHES, META)}
    left = MAX_TAR_BYTES
    try:
        with _open_tar(path) as tar:
            while (header := tar.read(BLOCK)).strip(b"\0"):
                entry, is_file, size = _parse_header(header)
                padded = -(-size // BLOCK) * BLOCK
                left -= BLOCK + padded
                if left < 0:
                    raise ValueError(f"it holds more than {MAX_TAR_BYTES >> 20} MiB")
                if is_file and entry in wanted:
                    if size > MAX_BATCH_BYTES:
                        raise ValueError(f"its {entry} is larger than {MAX_BATCH_BYTES >> 20} MiB")
                    content = tar.read(padded)
                    if len(content) < padded:
                        raise EOFError("it is cut off")
                    yield wanted.pop(entry), content[:size]
                else:
                    _skip(tar, padded)
            _skip(tar, left)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise DataError(f"{where} cannot be read: {printable(str(error))}", INCOMPLETE) from error


def _skip(tar: BufferedIOBase, size: int) -> None:
    """Read and forget `size` bytes, or as many as there are."""
    while size > 0 and (piece := tar.read(min(size, 1 << 20))):
        size -= len(piece)


def _parse_header(header: bytes) -> tuple[str, bool, int]:
    """An entry's name, whether it is a plain file, and its size in bytes.

    Raises:
        ValueError: it is no header of a tar.
    """
    if len(header) != BLOCK or _octal(header[148:156]) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        raise ValueError("it is no tar, or a damaged one")
    name = header[:100].split(b"\0")[0].decode("latin-1").removeprefix("./")
    return name, header[156:157] in (b"0", b"\0"), _octal(header[124:136])


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if not re.fullmatch(b"[0-7]+", digits):
        raise ValueError("it is no tar, or a damaged one")
    return int(digits, 8)
