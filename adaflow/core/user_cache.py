"""The folder of this user in which adaflow keeps what is slow to get again."""

from __future__ import annotations

import os
from pathlib import Path

from adaflow.errors import FileError


def user_cache(part: str) -> Path:
    """`$ADAFLOW_CACHE/part`, or that of `$XDG_CACHE_HOME/adaflow` or `~/.cache/adaflow`; it need not exist.

    Raises:
        FileError: this user has no such folder.
    """
    if chosen := os.environ.get("ADAFLOW_CACHE"):
        return Path(chosen).expanduser().absolute() / part
    # A relative $XDG_CACHE_HOME counts for nothing, says its standard.
    bases = [os.environ.get("XDG_CACHE_HOME", ""), os.path.join(os.path.expanduser("~"), ".cache")]
    for base in bases:
        if os.path.isabs(base):
            return Path(base, "adaflow", part)
    raise FileError("this user has no home folder to keep a cache in", "Name a folder in $ADAFLOW_CACHE.")
