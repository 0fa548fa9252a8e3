"""`diff-color`, `diff-translation`, `diff-cutout`: the policies of DiffAugment (Zhao et al. 2020, arXiv 2006.10738)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from adaflow import Draw, ImageTransform, hookimpl

if TYPE_CHECKING:
    from adaflow.core.augment.transform import Transform
    from adaflow.plugin_manager import Register


@dataclass
class DiffColor(ImageTransform):
    """Another brightness, then another saturation, then another contrast.

    Args:
        brightness: what is added is uniform in ± this, for images in [−1, 1].
        saturation: the distance from the mean of the channels is multiplied by 1 ± this.
        contrast: the distance from the mean of the image is multiplied by 1 ± this.
    """

    order: ClassVar[float | tuple[float, ...]] = 20.0

    brightness: float = 0.5
    saturation: float = 1.0
    contrast: float = 0.5

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """[N, C, H, W]; a grey image has no saturation to change."""

        def factor(range_: float) -> Tensor:
            return draw.uniform(1 - range_, 1 + range_, shape=(1, 1, 1)).to(images)

        images = images + draw.uniform(-self.brightness, self.brightness, shape=(1, 1, 1)).to(images)
        grey = images.mean(1, keepdim=True)
        images = grey + (images - grey) * factor(self.saturation)
        mean = images.mean((1, 2, 3), keepdim=True)
        return mean + (images - mean) * factor(self.contrast)


@dataclass
class DiffTranslation(ImageTransform):
    """Moves the image by whole pixels; what comes in is grey.

    Args:
        ratio: the greatest distance along each axis, as a share of the size.
    """

    order: ClassVar[float | tuple[float, ...]] = 21.0

    ratio: float = 0.125

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """[N, C, H, W]."""
        n, _, height, width = images.shape
        down = self._pixels(draw, height)
        right = self._pixels(draw, width)
        rows = torch.arange(height, device=images.device) - down[:, None]
        columns = torch.arange(width, device=images.device) - right[:, None]
        inside = _within(rows, height)[:, None, :, None] & _within(columns, width)[:, None, None, :]
        image = torch.arange(n, device=images.device)[:, None, None]
        moved = images.permute(0, 2, 3, 1)[
            image, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]
        ]
        return moved.permute(0, 3, 1, 2) * inside

    def _pixels(self, draw: Draw, size: int) -> Tensor:
        """[n] int64, uniform among the whole numbers that are no further from 0 than allowed."""
        most = int(size * self.ratio + 0.5)
        return draw.integers(2 * most + 1) - most


@dataclass
class DiffCutout(ImageTransform):
    """Fills a rectangle with grey.

    Args:
        ratio: its height and width, as a share of the image's.
    """

    order: ClassVar[float | tuple[float, ...]] = 22.0

    ratio: float = 0.5

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """[N, C, H, W]; the middle may lie anywhere in the image, so part of the rectangle may lie outside."""
        rows, columns = (self._covered(draw, size, images.device) for size in images.shape[2:])
        return images * ~(rows[:, None, :, None] & columns[:, None, None, :])

    def _covered(self, draw: Draw, size: int, device: torch.device) -> Tensor:
        """[n, size] bool."""
        length = int(size * self.ratio + 0.5)
        first = draw.integers(size + 1 - length % 2) - length // 2
        place = torch.arange(size, device=device) - first[:, None]
        return _within(place, length)


def _within(places: Tensor, size: int) -> Tensor:
    return (places >= 0) & (places < size)


@hookimpl
def register_augmentations(register: Register[type[Transform]]) -> None:
    """Offer the three, and `diffaugment` for all of them."""
    register("diff-color", DiffColor)
    register("diff-translation", DiffTranslation)
    register("diff-cutout", DiffCutout)
    register.alias("diffaugment", "diff-color,diff-translation,diff-cutout")
