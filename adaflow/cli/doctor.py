"""`adaflow doctor`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from adaflow.cli import app
from adaflow.cli.options import Json
from adaflow.errors import ExitCode

if TYPE_CHECKING:
    from adaflow.core.doctor import Examination


@app.command()
def doctor(
    build: Annotated[
        bool, typer.Option("--build", metavar="", help="Build all native kernels ahead, for GPUs too if nvcc is here.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what this machine has and which path each operation takes, and test it."""
    from adaflow.core.doctor import examine

    found = examine(build)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        show(found)
    if found.problems:
        raise typer.Exit(ExitCode.BAD_INPUT)


def show(found: Examination) -> None:
    """The facts, a line for each operation, and what is wrong."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    facts = Table.grid(padding=(0, 2))
    for name, value in found.facts.items():
        facts.add_row(f"[bold]{name}", escape(value))
    size = sum(found.libraries.values()) / 1e6
    facts.add_row("[bold]libraries", f"{len(found.libraries)} in the cache, {size:.1f} MB")
    console.print(facts)
    table = Table("operation", "device", "path", "self-test", box=None, padding=(0, 2, 0, 0))
    for row in found.operations:
        table.add_row(row.name, row.device, row.path, "[red]failed" if row.failure else escape(row.why) or "passed")
    console.print()
    console.print(table)
    for problem in found.problems:
        console.print(f"[red]Problem:[/red] {escape(problem)}")
