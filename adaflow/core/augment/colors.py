"""Colour: one affine map of the colours of each image."""

from __future__ import annotations

import torch
from torch import Tensor


def is_rgb(channels: int) -> bool:
    """Whether images of so many channels have colours: RGB, or RGB and one more."""
    return channels in (3, 4)


def map_colors(images: Tensor, matrix: Tensor) -> Tensor:
    """Images under a map of their colours.

    Without RGB, every channel goes where the map takes the average of the three colours of a grey of that value.

    Args:
        images: [N, C, H, W].
        matrix: [N, 4, 4] float32, of colours as (r, g, b, 1).

    Returns:
        [N, C, H, W].
    """
    channels = images.shape[1]
    matrix = matrix.to(images.dtype)
    if is_rgb(channels):
        rgb = images[:, :3].flatten(2)
        mapped = torch.baddbmm(matrix[:, :3, 3:], matrix[:, :3, :3], rgb).view(-1, 3, *images.shape[2:])
        return mapped if channels == 3 else torch.cat((mapped, images[:, 3:]), dim=1)
    grey = matrix[:, :3].mean(dim=1)
    return images * grey[:, :3].sum(dim=1).view(-1, 1, 1, 1) + grey[:, 3].view(-1, 1, 1, 1)
