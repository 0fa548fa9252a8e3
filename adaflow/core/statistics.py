"""Counts, means and spreads of what a run reports during a tick."""

from __future__ import annotations

import torch
from torch import Tensor

from adaflow.core.distributed import World


class Statistics:
    """Collects scalars by name, over batches and processes.

    Sums are float64 tensors on the device, so that reporting never waits for it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[str, Tensor] = {}

    def report(self, name: str, values: Tensor) -> None:
        """Add all elements of `values` to `name`. Every process must report the same names in the same order."""
        values = values.detach().double()
        count = torch.tensor(float(values.numel()), dtype=torch.float64, device=values.device)
        new = torch.stack([count, values.sum(), values.square().sum()])
        self._sums[name] = self._sums[name] + new if name in self._sums else new

    def merge(self, world: World) -> None:
        """Bring the sums of all processes together in the first one; the others start from zero."""
        if world.size == 1 or not self._sums:
            return
        table = world.sum_(torch.stack(list(self._sums.values())))
        if not world.is_first:
            table = torch.zeros_like(table)
        self._sums = dict(zip(self._sums, table, strict=True))

    def take(self) -> dict[str, dict[str, float]]:
        """`{name: {"num", "mean", "std"}}` of what was collected, and start anew. Call `merge` first."""
        result = {}
        for name, (num, total, squares) in ((n, s.tolist()) for n, s in self._sums.items()):
            mean = total / num if num else float("nan")
            variance = squares / num - mean * mean if num else float("nan")
            result[name] = {"num": int(num), "mean": mean, "std": max(variance, 0.0) ** 0.5}
        self._sums = {}
        return result

    def state_dict(self) -> dict[str, Tensor]:
        """The sums."""
        return dict(self._sums)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back the sums."""
        self._sums = {name: sums.to(self._device) for name, sums in state.items()}
