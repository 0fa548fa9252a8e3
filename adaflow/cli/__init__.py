"""The command line. Each command is a thin shell over the core, and imports it only when it runs."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Annotated

import typer

import adaflow
from adaflow.errors import AdaflowError, UsageError

SWITCHES = ("--cond", "--mirror", "--mirrory")
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")

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


def plain_switches(words: list[str]) -> list[str]:
    """`--mirror=1` and `--cond=true`, as StyleGAN2-ADA has them, to `--mirror` and `--cond`; `=0` leaves them out.

    Raises:
        UsageError: another value.
    """
    plain = []
    for word in words:
        name, equals, value = word.partition("=")
        if name not in SWITCHES or not equals or value.lower() in YES:
            plain.append(name if name in SWITCHES else word)
        elif value.lower() not in NO:
            raise UsageError(f"{word} is neither yes nor no", f"Write {name}, {name}=1 or {name}=0.")
    return plain


def main() -> None:
    """Run the command line. Mistakes of the user end in one sentence, a hint and an exit code; bugs in a traceback."""
    try:
        _run()
    except SystemExit as end:
        if "RANK" in os.environ:
            # One of several: threads of torch.distributed may abort an interpreter that takes itself apart.
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):  # a closed pipe or stream
                    stream.flush()
            os._exit(int(end.code or 0))
        raise


def load_commands() -> None:
    """Import every module of commands; each adds its own to `app`."""
    from adaflow.cli import (  # noqa: F401
        augs,
        augs_safety,
        conformance,
        data,
        data_check,
        doctor,
        features,
        generate,
        leakcheck,
        metrics,
        plugins,
        train,
    )


def _run() -> None:
    load_commands()
    try:
        sys.argv[1:] = plain_switches(sys.argv[1:])
        app()
    except AdaflowError as error:
        _leave(error)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        from adaflow.plugin_manager import blamed

        mistake = None if os.environ.get("ADAFLOW_TRACEBACK") else blamed(error)
        if mistake is None:
            raise
        _leave(mistake)


def _leave(error: AdaflowError) -> None:
    """Tell the user, and end with the exit code of the error."""
    # Of several processes that meet the same mistake, one says so.
    if os.environ.get("RANK", "0") == "0":
        typer.secho(f"Error: {error.message}.", fg=typer.colors.RED, err=True)
        if error.hint:
            typer.echo(error.hint, err=True)
    sys.exit(error.exit_code)
