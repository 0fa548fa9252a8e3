"""`startup`: how long one waits for the command line, against Python alone and against the import of torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

from benchmarks.harness import Case, Clock, Result, Side, measure
from benchmarks.options import OURS, Options

COMMANDS = {
    "adaflow --help": ["-m", "adaflow", "--help"],
    "adaflow augs list": ["-m", "adaflow", "augs", "list"],
    "import adaflow": ["-c", "import adaflow"],
    "import adaflow.core.run": ["-c", "import adaflow.core.run"],
}


def results(options: Options, rounds: int, least: float, clock: Clock) -> Iterator[Result]:
    """Each in a process of its own, by the time of day."""
    for name, command in list(COMMANDS.items())[: 1 if options.quick else None]:
        sides = {OURS: command, "python -c pass": ["-c", "pass"], "import torch": ["-c", "import torch"]}
        case = Case("startup", name, [Side(side, python(*words)) for side, words in sides.items()], single=True)
        yield measure(case, rounds, least, Clock())


def python(*arguments: str) -> Callable[[], object]:
    """Run Python with these arguments."""
    return lambda: subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
