"""Drawing on a batch of images: points of the image plane, antialiased shapes, opaque and transparent colour.

Lengths are shares of the image's shorter side, measured from the centre, x to the right and y down, so that a shape
looks the same at every resolution. Shapes are given by distances, and a pixel takes the share of it that a shape
covers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adaflow.core.draw import Draw

WAVES = 5


@dataclass(frozen=True)
class Canvas:
    """The pixels of images as points of the plane.

    Args:
        x: [1, W] float32, of the centres of pixels.
        y: [H, 1] float32.
        pixel: the side of a pixel.
    """

    x: Tensor
    y: Tensor
    pixel: float

    @classmethod
    def of(cls, images: Tensor) -> Canvas:
        """The plane of images [N, C, H, W]."""
        height, width = images.shape[2:]
        pixel = 1.0 / min(height, width)
        x = (torch.arange(width, device=images.device) - (width - 1) / 2) * pixel
        y = (torch.arange(height, device=images.device) - (height - 1) / 2) * pixel
        return cls(x[None, :], y[:, None], pixel)

    @property
    def half_width(self) -> float:
        """Half the width of the images: 0.5 where they are not wider than high."""
        return self.x.shape[1] * self.pixel / 2

    @property
    def half_height(self) -> float:
        """Half the height of the images: 0.5 where they are not higher than wide."""
        return self.y.shape[0] * self.pixel / 2

    def turned(self, x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates along and across an axis.

        Args:
            x, y: [n], where they are 0.
            angle: [n] in radians, from the x axis to the y axis.

        Returns:
            [n, H, W], [n, H, W].
        """
        dx, dy = self.x - per_pixel(x), self.y - per_pixel(y)
        cos, sin = per_pixel(angle.cos()), per_pixel(angle.sin())
        return cos * dx + sin * dy, cos * dy - sin * dx

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """[n, H, W]: of every pixel from the points (x, y), [n] each; at least a hundredth of a pixel."""
        squared = (self.x - per_pixel(x)).square() + (self.y - per_pixel(y)).square()
        return squared.clamp_(min=(0.01 * self.pixel) ** 2).sqrt_()

    def beyond(self, distance: Tensor, edge: float | Tensor = 0.0) -> Tensor:
        """The share of each pixel where `distance`, a length that grows by 1 a unit of length, is positive.

        Args:
            distance: [n, H, W].
            edge: width of a soft edge; it is at least a pixel wide.
        """
        if isinstance(edge, Tensor):
            return (distance / edge.clamp(min=self.pixel) + 0.5).clamp_(0.0, 1.0)
        return (distance / max(edge, self.pixel) + 0.5).clamp_(0.0, 1.0)

    def stripe(self, distance: Tensor, half_width: Tensor) -> Tensor:
        """The share of each pixel in a stripe, which may be much finer than a pixel.

        Args:
            distance: [n, H, W] from the middle of the stripe, of any sign.
            half_width: of a shape that broadcasts.
        """
        half = self.pixel / 2
        left, right = distance - half, distance + half
        return (right.clamp(-half_width, half_width) - left.clamp(-half_width, half_width)) / self.pixel

    def comb(self, along: Tensor, spacing: Tensor, half_width: Tensor) -> Tensor:
        """The share of each pixel in stripes at all whole multiples of `spacing`, which may be finer than a pixel.

        Args:
            along: [n, H, W].
            spacing, half_width: of a shape that broadcasts.
        """

        def covered_until(point: Tensor) -> Tensor:
            number = (point / spacing).round()
            return 2 * half_width * number + (point - number * spacing).clamp(-half_width, half_width)

        half = self.pixel / 2
        return (covered_until(along + half) - covered_until(along - half)) / self.pixel

    def mottle(self, draw: Draw, wave_length: float) -> Tensor:
        """[n, H, W]: a smooth random pattern of mean 0 and standard deviation 1.

        Args:
            draw: numbers for n images.
            wave_length: the shortest of its waves; the longest is three times as long.
        """
        numbers = draw.unit((WAVES, 3))
        pattern = torch.zeros(draw.n, len(self.y), self.x.shape[1], device=draw.device)
        for direction, length, phase in (numbers[:, i].unbind(-1) for i in range(WAVES)):
            frequency = 2 * math.pi / (wave_length * (1 + 2 * length))
            along = per_pixel(frequency * (math.pi * direction).cos()) * self.x
            across = per_pixel(frequency * (math.pi * direction).sin()) * self.y
            pattern += (along + (across + per_pixel(2 * math.pi * phase))).sin_()
        return pattern.mul_(math.sqrt(2 / WAVES))


def per_pixel(numbers: Tensor) -> Tensor:
    """[n, 1, 1]: a number an image, to meet its pixels."""
    return numbers.view(-1, 1, 1)


def paint(images: Tensor, cover: Tensor, colour: Tensor) -> Tensor:
    """Lay an opaque colour over images. Where `cover` is 0 they stay the same bit for bit.

    Args:
        images: [n, C, H, W].
        cover: [n, H, W], the share of each pixel that is covered.
        colour: [n, 3] or [n, 3, H, W], red, green and blue from 0 (black) to 1.
    """
    if colour.dim() == 2:
        colour = colour[:, :, None, None]

    def over(seen: Tensor) -> Tensor:
        return torch.lerp(seen, for_channels(2 * colour - 1, seen).expand_as(seen), cover[:, None].to(seen.dtype))

    return on_colours(images, over)


def shade(images: Tensor, change: Tensor) -> Tensor:
    """Multiply the brightness of images, which is 0 for black. Where `change` is 0 they stay the same bit for bit.

    Args:
        images: [n, C, H, W].
        change: [n, 1, H, W] or [n, 3, H, W], the factor minus 1.
    """
    return on_colours(images, lambda seen: seen + (seen + 1) * for_channels(change, seen))


def on_colours(images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Images with their colours changed: all channels, but of four the fourth is left alone, as the pipeline does.

    16-bit images are computed in float32.
    """
    wide = images.to(torch.promote_types(images.dtype, torch.float32))
    if images.shape[1] == 4:
        return torch.cat((change(wide[:, :3]).to(images.dtype), images[:, 3:]), dim=1)
    return change(wide).to(images.dtype)


def for_channels(colour: Tensor, images: Tensor) -> Tensor:
    """[n, 3, …] as it is for images of three channels, its average [n, 1, …] for others; of the images' type."""
    colour = colour if images.shape[1] == 3 else colour.mean(dim=1, keepdim=True)
    return colour.to(images.dtype)
