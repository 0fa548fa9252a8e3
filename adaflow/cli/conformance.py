"""`adaflow augs check` and `adaflow plugins check`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaflow.cli.augs import augs_app
from adaflow.cli.options import Block, Json, PluginFiles, load_plugins
from adaflow.cli.plugins import plugins_app
from adaflow.errors import ExitCode

if TYPE_CHECKING:
    from adaflow.conformance import CheckResult, Subject
    from adaflow.plugin_manager import PluginManager

COLOURS = {"passed": "green", "failed": "red", "skipped": "yellow", "expected failure": "yellow"}


@augs_app.command("check")
def check_augs(
    what: Annotated[str, typer.Argument(metavar="NAME|FILE.py|SPEC", help="A transform, a list, or a plugin file.")],
    plugin: PluginFiles = None,
    block: Block = None,
    as_json: Json = False,
) -> None:
    """Check that transforms do what transforms should; exit code 3 if one does not.

    Of a plugin file, all its transforms are checked.
    """
    from adaflow.conformance.subjects import in_spec

    _check(what, plugin, block, as_json, "augmentation", in_spec)


@plugins_app.command("check")
def check_plugins(
    what: Annotated[str, typer.Argument(metavar="NAME|FILE.py", help="A plugin, something it offers, or its file.")],
    data: Annotated[str | None, typer.Option(help="What a dataset reader is to open.")] = None,
    plugin: PluginFiles = None,
    block: Block = None,
    as_json: Json = False,
) -> None:
    """Check that all that a plugin offers does what it should; exit code 3 if something does not."""
    from adaflow.conformance.subjects import called

    _check(what, plugin, block, as_json, "", called, data)


def _check(
    what: str,
    files: list[str] | None,
    block: list[str] | None,
    as_json: bool,
    kind: str,
    find: Callable[[PluginManager, str], list[Subject]],
    data: str | None = None,
) -> None:
    """Find what is to be checked, check it, show what came of it."""
    from adaflow.conformance import check_subject
    from adaflow.conformance.subjects import of_provider, with_source
    from adaflow.core.data.source import printable

    is_file = what.endswith(".py")
    manager = load_plugins([*(files or []), *([what] if is_file else [])], block)
    with manager.explain_unknown():
        subjects = of_provider(manager, printable(Path(what).stem), kind) if is_file else find(manager, what)
    rows = []
    for subject in with_source(subjects, data):
        results = check_subject(subject)
        rows.append(_plain(subject, results))
        if not as_json:
            _show(subject, results)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    if not all(row["passed"] for row in rows):
        raise typer.Exit(ExitCode.BAD_INPUT)


def _plain(subject: Subject, results: list[CheckResult]) -> dict[str, Any]:
    """For programs."""
    return {
        "kind": subject.kind,
        "name": subject.name,
        "plugin": subject.provider,
        "passed": all(result.status != "failed" for result in results),
        "checks": [{"check": r.check, "result": r.status, "reason": r.reason} for r in results],
    }


def _show(subject: Subject, results: list[CheckResult]) -> None:
    """A table for people."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from adaflow.conformance.catalogue import NOT_TRIED

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("reason")
    not_tried = [result for result in results if result.reason.startswith(NOT_TRIED)]
    for result in results:
        if result not in not_tried:
            reason = Text(result.reason, overflow="fold")
            table.add_row(Text(result.check), Text(result.status, style=COLOURS[result.status]), reason)
    if not_tried:
        table.add_row(f"{len(not_tried)} others", Text("skipped", style=COLOURS["skipped"]), not_tried[0].reason)
    counts = [f"{sum(r.status == status for r in results)} {status}" for status in COLOURS]
    console = Console()
    console.print(Text(f"{subject.kind} {subject.item}, of plugin {subject.provider}"), style="bold")
    console.print(table)
    console.print(Text(", ".join(count for count in counts if not count.startswith("0 ")) + "\n"))
