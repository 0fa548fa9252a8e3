"""Several processes: who am I, and the few things that have to be said to all.

Processes come from `torchrun` or from `--gpus N` (see `launch.py`); both set RANK, WORLD_SIZE and the rest.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from adaflow.errors import AdaflowError

T = TypeVar("T")

PATIENCE = datetime.timedelta(hours=6)
"""How long processes wait for each other: the first one alone computes metrics, and that may take long."""


class _Sum(torch.autograd.Function):
    """Sum over all processes; the gradients of all of them are summed on the way back."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


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
        rank = int(os.environ.get("RANK", 0))
        size = int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1
        if torch.cuda.is_available():
            return cls(rank, size, torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))))
        return cls(rank, size, torch.device("cpu"))

    def __enter__(self) -> World:
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if self.size > 1:
            backend = "nccl" if self.device.type == "cuda" else "gloo"
            dist.init_process_group(backend, timeout=PATIENCE)
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
        total: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
        return total / self.size

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

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, by rank."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def on_first(self, work: Callable[[], T]) -> T | None:
        """Let the first process do something while the others wait; if it fails, all of them fail.

        Returns:
            What `work` gave in the first process, None in the others.

        Raises:
            AdaflowError: the same in every process.
        """
        if self.size == 1:
            return work()
        result, problem, bug = None, None, None
        if self.is_first:
            try:
                result = work()
            except AdaflowError as error:
                problem = error
            except Exception as error:
                bug = error
                problem = AdaflowError(f"the first process failed with {type(error).__name__}")
        problem = self.share(problem)
        if bug is not None:
            raise bug
        if problem is not None:
            raise problem
        return result


def average_gradients(world: World, parameters: Sequence[Tensor], also: Iterable[Tensor] = ()) -> Tensor:
    """Average gradients over all processes in one flat all-reduce.

    Args:
        world: the processes.
        parameters: their `.grad` is replaced by the average; those without one are left alone.
        also: other tensors to average on the way, such as the running mean of w.

    Returns:
        Whether all of them are finite: a boolean scalar on the device, the same in every process.
    """
    tensors = [parameter.grad for parameter in parameters if parameter.grad is not None] + list(also)
    if world.size > 1:
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        world.sum_(flat).div_(world.size)
        pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
        torch._foreach_copy_(tensors, [piece.view_as(tensor) for piece, tensor in zip(pieces, tensors, strict=True)])
    # A sum of squares is not finite where a number, or its square, which Adam wants, is not.
    return torch.stack(torch._foreach_norm(tensors)).isfinite().all()
