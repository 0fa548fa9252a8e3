"""Decoded images, kept beside their data set in `.adaflow-cache`, so that only the first training decodes them.

A set has two files there: its pixels, one image after the other, and a JSON that says what they are, written last.
The folder can be deleted at any time, on Linux and macOS also while trainings read from it: the next one decodes again.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import re
import secrets
import shutil
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaflow.core.data.decode_all import Decoding, Put, Shape, decode_all
from adaflow.core.data.parallel import Progress
from adaflow.core.data.source import ImageSource, read_or_error, short_name
from adaflow.core.files import committed, file_error, read_plain
from adaflow.errors import DataError, FileError

try:
    import fcntl
except ImportError:  # not a POSIX system: files that appear whole have to do
    fcntl = None  # type: ignore[assignment]

FOLDER = ".adaflow-cache"

VERSION = 2
"""Raised when the same files are decoded to other pixels than before, or a cache holds other things."""

BLOCK_BYTES = 1 << 24
"""Of pixels, about; each block has its checksum."""

VERIFIED_BYTES = 1 << 30
"""Of pixels that are compared with their checksums whenever a cache is opened: all, or blocks spread over them."""

Say = Callable[[str], None]
"""Tells the user a sentence."""


@dataclass(frozen=True)
class CachedImages:
    """What a cache holds.

    Args:
        pixels: uint8 [n, C, H, W], mapped from the file: one may write into them, and the file stays as it is.
        decoding: which images of the source these are, and what became of the others.
        fingerprint: of the source.
    """

    pixels: NDArray[np.uint8]
    decoding: Decoding
    fingerprint: str


class ImageCache:
    """The cache of one data set.

    Any number of processes may use it at the same time; one of them decodes, and the others wait for it.

    Args:
        path: the folder or file the set lies in; the cache is its neighbour.
        source: the set.
    """

    def __init__(self, path: str | Path, source: ImageSource) -> None:
        path = Path(os.path.abspath(path))
        digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()
        self.folder = path.parent / FOLDER
        self.name = f"{short_name(path)[:60]}~{digest[:8]}"
        self.source = source
        self._json = self.folder / f"{self.name}.json"
        # Found before anything is decoded: what changes in the meantime is noticed the next time.
        self._content = {"version": VERSION, "reader": _reader(source), "stamp": source.stamp(), "images": len(source)}

    def load(self, workers: int, progress: Progress | None, say: Say, build: bool = True) -> CachedImages | None:
        """Map the images, after decoding them where the cache is missing, damaged or out of date.

        An image that could not be read is tried again each time.

        Args:
            workers: threads that decode.
            progress: told as images are decoded.
            say: told what takes long, and what went wrong.
            build: False to use what is there and write nothing.

        Returns:
            The images, or None where there is no cache and none can be written.

        Raises:
            DataError: no image can be read, or their shape cannot be trained on.
        """
        try:
            if not build:
                return self._open(say)
            self._make_folder()
            with self._locked(say):
                cached = self._open(say)
                if cached is None:
                    self._build(workers, progress, say)
                    cached = self._open(say)
                return cached
        except (OSError, FileError) as error:
            problem = error if isinstance(error, FileError) else file_error(self.folder, error)
            say(f"Decoded images cannot be kept on disk: {problem.message}. They go to memory.")
            return None

    def _make_folder(self) -> None:
        self.folder.mkdir(exist_ok=True)
        if not stat.S_ISDIR(os.lstat(self.folder).st_mode):
            raise FileError(f"{self.folder} is a link")

    @contextmanager
    def _locked(self, say: Say) -> Iterator[None]:
        """Alone with this cache, as far as the file system can lock."""
        descriptor = _open_lock(self.folder / f"{self.name}.lock")
        if descriptor is None:
            yield
            return
        try:
            with suppress(OSError):  # some network file systems cannot lock
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    say(f"Waiting for another process that decodes {self.source.name}.")
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _open(self, say: Say) -> CachedImages | None:
        """The images, if they are there and those of the source as it is now."""
        try:
            content = json.loads(read_plain(self._json))
            if {key: content.get(key) for key in self._content} != self._content:
                return None
            cached = self._map(content)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            say(f"The cache {self._json} is damaged and not used: {error}.")
            return None
        now_readable = (read_or_error(self.source, index) for index in cached.decoding.unreadable)
        return cached if all(isinstance(image, DataError) for image in now_readable) else None

    def _map(self, content: dict[str, Any]) -> CachedImages:
        """The images a JSON describes.

        Raises:
            ValueError, KeyError, TypeError, OverflowError: it describes nothing of the kind.
            FileNotFoundError: the pixels are gone.
        """
        shape = _shape(content["shape"])
        unreadable = {int(index): str(reason) for index, reason in content["unreadable"]}
        odd = {int(index): _shape(other) for index, other in content["odd"]}
        left_out, everyone = unreadable.keys() | odd.keys(), range(len(self.source))
        if not left_out <= set(everyone):
            raise ValueError("it names images that are not there")
        kept = [index for index in everyone if index not in left_out]
        if not re.fullmatch("[0-9a-f]{16}", content["pixels"]):
            raise ValueError("its name of the pixels is none")
        path = self._pixels(content["pixels"])
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size != len(kept) * math.prod(shape):
            raise ValueError(f"{path.name} has not the size it should have")
        pixels = _map_file(path, (len(kept), *shape))
        _verify(pixels, content["checksums"])
        return CachedImages(pixels, Decoding(shape, kept, unreadable, odd), str(content["fingerprint"]))

    def _build(self, workers: int, progress: Progress | None, say: Say) -> None:
        """Decode the source into new files.

        Raises:
            FileError: the disk is full, or another failure to write.
        """
        self._clear()
        token = secrets.token_hex(8)
        checksums: list[int] = []
        with committed(self._pixels(token)) as file:

            def begin(shape: Shape) -> Put:
                size, free = len(self.source) * math.prod(shape), shutil.disk_usage(self.folder).free
                if size > free:
                    raise FileError(f"{self.folder} has {_size(free)} free, of {_size(size)} that are needed")
                say(f"Decoding {len(self.source):,} images into {self.folder} ({_size(size)}).")
                file.seek(0)
                file.truncate()
                checksums.clear()
                images_left = 0

                def put(image: NDArray[np.uint8]) -> None:
                    nonlocal images_left
                    data = image.tobytes()
                    file.write(data)
                    if not images_left:
                        checksums.append(0)
                        images_left = _images_in_a_block(shape)
                    checksums[-1] = zlib.crc32(data, checksums[-1])
                    images_left -= 1

                return put

            decoding = decode_all(self.source, range(len(self.source)), workers, progress, begin)
        content = {
            **self._content,
            "fingerprint": self.source.fingerprint(),
            "pixels": token,
            "checksums": checksums,
            "shape": decoding.shape,
            "unreadable": list(decoding.unreadable.items()),
            "odd": list(decoding.odd.items()),
        }
        with committed(self._json) as file:
            file.write(json.dumps(content).encode())

    def _clear(self) -> None:
        """Remove what is out of date, and what killed processes left. Whoever has it mapped keeps it."""
        for entry in list(self.folder.iterdir()):
            if entry.name.lstrip(".").startswith(f"{self.name}.") and entry.suffix != ".lock":
                with suppress(OSError):
                    entry.unlink()

    def _pixels(self, token: str) -> Path:
        return self.folder / f"{self.name}.{token}.uint8"


def _reader(source: ImageSource) -> str:
    """Which code reads the set: a plugin that was changed may read other pixels from the same files."""
    kind = type(source)
    try:
        code = Path(inspect.getfile(kind)).read_bytes()
    except (TypeError, OSError):  # it was defined in no file
        code = b""
    return f"{kind.__module__}.{kind.__qualname__} {hashlib.sha256(code).hexdigest()[:16]}"


def _open_lock(path: Path) -> int | None:
    """The lock file, open; None where there is nothing to lock with."""
    if fcntl is not None:
        # A set that others have cached can be locked though it cannot be written.
        for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
            with suppress(OSError):
                return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    return None


def _map_file(path: Path, shape: Shape) -> NDArray[np.uint8]:
    try:
        return np.memmap(path, np.uint8, "c", shape=shape)
    except OSError:
        # Systems may refuse to promise room for changes to more than the memory; then nothing can be changed.
        return np.memmap(path, np.uint8, "r", shape=shape)


def _images_in_a_block(shape: Shape) -> int:
    return max(1, BLOCK_BYTES // math.prod(shape))


def _verify(pixels: NDArray[np.uint8], checksums: Any) -> None:
    """Compare pixels [n, C, H, W] with the CRC-32 of their blocks; of many blocks, only some.

    Raises:
        ValueError: they differ.
    """
    images = _images_in_a_block(pixels.shape[1:])
    count = -(-len(pixels) // images)
    looked_at = min(count, max(2, VERIFIED_BYTES // BLOCK_BYTES))
    if len(checksums) != count:
        raise ValueError("it has not a checksum for each block")
    for block in np.linspace(0, count - 1, looked_at).astype(int).tolist():
        if zlib.crc32(pixels[block * images : (block + 1) * images].data) != checksums[block]:
            raise ValueError("the pixels are not those that were written")


def _shape(value: Any) -> Shape:
    if [type(side) for side in value] != [int] * 3 or min(value) < 1:
        raise ValueError(f"{value!r} is no shape")
    return tuple(value)


def _size(count: int) -> str:
    """Bytes for people, as file managers count them."""
    unit, name = (1e9, "GB") if count >= 1e10 else (1e6, "MB") if count >= 1e7 else (1e3, "kB")
    return f"{count / unit:,.0f} {name}"
