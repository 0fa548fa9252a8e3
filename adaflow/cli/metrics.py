"""`adaflow metrics`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaflow import __version__
from adaflow.cli import app
from adaflow.cli.options import Block, Json, PluginFiles, load_plugins, progress_bar

if TYPE_CHECKING:
    from adaflow.core.data.dataset import Dataset


@app.command()
def metrics(
    network: Annotated[Path, typer.Argument(metavar="RUN.pkl|RUN", help="A network snapshot, or a run folder.")],
    names: Annotated[
        str, typer.Option("--metrics", help='What to measure: "fd,kd,pr", "kd(subset=1000)", "fid50k_full".')
    ] = "fd,kd,pr",
    num: Annotated[int, typer.Option(help="Fakes to draw, for metrics that do not say.", min=2)] = 2000,
    extractor: Annotated[str, typer.Option(help="Feature extractor, for metrics that do not say.")] = "",
    seed: Annotated[int | None, typer.Option(help="Of the fakes; default: that of the training.", min=0)] = None,
    data: Annotated[str, typer.Option(help="Where the images are now, or others; default: as in training.")] = "",
    weights: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Weights of an extractor; recognised by their SHA-256. May be given again."),
    ] = None,
    plugin: PluginFiles = None,
    block: Block = None,
    as_json: Json = False,
) -> None:
    """Measure a trained generator against the data it was trained on, with 95 % intervals."""
    import torch

    from adaflow.core.evaluate import build_metrics, data_of, evaluate, find_network, seed_of
    from adaflow.core.measured import describe
    from adaflow.core.memory import keep_memory
    from adaflow.core.snapshot import load_network
    from adaflow.core.weights import named_weights, read_file

    keep_memory()
    manager = load_plugins(plugin, block)
    with manager.explain_unknown():
        chosen = build_metrics(names, manager, num=num, extractor=extractor)
    for path in weights or ():
        read_file(path)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = load_network(find_network(network), device)
    dataset = data_of(loaded, data, manager, say=lambda text: typer.echo(f"Note: {text}", err=True))
    results: dict[str, dict[str, object]] = {}
    with progress_bar("drawing fakes") as progress, named_weights(tuple(weights or ())), manager.explain_unknown():
        for _, found in evaluate(loaded, dataset, chosen, manager, progress, seed):
            results |= {name: describe(value) for name, value in found.items()}
    if as_json:
        summary = {
            "adaflow": __version__,
            "network": str(network),
            "images": loaded.info.get("images"),
            "data": dataset.name,
            "data_fingerprint": dataset.fingerprint,
            "seed": seed_of(loaded) if seed is None else seed,
            "metrics": list(chosen),
        }
        typer.echo(json.dumps({**summary, "results": results}, indent=2))
    else:
        show(results, dataset)


def show(results: dict[str, dict[str, object]], dataset: Dataset) -> None:
    """A row for each result."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, caption=f"data: {dataset.name}", caption_justify="left")
    table.add_column("result", overflow="fold")
    for title in ("value", "95 % interval", "fakes", "reals"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, row in results.items():
        interval = row.get("interval")
        bounds = " … ".join(f"{bound:.4g}" for bound in interval) if isinstance(interval, list) else "–"
        split = row.get("split")
        reals = f"{row['reals']}{'' if split == 'train' else f' {split}'}" if "reals" in row else "–"
        table.add_row(name, f"{row['value']:.5g}", bounds, str(row.get("fakes", "–")), reals)
    Console().print(table)
