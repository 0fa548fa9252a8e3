"""Reader of folders of images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaflow.core.data.decode import is_junk
from adaflow.core.data.image_files import ImageFiles, open_plain_file, read_plain_file
from adaflow.core.data.source import DatasetReader, ImageSource, printable, short_name
from adaflow.errors import DataError
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register


class FolderSource(ImageFiles):
    """The images in a folder and its sub-folders, sorted by relative path; labels from its `dataset.json`.

    Hidden files and macOS leftovers are passed over. Links are followed; a folder that can be reached in several ways
    is read once. Bytes of a name that are no text are written out, as in `b\\udcfcrste.png`.

    Raises:
        DataError: a folder cannot be listed, there are no images, or `dataset.json` is malformed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = _walk(folder)
        self._paths = {_as_text(file): file for file in files}
        if len(self._paths) < len(files):
            raise DataError(f"two files in {printable(str(folder))} have names that cannot be told apart in print")
        super().__init__(f"folder {printable(str(folder))}", short_name(folder), self._paths.keys())

    def content(self, name: str, limit: int) -> bytes:
        """Content of the file."""
        return read_plain_file(self.folder / self._paths[name], name, limit)

    def checksums(self) -> Iterator[Sequence[str | int]]:
        """Names and SHA-256; a file that cannot be read counts by its name alone, and `read` says why."""
        for name in self.names:
            yield name, _sha256(self.folder / self._paths[name])

    def stamp(self) -> str:
        """As the fingerprint, with sizes and times of change in place of contents."""
        return self.digest((name, *_status(self.folder / self._paths[name])) for name in self.names)


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


def _walk(top: Path) -> list[str]:
    """Relative paths of all files but junk.

    Folders are known by their identity, so that links in circles end; links come last, so that a folder goes by its
    own name where it has one here.
    """
    seen: set[tuple[int, int]] = set()
    files: list[str] = []
    folders = [""]
    links: list[str] = []
    while folders or links:
        inside = folders.pop() if folders else links.pop(0)
        try:
            status = os.stat(top / inside)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(top / inside) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            place = printable(str(top / inside))
            raise DataError(f"folder {place} cannot be listed: {error.strerror or error}") from error
        for entry in entries:
            path = f"{inside}{entry.name}"
            if is_junk(entry.name):
                continue
            if not _is_folder(entry):
                files.append(path)
            elif entry.is_symlink():
                links.append(f"{path}/")
            else:
                folders.append(f"{path}/")
    return files


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; a link to itself is taken for a file, and reading it says why."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _as_text(path: str) -> str:
    """The path with bytes that are no text written out, so that it can be printed and stored."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def _status(path: Path) -> tuple[int, ...]:
    """Size and times of change in nanoseconds, or nothing for a file that is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _sha256(path: Path) -> str:
    """Digest of a plain file's content."""
    try:
        with open_plain_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "unreadable"
