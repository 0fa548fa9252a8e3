"""`each`: a p of its own for every transform. `schedule`: p as a file has it."""

from __future__ import annotations

import csv
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from adaflow import Observation, PController, hookimpl
from adaflow.errors import ConfigError

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register


@dataclass
class Each(PController):
    """Raises the p of a transform while D is too sure of the reals that it changed, and lowers it while D is not.

    As `rt`, but for each transform by itself: a transform that D has learned to see through is used more. One that
    changed no image, because its p is 0, goes by all reals.

    Args:
        target: E[sign(D)] to hold, from −1 to 1.
        kimg: thousands of images that a p needs from 0 to 1.

    Raises:
        ConfigError: a setting out of range.
    """

    needs_transforms: ClassVar[bool] = True

    target: float = 0.6
    kimg: float = 500

    def __post_init__(self) -> None:
        if not -1 <= self.target <= 1 or self.kimg <= 0:
            raise ConfigError(
                f"target is {self.target} and kimg is {self.kimg}", "target is in [−1, 1], kimg positive."
            )
        self.p: dict[str, float] = {}
        """The p of each transform; empty until the first update."""

    def update(self, seen: Observation) -> float:
        """The greatest p of all."""
        step = seen.images_since / (self.kimg * 1000)
        if not seen.signs:  # no transform, but perhaps a method that goes by p
            return seen.p + ((seen.sign_real > self.target) - (seen.sign_real < self.target)) * step
        wanted = {}
        for name, sign in seen.signs.items():
            sign = seen.sign_real if sign is None else sign
            wanted[name] = self.p.get(name, seen.p) + ((sign > self.target) - (sign < self.target)) * step
        self.p = {name: min(max(p, 0.0), seen.p_max) for name, p in wanted.items()}
        return max(wanted.values())

    def weights(self, names: tuple[str, ...], p: float) -> dict[str, float]:
        """Every p, as a share of the greatest."""
        return shares(self.p, p)

    def state_dict(self) -> dict[str, Any]:
        """Every p."""
        return {"p": dict(self.p)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with them."""
        self.p = dict(state.get("p", {}))


@dataclass
class Schedule(PController):
    """p as a table has it: a CSV file with a column `kimg`, and `p` or the names of transforms.

    Between rows p goes in a straight line; before the first and after the last it stays. A column with the name of a
    transform is the p of that one; transforms without a column have the p of column `p`, or 0.

    Args:
        file: the table.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """

    file: str = ""

    def __post_init__(self) -> None:
        self.kimg, self.columns = read_schedule(self.file)
        self.now = self._at(0)

    def first_p(self, p: float) -> float:
        """That of the beginning."""
        return max(self.now.values())

    def update(self, seen: Observation) -> float:
        """That of now; with columns for several transforms, the greatest of them."""
        self.now = self._at(seen.images / 1000)
        return max(self.now.values())

    def weights(self, names: tuple[str, ...], p: float) -> dict[str, float]:
        """Every p, as a share of the greatest."""
        others = self.now.get("p", 0.0)
        by_name = {name: own for name, own in self.now.items() if name != "p"}
        return shares({**dict.fromkeys(names, others), **by_name}, p)

    def state_dict(self) -> dict[str, Any]:
        """The table, for the file may change, and the p of now, for they change when p is asked for."""
        return {"kimg": self.kimg, "columns": self.columns, "now": dict(self.now)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with them."""
        self.kimg, self.columns = state.get("kimg", self.kimg), state.get("columns", self.columns)
        self.now = dict(state.get("now", self.now))

    def _at(self, kimg: float) -> dict[str, float]:
        after = bisect_right(self.kimg, kimg)
        if after in (0, len(self.kimg)):
            return {name: values[max(after - 1, 0)] for name, values in self.columns.items()}
        share = (kimg - self.kimg[after - 1]) / (self.kimg[after] - self.kimg[after - 1])
        return {
            name: values[after - 1] + share * (values[after] - values[after - 1])
            for name, values in self.columns.items()
        }


def shares(by_name: dict[str, float], p: float) -> dict[str, float]:
    """Every number as a share of p, at most 1."""
    return {name: min(value / p, 1.0) if p > 0 else 0.0 for name, value in by_name.items()}


def read_schedule(file: str) -> tuple[list[float], dict[str, list[float]]]:
    """The kimg of each row, and the columns by name.

    Raises:
        ConfigError: the file cannot be read, or is no such table; the message says in which line.
    """
    if not file:
        raise ConfigError("no file is named", "Write schedule(file='p.csv').")
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, skipinitialspace=True)
            names = [name.strip() for name in next(reader, [])]
            rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        hint = "Is the run resumed from another folder than it began in? Then give the whole path."
        raise ConfigError(f"the schedule {file!r} cannot be read: {error}", hint) from error
    if "kimg" not in names or len(names) < 2 or len(set(names)) < len(names) or not rows:
        raise ConfigError(
            f"the schedule {file!r} is no table with a column kimg, others beside it, and rows",
            "It may begin: kimg,p, and go on: 0,0.1 and 200,0.5.",
        )
    columns: dict[str, list[float]] = {name: [] for name in names}
    for line, row in rows:
        try:
            values = dict(zip(names, map(float, row), strict=True))
        except ValueError:
            raise ConfigError(f"line {line} of the schedule {file!r} is not {len(names)} numbers") from None
        kimg = values["kimg"]
        if not all(0 <= p <= 1 for name, p in values.items() if name != "kimg") or not 0 <= kimg < float("inf"):
            raise ConfigError(f"line {line} of the schedule {file!r} has a p outside of 0 to 1, or a negative kimg")
        if columns["kimg"] and kimg <= columns["kimg"][-1]:
            raise ConfigError(f"line {line} of the schedule {file!r} does not come after the one before it")
        for name, value in values.items():
            columns[name].append(value)
    return columns.pop("kimg"), columns


@hookimpl
def register_p_controllers(register: Register[type[PController]]) -> None:
    """Offer `each` and `schedule`."""
    register("each", Each)
    register("schedule", Schedule)
