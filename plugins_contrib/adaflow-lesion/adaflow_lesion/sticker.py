"""`lesion-sticker`: a colour calibration sticker at the border."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adaflow import Draw, ImageTransform
from adaflow.core.augment.matrices import constant
from adaflow.core.augment.transform import parameter
from adaflow_lesion.canvas import Canvas, paint, per_pixel

# Red, green and blue as seen on ISIC images: blue, turquoise, yellow, orange, salmon, lilac, green.
PALETTE = (
    0.02, 0.58, 0.86,  0.36, 0.73, 0.71,  0.96, 0.88, 0.13,  0.93, 0.50, 0.12,
    0.96, 0.42, 0.33,  0.72, 0.69, 0.87,  0.28, 0.62, 0.36,
)  # fmt: skip
COLOURS = len(PALETTE) // 3


@dataclass
class Sticker(ImageTransform):
    """Sticks a coloured disc, or a rectangle with rounded corners, to the border of the image, partly beyond it.

    Args:
        radius: the median radius, or half side, as a share of the shorter side.
        depth: how far it reaches into the image at most, as a share of the shorter side.
        rectangles: the share of stickers that are rectangles.
    """

    order: ClassVar[float | tuple[float, ...]] = 3.0

    radius: float = parameter(0.3, low=0.01, high=2.0)
    depth: float = parameter(0.28, high=1.0)
    rectangles: float = parameter(0.2, high=1.0)

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """The images with a sticker each."""
        canvas = Canvas.of(images)
        colour = constant(PALETTE, draw.device).view(-1, 3)[draw.integers(COLOURS)]
        colour = colour * draw.lognormal2(0.1)[:, None] + draw.normal(0.02, shape=(3,))
        is_rectangle = draw.fires(self.rectangles)
        radius = self.radius * draw.lognormal2(0.25)
        depth = self.depth * draw.uniform(0.15, 1.0)
        direction, turn = draw.uniform(-math.pi, math.pi), draw.uniform(-math.pi, math.pi)
        aspect = draw.lognormal2(0.4)

        cos, sin = direction.cos(), direction.sin()
        to_border = torch.minimum(
            canvas.half_width / cos.abs().clamp(min=1e-6), canvas.half_height / sin.abs().clamp(min=1e-6)
        )
        away = to_border + radius - depth
        along, across = canvas.turned(away * cos, away * sin, turn)
        # The distance from a rectangle whose corners are rounded: fully, and it is a disc.
        rounding = torch.where(is_rectangle, 0.06, 1.0) * radius
        half_x = torch.where(is_rectangle, radius * aspect, radius)
        over_x = (along.abs() - per_pixel(half_x - rounding)).clamp_(min=0.0)
        over_y = (across.abs() - per_pixel(radius - rounding)).clamp_(min=0.0)
        outside = (over_x.square() + over_y.square()).clamp_(min=1e-12).sqrt_() - per_pixel(rounding)
        cover = canvas.beyond(-outside)

        light = 1 + 0.03 * canvas.mottle(draw, 0.3)
        return paint(images, cover, (colour[:, :, None, None] * light[:, None]).clamp_(0.0, 1.0))
