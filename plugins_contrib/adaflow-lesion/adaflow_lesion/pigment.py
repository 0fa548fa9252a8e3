"""`lesion-pigment`: more or less melanin and blood in the skin.

A pigment multiplies the light that passes it, so pigments add up in optical density, the negative logarithm of
intensity. A colour of the skin is a sum of melanin, haemoglobin and shade, which is grey (Tsumura et al. 1999,
"Independent-component analysis of skin color image", JOSA A 16; Tsumura et al. 2003, "Image-based skin color and
texture analysis/synthesis by extracting hemoglobin and melanin information in the skin", SIGGRAPH). They find the axes
in each photograph by independent component analysis; here they are fixed, with numbers that are not from the papers.

The axis of melanin was measured for this package: the median difference in optical density between the middle and the
surroundings of 606 lesions of ISIC 2017, blue being 1. That of haemoglobin was chosen: the greatest absorption in
green, a little less in blue, nearly none in red, so that blood looks red. Neither is calibrated, and both are axes of
display values, not of light.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from adaflow import Draw, ImageTransform
from adaflow.core.augment.colors import is_rgb
from adaflow.core.augment.matrices import constant
from adaflow.core.augment.transform import parameter
from adaflow_lesion.canvas import shade

# Optical densities of red, green and blue.
MELANIN = (0.31, 0.75, 1.0)
HAEMOGLOBIN = (0.12, 1.0, 0.82)
SHADE = (1.0, 1.0, 1.0)
# Below this intensity, of white, the logarithm is bent so that it stays finite.
FLOOR = 0.02
# No density changes by more than this: a factor of 20 on the intensity. Changes far below it are hardly bent.
GREATEST_CHANGE = 3.0


@dataclass
class Pigment(ImageTransform):
    """Gives the skin more or less melanin and haemoglobin: scales the density of each and adds to it.

    Black stays black. Images without three colours are left alone.

    Args:
        melanin: standard deviation of the binary logarithm of the factor on the density of melanin.
        haemoglobin: the same for haemoglobin.
        melanin_added: standard deviation of the density that is added, as a natural logarithm in blue light.
        haemoglobin_added: the same for haemoglobin, in green light.
    """

    order: ClassVar[float | tuple[float, ...]] = 1.0

    melanin: float = parameter(0.2, high=4.0)
    haemoglobin: float = parameter(0.2, high=4.0)
    melanin_added: float = parameter(0.04, high=4.0)
    haemoglobin_added: float = parameter(0.04, high=4.0)

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """The images with other densities of the two pigments."""
        scale = torch.stack((draw.lognormal2(self.melanin), draw.lognormal2(self.haemoglobin)), dim=1)
        added = torch.stack((draw.normal(self.melanin_added), draw.normal(self.haemoglobin_added)), dim=1)
        return shift_pigments(images, scale, added)


def shift_pigments(images: Tensor, scale: Tensor, added: Tensor) -> Tensor:
    """Images with the densities of melanin and haemoglobin scaled and added to.

    Args:
        images: [n, C, H, W] in [-1, 1]; without three colours they are returned as they are.
        scale: [n, 2], the factor on the density of each pigment.
        added: [n, 2], what is added to it after that.

    Returns:
        [n, C, H, W]. With factors 1 and nothing added they are the same bit for bit.
    """
    if not is_rgb(images.shape[1]):
        return images
    colours = images[:, :3].to(torch.promote_types(images.dtype, torch.float32))
    axes = constant(MELANIN + HAEMOGLOBIN, images.device).to(colours.dtype).view(2, 3)
    unmix = constant(_unmixing(), images.device).to(colours.dtype).view(2, 3)
    densities = (unmix[:, :, None, None] * optical_density((colours + 1) / 2)[:, None]).sum(2)
    more = (scale - 1).to(colours.dtype)[:, :, None, None] * densities + added.to(colours.dtype)[:, :, None, None]
    density = (axes[:, :, None, None] * more[:, :, None]).sum(1)
    bounded = GREATEST_CHANGE * (density / GREATEST_CHANGE).tanh()
    return shade(images, (-bounded).expm1())


def optical_density(intensity: Tensor) -> Tensor:
    """The negative logarithm of an intensity, bent smoothly near 0: finite, and with all derivatives, everywhere."""
    return -((intensity + (intensity.square() + 4 * FLOOR**2).sqrt()) / 2).log()


@cache
def _unmixing() -> tuple[float, ...]:
    """[2 · 3]: from optical densities to those of melanin and haemoglobin; the third component, shade, is left out."""
    axes = torch.tensor((MELANIN, HAEMOGLOBIN, SHADE), dtype=torch.float64)
    return tuple(torch.linalg.inv(axes.T)[:2].flatten().tolist())
