"""`lesion-gel` and `lesion-highlights`: bubbles in the immersion gel, and light that the surface throws back."""

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

WHITE = (1.0, 0.99, 0.97)


@dataclass
class Gel(ImageTransform):
    """Puts air bubbles into the gel: a dark ring, a bright one inside it, brighter towards the light, and a highlight.

    Args:
        number: the greatest number of bubbles; its whole part counts.
        radius: the median radius, as a share of the shorter side. Where the image shows 12 mm of skin, 0.022 is
            0.26 mm.
        strength: how much of the skin the rings hide; 1 is all of it.
    """

    order: ClassVar[float | tuple[float, ...]] = 6.0

    number: float = parameter(8, low=1, high=256)
    radius: float = parameter(0.022, low=0.001, high=0.5)
    strength: float = parameter(0.6, high=1.0)

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """The images with 1 to `number` bubbles."""
        canvas = Canvas.of(images)
        most = int(self.number)
        count = draw.uniform(1, most + 1).floor()
        light = draw.uniform(-math.pi, math.pi)
        unit = draw.unit((most, 3))
        size = draw.normal(0.7, shape=(most,)).exp2_()
        light_x, light_y = light.cos(), light.sin()

        dark = torch.zeros(draw.n, len(canvas.y), canvas.x.shape[1], device=draw.device)
        bright = torch.zeros_like(dark)
        for i in range(most):
            place_x, place_y, opacity = unit[:, i].unbind(-1)
            x, y = (2 * place_x - 1) * canvas.half_width, (2 * place_y - 1) * canvas.half_height
            radius = (self.radius * size[:, i]).clamp(max=3 * self.radius)
            shown = per_pixel(self.strength * (0.6 + 0.4 * opacity) * (i < count))
            distance = canvas.distance(x, y)
            towards = per_pixel(light_x) * (canvas.x - per_pixel(x)) + per_pixel(light_y) * (canvas.y - per_pixel(y))
            facing = 0.5 + 0.5 * towards / distance
            rim = canvas.stripe(distance - per_pixel(radius), per_pixel(0.07 * radius))
            inner = canvas.stripe(distance - per_pixel(0.86 * radius), per_pixel(0.07 * radius))
            spot = canvas.distance(x + 0.5 * radius * light_x, y + 0.5 * radius * light_y)
            spot = canvas.beyond(per_pixel(0.17 * radius) - spot) * (0.34 * per_pixel(radius) / canvas.pixel).clamp(
                max=1
            )
            dark = torch.maximum(dark, 0.55 * shown * rim)
            bright = torch.maximum(bright, torch.maximum(shown * inner * (0.25 + 0.75 * facing), 1.4 * shown * spot))
        images = shade(images, -dark[:, None])
        return paint(images, bright.clamp_(max=1.0), constant(WHITE, draw.device).expand(draw.n, 3))


@dataclass
class Highlights(ImageTransform):
    """Adds specular highlights: small white spots with soft edges, in up to three clusters.

    Args:
        number: the greatest number of spots; its whole part counts.
        radius: the median radius, as a share of the shorter side.
        strength: how white the whitest spots are; 1 is white.
    """

    order: ClassVar[float | tuple[float, ...]] = 7.0

    number: float = parameter(20, low=1, high=256)
    radius: float = parameter(0.006, low=0.0005, high=0.5)
    strength: float = parameter(0.9, high=1.0)

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """The images with 1 to `number` spots."""
        canvas = Canvas.of(images)
        most = int(self.number)
        count = draw.uniform(1, most + 1).floor()
        angle = draw.uniform(-math.pi / 2, math.pi / 2)
        clusters = draw.uniform(-1, 1, (3, 2))
        spread = draw.uniform(0.03, 0.2)
        scatter = draw.normal(shape=(most, 4))
        strength = draw.uniform(0.3, 1.0, (most,))

        dull = torch.ones(draw.n, len(canvas.y), canvas.x.shape[1], device=draw.device)
        for i in range(most):
            off_x, off_y, turn, size = scatter[:, i].unbind(-1)
            x = clusters[:, i % 3, 0] * canvas.half_width + spread * off_x
            y = clusters[:, i % 3, 1] * canvas.half_height + spread * off_y
            along, across = canvas.turned(x, y, angle + 0.4 * turn)
            radius = self.radius * (0.5 * size).exp2()
            # What a pixel sees of a small spot: it is as wide as spot and pixel together, and as much paler.
            long, short = (per_pixel((r.square() + (canvas.pixel / 3) ** 2).sqrt()) for r in (1.8 * radius, radius))
            peak = per_pixel(1.8 * radius.square()) / (long * short)
            glow = (-((along / long).square() + (across / short).square())).exp_()
            dull *= 1 - per_pixel(self.strength * strength[:, i] * (i < count)) * (2.5 * peak * glow).clamp_(max=1.0)
        return paint(images, 1 - dull, constant(WHITE, draw.device).expand(draw.n, 3))
