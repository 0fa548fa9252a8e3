"""`noise`: adds white noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from adaflow.core.augment.transform import ImageTransform, parameter
from adaflow.core.draw import Draw
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.core.augment.transform import Transform
    from adaflow.plugin_manager import Register


@dataclass
class Noise(ImageTransform):
    """Adds normal noise to every pixel and channel.

    Args:
        std: standard deviation of the half-normal strength of the noise; black is -1 and white 1.
    """

    order: ClassVar[float | tuple[float, ...]] = 20.0
    formula = "noise"

    std: float = parameter(0.1)

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """The images with noise of a half-normal standard deviation each."""
        strength = draw.half_normal(self.std).view(-1, 1, 1, 1)
        return images + (strength * draw.normal(shape=tuple(images.shape[1:]))).to(images.dtype)


@hookimpl
def register_augmentations(register: Register[type[Transform]]) -> None:
    """Offer it, and `bgcfn` for `blit,geom,color,filter,noise`."""
    register("noise", Noise)
    register.alias("bgcfn", "bgcf,noise")
