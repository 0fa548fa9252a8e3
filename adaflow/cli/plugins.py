"""`adaflow plugins`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from shutil import get_terminal_size
from textwrap import wrap
from typing import Annotated

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


@plugins_app.command("new")
def new_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What users will type, such as lesion-hair.")],
    kind: Annotated[
        str,
        typer.Option(help="augmentation, p-controller, method, metric, leak-detector, dataset or logger."),
    ] = "augmentation",
    package: Annotated[
        bool, typer.Option("--package", metavar="", help="A package to install, with a test, instead of one file.")
    ] = False,
    dest: Annotated[Path, typer.Option(help="The folder it goes to.")] = Path(),
) -> None:
    """Begin a plugin of your own: a file that works, to be changed."""
    from adaflow.core.scaffold import KINDS, write_plugin

    manager = load_plugins(None, None, strict=False)
    taken = manager.registries[KINDS[kind].hook] if kind in KINDS else None
    names = {*taken.entries, *taken.aliases} if taken is not None else set()
    first, *others = write_plugin(name, kind, dest, package, names)
    for path in (first, *others):
        typer.echo(str(path))
    typer.echo(f"\nEdit {first.name}, then:")
    typer.echo(f"  adaflow plugins check {first}{KINDS[kind].check}")
    typer.echo("  " + KINDS[kind].usage.format(name=name, file=first))
