"""The command line in this process, as the shell would see it: exit code and what was printed.

A test module takes it with `pytest_plugins = ["tests.command_line"]`.
"""

import sys
from dataclasses import dataclass

import pytest

from adaflow.cli import main


@dataclass
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


class CommandLine:
    """Call it as `cli("train", "--dry-run")`."""

    small_run = (
        *("--data", "demo:lesions,resolution=16,images=32", "--batch", "4", "--kimg", "0.016", "--tick", "0.008"),
        *("--cbase", "128", "--cmax", "8", "--set", "generator.z_dim=8", "--set", "generator.w_dim=8"),
        *("--loggers", "console,jsonl", "--snap", "1", "--metrics", "none"),
    )
    """Options of a run of four steps and two ticks, with networks of a few thousand parameters."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: object) -> Outcome:
        self._monkeypatch.setattr(sys, "argv", ["adaflow", *map(str, arguments)])
        self._capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        captured = self._capsys.readouterr()
        return Outcome(code, captured.out, captured.err)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line, without the plugins that happen to be installed."""
    monkeypatch.setenv("ADAFLOW_NO_PLUGINS", "1")
    monkeypatch.setenv("COLUMNS", "80")
    return CommandLine(capsys, monkeypatch)
