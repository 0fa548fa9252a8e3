"""`fixed`: p stays where it is put."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaflow.core.p_controller import Observation, PController
from adaflow.errors import ConfigError
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register


@dataclass
class Fixed(PController):
    """The same p from beginning to end.

    Args:
        p: augmentation probability in [0, 1]; None keeps the one that the run starts with.

    Raises:
        ConfigError: p is out of range.
    """

    p: float | None = None

    def __post_init__(self) -> None:
        if self.p is not None and not 0 <= self.p <= 1:
            raise ConfigError(f"p is {self.p}", "Choose a number from 0 to 1.")

    def first_p(self, p: float) -> float:
        """The constant."""
        return p if self.p is None else self.p

    def update(self, seen: Observation) -> float:
        """The constant."""
        return seen.p if self.p is None else self.p


@hookimpl
def register_p_controllers(register: Register[type[PController]]) -> None:
    """Offer `fixed`."""
    register("fixed", Fixed)
