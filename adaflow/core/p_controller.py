"""What a controller of the augmentation probability p is, and the rules that hold for every one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True)
class Observation:
    """What a controller sees, averaged over the minibatches since its last update, over all processes.

    Args:
        p: the present augmentation probability.
        images: images shown to the discriminator so far in the run.
        images_since: images shown since the last update.
        total_images: length of the run in images.
        sign_real: E[sign(D(reals))], called r_t, in [−1, 1].
        score_real: E[D(reals)].
        score_fake: E[D(fakes)].
        score_val: E[D(validation images)], or None when the run has no validation split.
        steps_since: steps since the last update.
        p_max: the greatest p allowed.
        signs: for a controller with `needs_transforms`, transform → E[sign(D(reals))] of the reals for which it fired,
            or None where it fired for none.
    """

    p: float
    images: int
    images_since: int
    total_images: int
    sign_real: float
    score_real: float
    score_fake: float
    score_val: float | None = None
    steps_since: int = 1
    p_max: float = 1.0
    signs: Mapping[str, float | None] = field(default_factory=dict)

    def is_finite(self) -> bool:
        """Whether every number the discriminator gave is finite."""
        signs = (sign or 0.0 for sign in self.signs.values())
        values = (self.sign_real, self.score_real, self.score_fake, self.score_val or 0.0, *signs)
        return all(math.isfinite(value) for value in values)


class PController(ABC):
    """Decides p. A subclass is a dataclass of its settings; `--p-controller "name(setting=value)"` sets them.

    Whatever else it remembers goes through `state_dict` and `load_state_dict`, and survives a resume.
    """

    needs_validation: ClassVar[bool] = False
    """True asks for `score_val`, for which the run needs `--val-fraction`."""

    needs_transforms: ClassVar[bool] = False
    """True asks for `signs`."""

    def first_p(self, p: float) -> float:
        """p before the first step, given the run's setting; the trainer clips the answer to [0, p_max]."""
        return p

    @abstractmethod
    def update(self, seen: Observation) -> float:
        """The next p. Called every few steps; the trainer clips the answer to [0, p_max]."""

    def weights(self, names: tuple[str, ...], p: float) -> dict[str, float]:
        """Factors on p for transforms, at least 0, besides their weights in `--augs`. Asked before every step.

        Args:
            names: of the transforms of the run. Those left out of the answer have a factor of 1.
            p: what they are factors on: the p last answered, within the bounds of the run.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors to save."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 (most have no state)
        """Take back what `state_dict` gave."""


def has_weights(controller: PController) -> bool:
    """Whether it gives transforms a p of their own."""
    return type(controller).weights is not PController.weights


def next_p(controller: PController, seen: Observation, p_max: float) -> tuple[float, bool]:
    """Ask the controller for p and keep it within [0, p_max].

    A non-finite input or answer holds p: sign(nan) is nan, and p would never recover from it.

    Returns:
        p, and whether it is saturated: the controller wanted more than `p_max`.
    """
    if not seen.is_finite():
        return seen.p, False
    wanted = float(controller.update(seen))
    if not math.isfinite(wanted):
        return seen.p, False
    return min(max(wanted, 0.0), p_max), wanted > p_max
