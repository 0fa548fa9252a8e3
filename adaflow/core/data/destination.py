"""Where a prepared set may be written: what is already there is never lost by mistake."""

from __future__ import annotations

import json
import os
from pathlib import Path

from adaflow.core.data.dataset_json import DATASET_JSON
from adaflow.core.data.report import is_report, report_path
from adaflow.errors import ConfigError, FileError

ARCHIVES = frozenset({".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz"})


def is_zip(dest: Path) -> bool:
    """Whether a zip is to be written; else it is a folder."""
    return dest.suffix.lower() == ".zip"


def check_destination(source: str, dest: Path, force: bool) -> None:
    """Make sure that `dest` can be written without harm to anything else.

    Args:
        source: what the set is made from, a path or another word.
        dest: the zip or folder to write.
        force: whether an existing zip, or folder that adaflow prepared, may be replaced.

    Raises:
        ConfigError: the two lie within each other, or `dest` is another kind of archive.
        FileError: it exists and may not be replaced.
    """
    if dest.suffix.lower() in ARCHIVES:
        raise ConfigError(f"{dest} is neither a zip nor a folder", "Give a destination that ends in .zip, or a folder.")
    if os.path.exists(source):
        here, there = Path(source).resolve(), dest.resolve()
        if here == there or there in here.parents or (here in there.parents and not is_zip(dest)):
            raise ConfigError(f"{source} and {dest} lie within each other", "Choose a destination elsewhere.")
    if is_zip(dest):
        if dest.is_dir():
            raise FileError(f"{dest} is a folder", "Choose another name.")
        if dest.exists() and not force:
            raise FileError(f"{dest} exists already", "Choose another name, or use --force to replace it.")
    elif dest.exists():
        if not dest.is_dir():
            raise FileError(f"{dest} exists and is no folder", "Choose another name, or one that ends in .zip.")
        if not any(dest.iterdir()):
            return
        if not force:
            raise FileError(f"folder {dest} is not empty", "Choose another one, or use --force to replace it.")
        if not _is_prepared(dest):
            raise FileError(f"folder {dest} holds files that adaflow did not write", "Choose another one.")


def make_folder(folder: Path) -> None:
    """Create the folder a set goes to, and those above it.

    Raises:
        FileError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"folder {folder} cannot be made: {error.strerror or error}") from error


def _is_prepared(folder: Path) -> bool:
    """Whether a report says that every file in the folder was written by adaflow."""
    path = report_path(folder)
    if not is_report(path):
        return False
    members = json.loads(path.read_bytes()).get("members", {})
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir()}
    return files <= {*members, DATASET_JSON}
