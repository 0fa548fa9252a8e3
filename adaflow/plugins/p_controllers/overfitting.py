"""`rt` and `rv`: raise p while the discriminator overfits, lower it while it does not (arXiv 2006.06676, §3, Eq. 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from adaflow.core.p_controller import Observation, PController
from adaflow.errors import ConfigError
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register


def step_towards(target: float, value: float, seen: Observation, kimg: float) -> float:
    """p moved by one step of the size that takes it from 0 to 1 in `kimg` thousand images."""
    direction = (value > target) - (value < target)
    return seen.p + direction * seen.images_since / (kimg * 1000)


def check_settings(target: float, lowest: float, kimg: float) -> None:
    """Refuse what no run can use.

    Raises:
        ConfigError: a target out of range, or a pace that is not positive.
    """
    if not lowest <= target <= 1:
        raise ConfigError(f"target is {target}", f"Choose a number from {lowest:g} to 1.")
    if kimg <= 0:
        raise ConfigError(f"kimg is {kimg}", "Choose a positive number.")


@dataclass
class RT(PController):
    """r_t = E[sign(D(reals))]: the share of reals that the discriminator is sure of, 2·share − 1.

    Args:
        target: r_t to hold, from −1 to 1.
        kimg: thousands of images that p needs from 0 to 1.

    Raises:
        ConfigError: a setting out of range.
    """

    target: float = 0.6
    kimg: float = 500

    def __post_init__(self) -> None:
        check_settings(self.target, -1.0, self.kimg)

    def update(self, seen: Observation) -> float:
        """One step up when r_t is above the target, one down when below."""
        return step_towards(self.target, seen.sign_real, seen, self.kimg)


@dataclass
class RV(PController):
    """r_v = (E[D(train)] − E[D(val)]) / (E[D(train)] − E[D(fakes)]): 0 without overfitting, 1 when validation
    images look as fake as the fakes.

    Args:
        target: r_v to hold, from 0 to 1.
        kimg: thousands of images that p needs from 0 to 1.

    Raises:
        ConfigError: a setting out of range.
    """

    needs_validation: ClassVar[bool] = True

    target: float = 0.5
    kimg: float = 500

    def __post_init__(self) -> None:
        check_settings(self.target, 0.0, self.kimg)

    def update(self, seen: Observation) -> float:
        """One step up when r_v is above the target, one down when below; no step without validation scores."""
        if seen.score_val is None:
            return seen.p
        above_fakes = max(seen.score_real - seen.score_fake, 1e-8)
        return step_towards(self.target, (seen.score_real - seen.score_val) / above_fakes, seen, self.kimg)


@hookimpl
def register_p_controllers(register: Register[type[PController]]) -> None:
    """Offer `rt` and `rv`."""
    register("rt", RT)
    register("rv", RV)
