"""Two contributed augmentations for LeakBench, which the detector has never heard of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adaflow import Draw, ImageTransform, hookimpl

if TYPE_CHECKING:
    from adaflow.core.augment.transform import Transform
    from adaflow.plugin_manager import Register

STROKES = 6


@dataclass
class Vignette(ImageTransform):
    """Darkens the corners."""

    strength: float = 0.8

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        height, width = images.shape[2:]
        y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
        amount = draw.uniform(0.3 * self.strength, self.strength).view(-1, 1, 1, 1)
        return (images + 1) * (1 - amount * (x**2 + y**2) / 2) - 1


@dataclass
class Hair(ImageTransform):
    """Draws straight dark hairs across the image."""

    darkness: float = 0.7

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        height, width = images.shape[2:]
        y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
        kept = torch.ones_like(images[:, :1])
        for _ in range(STROKES):
            angle = draw.uniform(0, torch.pi).view(-1, 1, 1, 1)
            offset = draw.uniform(-0.8, 0.8).view(-1, 1, 1, 1)
            distance = (x * angle.cos() + y * angle.sin() - offset).abs() * min(height, width) / 2
            kept = kept * (1 - self.darkness * (1.2 - distance).clamp(0, 1))
        return (images + 1) * kept - 1


@hookimpl
def register_augmentations(register: Register[type[Transform]]) -> None:
    """Offer `vignette` and `hair`."""
    register("vignette", Vignette)
    register("hair", Hair)
