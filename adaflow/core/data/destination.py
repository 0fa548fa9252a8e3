"""Where a prepared set may be written: what is already there is never lost by mistake."""

from __future__ import annotations

import os
from pathlib import Path

from adaflow.core.data.dataset_json import DATASET_JSON
from adaflow.core.data.report import read_report, report_path
from adaflow.core.data.source import printable
from adaflow.core.files import file_error
from adaflow.errors import ConfigError, FileError

ARCHIVES = frozenset({".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz"})
MAX_NAME_BYTES = 220
"""File systems allow 255, and the hidden names of files under construction are longer by up to 34."""


def is_zip(dest: Path) -> bool:
    """Whether a zip is to be written; else it is a folder."""
    return dest.suffix.lower() == ".zip"


def check_destination(source: str, dest: Path, force: bool) -> None:
    """Make sure that `dest` and its report can be written without harm to anything else.

    Args:
        source: what the set is made from, a path or another word.
        dest: the zip or folder to write.
        force: whether an existing zip, or folder that adaflow prepared, may be replaced, and the report of another set.

    Raises:
        ConfigError: the two lie within each other, or `dest` is another kind of archive.
        FileError: it exists and may not be replaced, or its name will not do.
    """
    if dest.suffix.lower() in ARCHIVES:
        raise ConfigError(f"{dest} is neither a zip nor a folder", "Give a destination that ends in .zip, or a folder.")
    if dest.name in ("", ".."):
        raise FileError(f"the destination {dest} has no name of its own", "Give the name that the set shall have.")
    if (size := len(os.fsencode(dest.name))) > MAX_NAME_BYTES:
        raise FileError(f"the name {printable(dest.name)} is too long: {size} bytes", f"Use {MAX_NAME_BYTES} at most.")
    try:
        _check_apart(source, dest)
        _check_free(dest, force)
        _check_report(dest, force)
    except OSError as error:
        raise file_error(dest, error) from error


def make_folder(folder: Path) -> None:
    """Create the folder a set goes to, and those above it.

    Raises:
        FileError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"folder {folder} cannot be made: {error.strerror or error}") from error


def _check_apart(source: str, dest: Path) -> None:
    if os.path.exists(source):
        here, there = Path(os.path.realpath(source)), Path(os.path.realpath(dest))
        if here == there or there in here.parents or (here in there.parents and not is_zip(dest)):
            raise ConfigError(f"{source} and {dest} lie within each other", "Choose a destination elsewhere.")


def _check_free(dest: Path, force: bool) -> None:
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


def _check_report(dest: Path, force: bool) -> None:
    """Keep what is no report, and the report of another set: `isic.zip` and the folder `isic` have the same name."""
    path = report_path(dest)
    if not path.exists():
        return
    report = read_report(path)
    if report is None:
        raise FileError(f"{path} exists and is no report of adaflow", "Move it away; the report goes there.")
    other = Path(str(report.get("dest"))).name
    if other != dest.name and not force:
        raise FileError(
            f"{path} is the report of {printable(other)}", "Choose another name, or use --force to replace it."
        )


def _is_prepared(folder: Path) -> bool:
    """Whether a report says that every file in the folder was written by adaflow."""
    report = read_report(report_path(folder))
    if report is None:
        return False
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir()}
    return files <= {*report.get("members", {}), DATASET_JSON}
