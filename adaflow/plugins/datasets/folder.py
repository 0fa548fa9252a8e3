"""Reader of folders of images."""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from pathlib import Path
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


class FolderSource(ImageSource):
    """The images in a folder and its sub-folders, sorted by relative path; labels from a `dataset.json` in the folder.

    Hidden files and macOS leftovers are passed over; other files that are no images are counted in `ignored`.

    Raises:
        DataError: the folder cannot be listed, has no images, or its `dataset.json` is malformed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = short_name(folder)
        files = [file for file in _walk(folder) if file != DATASET_JSON]
        self.names = sorted(file for file in files if is_image_name(file))
        self.ignored = sorted(set(files) - set(self.names))
        if not self.names:
            raise DataError(f"folder {folder} has no images")
        labels = folder / DATASET_JSON
        self.labels = parse_dataset_json(labels.read_bytes(), str(labels)) if labels.is_file() else LabelFile()
        self.class_names = self.labels.class_names

    def __len__(self) -> int:
        return len(self.names)

    def image_name(self, index: int) -> str:
        """The path within the folder, with `/` between folders."""
        return self.names[index]

    def read(self, index: int) -> NDArray[np.uint8]:
        """Decode one image, see `decode_image`."""
        try:
            with open(self.folder / self.names[index], "rb") as file:
                return decode_image(file, self.names[index])
        except OSError as error:
            raise DataError(f"image {self.names[index]} cannot be read: {error.strerror or error}") from error

    def label(self, index: int) -> Label | None:
        """The label `dataset.json` gives, or None."""
        return self.labels.by_name.get(self.names[index])

    def fingerprint(self) -> str:
        """Of names, contents and labels."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        contents = [(name, _sha256(self.folder / name)) for name in self.names]
        return fingerprint(contents, (self.label(index) for index in range(len(self))))


class FolderReader:
    """Opens paths that are folders."""

    def can_open(self, spec: str) -> bool:
        """Whether `spec` is a folder."""
        return os.path.isdir(spec)

    def open(self, spec: str) -> ImageSource:
        """Open the folder."""
        return FolderSource(Path(spec))


@hookimpl
def register_datasets(register: Register[DatasetReader]) -> None:
    """Offer the reader."""
    register("folder", FolderReader())


def _walk(folder: Path) -> list[str]:
    """Relative paths of all files but junk, each folder once even where links lead in circles."""

    def fail(error: OSError) -> None:
        raise DataError(f"folder {error.filename} cannot be listed: {error.strerror}")

    seen: set[tuple[int, int]] = set()
    files = []
    for parent, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        status = os.stat(parent)
        identity = (status.st_dev, status.st_ino)
        if identity in seen:
            folders.clear()
            continue
        seen.add(identity)
        folders[:] = sorted(name for name in folders if not is_junk(name))
        inside = Path(parent).relative_to(folder)
        files += [(inside / name).as_posix() for name in names if not is_junk(name)]
    return files


def _sha256(path: Path) -> str:
    """Digest of a file's content; a file that cannot be read counts by its name alone, and `read` says why."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "unreadable"
