"""LeakBench, transforms: images divided into those that the detector knows and those that fakes are made from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adaflow.core.leaks.distortions import bank
from adaflow.core.leaks.reference import BANK_REALS, MOST_REALS, Reference
from adaflow.core.leaks.search import Search, Seen, Transformed
from adaflow.errors import DataError
from adaflow.plugins.leak_detectors.augmentation import COMPARED
from benchmarks.leakbench.traces import (
    EVERY,
    EVERY_AFTER,
    EVERY_TRIAL,
    GROUPS,
    TOGETHER,
    TRANSFORMS,
    conditions_names,
    plain_ones,
)

FILES = ("condition", "transformed", "groups", "after", "untouched", "softened", "trial")
"""Kinds of traces of each condition."""
BASES = {"tenth very smooth": "clean", "class mix": "clean"}
"""Conditions that are made of others: a tenth of the fakes is very smooth; classes are equally often there."""


class Bench:
    """Traces from the folder, divided by a seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        about = json.loads((folder / "about.json").read_text())
        self.folder, self.pixels, self.classes = folder, about["pixels"], torch.tensor(about["classes"])
        self.count = len(self.classes)
        self.generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(self.count, generator=self.generator)
        reals = min(MOST_REALS, self.count // 2)
        self.reals, self.rest = order[:reals], order[reals:]
        self.seed = seed

    def rows(self, name: str, which: Tensor, part: int | None = None) -> Tensor:
        array = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        if part is not None:
            array = array[part]
        order = which.argsort()
        rows = torch.from_numpy(np.asarray(array[which[order].numpy()], dtype=np.float32))
        return rows[order.argsort()]

    def search(self) -> Search:
        few = self.reals[:BANK_REALS]
        return Search(
            Reference(
                self.rows("reference plain", self.reals),
                self.rows("reference distorted", self.reals),
                {name: self.rows(f"reference bank {name}", few) for name in bank(torch.empty(0))},
                {name: self.rows(f"reference {name}", self.reals) for name in TRANSFORMS},
                {name: self.rows(f"reference among {name}", few) for name in TRANSFORMS},
                plain_ones(self.count)[self.reals],
                dict.fromkeys(TRANSFORMS, 1.0),
            ),
            self.pixels,
            self.seed,
        )

    def fakes(self, condition: str, images: int, shares: dict[str, float]) -> Tensor:
        """Traces of fakes: held-out images under a condition, shares of them transformed."""
        which = self._some(self.class_mix() if condition == "class mix" else self.rest, images)
        tenth = condition == "tenth very smooth"
        base = BASES.get(condition, condition)
        found = self.rows(f"condition {base}", which)
        if tenth:
            found[: images // 10] = self.rows("condition very smooth", which[: images // 10])
        start = 0
        order = torch.randperm(images, generator=self.generator)
        can_change = self.rest[self.rest % EVERY == 0] // EVERY
        for name, share in shares.items():
            chosen = order[start : start + round(share * images)]
            start += len(chosen)
            which = self._some(can_change, len(chosen))
            found[chosen] = self.rows(f"transformed {base}", which, TRANSFORMS.index(name))
        return found

    def fakes_of_a_group(self, condition: str, images: int, group: str, share: float) -> Tensor:
        """The same with a share of them after all transforms of a group."""
        found = self.fakes(condition, images, {})
        chosen = torch.randperm(images, generator=self.generator)[: round(share * images)]
        which = self._some(self.rest[self.rest % EVERY == 0] // EVERY, len(chosen))
        found[chosen] = self.rows(f"groups {BASES.get(condition, condition)}", which, list(GROUPS).index(group))
        return found

    def class_mix(self) -> Tensor:
        """Numbers of images for fakes, repeated so that all classes are equally often there."""
        counts = torch.bincount(self.classes[self.rest])
        often = (counts.max() / counts.clamp(min=1)).round().long()[self.classes[self.rest]]
        return self.rest.repeat_interleave(often)

    def transformed(self, condition: str, search: Search) -> dict[str, Transformed]:
        """Some fakes after each transform, for the search to know."""
        return self._known(condition, search, self.rest % EVERY_AFTER == 0)

    def trial(self, condition: str, search: Search) -> tuple[dict[str, Transformed], dict[str, list[Seen]]]:
        """The same of half of them, and of the others, sharp, and blurred and compressed, to plant."""
        place, base = self.rest % EVERY_TRIAL, BASES.get(condition, condition)
        which = self._even(self.rest[place == 0])
        planted = {}
        for number, name in enumerate(TRANSFORMS):
            sharp = self.rows(f"after {base}", which // EVERY_AFTER, number)
            soft = self.rows(f"trial {base}", which // EVERY_TRIAL, number)
            planted[name] = [search.see(part) for part in (sharp, soft)]
        return self._known(condition, search, place == EVERY_AFTER), planted

    def _known(self, condition: str, search: Search, chosen: Tensor) -> dict[str, Transformed]:
        base, which = BASES.get(condition, condition), self._even(self.rest[chosen]) // EVERY_AFTER
        untouched = [search.see(part) for part in self.rows(f"untouched {base}", which).unbind(1)]
        known = {}
        for number, name in enumerate(TRANSFORMS):
            sharp = search.see(self.rows(f"after {base}", which, number))
            soft = [search.see(part) for part in self.rows(f"softened {base}", which, number).unbind(1)]
            known[name] = (
                search.transformed(name, sharp, soft, untouched) if name in search.suspects else Transformed(sharp)
            )
        return known

    @staticmethod
    def _even(numbers: Tensor) -> Tensor:
        """As many as a check compares at a time, and an even number."""
        return numbers[: min(COMPARED // 2, len(numbers)) // 2 * 2]

    def together(self, condition: str, images: int, p: float) -> Tensor:
        """Traces of fakes that show all built-in transforms, each with this p."""
        return self.rows(f"together {condition}", self._some(self.rest, images), TOGETHER.index(p))

    def _some(self, numbers: Tensor, count: int) -> Tensor:
        return numbers[torch.randint(len(numbers), (count,), generator=self.generator)]


def computed(folder: Path) -> list[str]:
    """The conditions whose traces are in the folder.

    Raises:
        DataError: of none all are.
    """
    names = [name for name in ("clean", *conditions_names()) if has_all(folder, name)]
    if not names:
        raise DataError(f"{folder} has all traces of no condition", "Compute them with the command traces.")
    whole = {"clean", "very smooth"} <= set(names)
    return names + list(BASES) * whole


def has_all(folder: Path, condition: str) -> bool:
    return all((folder / f"{kind} {condition}.npy").exists() for kind in FILES)
