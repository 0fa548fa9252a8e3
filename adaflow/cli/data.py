"""`adaflow data prepare`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaflow.cli import app
from adaflow.cli.options import Block, Json, PluginFiles, load_plugins, progress_bar
from adaflow.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from adaflow.core.data.report import PrepareReport

SHOWN = 20
"""Lines of a list on the screen; the report has all."""

Labels = Annotated[str, typer.Option(metavar="TABLE.csv", help="A CSV or TSV file; or auto, none, folders.")]
NameColumn = Annotated[str | None, typer.Option(help="Its column of image names, if it is not found.")]
LabelColumn = Annotated[str | None, typer.Option(help="Its column of labels.")]
GroupColumn = Annotated[
    str | None, typer.Option(help="Its column of patients or lesions, which splits never separate.")
]

data_app = typer.Typer(help="Data sets: make them fit for training.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@data_app.callback()
def _data() -> None:
    pass


@data_app.command()
def prepare(
    source: Annotated[str, typer.Argument(help="Folder or zip of images, a prepared set, or demo:lesions.")],
    dest: Annotated[Path, typer.Option("--dest", metavar="X.zip|FOLDER", help="The data set to write.")],
    resolution: Annotated[int | None, typer.Option(help="Side of square images in pixels: 64, 128, 256, …")] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Or width and height, as in 256x192.")] = None,
    crop: Annotated[
        str,
        typer.Option(
            help="center: the central part; pad: all, on black; none: all, squeezed; wide: as StyleGAN tools do."
        ),
    ] = "center",
    filter: Annotated[str, typer.Option(help="Of the resizing: lanczos, box or area.")] = "lanczos",
    channels: Annotated[
        int | None, typer.Option(help="3: RGB, 1: grey; by default RGB if any of 64 looked at is in colour.")
    ] = None,
    labels: Labels = "auto",
    name_column: NameColumn = None,
    label_column: LabelColumn = None,
    group_column: GroupColumn = None,
    val_fraction: Annotated[float, typer.Option(help="Share of the images to set apart from training.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Which images are set apart.")] = 0,
    codec: Annotated[
        str, typer.Option(help="png: uncompressed, fastest; webp: smaller; keep: files that fit as they are.")
    ] = "png",
    strict: Annotated[
        bool, typer.Option("--strict", metavar="", help="Stop at the first image that cannot be used.")
    ] = False,
    workers: Annotated[int | None, typer.Option(help="Threads; one a core, at most 8, by default.")] = None,
    force: Annotated[bool, typer.Option("--force", metavar="", help="Replace the destination.")] = False,
    as_json: Json = False,
    plugin: PluginFiles = None,
    block: Block = None,
) -> None:
    """Crop, resize and pack images into a zip for training. Broken images are named and left out (exit code 3).

    Interrupted and started again, it goes on where it stopped. A report is written beside the zip.
    """
    from adaflow.core.data.prepare import PrepareConfig, default_workers
    from adaflow.core.data.prepare import prepare as run_prepare

    if resolution is not None and size is not None:
        raise UsageError("both --resolution and --size are given", "Give one of the two.")
    manager = load_plugins(plugin, block, only="datasets")
    config = PrepareConfig(
        source=source,
        dest=dest,
        resolution=resolution,
        crop=crop,
        filter=filter,
        size=_parse_size(size),
        channels=channels,
        labels=labels,
        name_column=name_column,
        label_column=label_column,
        group_column=group_column,
        val_fraction=val_fraction,
        seed=seed,
        codec=codec,
        strict=strict,
        workers=default_workers() if workers is None else workers,
        force=force,
    )
    done = total = 0

    def progress(now: int, of: int) -> None:
        nonlocal done, total
        done, total = now, of
        bar(now, of)

    try:
        with progress_bar("preparing") as bar:
            report = run_prepare(config, manager.datasets, progress, _note)
    except KeyboardInterrupt:
        if not total:
            raise
        typer.echo(f"Stopped after {done:,} of {total:,} images; the same command goes on from there.", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    if as_json:
        typer.echo(report.to_json())
    else:
        _show(report)
    if report.left_out:
        raise typer.Exit(ExitCode.BAD_INPUT)


def _parse_size(text: str | None) -> tuple[int, int] | None:
    """`256x192` as (256, 192).

    Raises:
        UsageError: anything else.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", text)
    if not match:
        raise UsageError(f"{text!r} is no size", "Write width and height in pixels, as in --size 256x192.")
    return int(match.group(1)), int(match.group(2))


def _note(sentence: str) -> None:
    typer.echo(f"Note: {sentence}.", err=True)


def _show(report: PrepareReport) -> None:
    """The report in a few lines; what the user must look at goes to stderr."""
    from adaflow.core.data.decode import LOW_VALUES
    from adaflow.core.data.image_files import list_kinds
    from adaflow.core.data.report import report_path
    from adaflow.core.data.source import printable

    kind = "grey" if report.channels == 1 else "RGB"
    typer.echo(
        f"{report.written:,} of {report.read:,} images written to {report.dest} at {report.width}×{report.height} "
        f"({kind}, {report.seconds:.1f} s)"
    )
    typer.echo(f"labels: {printable(report.labels_from)}")
    if report.class_counts:
        counts = ", ".join(f"{printable(name)}: {count:,}" for name, count in report.class_counts.items())
        typer.echo(f"classes: {counts}")
    if report.groups is not None:
        typer.echo(f"groups: {report.groups:,}")
    if report.validation is not None:
        typer.echo(f"set apart from training: {report.validation:,} images")
    if report.notes:
        typer.echo("met on the way: " + ", ".join(f"{note}: {count:,}" for note, count in report.notes.items()))
    if report.ignored:
        typer.echo(f"not read: {list_kinds(report.ignored)}")
    typer.echo(f"report: {report_path(Path(report.dest))}")

    for note in report.label_notes:
        _note(printable(note))
    if report.unused_rows:
        rows = ", ".join(map(printable, report.unused_rows[:3])) + ", …" * (len(report.unused_rows) > 3)
        _note(f"rows of labels without an image: {report.unused_row_count:,} ({rows})")
    if len(report.ignored) > report.read:
        _note(f"more files were not read ({len(report.ignored):,}) than were; convert them if they are pictures")
    if LOW_VALUES in report.notes:
        _note(
            f"16-bit images whose values stay below 4,096: {report.notes[LOW_VALUES]:,}; they come out nearly black, "
            "scale them to the full range first"
        )
    if report.enlarged:
        _note(f"images enlarged because they were smaller: {len(report.enlarged):,}")
    if report.duplicates:
        copies = sum(len(names) - 1 for names in report.duplicates)
        _note(f"exact copies of other images: {copies:,}; a GAN learns such pictures by heart, the report names them")
    if report.width != report.height or report.width & (report.width - 1):
        _note("training needs square images whose side is a power of two; these are for other uses")
    for _, reason in report.left_out[:SHOWN]:
        typer.echo(f"left out: {printable(reason)}", err=True)
    if len(report.left_out) > SHOWN:
        typer.echo(f"left out: {len(report.left_out) - SHOWN:,} more, all in the report", err=True)
