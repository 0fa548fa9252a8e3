"""`adaflow plugins`."""

from __future__ import annotations

import json
from dataclasses import asdict
from shutil import get_terminal_size
from textwrap import wrap

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
    width = min(get_terminal_size().columns, 120)
    for info in manager.infos:
        name = typer.style(info.name, bold=True)
        status = typer.style(info.status, fg=typer.colors.RED if info.status == "failed" else None)
        typer.echo(f"{name}{' ' * bool(info.version)}{info.version} ({info.source}): {status}")
        listens = [hook for hook in info.hooks if not hook.startswith("register_")]
        for what, names in [*info.registered.items(), ("listens to", listens)]:
            if names:
                start = f"    {what + ':':19} "
                lines = wrap(", ".join(names), width - len(start), break_long_words=False, break_on_hyphens=False)
                typer.echo(start + f"\n{' ' * len(start)}".join(lines))
        for line in filter(None, (info.error, info.hint)):
            typer.echo(f"    {line}")
