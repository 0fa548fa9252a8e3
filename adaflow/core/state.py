"""Everything of a run that survives a crash. A new thing with state is added here, or nowhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Adam

from adaflow.core.distributed import World
from adaflow.core.networks import Discriminator, Generator
from adaflow.core.statistics import Statistics
from adaflow.errors import FileError, PluginError


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

MODULES = ("G", "D", "G_ema", "statistics")
OPTIMIZERS = ("G_opt", "D_opt")
VALUES = ("p", "saturated", "step", "images", "tick", "tick_start", "seconds", "tick_seconds", "best")
TENSORS = ("pl_mean", "observed", "bad_updates")


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
        observed: sums since the controller's last update, float64 [OBSERVED], and for each of K transforms that a
            controller watches the sum of signs, then for each the count, [OBSERVED + 2 K].
        step: training steps done.
        images: images shown to D so far.
        tick: ticks done.
        tick_start: images at which the present tick began.
        seconds: spent in training, over all sittings, up to the present tick.
        tick_seconds: spent in the present tick before a stop.
        best: `result`, `value` and `images` of the best snapshot so far; empty before there is one.
        bad_updates: loss → updates left out in a row because of non-finite gradients, an int64 scalar.

    Tensors stay where they are while a run goes on: CUDA graphs read and write them there.
    """

    G: Generator
    D: Discriminator
    G_ema: Generator
    G_opt: Adam
    D_opt: Adam
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
    seconds: float = 0.0
    tick_seconds: float = 0.0
    best: dict[str, Any] = field(default_factory=dict)
    bad_updates: dict[str, Tensor] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only, so that it loads without running any code."""
        return {
            **{name: getattr(self, name).state_dict() for name in (*MODULES, *OPTIMIZERS)},
            **{name: getattr(self, name) for name in (*VALUES, *TENSORS)},
            "plugins": [self.plugin_states()],
        }

    def plugin_states(self) -> dict[str, dict[str, Any]]:
        """The states of this process's plugins.

        Raises:
            PluginError: one of them holds something that could not be read back.
        """
        states = {name: plugin.state_dict() for name, plugin in self.plugins.items()}
        for name, state in states.items():
            foreign = find_foreign(state)
            if foreign is not None:
                raise PluginError(
                    f"the state of the {name} holds a {foreign}",
                    "state_dict() may give tensors, numbers, text, None, lists and dictionaries of these only.",
                )
        return states

    def load_state_dict(self, state: dict[str, Any], world: World) -> None:
        """Take over a saved state: sums over processes go to the first one, plugins have a state for each process.

        Raises:
            FileError: a plugin of the saved run is missing here, the networks have another shape, or the state is that
                of another version.
        """
        absent = [name for name in (*MODULES, *OPTIMIZERS, *VALUES, *TENSORS, "plugins") if name not in state]
        if absent or not isinstance(state["plugins"], list):
            what = f"it lacks {', '.join(absent)}" if absent else "plugins have no state for each process"
            raise FileError(f"the checkpoint is of another version of adaflow: {what}", "Resume with that version.")
        plugin_states = state["plugins"][world.rank % len(state["plugins"])]
        missing = sorted(name for name, saved in plugin_states.items() if saved and name not in self.plugins)
        if missing:
            raise FileError(f"the checkpoint holds state of {', '.join(missing)}, which is not part of this run")
        try:
            for name in MODULES:
                getattr(self, name).load_state_dict(state[name])
            for name in OPTIMIZERS:
                load_adam(getattr(self, name), state[name])
        except (RuntimeError, ValueError) as error:
            raise FileError(f"the checkpoint does not fit this configuration: {str(error).splitlines()[0]}") from error
        for name in VALUES:
            setattr(self, name, state[name])
        device = self.pl_mean.device
        self.bad_updates = {name: torch.as_tensor(n, device=device) for name, n in state["bad_updates"].items()}
        for name, plugin in self.plugins.items():
            plugin.load_state_dict(plugin_states.get(name, {}))
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


def load_adam(optimizer: Adam, state: dict[str, Any]) -> None:
    """Take over a saved state, also of a run that began when weights lay otherwise in memory.

    The fused optimizer goes through weights and averages in the order of memory, and does not check that they share it.
    """
    groups = [{**group, "fused": True} for group in state["param_groups"]]
    optimizer.load_state_dict({**state, "param_groups": groups})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                values[name] = torch.empty_like(parameter).copy_(value)


def find_foreign(value: Any) -> str | None:
    """The type of the first thing in a nested value that is neither a tensor nor plain, or None."""
    if isinstance(value, dict):
        return find_foreign([*value.keys(), *value.values()])
    if type(value) in (list, tuple):
        return next((found for item in value if (found := find_foreign(item)) is not None), None)
    plain = type(value) in (bool, int, float, str, bytes, type(None)) or isinstance(value, Tensor)
    return None if plain else f"{type(value).__module__}.{type(value).__qualname__}"
