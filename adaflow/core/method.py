"""What a training method is: something that changes training, and is more than a transform of images.

Adaptive pseudo augmentation shows D fakes as reals; LeCam adds a term to the loss of D. A method of one's own is a
dataclass of its settings:

    @dataclass
    class SmallLogits(Method):
        weight: float = 1e-3

        def discriminator_loss(self, fake_logits, real_logits):
            return self.weight * (fake_logits.square() + real_logits.square())
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from adaflow.core.draw import Draw
from adaflow.core.p_controller import Observation


class Batch(NamedTuple):
    """Images [N, C, H, W] in [−1, 1], before augmentation, and their labels [N, c_dim]."""

    images: Tensor
    labels: Tensor


class Method:
    """Changes training. A subclass is a dataclass of its settings; `--methods "name(setting=value)"` sets them.

    Several methods of a run act one after the other, in the order in which they were named.
    """

    capturable: ClassVar[bool] = True
    """False when its Python code must run at every step, for it keeps count of something, say. Otherwise the work it
    gives to a GPU is recorded once and repeated, with new tensors in the place of those it got."""

    def reals(self, reals: Batch, fakes: Batch, p: Tensor, draw: Draw) -> Batch:
        """What D is shown as real. R1 is taken at the real images themselves, whatever is answered here.

        Args:
            reals: real images.
            fakes: as many generated ones, those that D is shown as fake in the same step. They need no gradient.
            p: the augmentation probability, 0-d.
            draw: numbers for these N images.
        """
        return reals

    def discriminator_loss(self, fake_logits: Tensor, real_logits: Tensor) -> Tensor | None:
        """What is added to the loss of D, [N, 1] or a scalar; None: nothing.

        Args:
            fake_logits: what D says of fakes, [N, 1].
            real_logits: what D says of the images shown as real, [N, 1].
        """
        return None

    def observe(self, seen: Observation) -> None:
        """What D said lately. Called when the p controller is asked for p, with the same numbers in every process."""

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors to save."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
