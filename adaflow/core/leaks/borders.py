"""Mirrored borders: where an augmentation moved an image, it reflected the image into the gap.

A mirror line is found by correlating what lies beyond it with the reflection of what lies inside. Images are blurred
a little first, or the checkerboard of a generator would be taken for a mirror.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from adaflow.core.leaks.distortions import blur

DEEPEST = 14 / 64
"""The farthest mirror line from the border that is looked for, as a part of the image."""

ANGLES = tuple(math.pi / 2 * k / 16 for k in range(2, 15))
"""Angles of turned borders."""


def border_mirrors(luma: Tensor) -> Tensor:
    """Of the lines parallel to each side, how much the best looks like a mirror, and where it is.

    Args:
        luma: [N, 1, H, W].

    Returns:
        [N, 13]: for each side, the same in ascending order, their mean, places.
    """
    x = blur(luma, torch.full((len(luma),), 0.7))[:, 0]
    found = [_side(view) for view in (x, x.flip(2), x.transpose(1, 2), x.flip(1).transpose(1, 2))]
    value, place = torch.stack([v for v, _ in found], 1), torch.stack([p for _, p in found], 1)
    return torch.cat([value, value.sort(1).values, value.mean(1, keepdim=True), place], 1)


def _side(x: Tensor) -> tuple[Tensor, Tensor]:
    """The best mirror line near the left side: Fisher's z of the correlation times √columns, and its place, 0 … 1."""
    across, along = _products_of_columns(x.diff(dim=2)), _products_of_columns(x.diff(dim=1))
    scores = []
    # A line at half of `twice` pixels exchanges columns i and twice − i; differences across it change their sign.
    for twice in range(4, 2 * _deepest(x.shape[2])):
        i, j = torch.arange((twice + 1) // 2), torch.arange(twice // 2)
        mirrored_i, mirrored_j = twice - i, twice - 1 - j
        product = along[:, i, mirrored_i].sum(1) - across[:, j, mirrored_j].sum(1)
        outside = along[:, i, i].sum(1) + across[:, j, j].sum(1)
        inside = along[:, mirrored_i, mirrored_i].sum(1) + across[:, mirrored_j, mirrored_j].sum(1)
        scores.append(_fisher(product / ((outside * inside).sqrt() + 1e-5)) * math.sqrt(len(i)))
    best = torch.stack(scores, 1).max(1)
    return best.values, best.indices / len(scores)


def _products_of_columns(x: Tensor) -> Tensor:
    """Of the columns near the left side, the sums of products of every two. [N, H, W] → [N, K, K]"""
    columns = x[:, :, : 2 * _deepest(x.shape[2])]
    return columns.transpose(1, 2) @ columns


def _deepest(width: int) -> int:
    return round(DEEPEST * width)


def turned_border_mirrors(luma: Tensor) -> Tensor:
    """Whether the corners mirror the inside across borders that were turned about the middle of the image.

    Args:
        luma: [N, 1, H, W].

    Returns:
        [N, 4]: the two best of all angles, the mean, the best above the mean.
    """
    n, _, h, w = luma.shape
    sigma = torch.ones(n)
    pixels = (blur(luma, 0.7 * sigma) - blur(luma, 2 * sigma)).flatten(1)
    scores = []
    for corners in _turned_corners(h, w):
        product = outside = inside = torch.zeros(n)
        count = 0
        for beyond, within in corners:
            a, b = _sample(pixels, *beyond), _sample(pixels, *within)
            product, outside, inside = product + _dot(a, b), outside + _dot(a, a), inside + _dot(b, b)
            count += a.shape[1]
        scores.append(_fisher(product / ((outside * inside).sqrt() + 1e-6)) * math.sqrt(count / 16))
    z = torch.stack(scores, 1)
    best, mean = z.topk(2, 1).values, z.mean(1, keepdim=True)
    return torch.cat([best, mean, best[:, :1] - mean], 1)


Samples = tuple[Tensor, Tensor]
"""Four pixels [4, K] around each of K points, and their weights."""


@lru_cache(maxsize=8)
def _turned_corners(height: int, width: int) -> list[list[tuple[Samples, Samples]]]:
    """For each angle and each of four borders, the pixels beyond it, and the points that they would mirror."""
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    y, x = torch.meshgrid(torch.arange(height) - middle_y, torch.arange(width) - middle_x, indexing="ij")
    angles = []
    for angle in ANGLES:
        borders = []
        for quarter in range(4):
            nx, ny = math.cos(angle + quarter * math.pi / 2), math.sin(angle + quarter * math.pi / 2)
            beyond = x * nx + y * ny - (min(height, width) / 2)
            chosen = beyond > 0.3
            px, py, depth = x[chosen], y[chosen], beyond[chosen]
            qx, qy = px - 2 * depth * nx, py - 2 * depth * ny
            there = (qx.abs() <= middle_x) & (qy.abs() <= middle_y)
            points = [(px[there], py[there]), (qx[there], qy[there])]
            first, second = (_bilinear(a + middle_x, b + middle_y, width, height) for a, b in points)
            borders.append((first, second))
        angles.append(borders)
    return angles


def _bilinear(x: Tensor, y: Tensor, width: int, height: int) -> Samples:
    left, top = x.floor().clamp(0, width - 2), y.floor().clamp(0, height - 2)
    fx, fy = x - left, y - top
    corner = (top * width + left).long()
    pixels = torch.stack([corner, corner + 1, corner + width, corner + width + 1])
    return pixels, torch.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy])


def _sample(pixels: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    return (pixels[:, places] * weights).sum(1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Of each image, the sum of products."""
    return (a * b).flatten(1).sum(1)


def _fisher(correlation: Tensor) -> Tensor:
    return torch.atanh(correlation.clamp(-0.999, 0.999))
