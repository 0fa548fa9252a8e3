"""`adaflow data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adaflow.cli import app
from adaflow.cli.options import Block, Json, PluginFiles, load_plugins, progress_bar
from adaflow.errors import ExitCode

data_app = typer.Typer(help="Data sets: make them fit for training.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@data_app.callback()
def _data() -> None:
    pass


@data_app.command()
def prepare(
    source: Annotated[str, typer.Argument(help="Folder or zip of images, or demo:lesions.")],
    dest: Annotated[Path, typer.Option("--dest", metavar="X.zip", help="The data set to write.")],
    resolution: Annotated[int, typer.Option(help="Side of the images in pixels: 32, 64, 128, …")],
    crop: Annotated[str, typer.Option(help="center: the central square; none: all of it, squeezed.")] = "center",
    channels: Annotated[int | None, typer.Option(help="3: RGB, 1: grey; as the first image by default.")] = None,
    labels: Annotated[Path | None, typer.Option(metavar="TABLE.csv", help="CSV or TSV with labels.")] = None,
    name_column: Annotated[str, typer.Option(help="Its column of image names.")] = "image_name",
    label_column: Annotated[str, typer.Option(help="Its column of labels.")] = "target",
    workers: Annotated[int, typer.Option(help="Threads.")] = 2,
    force: Annotated[bool, typer.Option("--force", metavar="", help="Replace the destination.")] = False,
    as_json: Json = False,
    plugin: PluginFiles = None,
    block: Block = None,
) -> None:
    """Crop, resize and pack images into a zip for training. Broken images are named and left out (exit code 3)."""
    from adaflow.core.data.prepare import PrepareConfig
    from adaflow.core.data.prepare import prepare as run_prepare

    manager = load_plugins(plugin, block)
    config = PrepareConfig(
        source=source,
        dest=dest,
        resolution=resolution,
        crop=crop,
        channels=channels,
        labels=labels,
        name_column=name_column,
        label_column=label_column,
        workers=workers,
        force=force,
    )
    report = run_prepare(config, manager.datasets, progress_bar("preparing"))
    if as_json:
        typer.echo(report.to_json())
    else:
        typer.echo(f"{report.written} of {report.read} images written to {dest} at {resolution}×{resolution}")
        if report.class_counts:
            typer.echo("classes: " + ", ".join(f"{name}: {count}" for name, count in report.class_counts.items()))
        if report.upscaled:
            typer.echo(f"{report.upscaled} images were smaller than that and are enlarged")
        for name, reason in report.left_out:
            typer.echo(f"left out: {name}: {reason}", err=True)
    if report.left_out:
        raise typer.Exit(ExitCode.BAD_INPUT)
