"""`brightness`, `contrast`, `lumaflip`, `hue`, `saturation`: affine maps of the colours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from adaflow.core.augment.matrices import color_matrix, constant, luma_projection
from adaflow.core.augment.transform import ColorTransform, parameter
from adaflow.core.draw import Draw
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.core.augment.transform import Transform
    from adaflow.plugin_manager import Register


@dataclass
class Brightness(ColorTransform):
    """Makes brighter or darker.

    Args:
        std: standard deviation of what is added to all colours; black is -1 and white 1.
    """

    order: ClassVar[float | tuple[float, ...]] = 1.0
    formula = "brightness"

    std: float = parameter(0.2)

    def matrix(self, draw: Draw) -> Tensor:
        """A normal offset, the same for all colours."""
        matrix = torch.eye(4, device=draw.device).repeat(draw.n, 1, 1)
        matrix[:, :3, 3] = draw.normal(self.std)[:, None]
        return matrix


@dataclass
class Contrast(ColorTransform):
    """Stretches colours away from mid-grey or towards it.

    Args:
        std: standard deviation of the binary logarithm of the factor.
    """

    order: ClassVar[float | tuple[float, ...]] = 2.0
    formula = "contrast"

    std: float = parameter(0.5)

    def matrix(self, draw: Draw) -> Tensor:
        """All colours times a log-normal factor."""
        return color_matrix(draw.lognormal2(self.std)[:, None, None] * torch.eye(3, device=draw.device))


@dataclass
class LumaFlip(ColorTransform):
    """Exchanges light and dark and keeps hue and saturation, half of the time that it fires."""

    order: ClassVar[float | tuple[float, ...]] = 3.0
    formula = "lumaflip"

    def matrix(self, draw: Draw) -> Tensor:
        """Reflection through the plane orthogonal to the luma axis, or nothing."""
        flip = draw.integers(2)[:, None, None]
        return color_matrix(torch.eye(3, device=draw.device) - 2.0 * flip * luma_projection(draw.device))


@dataclass
class Hue(ColorTransform):
    """Turns the hues around the luma axis.

    Args:
        max: the greatest angle, in half turns: 1 is 180 degrees.
    """

    order: ClassVar[float | tuple[float, ...]] = 4.0
    formula = "hue"
    needs_rgb: ClassVar[bool] = True

    max: float = parameter(1.0, high=1.0)

    def matrix(self, draw: Draw) -> Tensor:
        """Rotation about (1, 1, 1)/√3 by an angle uniform in ± max (Rodrigues' formula)."""
        angle = draw.uniform(-self.max * math.pi, self.max * math.pi)[:, None, None]
        luma = luma_projection(draw.device)
        cross = constant((0, -1, 1, 1, 0, -1, -1, 1, 0), draw.device).view(3, 3) / math.sqrt(3)
        return color_matrix(luma + angle.cos() * (torch.eye(3, device=draw.device) - luma) + angle.sin() * cross)


@dataclass
class Saturation(ColorTransform):
    """Makes colours stronger or paler.

    Args:
        std: standard deviation of the binary logarithm of the factor.
    """

    order: ClassVar[float | tuple[float, ...]] = 5.0
    formula = "saturation"
    needs_rgb: ClassVar[bool] = True

    std: float = parameter(1.0)

    def matrix(self, draw: Draw) -> Tensor:
        """The part orthogonal to the luma axis times a log-normal factor."""
        luma = luma_projection(draw.device)
        factor = draw.lognormal2(self.std)[:, None, None]
        return color_matrix(luma + factor * (torch.eye(3, device=draw.device) - luma))


@hookimpl
def register_augmentations(register: Register[type[Transform]]) -> None:
    """Offer the five, `color` for all of them, and `bgc` for `blit,geom,color`."""
    register("brightness", Brightness)
    register("contrast", Contrast)
    register("lumaflip", LumaFlip)
    register("hue", Hue)
    register("saturation", Saturation)
    register.alias("color", "brightness,contrast,lumaflip,hue,saturation")
    register.alias("bgc", "bg,color")
