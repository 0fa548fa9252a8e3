"""Reader of zip archives of images."""

from __future__ import annotations

import io
import os
import threading
import zipfile
import zlib
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from adaflow.core.data.dataset_json import DATASET_JSON, LabelFile, parse_dataset_json
from adaflow.core.data.decode import decode_image, is_image_name, is_junk
from adaflow.core.data.source import DatasetReader, ImageSource, Label, fingerprint, short_name
from adaflow.errors import DataError
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register

MAX_MEMBER_BYTES = 1 << 30


class ZipSource(ImageSource):
    """The images in a zip, compressed or not, sorted by name; labels from a `dataset.json` at its top.

    Raises:
        DataError: not a readable zip, no images, a malformed `dataset.json`, or a member that is encrypted, listed
            twice or has a path that leads out of the archive.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = short_name(path)
        self._archive = _Archive(path)
        self.members: dict[str, zipfile.ZipInfo] = {}
        for member in self._archive.zip.infolist():
            _check(path, member)
            if member.filename in self.members:
                raise DataError(f"{path} holds {member.filename} twice")
            if not member.is_dir() and not is_junk(member.filename):
                self.members[member.filename] = member
        self.names = sorted(name for name in self.members if is_image_name(name))
        self.ignored = sorted(self.members.keys() - {*self.names, DATASET_JSON})
        if not self.names:
            raise DataError(f"{path} has no images")
        self.labels = LabelFile()
        if DATASET_JSON in self.members:
            self.labels = parse_dataset_json(self._bytes(DATASET_JSON), f"{DATASET_JSON} in {path}")
        self.class_names = self.labels.class_names

    def __len__(self) -> int:
        return len(self.names)

    def image_name(self, index: int) -> str:
        """The member's name."""
        return self.names[index]

    def read(self, index: int) -> NDArray[np.uint8]:
        """Decode one image, see `decode_image`."""
        name = self.names[index]
        return decode_image(io.BytesIO(self._bytes(name)), name)

    def label(self, index: int) -> Label | None:
        """The label `dataset.json` gives, or None."""
        return self.labels.by_name.get(self.names[index])

    def fingerprint(self) -> str:
        """Of names, sizes, CRC-32 checksums and labels."""
        return self._fingerprint

    def close(self) -> None:
        """Close the archive."""
        self._archive.zip.close()

    @cached_property
    def _fingerprint(self) -> str:
        contents = [(name, self.members[name].file_size, self.members[name].CRC) for name in self.names]
        return fingerprint(contents, (self.label(index) for index in range(len(self))))

    def _bytes(self, name: str) -> bytes:
        member = self.members[name]
        if member.file_size > MAX_MEMBER_BYTES:
            raise DataError(f"{name} in {self.path} is larger than 1 GiB")
        # A forked child shares the parent's file position and may inherit a held lock: it opens an archive of its own.
        if self._archive.process != os.getpid():
            self._archive = _Archive(self.path)
        archive = self._archive
        try:
            with archive.lock:
                return archive.zip.read(member)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
            raise DataError(f"{name} in {self.path} cannot be read: {error}") from error


class ZipReader:
    """Opens files whose name ends in `.zip`."""

    def can_open(self, spec: str) -> bool:
        """Whether `spec` is a file named `*.zip`."""
        return spec.lower().endswith(".zip") and os.path.isfile(spec)

    def open(self, spec: str) -> ImageSource:
        """Open the archive."""
        return ZipSource(Path(spec))


@hookimpl
def register_datasets(register: Register[DatasetReader]) -> None:
    """Offer the reader."""
    register("zip", ZipReader())


class _Archive:
    """An open archive, the process it belongs to, and a lock for its file position."""

    def __init__(self, path: Path) -> None:
        try:
            self.zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, EOFError, ValueError, OSError) as error:
            raise DataError(f"{path} cannot be opened: {error}") from error
        self.process = os.getpid()
        self.lock = threading.Lock()


def _check(path: Path, member: zipfile.ZipInfo) -> None:
    """Refuse what a data set has no use for and an attacker has."""
    parts = PurePosixPath(member.filename.replace("\\", "/")).parts
    if member.filename.startswith(("/", "\\")) or ".." in parts or member.filename[1:2] == ":":
        raise DataError(f"{path} holds {member.filename!r}, a path that leads out of the archive")
    if member.flag_bits & 0x1:
        raise DataError(f"{path} is encrypted", "Unpack it with its password and give the folder.")
