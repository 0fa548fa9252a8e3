"""`scale`, `rotate`, `aniso`, `xfrac`: affine maps of the plane."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from adaflow.core.augment.matrices import constant, rotation, scaling, translation
from adaflow.core.augment.transform import GeometryTransform, parameter
from adaflow.core.draw import Draw
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.core.augment.transform import Transform
    from adaflow.plugin_manager import Register


@dataclass
class Scale(GeometryTransform):
    """Enlarges or shrinks both axes alike.

    Args:
        std: standard deviation of the binary logarithm of the factor.
    """

    order: ClassVar[float | tuple[float, ...]] = 4.0
    formula = "scale"

    std: float = parameter(0.2)

    def matrix(self, draw: Draw, height: int, width: int) -> Tensor:
        """Both axes times a log-normal factor."""
        factor = draw.lognormal2(self.std)
        return scaling(factor, factor)


@dataclass
class Rotate(GeometryTransform):
    """Turns by any angle, before and after `aniso`, so that the direction of `aniso` is arbitrary.

    Args:
        max: the greatest angle, in half turns: 1 is 180 degrees.
    """

    order: ClassVar[float | tuple[float, ...]] = (5.0, 7.0)
    formula = "rotate"

    max: float = parameter(1.0, high=1.0)

    def gate(self, p: float | Tensor) -> float | Tensor:
        """1 - √(1 - p): one of the two gates opens with probability p."""
        return 1.0 - (1.0 - p) ** 0.5

    def matrix(self, draw: Draw, height: int, width: int) -> Tensor:
        """Rotation by an angle uniform in ± max."""
        return rotation(draw.uniform(-self.max * math.pi, self.max * math.pi))


@dataclass
class Aniso(GeometryTransform):
    """Stretches one axis and shrinks the other.

    Args:
        std: standard deviation of the binary logarithm of the factor.
    """

    order: ClassVar[float | tuple[float, ...]] = 6.0
    formula = "aniso"

    std: float = parameter(0.2)

    def matrix(self, draw: Draw, height: int, width: int) -> Tensor:
        """x times a log-normal factor, y divided by it."""
        factor = draw.lognormal2(self.std)
        return scaling(factor, 1.0 / factor)


@dataclass
class XFrac(GeometryTransform):
    """Moves by any distance.

    Args:
        std: standard deviation of the distance along each axis, as a share of the size.
    """

    order: ClassVar[float | tuple[float, ...]] = 8.0
    formula = "xfrac"

    std: float = parameter(0.125)

    def matrix(self, draw: Draw, height: int, width: int) -> Tensor:
        """Normal translation."""
        size = constant((width, height), draw.device)
        return translation(draw.normal(self.std, shape=(2,)) * size)


@hookimpl
def register_augmentations(register: Register[type[Transform]]) -> None:
    """Offer the four, `geom` for all of them, and `bg` for `blit,geom`."""
    register("scale", Scale)
    register("rotate", Rotate)
    register("aniso", Aniso)
    register("xfrac", XFrac)
    register.alias("geom", "scale,rotate,aniso,xfrac")
    register.alias("bg", "blit,geom")
