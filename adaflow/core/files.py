"""Files committed whole: a kill at any moment leaves the previous content or the new one, never a part."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import secrets
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from adaflow.errors import FileError

# Systems without these calls have no links or pipes to fear.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)


@contextmanager
def committed(path: str | Path) -> Iterator[io.BufferedRandom]:
    """Write a file whole or not at all.

    What is written goes to a temporary file in the same folder, reaches the disk, and takes the name `path` when the
    block ends. If the block raises, Ctrl-C included, the temporary file goes and an old file of that name stays.

        with committed(run_dir / "state.pt") as file:
            torch.save(state, file)

    Args:
        path: the file to write; its folder exists.

    Yields:
        An empty binary file, open for writing and reading.

    Raises:
        FileError: the disk is full, the folder cannot be written, or another failure of the file system.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        try:
            with open(temporary, "x+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise file_error(path, error) from error
    except RuntimeError as error:
        # torch.save that meets a full disk raises this while it handles the OSError.
        if isinstance(error.__context__, OSError):
            raise file_error(path, error.__context__) from error
        raise
    sync_folder(path.parent)


def open_own(path: Path) -> io.BufferedRandom:
    """Open a file of ours for reading and writing, with what it holds, or create it.

    Names such as `.isic.zip.partial` can be foretold: somebody may have put a link there that leads to another file.

    Raises:
        FileError: it is a link, has a second name, or is no plain file.
        OSError: another failure of the file system.
    """

    def opener(name: str, flags: int) -> int:
        descriptor = os.open(name, flags | os.O_CREAT | _NO_LINK, 0o666)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            os.close(descriptor)
            raise not_ours(path)
        return descriptor

    try:
        return open(path, "r+b", opener=opener)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise not_ours(path) from error
        raise


def not_ours(path: Path) -> FileError:
    """The error for something that lies where adaflow wants to write, and that it did not put there."""
    return FileError(f"{path} is a link, or was not made by adaflow", "Move it away; adaflow writes there.")


def read_plain(path: Path) -> bytes:
    """Content of a plain file.

    Raises:
        ValueError: it is a pipe or a device, which might never end.
        OSError: it cannot be read.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _NO_WAIT)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no plain file")
        return file.read()


def write_json(path: str | Path, value: Any) -> None:
    """Commit `value` as indented JSON; numbers that are not finite, which JSON lacks, become null.

    Raises:
        FileError: as `committed`.
    """
    with committed(path) as file:
        file.write(json.dumps(finite(value), indent=2, ensure_ascii=False).encode() + b"\n")


def append_line(path: str | Path, line: str) -> None:
    """Append one line to a text file. A line torn by a crash is closed first, so that it spoils no other.

    Raises:
        FileError: the disk is full or the file cannot be written.
    """
    try:
        with open(path, "a+b") as file:
            torn = False
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"
            file.write(b"\n" * torn + line.encode() + b"\n")
    except OSError as error:
        raise file_error(Path(path), error) from error


def verify_zip(path: str | Path) -> None:
    """Read a zip archive, such as `torch.save` writes, to the end and compare every member with its CRC-32.

    Raises:
        FileError: the file is missing, no zip, cut short, or holds a byte that was changed.
    """
    damaged = f"{path} is damaged"
    hint = "It was cut short or changed after it was written; use another copy."
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
            # The list of contents has no checksum, and a part marked as a folder is read as nothing by some readers.
            folders = [part.filename for part in archive.infolist() if part.external_attr & 0x10 and not part.is_dir()]
    except FileNotFoundError:
        raise FileError(f"there is no file {path}") from None
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error
    # A changed byte in a header can pass for encryption, an unknown method or an impossible offset.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OverflowError) as error:
        raise FileError(f"{damaged}: {error}", hint) from error
    if bad is not None:
        raise FileError(f"{damaged}: the checksum of its part {bad} is wrong", hint)
    if folders:
        raise FileError(f"{damaged}: its part {folders[0]} is listed as a folder", hint)


def sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut."""
    if os.name != "posix":
        return
    with suppress(OSError):  # some file systems have no such call, and the file is in place by now
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def file_error(path: Path, error: OSError) -> FileError:
    """The one sentence for a failure to write `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FileError(f"the disk is full: {path} was not written", f"Free some space in {path.parent}.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return FileError(f"{path} cannot be written: no permission", f"Check who may write to {path.parent}.")
    if error.errno == errno.ENOENT:
        return FileError(f"{path} cannot be written: its folder does not exist")
    return FileError(f"{path} cannot be written: {error.strerror or error}")


def finite(value: Any) -> Any:
    """`value` with None in place of numbers that are not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [finite(item) for item in value]
    return value
