"""A measured number with what belongs to it: how many images it comes from, and how far another draw may lie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

Z95 = 1.959963984540054
"""95 % of a normal distribution lie within so many standard deviations."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Counts:
    """Which images a number comes from.

    Args:
        fakes: how many generated ones.
        reals: how many real ones it compares with; 0 where it compares with none.
        split: the part of the data these are from, "train", "val" or "both".
    """

    fakes: int
    reals: int = 0
    split: str = ""


class Measured(float):
    """A float that knows its 95 % interval, or None where that would make no sense, and its counts."""

    interval: Interval | None
    counts: Counts

    def __new__(cls, value: float, interval: Interval | None, counts: Counts) -> Measured:
        """A number `value` with its company."""
        number = super().__new__(cls, value)
        number.interval = interval
        number.counts = counts
        return number


def describe(value: float) -> dict[str, Any]:
    """A result as plain values: `value`, and if it is `Measured`, `interval`, `fakes`, `reals`, `split`."""
    if not isinstance(value, Measured):
        return {"value": float(value)}
    counts = value.counts
    row: dict[str, Any] = {"value": float(value), "interval": value.interval and list(value.interval)}
    row["fakes"] = counts.fakes
    return row | ({"reals": counts.reals, "split": counts.split} if counts.reals else {})


def with_interval(row: dict[str, Any], digits: int = 4) -> str:
    """`value (low … high)` of a described result."""
    interval = row.get("interval")
    bounds = f" ({' … '.join(f'{bound:.{digits}g}' for bound in interval)})" if interval else ""
    return f"{row['value']:.{digits}g}{bounds}"


def normal_interval(value: float, error: float) -> Interval | None:
    """`value` ± 1.96 standard errors; None if the error is not known."""
    return (value - Z95 * error, value + Z95 * error) if math.isfinite(error) else None


def share_interval(share: float, count: int) -> Interval:
    """The interval of a share that was counted on `count` images (Wilson 1927): honest near 0 and 1, too."""
    z = Z95**2 / count
    centre = (share + z / 2) / (1 + z)
    half = math.sqrt(share * (1 - share) * z + z * z / 4) / (1 + z)
    return max(centre - half, 0.0), min(centre + half, 1.0)
