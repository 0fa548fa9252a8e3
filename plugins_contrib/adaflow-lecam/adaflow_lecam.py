"""`lecam`: LeCam regularisation of the discriminator (Tseng et al. 2021, arXiv 2104.03310)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from adaflow import Method, Observation, hookimpl
from adaflow.errors import ConfigError

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register


@dataclass
class LeCam(Method):
    """Keeps what D says of reals near what it used to say of fakes, and the other way round.

    Adds weight · ((D(real) − α_fake)² + (D(fake) − α_real)²) to the loss of D, where α_real and α_fake are running
    means of D(real) and D(fake).

    Args:
        weight: of the term; 3e-7 is what the paper uses with StyleGAN2.
        decay: of the running means, for a step.

    Raises:
        ConfigError: a setting out of range.
    """

    weight: float = 3e-7
    decay: float = 0.99

    def __post_init__(self) -> None:
        if self.weight < 0 or not 0 <= self.decay < 1:
            raise ConfigError(
                f"weight is {self.weight} and decay is {self.decay}", "weight is at least 0, decay in [0, 1)."
            )
        self.means: tuple[float, float] | None = None
        """α_real and α_fake; None before anything is known."""

    def observe(self, seen: Observation) -> None:
        """Let the running means follow."""
        now = (seen.score_real, seen.score_fake)
        keep = self.decay**seen.steps_since
        before = now if self.means is None else self.means
        self.means = (before[0] * keep + now[0] * (1 - keep), before[1] * keep + now[1] * (1 - keep))

    def discriminator_loss(self, fake_logits: Tensor, real_logits: Tensor) -> Tensor | None:
        """The term, [N, 1]; none before the first observation."""
        if self.means is None:
            return None
        real, fake = self.means
        return self.weight * ((real_logits - fake).square() + (fake_logits - real).square())

    def state_dict(self) -> dict[str, Any]:
        """The running means."""
        return {"means": self.means}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with them."""
        means = state.get("means")
        self.means = None if means is None else (means[0], means[1])


@hookimpl
def register_methods(register: Register[type[Method]]) -> None:
    """Offer `lecam`."""
    register("lecam", LeCam)
