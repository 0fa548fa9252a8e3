"""`lesion-lensblur`: the image out of focus."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adaflow import Draw, ImageTransform
from adaflow.core.augment.transform import parameter

POINTS = 400


@dataclass
class LensBlur(ImageTransform):
    """Blurs with a disc, as a lens out of focus does. The image is reflected beyond its borders.

    Args:
        radius: the greatest radius of the disc, as a share of the shorter side. Fractions of a pixel blur a
            little.
    """

    order: ClassVar[float | tuple[float, ...]] = 10.0

    radius: float = parameter(0.015, high=0.25)

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """The images blurred, each with a radius uniform up to the greatest."""
        size = min(images.shape[2:])
        reach = min(math.ceil(self.radius * size), size - 1)
        return blur(images, draw.uniform(0, self.radius) * size, reach)


def blur(images: Tensor, radius: Tensor, reach: int) -> Tensor:
    """The average of images over discs.

    Args:
        images: [n, C, H, W].
        radius: [n] in pixels.
        reach: a whole number of pixels that no radius exceeds, less than H and W.

    Returns:
        [n, C, H, W]. 16-bit images are computed in float32.
    """
    wide = images.to(torch.promote_types(images.dtype, torch.float32))
    padded = _reflected(_reflected(wide, reach).mT, reach).mT
    height, width = padded.shape[2:]
    kernels = torch.fft.rfft2(disc_kernels(radius.to(wide.dtype), reach), s=(height, width))
    blurred: Tensor = torch.fft.irfft2(torch.fft.rfft2(padded) * kernels[:, None], s=(height, width))
    return blurred[:, :, 2 * reach :, 2 * reach :].to(images.dtype)


def disc_kernels(radius: Tensor, reach: int) -> Tensor:
    """[n, 2·reach + 1, 2·reach + 1]: weights of the pixels around one in the average over a disc.

    The image between pixels is interpolated bilinearly, so the kernel is a smooth function of the radius: for radius 0
    it is 1 in the middle and 0 elsewhere. Weights are positive and their sum is 1.
    """
    # Points of equal share, on a sunflower's spiral.
    number = torch.arange(POINTS, device=radius.device, dtype=radius.dtype) + 0.5
    distance, angle = (number / POINTS).sqrt(), number * (math.pi * (3 - math.sqrt(5)))
    offsets = torch.arange(-reach, reach + 1, device=radius.device, dtype=radius.dtype)
    x, y = (
        (1 - (offsets - radius[:, None, None] * (distance * turn)[:, None]).abs()).clamp_(min=0.0)
        for turn in (angle.cos(), angle.sin())
    )
    return y.mT @ x / POINTS


def _reflected(images: Tensor, reach: int) -> Tensor:
    """Images continued by `reach` pixels on the left and on the right."""
    if reach == 0:
        return images
    return torch.cat((images[..., 1 : reach + 1].flip(-1), images, images[..., -reach - 1 : -1].flip(-1)), dim=-1)
