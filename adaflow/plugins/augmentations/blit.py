"""`xflip`, `rotate90`, `xint`: what only moves whole pixels, so that images are copied exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from adaflow.core.augment.matrices import constant, rotation, scaling, translation
from adaflow.core.augment.transform import GeometryTransform, parameter
from adaflow.core.draw import Draw
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.core.augment.transform import Transform
    from adaflow.plugin_manager import Register


@dataclass
class XFlip(GeometryTransform):
    """Mirrors left and right, half of the time that it fires."""

    order: ClassVar[float | tuple[float, ...]] = 1.0
    formula = "xflip"
    pixel_copy: ClassVar[bool] = True

    def matrix(self, draw: Draw, height: int, width: int) -> Tensor:
        """x times 1 or -1."""
        sign = 1.0 - 2.0 * draw.integers(2)
        return scaling(sign, torch.ones_like(sign))


@dataclass
class Rotate90(GeometryTransform):
    """Turns by 0, 90, 180 or 270 degrees.

    Where height and width differ by an odd number of pixels, 90 and 270 need resampling.
    """

    order: ClassVar[float | tuple[float, ...]] = 2.0
    formula = "rotate90"
    pixel_copy: ClassVar[bool] = True

    def matrix(self, draw: Draw, height: int, width: int) -> Tensor:
        """Rotation, counter-clockwise as `numpy.rot90`."""
        return rotation(draw.integers(4) * (math.pi / 2)).round()


@dataclass
class XInt(GeometryTransform):
    """Moves by whole pixels.

    Args:
        max: the greatest distance, as a share of the size, along each axis.
    """

    order: ClassVar[float | tuple[float, ...]] = 3.0
    formula = "xint"
    pixel_copy: ClassVar[bool] = True

    max: float = parameter(0.125)

    def matrix(self, draw: Draw, height: int, width: int) -> Tensor:
        """Translation, uniform in ± max of the size, rounded."""
        size = constant((width, height), draw.device)
        return translation((draw.uniform(-self.max, self.max, (2,)) * size).round())


@hookimpl
def register_augmentations(register: Register[type[Transform]]) -> None:
    """Offer the three, and `blit` for all of them."""
    register("xflip", XFlip)
    register("rotate90", Rotate90)
    register("xint", XInt)
    register.alias("blit", "xflip,rotate90,xint")
