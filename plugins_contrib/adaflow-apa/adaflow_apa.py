"""`apa`: adaptive pseudo augmentation (Jiang et al. 2021, arXiv 2111.06849)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adaflow import Batch, Draw, Method, hookimpl

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register


@dataclass
class APA(Method):
    """Shows D, in the place of each real image, a fake with probability p × weight, and calls it real.

    D is deceived the more often the more it overfits: p comes from the run's controller, as for augmentations. To have
    APA alone, train with `--augs none`.

    Args:
        weight: factor on p.
    """

    weight: float = 1.0

    def reals(self, reals: Batch, fakes: Batch, p: Tensor, draw: Draw) -> Batch:
        """Reals, some of them replaced, with their labels."""
        pseudo = draw.fires((p * self.weight).clamp(0, 1))
        images = torch.where(pseudo[:, None, None, None], fakes.images, reals.images)
        return Batch(images, torch.where(pseudo[:, None], fakes.labels, reals.labels))


@hookimpl
def register_methods(register: Register[type[Method]]) -> None:
    """Offer `apa`."""
    register("apa", APA)
