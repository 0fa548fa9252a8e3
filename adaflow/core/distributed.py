"""Several processes: who am I, and the few things that have to be said to all.

Processes come from `torchrun` or from `--gpus N` (see `launch.py`); both set RANK, WORLD_SIZE and the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
from torch import Tensor


@dataclass(frozen=True)
class World(AbstractContextManager["World"]):
    """This process among its peers. As a context manager it joins the group, and leaves it at the end.

    Args:
        rank: number of this process, from 0.
        size: number of processes.
        device: where this process computes.
    """

    rank: int
    size: int
    device: torch.device

    @classmethod
    def from_environment(cls) -> World:
        """One process, unless `torchrun` or `--gpus` says otherwise."""
        rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if torch.cuda.is_available():
            return cls(rank, size, torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))))
        return cls(rank, size, torch.device("cpu"))

    def __enter__(self) -> World:
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if self.size > 1:
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.size > 1:
            dist.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def mean_with_gradient(self, value: Tensor) -> Tensor:
        """Mean of a tensor over all processes; gradients flow back to every one of them."""
        if self.size == 1:
            return value
        return dist_nn.all_reduce(value) / self.size  # type: ignore[no-untyped-call, no-any-return]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.size == 1:
            return flag
        return bool(self.sum_(torch.tensor(float(flag), device=self.device)) > 0)

    def share(self, value: Any) -> Any:
        """The first process's value, for all."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            dist.barrier()


def average_gradients(world: World, parameters: Sequence[Tensor], also: Iterable[Tensor] = ()) -> bool:
    """Average gradients over all processes in one flat all-reduce.

    Args:
        world: the processes.
        parameters: their `.grad` is replaced by the average; those without one are left alone.
        also: other tensors to average on the way, such as the running mean of w.

    Returns:
        Whether all gradients are finite: the same answer in every process.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    extra = list(also)
    flat = torch.cat([tensor.reshape(-1) for tensor in (*gradients, *extra)])
    if world.size > 1:
        world.sum_(flat).div_(world.size)
        pieces = torch.split(flat, [tensor.numel() for tensor in (*gradients, *extra)])
        for tensor, piece in zip((*gradients, *extra), pieces, strict=True):
            tensor.copy_(piece.view_as(tensor))
    return bool(flat.isfinite().all())
