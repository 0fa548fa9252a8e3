"""Reader of zip archives of images, which may come from anyone: nothing is unpacked to disk, and little is believed."""

from __future__ import annotations

import io
import os
import posixpath
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from adaflow.core.data.dataset_json import DATASET_JSON
from adaflow.core.data.decode import is_image_name, is_junk, is_table_name
from adaflow.core.data.image_files import ImageFiles, too_large
from adaflow.core.data.source import DatasetReader, ImageSource, printable, short_name
from adaflow.errors import DataError
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register

MAX_MEMBERS = 4_000_000
MAX_DIRECTORY_BYTES = 1 << 29
MAX_RATIO = 1000
"""Deflate cannot do better than 1032:1, and comes near it only for images of one colour."""
MIN_BOMB_BYTES = 1 << 23
"""Smaller members may shrink as they like: they do no harm."""
LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Signature, and lengths of the name and of the extra field that follow it."""
ENCRYPTED, UTF8 = 0x1, 0x800
"""Flags of a member."""
METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ"}
"""Ways of compression that cannot be undone with a limit of memory, or not at all."""


class ZipSource(ImageFiles):
    """The images in a zip, stored or deflated, sorted by name; labels from its `dataset.json`.

    Every read opens the archive for itself: threads and forked processes have no file position to share.

    Raises:
        DataError: not a readable zip, no images, a malformed `dataset.json`, or something that no honest archive of
            images has: links, encrypted members, names listed twice or leading out, sizes that cannot be true.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.where = printable(str(path))
        members = _list(path, self.where)
        _check_sizes(self.where, members, path.stat().st_size)
        self.members: dict[str, zipfile.ZipInfo] = {}
        for member in members:
            name = _name(member)
            _check(self.where, name, member)
            if name.endswith("/"):
                continue
            name = posixpath.normpath(name)
            if name in self.members:
                raise DataError(f"{self.where} holds {printable(name)} twice")
            self.members[name] = member
        super().__init__(self.where, short_name(path), [name for name in self.members if not is_junk(name)])

    def content(self, name: str, limit: int) -> bytes:
        """Content of the member, unpacked as far as its declared size and no further."""
        member = self.members[name]
        if max(member.file_size, member.compress_size) > limit:
            raise too_large(f"{name} in {self.where}", limit)
        if member.file_size > max(MIN_BOMB_BYTES, MAX_RATIO * member.compress_size):
            raise DataError(f"{printable(name)} in {self.where} claims to unpack to over {MAX_RATIO} times its size")
        try:
            return _unpack(member, self._stored(member))
        except (OSError, ValueError, zlib.error) as error:
            raise DataError(f"{printable(name)} in {self.where} cannot be read: {error}") from error

    def checksums(self) -> Iterator[Sequence[str | int]]:
        """Names, sizes and CRC-32 checksums."""
        for name in self.names:
            yield name, self.members[name].file_size, self.members[name].CRC

    def _stored(self, member: zipfile.ZipInfo) -> bytes:
        """The member's bytes as they lie in the archive."""
        with open(self.path, "rb") as file:
            file.seek(member.header_offset)
            signature, *lengths = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size).ljust(LOCAL_HEADER.size))
            if signature != b"PK\x03\x04":
                raise ValueError("it is not where the archive's directory says")
            file.seek(sum(lengths), os.SEEK_CUR)
            return file.read(member.compress_size)


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


class _DirectoryFile(io.FileIO):
    """The archive as `zipfile` sees it, which reads the whole directory at once and makes objects of it.

    That read is refused where the objects would fill the memory: what the end record says of their number is only a
    claim.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes."""
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise DataError(f"{printable(str(self.name))} has a directory of more than {MAX_DIRECTORY_BYTES >> 20} MiB")
        data = super().read(size) or b""
        if data.count(b"PK\x01\x02") > MAX_MEMBERS:
            raise DataError(f"{printable(str(self.name))} has more than {MAX_MEMBERS:,} members")
        return data


def _list(path: Path, where: str) -> list[zipfile.ZipInfo]:
    """The archive's directory."""
    try:
        with _DirectoryFile(path) as file, zipfile.ZipFile(file) as archive:
            return archive.infolist()
    except DataError:
        raise
    except Exception as error:  # On damaged archives zipfile raises nearly anything.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{where} cannot be opened: {reason}", "Was it copied or downloaded to its end?") from error


def _name(member: zipfile.ZipInfo) -> str:
    """The name with `/` between folders.

    Some programs on Windows write backslashes. That of macOS writes UTF-8 without saying so, which `zipfile` takes for
    code page 437.
    """
    name = member.filename.replace("\\", "/")
    if not name.isascii() and not member.flag_bits & UTF8:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name


def _check(where: str, name: str, member: zipfile.ZipInfo) -> None:
    """Refuse what a data set has no use for and an attacker has."""
    if name.startswith("/") or ".." in name.split("/") or name[1:2] == ":":
        raise DataError(f"{where} holds {printable(name)!r}, a path that leads out of the archive")
    if member.flag_bits & ENCRYPTED:
        raise DataError(f"{where} is encrypted", "Unpack it with its password and give the folder.")
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataError(f"{where} holds {printable(name)}, a link or a special file", "Pack it again without links.")
    method = member.compress_type
    if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) and _is_used(name):
        word = METHODS.get(method, f"method {method}")
        raise DataError(f"{where} holds {printable(name)}, compressed with {word}", "Unpack it and give the folder.")


def _is_used(name: str) -> bool:
    return is_image_name(name) or is_table_name(name) or posixpath.basename(name) == DATASET_JSON


def _check_sizes(where: str, members: Iterable[zipfile.ZipInfo], size: int) -> None:
    """Refuse members that share their bytes, lie outside the file, or together unpack to what no file could hold."""
    end = total = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        if member.header_offset < end:
            raise DataError(f"{where} is damaged or a bomb: {printable(member.filename)} overlaps another member")
        end = member.header_offset + LOCAL_HEADER.size + member.compress_size
        total += member.file_size
    if end > size:
        raise DataError(f"{where} is damaged or cut off: it is smaller than its members")
    if total > max(1 << 30, MAX_RATIO * size):
        raise DataError(f"{where} claims to unpack to over {MAX_RATIO} times its size")


def _unpack(member: zipfile.ZipInfo, data: bytes) -> bytes:
    """The member's content.

    Raises:
        ValueError, zlib.error: it is not what the directory says.
    """
    if member.compress_type == zipfile.ZIP_DEFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        data = inflater.decompress(data, member.file_size + 1)
    if len(data) != member.file_size:
        raise ValueError("its size is not the one the archive's directory says")
    if zlib.crc32(data) != member.CRC:
        raise ValueError("its checksum is not the one the archive's directory says")
    return data
