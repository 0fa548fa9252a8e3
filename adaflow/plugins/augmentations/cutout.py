"""`cutout`: blanks a rectangle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from adaflow.core.augment.transform import ImageTransform, parameter
from adaflow.core.draw import Draw
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.core.augment.transform import Transform
    from adaflow.plugin_manager import Register


@dataclass
class Cutout(ImageTransform):
    """Sets a rectangle around any point of the image to mid-grey, 0.

    Args:
        size: of the rectangle, as a share of the image's height and width.
    """

    order: ClassVar[float | tuple[float, ...]] = 30.0
    formula = "cutout"

    size: float = parameter(0.5)

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """The images with pixels whose centre lies in the rectangle set to 0."""
        height, width = images.shape[2:]
        centre = draw.uniform(shape=(2,))
        x = (torch.arange(width, device=images.device) + 0.5) / width
        y = (torch.arange(height, device=images.device) + 0.5) / height
        inside_x = (x - centre[:, :1]).abs() < self.size / 2
        inside_y = (y - centre[:, 1:]).abs() < self.size / 2
        return images.masked_fill((inside_y[:, :, None] & inside_x[:, None, :])[:, None], 0.0)


@hookimpl
def register_augmentations(register: Register[type[Transform]]) -> None:
    """Offer it, and `bgcfnc` for `blit,geom,color,filter,noise,cutout`."""
    register("cutout", Cutout)
    register.alias("bgcfnc", "bgcfn,cutout")
