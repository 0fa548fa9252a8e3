"""`adaflow leakcheck`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from adaflow.cli import app
from adaflow.cli.options import Block, Json, PluginFiles, load_plugins, make_folder
from adaflow.errors import PluginError, UsageError

if TYPE_CHECKING:
    from adaflow.core.leakcheck import LeakReport

COLORS = {"leak": "bold red", "clean": "green", "cannot tell": "yellow"}


@app.command()
def leakcheck(
    network: Annotated[
        Path | None, typer.Argument(metavar="[RUN.pkl|RUN]", help="A network snapshot, or a run folder.")
    ] = None,
    fakes: Annotated[
        str, typer.Option(help="In place of a network: a folder or zip of generated images, of any program.")
    ] = "",
    data: Annotated[
        str, typer.Option(help="The real images that were trained on; default: where they were in training.")
    ] = "",
    augs: Annotated[
        str | None, typer.Option("--augs", help="Transforms to look for; default: those that training used.")
    ] = None,
    num: Annotated[int, typer.Option(help="Fakes to draw.", min=1)] = 2000,
    detectors: Annotated[
        str, typer.Option(help='What to look for, as in "memorisation(pictures=30),collapse".')
    ] = "augmentation,memorisation,collapse",
    held_out: Annotated[
        str, typer.Option("--held-out", help="Real images that were not trained on; default: the validation part.")
    ] = "",
    html: Annotated[bool, typer.Option("--html/--no-html", help="Write leakcheck.html, with pictures.")] = True,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for leakcheck.json and leakcheck.html; default: beside the network, or here."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.", min=0)] = 0,
    weights: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Weights of an extractor; recognised by their SHA-256. May be given again."),
    ] = None,
    plugin: PluginFiles = None,
    block: Block = None,
    as_json: Json = False,
) -> None:
    """Do generated images show the augmentations of the training, or copies of patients? Exit code 4 if they do.

    Exit code 6: nothing was found, but something cannot be told; 0: nothing was found, and a leak would have been seen.
    """
    import torch

    from adaflow.core.evaluate import find_network
    from adaflow.core.leak_report import write_html, write_json
    from adaflow.core.leakcheck import build_detectors, images_context, network_context, run_detectors, with_held_out
    from adaflow.core.memory import keep_memory
    from adaflow.core.snapshot import load_network
    from adaflow.core.weights import named_weights, read_file

    if (network is None) == (not fakes):
        raise UsageError("there is no single thing to check", "Name a network, or images with --fakes, and not both.")
    if fakes and not data:
        raise UsageError("--fakes needs the real images to compare with", "Name them with --data.")
    keep_memory()
    manager = load_plugins(plugin, block)
    with manager.explain_unknown():
        chosen = build_detectors(detectors, manager)
    for path in weights or ():
        read_file(path)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def say(text: str) -> None:
        typer.echo(f"Note: {text}", err=True)

    with _StageBar() as progress, named_weights(tuple(weights or ())), manager.explain_unknown():
        if network is not None:
            path = find_network(network)
            folder = make_folder(out or path.parent)
            loaded = load_network(path, device)
            with _plugins_of_the_training(loaded.info):
                context = network_context(loaded, manager, num, data, augs, seed, say, progress)
            title = str(network)
            context = replace(context, about={"network": str(path), **context.about})
        else:
            folder = make_folder(out or Path())
            context = images_context(fakes, data, manager, num, augs or "", seed, device, say, progress)
            title = fakes
        if held_out:
            context = with_held_out(context, held_out, manager, say)
        report = run_detectors(context, chosen)
    write_json(folder / "leakcheck.json", report)
    if html:
        write_html(folder / "leakcheck.html", report, title)
    if as_json:
        typer.echo(json.dumps(report.plain(), indent=2))
    else:
        show(report)
        typer.echo(f"Details: {folder / ('leakcheck.html' if html else 'leakcheck.json')}")
    raise typer.Exit(int(report.exit_code))


@contextmanager
def _plugins_of_the_training(info: dict[str, Any]) -> Iterator[None]:
    """Within it, an error about an unknown name also says which plugins the training used.

    A network file does not make us load them: it may come from anywhere.
    """
    from adaflow.core.data.source import printable

    try:
        yield
    except PluginError as error:
        files = info.get("config", {}).get("plugins", [])
        if not files:
            raise
        named = " ".join(f"--plugin {printable(str(file))}" for file in files)
        hint = f"Training had plugins; their sources are in the run folder, under plugins/. Give them: {named}."
        raise PluginError(error.message, hint) from error


def show(report: LeakReport) -> None:
    """A row for each finding."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table("looked for", "verdict", "finding", box=SIMPLE_HEAD, pad_edge=False)
    for finding in report.findings:
        text = Text(finding.sentence)
        if finding.advice:
            text.append(f"\n{finding.advice}", style="italic")
        name = finding.subject if finding.subject == finding.detector else f"{finding.detector}: {finding.subject}"
        table.add_row(Text(name), Text(finding.verdict, style=COLORS[finding.verdict]), Padding(text, (0, 0, 1, 0)))
    Console().print(table)


class _StageBar:
    """A callback (what, done, total) that shows what is being done: on a terminal how far it is, elsewhere a line."""

    def __init__(self) -> None:
        import sys

        from rich.console import Console
        from rich.progress import Progress

        self._bar = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
        self._task = self._bar.add_task("reading", total=None)
        self._stage = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._bar.disable and what != self._stage:
            typer.echo(f"{what} ...", err=True)
        self._stage = what
        self._bar.update(self._task, description=what, completed=done, total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
