"""Checks of loggers: what they do in a run of a few ticks that is only told about."""

from __future__ import annotations

import copy
import io
import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, cast

from adaflow.conformance import samples
from adaflow.conformance.check import Subject, require
from adaflow.core.logger import Logger
from adaflow.core.run import Run

TICK = 100
STEPS = 200
NAMES = (
    *("Loss/scores/real", "Loss/scores/fake", "Loss/signs/real", "Loss/D/loss", "Loss/G/loss", "Loss/r1_penalty"),
    *("Progress/tick", "Progress/kimg", "Progress/images", "Progress/augment", "Progress/saturated"),
    *("Timing/total_sec", "Timing/sec_per_tick", "Timing/sec_per_kimg", "Timing/eta_sec", "Resources/cpu_mem_gb"),
)


def constructs(subject: Subject) -> None:
    """It can be made from its name, with its default settings or those given, and is a `Logger`."""
    made = subject.make()
    require(isinstance(made, Logger), f"it is a {type(made).__name__}, not an adaflow.Logger")


def whole_run(subject: Subject) -> None:
    """It takes what a run tells: that it begins, steps, ticks, metrics, that it ends."""
    with _run() as run:
        _tell(_make(subject), run, ticks=3)


def resumed_run(subject: Subject) -> None:
    """It takes a run that goes on from an earlier point, as after a kill."""
    with _run() as run:
        _tell(_make(subject), run, ticks=3)
        run.state.images, run.state.tick = TICK, 1
        _tell(_make(subject), run, ticks=2)


def strange_numbers(subject: Subject) -> None:
    """It takes statistics and results that are infinite or not a number, and names that it has not seen before."""
    with _run() as run:
        logger = _make(subject)
        logger.start(run)
        for value in (math.nan, math.inf, -math.inf):
            _go_on(run)
            stats = _stats(run)
            stats["Loss/D/loss"] = stats[f"Mine/{value}"] = {"num": 4, "mean": value, "std": value}
            logger.tick(run, stats)
            logger.metrics(run, _results(run, value))
        logger.close()


def early_end(subject: Subject) -> None:
    """It takes a run that ends before its first tick."""
    with _run() as run:
        logger = _make(subject)
        logger.start(run)
        logger.close()


def leaves_things_alone(subject: Subject) -> None:
    """The statistics, the results and the counters of the run are afterwards what they were."""
    with _run() as run:
        logger = _make(subject)
        logger.start(run)
        _go_on(run)
        stats, results, counters = _stats(run), _results(run, 1.0), _counters(run)
        before = copy.deepcopy((stats, results, counters))
        logger.step(run)
        logger.tick(run, stats)
        logger.metrics(run, results)
        logger.close()
        require(stats == before[0], "it changes the statistics it is given")
        require(results == before[1], "it changes the results it is given")
        require(_counters(run) == before[2], "it changes the counters of the run")


def step_cost(subject: Subject) -> str:
    """How long a call of `step` takes, which is reported and not judged."""
    with _run() as run:
        logger = _make(subject)
        logger.start(run)
        begin = time.perf_counter()
        for _ in range(STEPS):
            run.state.images += 1
            logger.step(run)
        seconds = time.perf_counter() - begin
        logger.tick(run, _stats(run))
        logger.close()
    return f"{seconds / STEPS * 1e6:.2g} µs a step"


@contextmanager
def _run() -> Iterator[Run]:
    """A run in a folder of its own; what is printed is not shown."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        yield samples.run(Path(folder))


def _make(subject: Subject) -> Logger:
    return cast(Logger, subject.make())


def _tell(logger: Logger, run: Run, ticks: int) -> None:
    logger.start(run)
    for _ in range(ticks):
        _go_on(run)
        logger.step(run)
        logger.tick(run, _stats(run))
        logger.metrics(run, _results(run, 12.5))
    logger.close()


def _go_on(run: Run) -> None:
    """A tick passes."""
    run.state.images += TICK
    run.state.tick += 1


def _counters(run: Run) -> tuple[Any, ...]:
    state = run.state
    return state.images, state.tick, state.step, state.p, state.saturated, state.best


def _stats(run: Run) -> dict[str, Any]:
    """Statistics as at the end of a tick."""
    known = {"Progress/images": run.state.images, "Progress/kimg": run.state.images / 1000}
    return {name: {"num": 4, "mean": float(known.get(name, 0.25)), "std": 0.5} for name in NAMES}


def _results(run: Run, value: float) -> dict[str, Any]:
    """Results of a metric at a snapshot."""
    details = {"value": value, "interval": [value - 1, value + 1], "fakes": 500, "reals": 180, "split": "train"}
    return {
        "metric": "fd",
        "results": {"fd500_stand-in": value},
        "details": {"fd500_stand-in": details},
        "images": run.state.images,
        "snapshot": "snapshots/network-000000.pkl",
        "seconds": 0.5,
        "best": False,
    }
