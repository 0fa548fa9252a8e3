"""`lesion-ruler`: a scale in millimetres."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adaflow import Draw, ImageTransform
from adaflow.core.augment.transform import parameter
from adaflow_lesion.canvas import Canvas, paint, per_pixel


@dataclass
class Ruler(ImageTransform):
    """Prints a scale along a side or across: a line with a tick a millimetre, every fifth and tenth longer.

    A part of the scales are marks at the border without a line, as on the rim of a dermatoscope.

    Args:
        millimetre: the median distance between ticks, as a share of the shorter side: 1/30 where the image shows 30 mm.
        across: the share of scales that run in any direction, not along a side.
        rim: the share of scales that are ticks at the border without a line.
        tilt: standard deviation of the angle to the side, in half turns: 0.03 is 5.4 degrees.
    """

    order: ClassVar[float | tuple[float, ...]] = 5.0

    millimetre: float = parameter(0.035, low=0.001, high=1.0)
    across: float = parameter(0.2, high=1.0)
    rim: float = parameter(0.2, high=1.0)
    tilt: float = parameter(0.03, high=1.0)

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """The images with a scale each."""
        canvas = Canvas.of(images)
        spacing = self.millimetre * draw.lognormal2(0.3)
        side = draw.integers(4)
        at_rim = draw.fires(self.rim)
        runs_across = draw.fires(self.across) & ~at_rim
        tilt = draw.normal(self.tilt * math.pi)
        any_angle = draw.uniform(-math.pi, math.pi)
        numbers = draw.unit((6,))
        margin, length, shift, thickness, ink, opacity = numbers.unbind(-1)

        angle = torch.where(runs_across, any_angle, side * (math.pi / 2) + tilt)
        # From the centre to the border behind the scale.
        to_border = torch.where(side % 2 == 0, canvas.half_height, canvas.half_width)
        away = torch.where(at_rim, to_border - 0.02 * margin, to_border - 0.05 - 0.11 * margin)
        along, across = canvas.turned(torch.zeros_like(angle), torch.zeros_like(angle), angle)
        inwards = per_pixel(away) - across

        five = 5 * spacing
        length = torch.where(at_rim, 2 * five, ((0.5 + 0.4 * length) / five).round().clamp(min=1) * five)
        start = -length / 2 + torch.where(at_rim, 0.3, 0.12) * (2 * shift - 1)
        along = along - per_pixel(start)
        half_width = per_pixel(spacing * torch.where(at_rim, 0.10, 0.035) * (0.7 + 0.6 * thickness))
        height = per_pixel(spacing * torch.where(at_rim, 1.6, 0.55))

        middle = per_pixel(length / 2)
        within = canvas.stripe(along - middle, middle + half_width)
        cover = canvas.stripe(inwards, half_width) * within * per_pixel(~at_rim)
        for every, factor in ((1, 1.0), (5, 1.4), (10, 1.8)):
            ticks = canvas.comb(along, every * per_pixel(spacing), half_width)
            cover = torch.maximum(
                cover, ticks * within * canvas.stripe(inwards - factor * height / 2, factor * height / 2)
            )
        colour = (0.08 + 0.2 * ink)[:, None].expand(-1, 3)
        return paint(images, per_pixel(0.7 + 0.3 * opacity) * cover, colour)
