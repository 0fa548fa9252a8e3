"""`adaflow features`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaflow.cli import app
from adaflow.cli.options import Block, Json, PluginFiles, load_plugins, progress_bar
from adaflow.errors import AdaflowError, UsageError

if TYPE_CHECKING:
    from adaflow.core.weights import WeightsFile
    from adaflow.plugin_manager import PluginManager

features_app = typer.Typer(
    help="Feature extractors that metrics compare with, and their weights.", no_args_is_help=True
)
app.add_typer(features_app, name="features")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The extractor, for example inception.")]
Sha256 = Annotated[str, typer.Option(help="Take a file with this SHA-256 for the right one.")]


@features_app.command("list")
def list_features(plugin: PluginFiles = None, block: Block = None, as_json: Json = False) -> None:
    """Every feature extractor, its plugin, and whether its weights are here."""
    manager = load_plugins(plugin, block, strict=False)
    rows = [describe(entry.name, entry.provider, entry.value) for entry in manager.features]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("name", "plugin", "weights", "what it gives", box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(row[key]) for key in ("name", "plugin", "weights", "summary")))
    Console().print(table)
    for sentence in manager.failed():
        typer.echo(f"Note: {sentence}.", err=True)


@features_app.command()
def fetch(
    name: Name,
    url: Annotated[str, typer.Option(help="Another place to get the file from.")] = "",
    sha256: Sha256 = "",
    plugin: PluginFiles = None,
    block: Block = None,
) -> None:
    """Download the weights of an extractor, once. Nothing else in adaflow uses the network."""
    from adaflow.core.download import fetch as download

    weights = weights_of(name, load_plugins(plugin, block))
    with progress_bar(f"downloading {weights.name}") as progress:
        path = download(weights, url, sha256, progress)
    typer.echo(f"{name}: {path}")


@features_app.command()
def add(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Its weights, brought from elsewhere.")],
    sha256: Sha256 = "",
    plugin: PluginFiles = None,
    block: Block = None,
) -> None:
    """Keep a file of weights where metrics find it, after a look at its SHA-256."""
    weights = weights_of(name, load_plugins(plugin, block))
    typer.echo(f"{name}: {weights.add(file, sha256)}")


def weights_of(name: str, manager: PluginManager) -> WeightsFile:
    """The file of weights that an extractor needs.

    Raises:
        PluginError: there is no such extractor.
        UsageError: it needs none.
    """
    with manager.explain_unknown():
        kind = manager.features[name].value
    weights: WeightsFile | None = getattr(kind, "weights", None)
    if weights is None:
        raise UsageError(f"the feature extractor {name} needs no file of weights", "It can be used as it is.")
    return weights


def describe(name: str, provider: str, kind: Any) -> dict[str, str]:
    """A row of the list."""
    weights: WeightsFile | None = getattr(kind, "weights", None)
    state = "not needed"
    if weights is not None:
        try:
            weights.check()
            state = "here"
        except AdaflowError:
            state = f"not here ({weights.megabytes} MB)"
    summary = (kind.__doc__ or "").strip().partition("\n")[0]
    return {"name": name, "plugin": provider, "weights": state, "summary": summary}
