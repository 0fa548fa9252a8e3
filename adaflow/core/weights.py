"""Files of weights that extractors need and adaflow does not bring: where they are, and that they are the right ones.

A file is always read whole and compared with its SHA-256 before anything is made of it: TorchScript is a program, and
loading it runs what somebody else wrote.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from adaflow.core.files import committed, file_error, read_plain
from adaflow.core.user_cache import user_cache
from adaflow.errors import FileError, UsageError

SHA256 = re.compile("[0-9a-f]{64}")

_named: ContextVar[tuple[Path, ...]] = ContextVar("named weights", default=())


@dataclass(frozen=True)
class WeightsFile:
    """One published file.

    Args:
        extractor: who needs it.
        name: of the file.
        url: where it is published.
        sha256: of the file.
        megabytes: about how large it is.
    """

    extractor: str
    name: str
    url: str
    sha256: str
    megabytes: int

    @property
    def path(self) -> Path:
        """Where `fetch` and `add` put it."""
        return user_cache("weights") / self.name

    @property
    def accepted(self) -> str:
        """The SHA-256 a file must have: that of the published one, or what the user vouched for."""
        try:
            vouched = read_plain(self._vouched).decode("ascii").strip()
        except (OSError, ValueError):
            return self.sha256
        return vouched if SHA256.fullmatch(vouched) else self.sha256

    def check(self) -> None:
        """See that a file is there, without reading it.

        Raises:
            FileError: it is not.
        """
        if not _named.get() and not self.path.is_file():
            raise self._missing()

    def read(self) -> bytes:
        """The file, verified: one that the user named, else that of the cache.

        Raises:
            FileError: there is none, or it is another file.
        """
        for path in _named.get():
            content = read_file(path)
            if digest(content) == self.accepted:
                return content
        if not self.path.is_file():
            if _named.get():
                raise self.mismatch(_named.get()[0], digest(read_file(_named.get()[0])))
            raise self._missing()
        content = read_file(self.path)
        if digest(content) != self.accepted:
            raise self.mismatch(self.path, digest(content))
        return content

    def add(self, path: Path, sha256: str = "") -> Path:
        """Copy a file to the cache.

        Args:
            path: the file.
            sha256: what the user says its SHA-256 is, where it is not the published file; "" for that one.

        Returns:
            Its place in the cache.

        Raises:
            FileError: it is another file, or cannot be read or written.
            UsageError: `sha256` is none.
        """
        check_sha256(sha256)
        content = read_file(path)
        if digest(content) != (sha256 or self.sha256):
            raise self.mismatch(path, digest(content))
        self.make_folder()
        with committed(self.path) as file:
            file.write(content)
        self.vouch(sha256)
        return self.path

    def vouch(self, sha256: str) -> None:
        """Take a file with this SHA-256 for the right one from now on; "" for the published one."""
        if not sha256 or sha256 == self.sha256:
            self._vouched.unlink(missing_ok=True)
            return
        with committed(self._vouched) as file:
            file.write(sha256.encode() + b"\n")

    def make_folder(self) -> None:
        """Create the folder of the cache, which only this user may write to.

        Raises:
            FileError: it cannot be created.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise file_error(self.path, error) from error

    def mismatch(self, path: Path, found: str) -> FileError:
        """The error for a file that is another one."""
        return FileError(
            f"{path} is not the file {self.name} that {self.extractor} needs: its SHA-256 is {found}, "
            f"not {self.accepted}",
            f"Nothing of it was run. Get it again with: adaflow features fetch {self.extractor}",
        )

    @property
    def _vouched(self) -> Path:
        return self.path.with_name(f"{self.name}.sha256")

    def _missing(self) -> FileError:
        return FileError(
            f"the weights of {self.extractor} are not on this machine",
            f"Download them once ({self.megabytes} MB) with: adaflow features fetch {self.extractor}; or bring the "
            f"file {self.name} and name it with --weights, or keep it with: adaflow features add {self.extractor} FILE",
        )


@contextmanager
def named_weights(paths: tuple[Path, ...]) -> Iterator[None]:
    """Within it, extractors look among these files first. Which file is whose is told by its SHA-256."""
    token = _named.set(paths)
    try:
        yield
    finally:
        _named.reset(token)


def check_sha256(text: str) -> None:
    """See that a text is "" or a SHA-256.

    Raises:
        UsageError: it is neither.
    """
    if text and not SHA256.fullmatch(text):
        raise UsageError(f"{text!r} is no SHA-256", "It has 64 digits, 0 to 9 and a to f.")


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def read_file(path: Path) -> bytes:
    """A plain file.

    Raises:
        FileError: it cannot be read.
    """
    try:
        return read_plain(path)
    except FileNotFoundError:
        raise FileError(f"there is no file {str(path)!r}") from None
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
