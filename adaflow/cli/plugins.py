"""`adaflow plugins`."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from adaflow.cli import app
from adaflow.cli.options import Block, Json, PluginFiles, load_plugins

plugins_app = typer.Typer(help="What plugins there are.", no_args_is_help=True)
app.add_typer(plugins_app, name="plugins")


@plugins_app.command("list")
def list_plugins(plugin: PluginFiles = None, block: Block = None, as_json: Json = False) -> None:
    """Every plugin with its source, status, hooks and what it registered."""
    manager = load_plugins(plugin, block, strict=False)
    if as_json:
        typer.echo(json.dumps([asdict(info) for info in manager.infos], indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("name", "version", "source", "status", "offers", "listens to")
    for info in manager.infos:
        offers = "\n".join(f"{kind}: {', '.join(names)}" for kind, names in info.registered.items())
        listens = "\n".join(hook for hook in info.hooks if not hook.startswith("register_"))
        status = Text(f"{info.status}: {info.error}" if info.error else info.status)
        table.add_row(Text(info.name), info.version, Text(info.source), status, Text(offers), listens)
    Console().print(table)
