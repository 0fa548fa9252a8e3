"""Everything of a run that survives a crash. A new thing with state is added here, or nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from adaflow.core.distributed import World
from adaflow.core.networks import Discriminator, Generator
from adaflow.core.statistics import Statistics
from adaflow.errors import FileError


class Stateful(Protocol):
    """Something with state of its own."""

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Take them back."""
        ...


OBSERVED = 6
"""Sums kept for the controller: sign(D(real)), D(real), D(fake), their count, D(val) and its count."""

MODULES = ("G", "D", "G_ema", "G_opt", "D_opt", "statistics")
VALUES = ("p", "saturated", "step", "images", "tick", "tick_start", "last_snapshot", "bad_steps", "seconds")


@dataclass
class TrainState:
    """The state of a training run.

    Args:
        G, D, G_ema: the networks; `G_ema` is the averaged generator that images are drawn from.
        G_opt, D_opt: their optimizers.
        statistics: what was reported since the last tick.
        plugins: stateful plugins by name: the controller and the transforms.
        p: augmentation probability.
        saturated: whether the controller wanted more p than allowed.
        pl_mean: running mean of path lengths, scalar.
        observed: sums since the controller's last update, float64 [OBSERVED].
        step: training steps done.
        images: images shown to D so far.
        tick: ticks done.
        tick_start: images at which the present tick began.
        last_snapshot: images at the last network snapshot, −1 before the first.
            bad_steps: training steps in a row in which an update was left out because of non-finite gradients.
        seconds: spent in training, over all sittings.
    """

    G: Generator
    D: Discriminator
    G_ema: Generator
    G_opt: Optimizer
    D_opt: Optimizer
    statistics: Statistics
    plugins: dict[str, Stateful]
    pl_mean: Tensor
    observed: Tensor
    p: float = 0.0
    saturated: bool = False
    step: int = 0
    images: int = 0
    tick: int = 0
    tick_start: int = 0
    last_snapshot: int = -1
    bad_steps: int = 0
    seconds: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only, so that it loads without running any code."""
        return {
            **{name: getattr(self, name).state_dict() for name in MODULES},
            **{name: getattr(self, name) for name in VALUES},
            "pl_mean": self.pl_mean,
            "observed": self.observed,
            "plugins": {name: plugin.state_dict() for name, plugin in self.plugins.items()},
        }

    def load_state_dict(self, state: dict[str, Any], world: World) -> None:
        """Take over a saved state. Sums over processes are given to the first one.

        Raises:
            FileError: a plugin of the saved run is missing here, or the networks have another shape.
        """
        missing = sorted(name for name, saved in state["plugins"].items() if saved and name not in self.plugins)
        if missing:
            raise FileError(f"the checkpoint holds state of {', '.join(missing)}, which is not part of this run")
        try:
            for name in MODULES:
                getattr(self, name).load_state_dict(state[name])
        except (RuntimeError, ValueError) as error:
            raise FileError(f"the checkpoint does not fit this configuration: {str(error).splitlines()[0]}") from error
        for name in VALUES:
            setattr(self, name, state[name])
        for name, plugin in self.plugins.items():
            plugin.load_state_dict(state["plugins"].get(name, {}))
        self.pl_mean.copy_(state["pl_mean"])
        self.observed.copy_(state["observed"])
        if not world.is_first:
            self.observed.zero_()
            self.statistics.load_state_dict({k: torch.zeros_like(v) for k, v in self.statistics.state_dict().items()})

    def merge(self, world: World) -> None:
        """Bring sums of all processes together in the first one, so that its state is the whole run's."""
        self.statistics.merge(world)
        world.sum_(self.observed)
        if not world.is_first:
            self.observed.zero_()
