"""`adaflow augs`."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import fill
from typing import Annotated

import typer

from adaflow.cli import app
from adaflow.cli.options import Block, Json, PluginFiles, load_plugins, make_folder
from adaflow.errors import UsageError

augs_app = typer.Typer(
    help="Augmentations: what there is, what it looks like, and whether it can leak.", no_args_is_help=True
)
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

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("name", "kind", "settings", "plugin", "what it does"):
        table.add_column(column, no_wrap=column == "name", overflow="fold")
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
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Short for --augs NAME.")] = None,
    data: Annotated[str, typer.Option(help="Images to augment: folder, zip or demo:lesions.")] = "demo:lesions",
    augs: Annotated[
        str | None, typer.Option("--augs", "--augpipe", help="Transforms, as for train.", show_default="bgc")
    ] = None,
    p: Annotated[str | None, typer.Option(help="One row for each probability.", show_default="0.1,0.5,0.8")] = None,
    strength: Annotated[
        str | None,
        typer.Option(
            metavar="5,50,95", help="One row for each percentile: all transforms act, all their draws are at it."
        ),
    ] = None,
    columns: Annotated[int, typer.Option(help="Images in a row.", min=1, max=64)] = 12,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("preview.png"),
    plugin: PluginFiles = None,
    block: Block = None,
) -> None:
    """Draw a sheet of augmented images: the first row as they are, then one row for each p or strength."""
    from adaflow.core.augment import build_pipeline
    from adaflow.core.augment.preview import parse_percentiles, parse_probabilities, preview_sheet
    from adaflow.core.data.source import open_source
    from adaflow.core.grid import save_png

    if name is not None and augs is not None:
        raise UsageError(f"both {name} and --augs {augs} say what to draw", "Leave one of them out.")
    percentiles = parse_percentiles(strength) if strength else []
    probabilities = parse_probabilities(p or "0.1,0.5,0.8") if p or not strength else []
    manager = load_plugins(plugin, block)
    with manager.explain_unknown():
        pipeline = build_pipeline(name or augs or "bgc", manager.augmentations)
        with open_source(data, manager.datasets) as source:
            sheet = preview_sheet(pipeline, source, columns, probabilities, percentiles, seed)
    make_folder(out.parent)
    save_png(out, sheet)
    rows = [f"p = {', '.join(f'{value:g}' for value in probabilities)}"] if probabilities else []
    rows += [f"draws at {', '.join(f'{value:g}' for value in percentiles)} %"] if percentiles else []
    typer.echo(f"{out}: row 1 as it is, then {', then '.join(rows)}")
