"""One process at a time: a training in its run folder, a preparation at its destination."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from adaflow.core.files import open_own
from adaflow.errors import FileError

try:
    import fcntl
except ImportError:  # not a POSIX system: nothing to lock with
    fcntl = None  # type: ignore[assignment]


def try_lock(file: IO[Any]) -> bool:
    """Lock an open file against other processes, until it is closed or we end; False if another one holds it."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder, and clear away what killed saves left in it. The system lets go of it however we end.

    Raises:
        FileError: another process trains in it, or its lock is a link.
    """
    with open_own(folder / ".lock") as file:
        if not try_lock(file):
            raise FileError(f"another process is training in {folder}", "Stop it first, or wait for it.")
        for part in ("", "checkpoints", "snapshots", "plugins"):
            for leftover in (folder / part).glob(".*.tmp"):
                leftover.unlink(missing_ok=True)
        yield
