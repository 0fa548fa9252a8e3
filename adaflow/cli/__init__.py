"""The command line. Each command is a thin shell over the core, and imports it only when it runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import adaflow
from adaflow.errors import AdaflowError

app = typer.Typer(
    name="adaflow",
    help="Train StyleGAN2 on few images with adaptive discriminator augmentation, built from plugins.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"adaflow {adaflow.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line. Mistakes of the user end in one sentence, a hint and an exit code; bugs in a traceback."""
    from adaflow.cli import augs, data, generate, plugins, train  # noqa: F401  (each adds its commands to `app`)

    try:
        app()
    except AdaflowError as error:
        typer.secho(f"Error: {error.message}.", fg=typer.colors.RED, err=True)
        if error.hint:
            typer.echo(error.hint, err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
