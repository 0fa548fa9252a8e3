"""`lesion-ink`: marks of a surgical pen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adaflow import Draw, ImageTransform
from adaflow.core.augment.matrices import constant
from adaflow.core.augment.transform import parameter
from adaflow_lesion.canvas import Canvas, per_pixel, shade

STROKES, MARKS = 20, 5
# Optical densities of red, green and blue, chosen by eye after gentian violet and blue pens on ISIC images.
VIOLET = (0.75, 1.25, 0.35)
BLUE = (1.1, 0.95, 0.30)


@dataclass
class Ink(ImageTransform):
    """Marks the skin with a translucent violet or blue pen: scribbled dots, a hatched patch or an arc.

    Args:
        width: the median width of a stroke, as a share of the shorter side. Where the image shows 20 mm of skin, 0.014
            is 0.28 mm.
        density: the median optical density, a natural logarithm, of the ink where there is most of it. A violet pen has
            0.75 of it in red, 1.25 in green, 0.35 in blue.
    """

    order: ClassVar[float | tuple[float, ...]] = 2.0

    width: float = parameter(0.014, high=0.5)
    density: float = parameter(0.9, high=10.0)

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """The images with marks of one of the three sorts each."""
        canvas = Canvas.of(images)
        hue = 1 - draw.uniform().square()[:, None]
        density = self.density * draw.uniform(0.5, 1.5)
        half_width = per_pixel(self.width / 2 * draw.lognormal2(0.4))
        x, y, angle, length, bend, drawn = _strokes(canvas, draw)
        flow = draw.uniform(0.6, 1.0, (STROKES,)) * drawn

        ink = torch.zeros(draw.n, len(canvas.y), canvas.x.shape[1], device=draw.device)
        for i in range(STROKES):
            along, across = canvas.turned(x[:, i], y[:, i], angle[:, i])
            distance = across - per_pixel(bend[:, i]) * along.square()
            extent = canvas.stripe(along, per_pixel(length[:, i] / 2) + half_width)
            stroke = per_pixel(flow[:, i]) * extent * canvas.stripe(distance, half_width)
            ink = torch.maximum(ink, stroke)
        # A pen leaves more on some parts of the skin than on others.
        ink *= (1 + 0.35 * canvas.mottle(draw, 0.04)).clamp_(min=0.0)
        colour = hue * constant(VIOLET, draw.device) + (1 - hue) * constant(BLUE, draw.device)
        colour = (colour * density[:, None])[:, :, None, None]
        return shade(images, (-colour * ink[:, None]).expm1_())


def _strokes(canvas: Canvas, draw: Draw) -> tuple[Tensor, ...]:
    """Centre x and y, angle, length, bend, and whether it is drawn, of each stroke: [n, 20] each."""
    sort = draw.integers(3)[:, None]
    kind, place_x, place_y, start = (number[:, None] for number in draw.unit((4,)).unbind(-1))
    mark_numbers = draw.unit((MARKS, 2)).repeat_interleave(STROKES // MARKS, dim=1)
    jitter, spread, turn, reach = draw.unit((STROKES, 4)).unbind(-1)
    number = torch.arange(STROKES, device=draw.device)
    centre_x, centre_y = (0.3 * place_x - 0.15), (0.3 * place_y - 0.15)

    # Scribbled dots, up to five around the lesion: four short strokes each, crossing.
    mark = number // (STROKES // MARKS)
    around = 2 * math.pi * (start + (mark + 0.5 * mark_numbers[..., 0]) / MARKS)
    far = 0.26 + 0.16 * mark_numbers[..., 1]
    dots = (
        centre_x / 2 + far * around.cos() + 0.02 * (jitter - 0.5),
        centre_y / 2 + far * around.sin() + 0.02 * (spread - 0.5),
        math.pi * turn,
        0.04 + 0.07 * reach,
        torch.zeros_like(turn),
        mark < 1 + MARKS * kind,
    )
    # A hatched patch towards the border: strokes side by side.
    direction, away = 2 * math.pi * start, 0.3 + 0.15 * place_x
    hatch = math.pi * kind
    beside, ahead = 0.16 * (number / (STROKES - 1) - 0.5) + 0.01 * (jitter - 0.5), 0.04 * (spread - 0.5)
    patch = (
        away * direction.cos() + ahead * hatch.cos() - beside * hatch.sin(),
        away * direction.sin() + ahead * hatch.sin() + beside * hatch.cos(),
        hatch + 0.3 * (turn - 0.5),
        0.08 + 0.1 * reach,
        0.8 * (jitter - 0.5),
        number < 8 + 12 * place_y,
    )
    # An arc of a circle around the lesion, of short strokes one after the other.
    radius = 0.28 + 0.2 * kind
    step = 0.8 * math.pi / STROKES * (0.6 + 0.8 * place_x)
    on_circle = 2 * math.pi * start + step * number
    arc = (
        centre_x / 2 + (radius + 0.006 * (jitter - 0.5)) * on_circle.cos(),
        centre_y / 2 + (radius + 0.006 * (spread - 0.5)) * on_circle.sin(),
        on_circle + math.pi / 2,
        radius * step * (0.8 + 0.4 * reach),
        0.5 / radius,
        torch.ones_like(turn, dtype=torch.bool),
    )
    return tuple(
        torch.where(sort == 0, a, torch.where(sort == 1, b, c)) for a, b, c in zip(dots, patch, arc, strict=True)
    )
