"""`lesion-illumination`, `lesion-corners`, `lesion-vignette`: how evenly a dermatoscope lights and shows the skin."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from adaflow import Draw, ImageTransform
from adaflow.core.augment.transform import parameter
from adaflow_lesion.canvas import Canvas, paint, per_pixel, shade


@dataclass
class Illumination(ImageTransform):
    """Lights the image from one side: multiplies brightness by a gradient whose mean is 1.

    Where the image is light, it may become lighter than white, 1; it is not cut.

    Args:
        strength: the greatest gradient: 0.3 brightens one corner by 30 % and darkens the opposite one by as much.
    """

    order: ClassVar[float | tuple[float, ...]] = 8.0

    strength: float = parameter(0.35, high=1.0)

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """The images under a gradient in any direction, of a strength uniform up to the greatest."""
        canvas = Canvas.of(images)
        angle = draw.uniform(-math.pi, math.pi)
        strength = draw.uniform(0, self.strength)
        cos, sin = angle.cos(), angle.sin()
        farthest = cos.abs() * canvas.half_width + sin.abs() * canvas.half_height
        slope = strength / farthest
        return shade(images, (per_pixel(slope * cos) * canvas.x + per_pixel(slope * sin) * canvas.y)[:, None])


@dataclass
class Corners(ImageTransform):
    """Shows the image through a round black aperture, with a soft edge, that cuts its corners off.

    Args:
        smallest, largest: radius of the aperture, as shares of the shorter side; the corners of a square image are 0.71
            from its centre.
        edge: the greatest width of the soft edge, as a share of the shorter side; it is always a pixel at least.
        offset: standard deviation of the aperture's centre from the image's along each axis, as a share of the shorter
            side.
    """

    order: ClassVar[float | tuple[float, ...]] = 9.0

    smallest: float = parameter(0.48, low=0.05, high=2.0)
    largest: float = parameter(0.66, low=0.05, high=2.0)
    edge: float = parameter(0.08, high=1.0)
    offset: float = parameter(0.02, high=1.0)

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """The images, black outside a disc."""
        canvas = Canvas.of(images)
        radius = draw.uniform(self.smallest, self.largest)
        edge = self.edge * draw.uniform().square()
        x, y = draw.normal(self.offset, shape=(2,)).unbind(-1)
        black = draw.uniform(0.0, 0.05)[:, None].expand(-1, 3)
        outside = canvas.beyond(canvas.distance(x, y) - per_pixel(radius), per_pixel(edge))
        # A smooth step.
        return paint(images, outside.square() * (3 - 2 * outside), black)


@dataclass
class Vignette(ImageTransform):
    """Darkens the image towards its corners, as a lens does.

    Args:
        strength: how much it darkens the corners at most; 1 is black.
        offset: standard deviation of the brightest point from the centre along each axis, as a share of the shorter
            side.
    """

    order: ClassVar[float | tuple[float, ...]] = 11.0

    strength: float = parameter(0.6, high=1.0)
    offset: float = parameter(0.05, high=1.0)

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """The images with a shade that grows as a power of 2 to 4 of the distance from its middle."""
        canvas = Canvas.of(images)
        strength = draw.uniform(0, self.strength)
        power = draw.uniform(2.0, 4.0)
        x, y = draw.normal(self.offset, shape=(2,)).unbind(-1)
        corner = math.hypot(canvas.half_width, canvas.half_height)
        share = (canvas.distance(x, y) / corner).clamp_(max=1.0)
        return shade(images, -(per_pixel(strength) * share.pow(per_pixel(power)))[:, None])
