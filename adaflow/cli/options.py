"""Options that several commands share, and small helpers to show things."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from adaflow.errors import FileError, UsageError

if TYPE_CHECKING:
    from adaflow.plugin_manager import PluginManager

PluginFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.py",
        help="Load a plugin from a file (or module); may be given again.",
        rich_help_panel="Settings and plugins",
    ),
]
Block = Annotated[
    list[str] | None,
    typer.Option(
        "--block",
        metavar="NAME",
        help="Leave a plugin out; may be given again.",
        rich_help_panel="Settings and plugins",
    ),
]
MOST_SEEDS = 1_000_000
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON.")]


def load_plugins(
    files: list[str] | None, block: list[str] | None, strict: bool = True, only: str = ""
) -> PluginManager:
    """All plugins, or of the built-in ones `only` a kind, which saves the time that torch takes.

    With `strict`, one of `files` that failed is an error, and others that failed are named.
    """
    from adaflow.plugin_manager import PluginManager

    manager = PluginManager(files or (), block or (), only=only)
    if strict:
        manager.require_named()
    notes = manager.failed() if strict else []
    notes += [f"--block {name}: there is no such plugin" for name in manager.unknown_blocks()]
    for note in notes if os.environ.get("RANK", "0") == "0" else ():
        typer.echo(f"Note: {note}.", err=True)
    return manager


def parse_range(text: str) -> list[int]:
    """`0-35`, `1,4,7` or a mix of both.

    Raises:
        UsageError: anything else, or a range that goes too far.
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match:
            raise UsageError(f"{text!r} is no list of seeds", "Write 0-35 or 1,4,7.")
        first, last = int(match.group(1)), int(match.group(2) or match.group(1))
        if last < first:
            raise UsageError(f"the range {part.strip()!r} runs backwards")
        if last >= 2**63 or last - first >= MOST_SEEDS:
            raise UsageError(f"{part.strip()!r} goes too far", f"Seeds are below 2^63; {MOST_SEEDS} at a time at most.")
        numbers += range(first, last + 1)
    return numbers


class _ProgressBar:
    """See `progress_bar`."""

    def __init__(self, label: str) -> None:
        import sys

        from rich.console import Console
        from rich.progress import Progress

        self._bar = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
        self._task = self._bar.add_task(label, total=None)
        self._bar.start()

    def __call__(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)
        if done >= total:
            self._bar.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()


def progress_bar(label: str) -> _ProgressBar:
    """A callback (done, total) that shows a bar on a terminal and nothing elsewhere, until all is done.

    With `with`, it also goes away when an error or Ctrl-C ends the work before.
    """
    return _ProgressBar(label)


def make_folder(path: Path) -> Path:
    """Create a folder for results.

    Raises:
        FileError: it cannot be created, or not written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot create the folder {path}: {error.strerror}", "Choose another one.") from error
    if not os.access(path, os.W_OK):
        raise FileError(f"cannot write to the folder {path}", "Choose another one.")
    return path
