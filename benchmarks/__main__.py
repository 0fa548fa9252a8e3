"""`python -m benchmarks`: times adaflow against plain torch, kornia, its own reference path, or anybody else's code.

Tables go to the screen as they come, all numbers to a JSON file. `docs/benchmarks.md` explains both.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

import torch

from adaflow.core.memory import keep_memory
from adaflow.errors import AdaflowError, UsageError
from benchmarks.adapter import load_adapter
from benchmarks.harness import Clock, Result, markdown, measure, release_memory
from benchmarks.machine import describe
from benchmarks.options import BUILT_IN, Options

SUBJECTS = ("augment", "step", "inference", "metric", "loader", "startup", "memory", "launches")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for. Returns the exit status."""
    try:
        run(parser().parse_args(arguments))
    except AdaflowError as error:
        print(f"error: {error}\n{error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(SUBJECTS), help=f"of {', '.join(SUBJECTS)}; separated by commas")
    parser.add_argument(
        "--compare",
        default="",
        help="torch, reference, kornia, or the folder of another implementation, whose code is run; default: the "
        "first three",
    )
    parser.add_argument("--adapter", type=Path, help="the adapter of --compare FOLDER; default: FOLDER/adapter.py")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch on the CPU")
    parser.add_argument("--rounds", type=int, default=7, help="how often each side has its turn")
    parser.add_argument("--quick", action="store_true", help="a few small cases")
    parser.add_argument("--cpu-time", action="store_true", help="processor time instead of the time of day")
    parser.add_argument(
        "--system-allocator",
        action="store_true",
        help="leave memory allocation as the system has it; default: freed memory is kept, as in training",
    )
    parser.add_argument("--json", type=Path, help="write all numbers there")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Measure subject by subject, printing as it goes."""
    subjects = arguments.only.split(",")
    unknown = [name for name in subjects if name not in SUBJECTS]
    if unknown:
        raise UsageError(f"there is no subject {unknown[0]!r}", f"Known: {', '.join(SUBJECTS)}.")
    options = resolve(arguments)
    if not arguments.system_allocator:
        keep_memory()  # for all sides alike
    torch.set_num_threads(arguments.threads)
    machine = describe(arguments.threads)
    print("\n".join(f"{key}: {value}" for key, value in machine.items() if value is not None))
    print("median (minimum); **times adaflow's** (range over the rounds)\n", flush=True)

    rounds, least = (3, 0.01) if arguments.quick else (arguments.rounds, 0.1)
    clock = Clock(options.device, arguments.cpu_time)
    results: list[Result] = []
    for subject in subjects:
        began = time.perf_counter()
        for result in measured(subject, options, rounds, least, clock):
            results.append(result)
            print(f"  {result.subject}: {result.case} …", file=sys.stderr, flush=True)
            if arguments.json:
                write(arguments.json, machine, arguments, results)
        print(markdown(result for result in results if result.subject == subject))
        print(f"\n({time.perf_counter() - began:.0f} s)\n", flush=True)


def resolve(arguments: argparse.Namespace) -> Options:
    """The options that subjects see. Loads the adapter where one is asked for."""
    sides: tuple[str, ...] = BUILT_IN
    foreign = None
    if arguments.compare in BUILT_IN:
        sides = (arguments.compare,)
    elif arguments.compare:
        print(f"running the code in {arguments.compare}", file=sys.stderr)
        sides, foreign = (), load_adapter(Path(arguments.compare), arguments.adapter)
    return Options(arguments.quick, sides, foreign, torch.device(arguments.device), arguments.threads)


def measured(subject: str, options: Options, rounds: int, least: float, clock: Clock) -> Iterator[Result]:
    """The results of a subject, one by one."""
    module = import_module(f"benchmarks.subjects.{subject}")
    if hasattr(module, "results"):
        yield from module.results(options, rounds, least, clock)
    else:
        for case in module.cases(options):
            yield measure(case, rounds, least, clock)
            release_memory()  # a large case should not weigh on those after it


def write(file: Path, machine: dict[str, object], arguments: argparse.Namespace, results: list[Result]) -> None:
    """Everything as JSON, so far."""
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()}
    table = {"machine": machine, "arguments": settings, "results": [result.as_table() for result in results]}
    file.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
