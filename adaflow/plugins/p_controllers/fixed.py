"""`fixed`: p stays where it is put."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaflow.core.p_controller import Observation, PController
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register


@dataclass
class Fixed(PController):
    """The same p from beginning to end.

    Args:
        p: augmentation probability in [0, 1].
    """

    p: float = 0.2

    def update(self, seen: Observation) -> float:
        """The constant."""
        return self.p


@hookimpl
def register_p_controllers(register: Register[type[PController]]) -> None:
    """Offer `fixed`."""
    register("fixed", Fixed)
