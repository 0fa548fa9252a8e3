"""A data set under construction: a zip or a folder that grows out of sight, survives a kill, and appears when whole.

Work on `isic.zip` goes to `.isic.zip.partial`, and what is done is noted in the journal `.isic.zip.partial.jsonl`. Its
first line says from what and how the set is made; each further line stands for one image of the source. Whoever starts
again with the same first line goes on behind the last image of which the journal and the bytes agree.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import time
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from adaflow.core.data.dataset_json import DATASET_JSON
from adaflow.core.files import not_ours, open_own, sync_folder
from adaflow.core.lock import try_lock
from adaflow.errors import FileError

FLUSH_SECONDS = 1.0


@dataclass(frozen=True)
class Record:
    """What became of one image of the source.

    Args:
        index: its number in the source.
        member: the name it has in the new set; None for an image that was left out.
        size: bytes of the member.
        crc: CRC-32 of the member.
        facts: what the one who writes wants to remember of it; anything JSON has.
    """

    index: int
    member: str | None = None
    size: int = 0
    crc: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


class SetWriter(ABC):
    """Writes a set, or goes on with one that was interrupted. Used with `with`; without `commit`, the work is kept.

        with ZipWriter(Path("isic.zip"), {"resolution": 256}) as writer:
            for index in range(len(writer.records), count):
                writer.add(Record(index, "00000/img00000000.png", len(png), zlib.crc32(png)), png)
            writer.finish('{"labels": null}')
            writer.commit()

    Args:
        dest: what to write; its folder exists.
        key: what the work depends on. What was begun with another key is thrown away.
        holds: says whether what was noted of an image still holds; work is taken over up to the first that does not.

    Attributes:
        records: what is done, in the order of the source.
        outdated: whether work begun with another key was thrown away.

    Raises:
        FileError: another process writes `dest`, or something of others has one of the hidden names.
        OSError: a failure of the file system.
    """

    def __init__(
        self, dest: Path, key: Mapping[str, Any], holds: Callable[[Record], bool] = lambda record: True
    ) -> None:
        self.dest = dest
        self.partial = _hidden(dest, "partial")
        self.records: list[Record] = []
        self.outdated = False
        self._first_line = json.dumps(key, sort_keys=True).encode() + b"\n"
        self._holds = holds
        self._journal_path = _hidden(dest, "partial.jsonl")
        self._noted = 0  # so many of the records are in the journal
        self._flushed = time.monotonic()

    def __enter__(self) -> Self:
        self._journal = self._locked_journal()
        try:
            lines = self._journal.readlines()
            self._claim(lines)
            if lines[:1] != [self._first_line]:
                self.outdated = bool(lines)
                self._journal.truncate(0)  # at once, lest a kill leave old lines behind the new first one
                self._journal.seek(0)
                self._journal.write(self._first_line)
                self._journal.flush()
                os.fsync(self._journal.fileno())  # before there is work that nothing would show to be ours
                lines = [self._first_line]
            self.records = self._open(takewhile(self._holds, _parse(lines[1:])))
            self._noted = len(self.records)
            self._journal_end = sum(map(len, lines[: 1 + self._noted]))
            self._journal.truncate(self._journal_end)
        except BaseException:
            self._journal.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # a full disk: what was flushed before is there, the rest will be done again
            self._flush()
        for close in (self._close, self._journal.close):
            with suppress(OSError):
                close()

    def add(self, record: Record, data: bytes = b"") -> None:
        """Append an image, or note one that was left out (without a `member`).

        Raises:
            OSError: the disk is full, or another failure of the file system.
        """
        if record.member is not None:
            self._write(record, data)
        self.records.append(record)
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self._flush()

    def finish(self, dataset_json: str) -> None:
        """Add `dataset.json` and bring everything to the disk. Nothing is added after that."""
        self._flush()
        self._finish(dataset_json)

    @abstractmethod
    def contents(self) -> list[Sequence[str | int]]:
        """Of each image its name and what stands for its content, as the readers' `fingerprint` wants it."""

    @abstractmethod
    def sha256(self) -> str | None:
        """Of the finished file, in hex; None for a folder."""

    def commit(self) -> None:
        """Give the finished set its name. It replaces what had that name before."""
        self._close()
        self._replace()
        sync_folder(self.dest.parent)
        self._journal_path.unlink()

    def discard(self) -> None:
        """Throw the work away."""
        self._noted = len(self.records)
        self._close()
        self._remove()
        self._journal_path.unlink()

    def _claim(self, lines: Sequence[bytes]) -> None:
        """Make sure that the hidden names are ours: the journal has these lines.

        Raises:
            FileError: one of them is not.
        """
        try:
            if lines and not _is_journal(lines[0]):
                raise not_ours(self._journal_path)
            self._check_partial(begun=bool(lines))
        except FileError:
            if not lines:
                self._journal_path.unlink()
            raise

    @abstractmethod
    def _check_partial(self, begun: bool) -> None:
        """Raise FileError if what has the name of the partial set is not ours; `begun`: a journal speaks of it."""

    @abstractmethod
    def _open(self, noted: Iterable[Record]) -> list[Record]:
        """Open the partial set behind the noted images whose bytes are as noted; these are returned."""

    @abstractmethod
    def _write(self, record: Record, data: bytes) -> None: ...

    @abstractmethod
    def _finish(self, dataset_json: str) -> None: ...

    @abstractmethod
    def _replace(self) -> None: ...

    @abstractmethod
    def _remove(self) -> None: ...

    def _flush_data(self) -> None:  # noqa: B027 (a folder has nothing to flush)
        """Hand everything written to the system."""

    def _close(self) -> None:  # noqa: B027
        """Close the partial file."""

    def _locked_journal(self) -> BinaryIO:
        """The journal, open and locked against other processes."""
        while True:
            journal = open_own(self._journal_path)
            if not try_lock(journal):
                journal.close()
                raise FileError(f"another process is preparing {self.dest}", "Wait for it, or stop it first.")
            # The one before may have removed the journal between our opening and our locking it.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(journal.fileno()), os.stat(self._journal_path)):
                    return journal
            journal.close()

    def _flush(self) -> None:
        """Note in the journal what was added, once the data are out of our hands: they survive a kill from then on."""
        if self._noted == len(self.records):
            return
        self._flush_data()
        lines = b"".join(json.dumps(asdict(record)).encode() + b"\n" for record in self.records[self._noted :])
        # At a known place: when the last attempt was interrupted, this one overwrites it.
        self._journal.seek(self._journal_end)
        self._journal.write(lines)
        self._journal.flush()
        self._journal_end, self._noted = self._journal_end + len(lines), len(self.records)
        self._flushed = time.monotonic()


class ZipWriter(SetWriter):
    """Writes a zip of stored members without dates: equal images make an equal file."""

    def _add_member(self, name: str, data: bytes, crc: int) -> None:
        """Append a member to the partial zip."""
        member = _member(name, len(data), crc, self._file.tell())
        self._file.write(member.FileHeader())
        self._file.write(data)
        self._members.append(member)

    def contents(self) -> list[Sequence[str | int]]:
        """Names, sizes and CRC-32 checksums."""
        return [(record.member, record.size, record.crc) for record in self.records if record.member is not None]

    def sha256(self) -> str:
        """Of the zip."""
        self._file.seek(0)
        return hashlib.file_digest(self._file, "sha256").hexdigest()

    def _check_partial(self, begun: bool) -> None:
        self._file = open_own(self.partial)

    def _open(self, noted: Iterable[Record]) -> list[Record]:
        self._members: list[zipfile.ZipInfo] = []
        kept: list[Record] = []
        end = 0
        for record in noted:
            if record.member is not None:
                member = _member(record.member, record.size, record.crc, end)
                header = member.FileHeader()
                if self._file.read(len(header)) != header or not _has_crc(self._file, record.size, record.crc):
                    break
                self._members.append(member)
                end += len(header) + record.size
            kept.append(record)
        self._file.seek(end)
        self._file.truncate()
        return kept

    def _write(self, record: Record, data: bytes) -> None:
        assert record.member is not None
        self._add_member(record.member, data, record.crc)

    def _finish(self, dataset_json: str) -> None:
        data = dataset_json.encode()
        self._add_member(DATASET_JSON, data, zlib.crc32(data))
        # An empty archive that begins where the file ends, told which members lie before it: its table of contents.
        with zipfile.ZipFile(self._file, "w") as archive:
            archive.infolist().extend(self._members)
        self._file.flush()
        os.fsync(self._file.fileno())

    def _replace(self) -> None:
        os.replace(self.partial, self.dest)

    def _remove(self) -> None:
        self.partial.unlink()

    def _flush_data(self) -> None:
        self._file.flush()

    def _close(self) -> None:
        self._file.close()


class FolderWriter(SetWriter):
    """Writes the same files into a folder."""

    def contents(self) -> list[Sequence[str | int]]:
        """Names and SHA-256 digests; read from the files."""
        names = [record.member for record in self.records if record.member is not None]
        return [(name, _sha256(self.partial / name)) for name in names]

    def sha256(self) -> None:
        """None: a folder is no file."""

    def _check_partial(self, begun: bool) -> None:
        # What is in these folders will be removed, so both must be ours.
        for path in (self.partial, _hidden(self.dest, "old")):
            if os.path.lexists(path) and not (begun and stat.S_ISDIR(os.lstat(path).st_mode)):
                raise not_ours(path)

    def _open(self, noted: Iterable[Record]) -> list[Record]:
        self.partial.mkdir(exist_ok=True)
        for path in list(self.partial.rglob("*")):
            if path.is_symlink():
                path.unlink()
        kept: list[Record] = []
        for record in noted:
            if record.member is not None and not _file_has_crc(self.partial / record.member, record.size, record.crc):
                break
            kept.append(record)
        expected = {self.partial / record.member for record in kept if record.member is not None}
        for path in list(self.partial.rglob("*")):
            if path.is_file() and path not in expected:
                path.unlink()
        return kept

    def _write(self, record: Record, data: bytes) -> None:
        assert record.member is not None
        path = self.partial / record.member
        path.parent.mkdir(exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)

    def _finish(self, dataset_json: str) -> None:
        with open(self.partial / DATASET_JSON, "xb") as file:
            file.write(dataset_json.encode())
        if hasattr(os, "sync"):
            os.sync()  # one call for all files

    def _replace(self) -> None:
        old = _hidden(self.dest, "old")
        if self.dest.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(self.dest, old)
        os.replace(self.partial, self.dest)
        if old.is_symlink():
            old.unlink()
        shutil.rmtree(old, ignore_errors=True)

    def _remove(self) -> None:
        shutil.rmtree(self.partial)


def remove_leftovers(dest: Path) -> None:
    """Remove what a kill just after `dest` had got its name left: a journal of ours without a partial set."""
    path = _hidden(dest, "partial.jsonl")
    if not os.path.lexists(path) or os.path.lexists(_hidden(dest, "partial")):
        return
    with suppress(OSError, FileError), open_own(path) as journal:
        if _is_journal(journal.readline()) and try_lock(journal):
            shutil.rmtree(_hidden(dest, "old"), ignore_errors=True)
            path.unlink()


def _hidden(dest: Path, ending: str) -> Path:
    """A hidden neighbour."""
    return dest.parent / f".{dest.name}.{ending}"


def _is_journal(first_line: bytes) -> bool:
    return first_line.startswith(b"{")


def _parse(lines: Sequence[bytes]) -> list[Record]:
    """The records of a journal, up to a line that a crash tore."""
    records = []
    for line in lines:
        try:
            records.append(Record(**json.loads(line)))
        except (ValueError, TypeError):
            break
    return records


def _member(name: str, size: int, crc: int, offset: int) -> zipfile.ZipInfo:
    """A stored member without date, of one system, so that equal images make an equal file."""
    member = zipfile.ZipInfo(name)
    member.create_system = 3
    member.external_attr = 0o644 << 16
    member.file_size = member.compress_size = size
    member.CRC = crc
    member.header_offset = offset
    return member


def _has_crc(file: BinaryIO, size: int, crc: int) -> bool:
    """Whether the next `size` bytes have the CRC-32."""
    data = file.read(size)
    return len(data) == size and zlib.crc32(data) == crc


def _file_has_crc(path: Path, size: int, crc: int) -> bool:
    try:
        with open(path, "rb") as file:
            return os.fstat(file.fileno()).st_size == size and _has_crc(file, size, crc)
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
