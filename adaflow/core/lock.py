"""One training at a time in a run folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adaflow.errors import FileError

try:
    import fcntl
except ImportError:  # not a POSIX system: nothing to lock with
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder, and clear away what killed saves left in it. The system lets go of it however we end.

    Raises:
        FileError: another process trains in it.
    """
    with open(folder / ".lock", "w") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise FileError(f"another process is training in {folder}", "Stop it first, or wait for it.") from error
        for part in ("", "checkpoints", "snapshots", "plugins"):
            for leftover in (folder / part).glob(".*.tmp"):
                leftover.unlink(missing_ok=True)
        yield
