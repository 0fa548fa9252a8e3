"""`linear` and `cosine`: p as a function of the images seen, whatever the discriminator does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaflow.core.p_controller import Observation, PController
from adaflow.errors import ConfigError
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register


@dataclass
class Linear(PController):
    """p goes in a straight line from `start` to `end` and stays there.

    Args:
        start: p at the first image.
        end: p after `kimg`.
        kimg: length of the way in thousands of images; None takes the whole run.

    Raises:
        ConfigError: a setting out of range.
    """

    start: float = 0.0
    end: float = 0.3
    kimg: float | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.start <= 1 and 0 <= self.end <= 1):
            raise ConfigError(f"start is {self.start} and end is {self.end}", "Choose numbers from 0 to 1.")
        if self.kimg is not None and self.kimg <= 0:
            raise ConfigError(f"kimg is {self.kimg}", "Choose a positive number.")

    def first_p(self, p: float) -> float:
        """The start of the way."""
        return self.start

    def update(self, seen: Observation) -> float:
        """p at this point of the way."""
        return self.start + (self.end - self.start) * self.shape(self.progress(seen))

    def progress(self, seen: Observation) -> float:
        """How much of the way is done, 0 to 1."""
        length = seen.total_images if self.kimg is None else self.kimg * 1000
        return min(seen.images / max(length, 1), 1.0)

    def shape(self, progress: float) -> float:
        """Share of the rise at `progress`."""
        return progress


@dataclass
class Cosine(Linear):
    """Like `linear`, but slow at both ends: half a cosine wave, as in R3GAN (arXiv 2501.05441).

    Args:
        start: p at the first image.
        end: p after `kimg`.
        kimg: length of the way in thousands of images; None takes the whole run.
    """

    def shape(self, progress: float) -> float:
        """Share of the rise at `progress`."""
        return (1 - math.cos(math.pi * progress)) / 2


@hookimpl
def register_p_controllers(register: Register[type[PController]]) -> None:
    """Offer `linear` and `cosine`."""
    register("linear", Linear)
    register("cosine", Cosine)
