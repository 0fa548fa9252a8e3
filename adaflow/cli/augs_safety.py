"""`adaflow augs safety` and `adaflow augs show`: what is known of augmentations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaflow.cli.augs import augs_app
from adaflow.cli.options import Block, Json, PluginFiles, load_plugins, make_folder
from adaflow.errors import UsageError

if TYPE_CHECKING:
    from adaflow.core.augment.safety import Safety

Resolution = Annotated[
    int, typer.Option(help="Height and width of the images, which matters for shifts by whole pixels.", min=8, max=8192)
]


@augs_app.command()
def safety(
    augs: Annotated[str, typer.Argument(metavar="NAME", help='Transforms, as for train: xint, "hue(max=0.5)", bgc.')],
    p: Annotated[str, typer.Option(help="Probabilities to look at.")] = "0.1,0.5,0.8",
    resolution: Resolution = 256,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the smallest eigenvalue for all p.")
    ] = None,
    plugin: PluginFiles = None,
    block: Block = None,
    as_json: Json = False,
) -> None:
    """Can a transform leak? The smallest eigenvalue of what it does to distributions of images, from its own draws.

    At 0 it cannot be undone; near to 0, it takes 1/eigenvalue times the precision. Known to ±0.005; see
    docs/augmentations.md.
    """
    from adaflow.core.augment import build_pipeline
    from adaflow.core.augment.preview import parse_probabilities
    from adaflow.core.augment.safety import analyse
    from adaflow.core.augment.safety_plot import CURVE, plot_safety
    from adaflow.core.files import committed

    manager = load_plugins(plugin, block)
    probabilities = parse_probabilities(p)
    with manager.explain_unknown():
        transforms = build_pipeline(augs, manager.augmentations).transforms
    if not transforms:
        raise UsageError(f"{augs!r} names no transform", "See adaflow augs list.")
    found = [analyse(active, probabilities, resolution) for active in transforms]
    if plot is not None:
        curves = [analyse(active, CURVE, resolution) for active in transforms]
        make_folder(plot.parent)
        with committed(plot) as file:
            plot_safety(curves).save(file, format="PNG")
    if as_json:
        typer.echo(json.dumps({"resolution": resolution, "transforms": [one.plain() for one in found]}, indent=2))
        return
    typer.echo(f"Images of {resolution} × {resolution} pixels. Smallest eigenvalue ×noise when it is undone:")
    _print_safety(found, probabilities)
    if plot is not None:
        typer.echo(f"Picture: {plot}")


def _print_safety(found: list[Safety], probabilities: list[float]) -> None:
    """The smallest eigenvalue, and 1 over it, for each p; below, what it comes to."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("transform", box=SIMPLE_HEAD, pad_edge=False)
    for p in probabilities:
        table.add_column(f"p = {p:g}", justify="right")
    table.add_column("0 from", justify="right")
    for one in found:
        first = "" if not one.family else "never" if one.singular_at is None else f"p = {one.singular_at:.3g}"
        table.add_row(one.name, *(_cell(one.eigenvalues[p]) for p in probabilities if one.eigenvalues), first)
    console = Console()
    console.print(table)
    for one in found:
        text = Text.assemble((one.name, "bold"), f": {one.sentence()}")
        if one.family:
            text.append(f" It draws {one.family}. {one.note}", style="dim")
        console.print(text)


def _cell(value: float) -> str:
    """An eigenvalue, and its conditioning."""
    return f"{value:.3f}  ×{1 / value:.1f}" if value > 0 else "0  ×∞"


@augs_app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help='A transform, perhaps with settings: "xint(max=0.2)".')],
    resolution: Resolution = 256,
    plugin: PluginFiles = None,
    block: Block = None,
    as_json: Json = False,
) -> None:
    """Everything about one transform: settings, place, what it draws, where it comes from, whether it can leak."""
    from adaflow.core.augment.show import show_transform

    manager = load_plugins(plugin, block)
    with manager.explain_unknown():
        facts = show_transform(name, manager, resolution)
    if as_json:
        typer.echo(json.dumps(facts, indent=2, default=str))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for heading, text in _lines(facts):
        table.add_row(Text(heading), Text(text))
    Console().print(table)


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What is shown, as heading and text."""
    order = " and ".join(f"{place:g}" for place in facts["order"])
    origin = " ".join(filter(None, (facts["plugin"], f"({facts['source']})", facts["version"])))
    note = facts["safety"]["note"] if facts["safety"]["analysed"] else ""
    return [
        (facts["name"], facts["summary"]),
        ("kind", f"{facts['kind']}; stage {facts['stage']}"),
        ("order", f"{order}, within its stage"),
        ("in the lists", ", ".join(facts["groups"]) or "none"),
        *((f"setting {s['name']}", _setting(s)) for s in facts["settings"]),
        *(
            (d["number"], f"{d['words']}" + (" (5, 50, 95 % of draws)" if d["percentiles"] else ""))
            for d in facts["draws"]
        ),
        ("safety", f"{facts['safety']['sentence']} {note}".strip()),
        ("plugin", origin),
        ("file", facts["file"]),
    ]


def _setting(setting: dict[str, Any]) -> str:
    low, high = setting["low"], setting["high"]
    limits = f"{'−∞' if low is None else f'{low:g}'} … {'∞' if high is None else f'{high:g}'}"
    allowed = "" if low is None and high is None else f", {limits}"
    return f"{setting['value']!r} (default {setting['default']!r}{allowed}): {setting['meaning']}".removesuffix(": ")
