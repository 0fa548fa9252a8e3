"""`adaflow augs`."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import fill
from typing import Annotated

import typer

from adaflow.cli import app
from adaflow.cli.options import Block, Json, PluginFiles, load_plugins, make_folder

augs_app = typer.Typer(help="Augmentations: what there is and what it looks like.", no_args_is_help=True)
app.add_typer(augs_app, name="augs")


@augs_app.command("list")
def list_augs(plugin: PluginFiles = None, block: Block = None, as_json: Json = False) -> None:
    """Every transform with its kind, settings and plugin, and the short names for lists of them.

    Of a library such as kornia, only the names, unless --json is given.
    """
    from adaflow.core.augment.describe import describe_transforms

    manager = load_plugins(plugin, block, strict=False)
    aliases = {alias.name: alias.value for alias in manager.augmentations.aliases.values()}
    if as_json:
        rows = describe_transforms(manager.augmentations)
        typer.echo(json.dumps({"transforms": rows, "aliases": aliases}, indent=2))
        return
    rows = describe_transforms(entry for entry in manager.augmentations if not entry.lazy)
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("name", "kind", "settings", "plugin", "what it does", box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(row[key]) for key in ("name", "kind", "settings", "plugin", "summary")))
    console = Console()
    console.print(table)
    for library in sorted({entry.provider for entry in manager.augmentations if entry.lazy}):
        names = [entry.name for entry in manager.augmentations if entry.lazy and entry.provider == library]
        typer.echo(f"{len(names)} transforms of {library}:\n{fill(', '.join(names), min(console.width, 120))}")
        typer.echo()
    short = Table("short name", "stands for", box=SIMPLE_HEAD, pad_edge=False)
    for name, value in aliases.items():
        short.add_row(name, value)
    console.print(short)
    for sentence in manager.failed():
        typer.echo(f"Note: {sentence}.", err=True)


@augs_app.command()
def preview(
    data: Annotated[str, typer.Option(help="Images to augment: folder, zip or demo:lesions.")] = "demo:lesions",
    augs: Annotated[str, typer.Option("--augs", "--augpipe", help="Transforms, as for train.")] = "bgc",
    p: Annotated[str, typer.Option(help="One row for each probability.")] = "0.1,0.5,0.8",
    columns: Annotated[int, typer.Option(help="Images in a row.", min=1, max=64)] = 12,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("preview.png"),
    plugin: PluginFiles = None,
    block: Block = None,
) -> None:
    """Draw a sheet of augmented images: the first row as they are, then one row for each p."""
    from adaflow.core.augment import build_pipeline
    from adaflow.core.augment.preview import parse_probabilities, preview_sheet
    from adaflow.core.data.source import open_source
    from adaflow.core.grid import save_png

    manager = load_plugins(plugin, block)
    probabilities = parse_probabilities(p)
    with manager.explain_unknown():
        pipeline = build_pipeline(augs, manager.augmentations)
        with open_source(data, manager.datasets) as source:
            sheet = preview_sheet(pipeline, source, probabilities, columns, seed)
    make_folder(out.parent)
    save_png(out, sheet)
    typer.echo(f"{out}: row 1 as it is, then p = {', '.join(f'{value:g}' for value in probabilities)}")
