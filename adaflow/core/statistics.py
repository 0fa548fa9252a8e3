"""Counts, means and spreads of what a run reports during a tick."""

from __future__ import annotations

import torch
from torch import Tensor

from adaflow.core.distributed import World


class Statistics:
    """Collects scalars by name, over batches and processes.

    Sums are float64 tensors on the device that stay where they are, so that reporting never waits for the device and
    can be part of a CUDA graph.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[str, Tensor] = {}

    def report(self, name: str, values: Tensor) -> None:
        """Add all elements of `values` to `name`. Every process must report the same names in the same order."""
        values = values.detach().double()
        new = torch.stack([values.new_full((), values.numel()), values.sum(), values.square().sum()])
        if name not in self._sums:
            self._sums[name] = torch.zeros_like(new)
        self._sums[name].add_(new)

    def merge(self, world: World) -> None:
        """Bring the sums of all processes together in the first one; the others start from zero."""
        if world.size == 1 or not self._sums:
            return
        table = world.sum_(torch.stack(list(self._sums.values())))
        for sums, total in zip(self._sums.values(), table, strict=True):
            sums.copy_(total if world.is_first else torch.zeros_like(total))

    def take(self) -> dict[str, dict[str, float]]:
        """`{name: {"num", "mean", "std"}}` of what was collected, and start anew. Call `merge` first."""
        result = {}
        for name, sums in self.state_dict().items():
            num, total, squares = sums.tolist()
            mean = total / num
            variance = squares / num - mean * mean
            result[name] = {"num": int(num), "mean": mean, "std": max(variance, 0.0) ** 0.5}
        for sums in self._sums.values():
            sums.zero_()
        return result

    def state_dict(self) -> dict[str, Tensor]:
        """The sums of what was reported since they were taken, on the CPU."""
        if not self._sums:
            return {}
        table = torch.stack(list(self._sums.values())).cpu()
        return {name: sums for name, sums in zip(self._sums, table, strict=True) if sums[0] > 0}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back the sums."""
        self._sums = {name: sums.to(self._device, copy=True) for name, sums in state.items()}
