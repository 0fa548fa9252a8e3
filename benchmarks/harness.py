"""Times several ways to do the same in one process, in turns, and says how they compare.

Other work on a machine comes and goes. So all sides of a case are timed in every round, one after the other, and the
ratio of two sides is taken within a round; what is reported is the median over the rounds, with the range.
"""

from __future__ import annotations

import ctypes
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Side:
    """One way to do something.

    Args:
        name: what heads its column.
        run: does it once.
        per: so many items are done by a call, an image, say; what is reported is for one item.
    """

    name: str
    run: Callable[[], object]
    per: float = 1.0


@dataclass(frozen=True)
class Case:
    """What is timed, and the sides to compare; the first side is the one that the others are related to.

    Args:
        subject: heads the table.
        name: heads the row.
        sides: the ways to do it.
        rounds: how often each side has its turn; None for what the command line says.
        single: call a side just once a turn: for what takes long, or changes something.
    """

    subject: str
    name: str
    sides: Sequence[Side]
    rounds: int | None = None
    single: bool = False


@dataclass(frozen=True)
class Result:
    """What was measured of one case.

    Args:
        subject, case: see `Case`.
        unit: of the values; less is better.
        values: side → one value a round.
        notes: whatever else there is to know.
    """

    subject: str
    case: str
    unit: str
    values: dict[str, list[float]]
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def first(self) -> str:
        """The side that the others are related to."""
        return next(iter(self.values))

    def ratios(self, side: str) -> list[float]:
        """How many times as much as the first side this one takes, in each round. Nothing where that took nothing."""
        pairs = zip(self.values[side], self.values[self.first], strict=True)
        return [value / first for value, first in pairs if first]

    def as_table(self) -> dict[str, Any]:
        """Plain values for JSON, with minimum, median and ratios worked out."""
        sides = {}
        for name, values in self.values.items():
            sides[name] = {"min": min(values), "median": statistics.median(values), "values": values}
            ratios = self.ratios(name)
            if ratios:
                sides[name] |= {"ratio": statistics.median(ratios), "ratio_range": [min(ratios), max(ratios)]}
        return {"subject": self.subject, "case": self.case, "unit": self.unit, "sides": sides, **self.notes}


@dataclass(frozen=True)
class Clock:
    """How time is taken.

    Args:
        device: on a GPU time is taken with events, and a timing begins and ends when the GPU has nothing left to do.
        cpu: processor time of all threads instead of the time of day: of use where other work disturbs.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    cpu: bool = False

    def seconds(self, run: Callable[[], object], calls: int) -> float:
        """How long so many calls take."""
        if self.device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize(self.device)
            begin.record()
            for _ in range(calls):
                run()
            end.record()
            torch.cuda.synchronize(self.device)
            return float(begin.elapsed_time(end)) / 1000
        clock = time.process_time if self.cpu else time.perf_counter
        began = clock()
        for _ in range(calls):
            run()
        return clock() - began


def measure(case: Case, rounds: int, least: float, clock: Clock) -> Result:
    """Time the sides of a case in turns.

    Args:
        case: what to time.
        rounds: how often each side has its turn.
        least: seconds that a timing takes at least; short calls are repeated within it.
        clock: how time is taken.

    Returns:
        milliseconds for one item.
    """
    calls = {side.name: warm_up(side, case.single, least, clock) for side in case.sides}
    values: dict[str, list[float]] = {side.name: [] for side in case.sides}
    for _ in range(case.rounds or rounds):
        for side in case.sides:
            seconds = clock.seconds(side.run, calls[side.name])
            values[side.name].append(1000 * seconds / (calls[side.name] * side.per))
    return Result(case.subject, case.name, "ms", values, {"calls": calls})


def warm_up(side: Side, single: bool, least: float, clock: Clock) -> int:
    """Call a side, so that all is built and loaded, and say how many calls make a timing."""
    seconds = clock.seconds(side.run, 1)
    if single:
        return 1
    if seconds < least:
        seconds = clock.seconds(side.run, 1)  # the first call took longer than those to come
    return max(round(least / max(seconds, 1e-7)), 1)


def release_memory() -> None:
    """Give back to the system what is free."""
    gc.collect()
    torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:
        trim(0)


def markdown(results: Iterable[Result]) -> str:
    """Tables, one a subject: median (minimum) of each side, and how many times as much as the first side it takes."""
    results = list(results)
    pages = []
    for subject in dict.fromkeys(result.subject for result in results):
        rows = [result for result in results if result.subject == subject]
        sides = list(dict.fromkeys(side for row in rows for side in row.values))
        lines = [
            f"### {subject}",
            "",
            f"| | {' | '.join(sides)} |",
            "|--" * (len(sides) + 1) + "|",
            *(f"| {row.case}, {row.unit} | {' | '.join(_cell(row, side) for side in sides)} |" for row in rows),
        ]
        pages.append("\n".join(lines))
    return "\n\n".join(pages)


def _cell(result: Result, side: str) -> str:
    if side not in result.values:
        return ""
    values = result.values[side]
    text = f"{_short(statistics.median(values))} ({_short(min(values))})"
    ratios = result.ratios(side)
    if side == result.first or not ratios:
        return text
    return f"{text} **{_short(statistics.median(ratios))}×** ({_short(min(ratios))}–{_short(max(ratios))})"


def _short(value: float) -> str:
    """Three digits, two below 0.1."""
    for least, digits in ((100, 0), (10, 1), (0.1, 2)):
        if value >= least:
            return f"{value:.{digits}f}"
    return f"{value:.2g}"
