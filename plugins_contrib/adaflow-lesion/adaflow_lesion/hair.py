"""`lesion-hair`: hairs across the image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adaflow import Draw, ImageTransform
from adaflow.core.augment.matrices import constant
from adaflow.core.augment.transform import parameter
from adaflow_lesion.canvas import Canvas, paint, per_pixel, shade

DARK = (0.17, 0.105, 0.07)
LIGHT = (0.78, 0.71, 0.60)


@dataclass
class Hair(ImageTransform):
    """Lays curved, tapering hairs with a slight shadow over the image.

    Few hairs are more likely than many. Those of one image have one colour and are combed more or less one way.

    Args:
        number: the greatest number of hairs; its whole part counts.
        width: the median width of a hair at its root, as a share of the shorter side. Where the image shows 15 mm of
            skin, 0.005 is 0.075 mm.
        light: the share of images whose hairs are light.
        shadow: how much a shadow darkens the skin, at most; 1 is black.
    """

    order: ClassVar[float | tuple[float, ...]] = 4.0

    number: float = parameter(16, low=1, high=256)
    width: float = parameter(0.005, high=0.2)
    light: float = parameter(0.1, high=1.0)
    shadow: float = parameter(0.25, high=1.0)

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """The images under 1 to `number` hairs."""
        canvas = Canvas.of(images)
        most = int(self.number)
        count = (draw.uniform().square() * most).floor() + 1
        is_light = draw.fires(self.light)
        tone = draw.uniform(0.4, 2.2)
        combed = draw.uniform(-math.pi, math.pi)
        disorder = draw.uniform(0.1, 0.8)
        width = self.width * draw.lognormal2(0.35)
        unit = draw.unit((most, 6))
        normal = draw.normal(shape=(most, 2))

        bare = torch.ones(draw.n, len(canvas.y), canvas.x.shape[1], device=draw.device)
        lit = torch.ones_like(bare)
        for number in range(most):
            x, y, length, thickness, opacity, root = unit[:, number].unbind(-1)
            turn, bend = normal[:, number].unbind(-1)
            opacity = (0.55 + 0.4 * opacity) * (number < count)
            half_width = per_pixel(width * (0.7 + 0.6 * thickness) / 2)
            distance, taper = _curve(
                canvas,
                (2 * x - 1) * canvas.half_width,
                (2 * y - 1) * canvas.half_height,
                combed + disorder * turn + math.pi * (root < 0.2),
                0.3 + 0.9 * length,
                0.7 * bend,
            )
            bare *= 1 - per_pixel(opacity) * canvas.stripe(distance, half_width * taper)
            # The shadow lies one width beside the hair and fades out over three.
            away = ((distance - 2 * half_width) / (4 * half_width + canvas.pixel)).square_()
            lit *= 1 - per_pixel(self.shadow * opacity * thickness) * taper * (-away).exp_() * _share(
                half_width, canvas
            )

        colour = torch.where(
            is_light[:, None],
            constant(LIGHT, draw.device) * (0.75 + 0.1 * tone[:, None]),
            constant(DARK, draw.device) * tone[:, None],
        )
        return paint(shade(images, lit[:, None] - 1), 1 - bare, colour)


def _curve(canvas: Canvas, x: Tensor, y: Tensor, angle: Tensor, length: Tensor, bend: Tensor) -> tuple[Tensor, Tensor]:
    """A parabola through (x, y), which is a quadratic Bézier curve, all arguments [n].

    Returns:
        [n, H, W] signed distance from it, exact on it; [n, H, W] thickness: 1 at the root, less towards the tip, 0
        beyond both ends.
    """
    along, across = canvas.turned(x, y, angle)
    bend = per_pixel(bend)
    slope = 2 * bend * along
    distance = (across - bend * along.square()) * (1 + slope.square()).rsqrt_()
    from_root = along + per_pixel(length / 2)
    to_tip = 1 - from_root / per_pixel(length)
    return distance, canvas.beyond(from_root) * (2 * to_tip).clamp_(0.0, 1.0)


def _share(half_width: Tensor, canvas: Canvas) -> Tensor:
    """How dark the shadow of a hair can be whose width is less than a pixel."""
    return (2 * half_width / canvas.pixel).clamp(max=1.0)
