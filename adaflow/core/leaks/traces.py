"""The traces of an image: statistics of its pixels, and of the first stages of a network that knows natural images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adaflow.core.leaks.distortions import reduced
from adaflow.core.leaks.statistics import statistics

BATCH = 100

Stages = Callable[[Tensor], list[Tensor]]
"""uint8 images [N, C, H, W] → maps [N, c, h, w] of some stages of a network."""


def traces(images: Tensor, stages: Stages) -> Tensor:
    """Numbers of images in which augmentations show.

    Args:
        images: uint8 [N, C, H, W].
        stages: of a feature extractor.

    Returns:
        float32 [N, D] on the CPU: statistics, then mean, deviation and middle-against-rim of every map.
    """
    with torch.inference_mode():
        parts = [_batch(images[start : start + BATCH], stages) for start in range(0, len(images), BATCH)]
    return torch.cat(parts)


def _batch(images: Tensor, stages: Stages) -> Tensor:
    images = reduced(images)
    parts = [statistics(images)]
    for maps in stages(images):
        maps = maps.float()
        middle = _middle_against_rim(*maps.shape[2:]).to(maps.device)
        for part in (maps.mean((2, 3)), maps.std((2, 3), correction=0), (maps * middle).sum((2, 3))):
            parts.append(part.cpu())
    return torch.cat(parts, 1)


def _middle_against_rim(height: int, width: int) -> Tensor:
    y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    middle = ((y * y + x * x).sqrt() < 0.7).float()
    return middle / middle.sum().clamp(min=1) - (1 - middle) / (1 - middle).sum().clamp(min=1)
