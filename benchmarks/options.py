"""What the command line asks for, and the names of the sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

from benchmarks.adapter import Adapter

OURS, REFERENCE, TORCH, KORNIA = "adaflow", "reference", "torch", "kornia"
BUILT_IN = (REFERENCE, TORCH, KORNIA)
Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Options:
    """What to time against what.

    Args:
        quick: fewer and smaller cases, to see that all of it works.
        sides: what adaflow is compared with: of `BUILT_IN`.
        foreign: another implementation that it is compared with.
        device: where it runs.
        threads: of torch on the CPU, for subjects that start processes of their own.
    """

    quick: bool = False
    sides: tuple[str, ...] = BUILT_IN
    foreign: Adapter | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    threads: int = 1


def on_reference(run: Callable[Arguments, Value]) -> Callable[Arguments, Value]:
    """The same call with the pure-torch path of every operation of adaflow."""
    from adaflow.cuda.library import reference_ops

    @wraps(run)
    def call(*arguments: Arguments.args, **settings: Arguments.kwargs) -> Value:
        with reference_ops():
            return run(*arguments, **settings)

    return call
