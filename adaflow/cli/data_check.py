"""`adaflow data check` and `adaflow data show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaflow.cli.data import GroupColumn, LabelColumn, Labels, NameColumn, data_app
from adaflow.cli.options import Block, Json, PluginFiles, load_plugins, make_folder, progress_bar
from adaflow.errors import AdaflowError, ExitCode

if TYPE_CHECKING:
    from adaflow.core.data.check import CheckReport
    from adaflow.core.data.clean import CleanReport
    from adaflow.core.features import FeatureExtractor
    from adaflow.plugin_manager import PluginManager

SHOWN = 5
"""Names after a finding on the screen; --json has all."""

Source = Annotated[str, typer.Argument(help="Folder or zip of images, a prepared set, or demo:lesions.")]
Workers = Annotated[int | None, typer.Option(min=1, max=64, help="Threads; one a core, at most 8, by default.")]


@data_app.command()
def check(
    source: Source,
    fix: Annotated[
        Path | None, typer.Option(metavar="Y.zip", help="Write a copy without broken, odd, plain and doubled images.")
    ] = None,
    labels: Labels = "auto",
    name_column: NameColumn = None,
    label_column: LabelColumn = None,
    group_column: GroupColumn = None,
    workers: Workers = None,
    as_json: Json = False,
    plugin: PluginFiles = None,
    block: Block = None,
) -> None:
    """Look for broken, doubled, odd and wrongly labelled images. Exit code 3 if there is a problem."""
    from adaflow.core.data.check import judge
    from adaflow.core.data.clean import write_clean
    from adaflow.core.data.prepare import default_workers
    from adaflow.core.data.scan import examine
    from adaflow.core.data.source import open_source

    manager = load_plugins(plugin, block, only="datasets")
    workers = workers or default_workers()
    cleaned = None
    with open_source(source, manager.datasets) as images:
        with progress_bar("looking") as bar:
            seen = examine(images, labels, workers, bar, name_column, label_column, group_column)
        report = judge(seen)
        if fix is not None:
            with progress_bar("writing") as bar:
                cleaned = write_clean(seen, source, fix, workers, bar)
    if as_json:
        typer.echo(report.to_json())
    else:
        _print_report(report)
        if cleaned is not None:
            _print_cleaned(cleaned)
    if report.problems:
        raise typer.Exit(ExitCode.BAD_INPUT)


@data_app.command()
def show(
    source: Source,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the sheets go.")],
    per_class: Annotated[int, typer.Option(min=1, max=1000, help="Images of each class.")] = 32,
    unusual: Annotated[int, typer.Option(min=0, max=1000, help="Of the most unusual images; 0: none.")] = 32,
    features_of: Annotated[
        int, typer.Option(min=2, help="Images among which the unusual ones are sought; takes 10 to 30 ms each.")
    ] = 5000,
    seed: Annotated[int, typer.Option(min=0, help="Which images, in which order.")] = 0,
    labels: Labels = "auto",
    name_column: NameColumn = None,
    label_column: LabelColumn = None,
    workers: Workers = None,
    plugin: PluginFiles = None,
    block: Block = None,
) -> None:
    """Draw contact sheets, as PNG: one per class, and one of the images least like the others."""
    from adaflow.core.data.contact_sheet import ShowConfig
    from adaflow.core.data.contact_sheet import show as draw
    from adaflow.core.data.prepare import default_workers
    from adaflow.core.data.source import open_source

    manager = load_plugins(plugin, block)
    with open_source(source, manager.datasets) as images:
        config = ShowConfig(
            out=make_folder(out),
            per_class=per_class,
            unusual=unusual,
            features_of=features_of,
            seed=seed,
            labels=labels,
            name_column=name_column,
            label_column=label_column,
            workers=workers or default_workers(),
        )
        if unusual and len(images) > features_of:
            typer.echo(f"Note: the unusual ones are sought among {features_of:,} of {len(images):,} images.", err=True)
        with progress_bar("comparing") as bar:
            paths = draw(images, config, _extractor(manager) if unusual else None, bar)
    for path in paths:
        typer.echo(str(path))
    typer.echo(
        "Look for: images in the wrong class; rulers, text, stickers and black frames, which a GAN copies; "
        "pictures of something else."
    )


def _extractor(manager: PluginManager) -> FeatureExtractor | None:
    """The default extractor; None, with a word, where it cannot be had."""
    from adaflow.core.features import DEFAULT_EXTRACTOR

    try:
        extractor: FeatureExtractor = manager.features[DEFAULT_EXTRACTOR].value("cpu")
        return extractor
    except (AdaflowError, ImportError, OSError) as error:
        typer.echo(f"Note: no sheet of unusual images, for {DEFAULT_EXTRACTOR} cannot be used: {error}.", err=True)
        return None


def _print_report(report: CheckReport) -> None:
    """A summary, the table of classes, and the table of findings."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from adaflow.core.data.source import printable

    console = Console(highlight=False)
    kind = {0: "", 1: " grey", 3: " RGB"}[report.channels]
    size = f", {report.width}×{report.height}{kind}" * bool(report.channels)
    apart = f", {report.validation:,} set apart" if report.validation is not None else ""
    groups = f", {report.groups:,} patients or lesions" if report.groups is not None else ""
    console.print(Text(f"{report.source}: {report.images:,} images{size}{apart}{groups}"))
    console.print(Text(f"labels: {printable(report.labels_from)}"))
    if report.class_counts:
        table = Table("class", "images", box=None, header_style="bold")
        table.columns[1].justify = "right"
        for name, count in report.class_counts.items():
            table.add_row(Text(printable(name), overflow="ellipsis", no_wrap=True), f"{count:,}")
        console.print(table)
    if not report.findings:
        console.print("Nothing to complain of.")
        return
    table = Table("", "what", "which", header_style="bold", show_lines=True)
    for finding in report.findings:
        what = Text(printable(finding.sentence))
        if finding.hint:
            what.append(f"\n{printable(finding.hint)}", style="dim")
        table.add_row(
            Text(finding.level, style="red" if finding.level == "problem" else "yellow"), what, _some(finding.names)
        )
    console.print(table)
    notes = len(report.findings) - report.problems
    console.print(f"{_number(report.problems, 'problem')}, {_number(notes, 'note')}")


def _some(names: tuple[str, ...]) -> str:
    """The first names, a line each, and how many more there are."""
    from rich.markup import escape

    from adaflow.core.data.source import printable

    lines = [escape(_short(printable(name))) for name in names[:SHOWN]]
    if len(names) > SHOWN:
        lines.append(f"and {len(names) - SHOWN:,} more")
    return "\n".join(lines)


def _short(name: str) -> str:
    """At most 40 characters."""
    return name if len(name) <= 40 else f"{name[:19]}…{name[-20:]}"


def _print_cleaned(cleaned: CleanReport) -> None:
    """What the cleaned copy lacks."""
    from adaflow.core.data.report import report_path
    from adaflow.core.data.source import printable

    typer.echo(f"{cleaned.written:,} of {cleaned.read:,} images written to {cleaned.dest}")
    for name, reason in cleaned.left_out[:SHOWN]:
        typer.echo(f"left out: {_short(printable(name))}: {printable(reason)}")
    if len(cleaned.left_out) > SHOWN:
        typer.echo(f"and {len(cleaned.left_out) - SHOWN:,} more")
    typer.echo(f"all names and reasons: {report_path(Path(cleaned.dest))}")


def _number(count: int, one: str) -> str:
    return f"{count:,} {one}{'s' * (count != 1)}"
