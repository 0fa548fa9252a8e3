"""Numbers of an image in which augmentations leave traces: colours, frequencies, layout, flat areas, noise.

All are computed at the size of the image, in luma and two chroma axes. What can only be positive is a logarithm. The
numbers are for a probe that learns what they mean; none is a verdict.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from adaflow.core.leaks.borders import border_mirrors, turned_border_mirrors

LEVELS = 4
"""Octaves of the pyramid."""


def statistics(images: Tensor) -> Tensor:
    """Statistics of images.

    Args:
        images: uint8 [N, C, H, W], at least 32 pixels high and wide. Of other than three channels the mean is taken.

    Returns:
        float32 [N, D].
    """
    rgb = images.float() / 255
    if rgb.shape[1] != 3:
        rgb = rgb.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    opponent = to_opponent(rgb)
    groups = (
        colours(rgb, opponent),
        frequencies(opponent),
        layout(opponent),
        border_mirrors(opponent[:, :1]),
        turned_border_mirrors(opponent[:, :1]),
        flat_areas(rgb),
        noise_floor(opponent),
    )
    return torch.cat(groups, 1)


def to_opponent(rgb: Tensor) -> Tensor:
    """Luma, red against green, both against blue: an orthonormal turn of the colour space [N, 3, H, W]."""
    axes = torch.tensor([[1.0, 1, 1], [1, -1, 0], [1, 1, -2]])
    return torch.einsum("ij,njhw->nihw", axes / axes.norm(dim=1, keepdim=True), rgb)


def colours(rgb: Tensor, opponent: Tensor) -> Tensor:
    """Moments, quantiles, hues, and how much is clipped."""
    values = opponent.flatten(2)
    mean = values.mean(2)
    centred = values - mean[:, :, None]
    variance = centred.square().mean(2) + 1e-6
    z = centred / variance.sqrt()[:, :, None]
    correlations = torch.stack([(z[:, i] * z[:, j]).mean(1) for i, j in ((0, 1), (0, 2), (1, 2))], 1)
    luma = _quantiles(values[:, 0], (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99))

    chroma = values[:, 1:]
    saturation = chroma.square().sum(1).sqrt()
    total = saturation.sum(1, keepdim=True) + 1e-3
    hue = torch.atan2(chroma[:, 1], chroma[:, 0])
    bins = ((hue / (2 * math.pi) + 0.5) * 12).long().clamp_(0, 11)
    hues = torch.zeros(len(rgb), 12).scatter_add_(1, bins, saturation) / total

    pixels = rgb.flatten(2)
    clipped = torch.cat([(pixels < 1.5 / 255).float().mean(2), (pixels > 253.5 / 255).float().mean(2)], 1)
    return torch.cat(
        [
            mean,
            variance.log() / 2,
            z.pow(3).mean(2),
            (z.pow(4).mean(2) + 1e-3).log(),
            correlations,
            luma,
            _quantiles(saturation, (0.05, 0.5, 0.95)),
            (saturation.mean(1, keepdim=True) + 1e-3).log(),
            chroma.sum(2) / total,
            hues,
            (clipped + 1e-3).log(),
        ],
        1,
    )


def frequencies(opponent: Tensor) -> Tensor:
    """Energies of a Haar pyramid by octave and direction, how peaked they are, and their ratios between octaves."""
    parts: list[Tensor] = []
    x, last = opponent, None
    for _ in range(LEVELS):
        x = x[..., : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]
        a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
        bands = torch.stack([a - b + c - d, a + b - c - d, a - b - c + d], 2) / 2  # [N, 3, 3, H, W]
        energy = bands.square().mean((3, 4))
        luma = (energy[:, 0] + 1e-7).log()
        both = torch.cat([luma, (energy[:, 1:].mean(1) + 1e-7).log()], 1)
        peaked = 2 * (bands[:, 0].abs().mean((2, 3)) + 1e-4).log() - luma
        parts += [both, peaked]
        if last is not None:
            parts.append(both - last)
        last = both
        x = (a + b + c + d) / 4
    return torch.cat(parts, 1)


def layout(opponent: Tensor) -> Tensor:
    """Where it is dark, how lopsided, and how the middle differs from the rim."""
    luma = opponent[:, 0]
    h, w = luma.shape[1:]
    z = (luma - luma.mean((1, 2), keepdim=True)) / (luma.std((1, 2), keepdim=True) + 1e-3)
    centred = opponent[:, 1:] - opponent[:, 1:].mean((2, 3), keepdim=True)
    lopsided = torch.stack([(z - z.flip(2)).abs().mean((1, 2)), (z - z.flip(1)).abs().mean((1, 2))], 1)

    y, x = torch.linspace(-1, 1, h)[:, None], torch.linspace(-1, 1, w)
    dark = (-z).clamp(min=0)
    total = dark.sum((1, 2)) + 1e-3
    cy, cx = (dark * y).sum((1, 2)) / total, (dark * x).sum((1, 2)) / total
    yy = (dark * y * y).sum((1, 2)) / total - cy**2
    xx = (dark * x * x).sum((1, 2)) / total - cx**2
    xy = (dark * y * x).sum((1, 2)) / total - cy * cx
    elongated = ((xx - yy) ** 2 + 4 * xy**2).sqrt() / (xx + yy + 1e-3)
    moments = torch.stack([cy, cx, yy, xx, xy, (cy**2 + cx**2).sqrt(), elongated], 1)

    radius = (y * y + x * x).sqrt()
    rings = [(radius >= low) & (radius < high) for low, high in ((0, 0.4), (0.4, 0.8), (0.8, 1.0), (1.0, 1.5))]
    means = torch.stack([(opponent * ring).sum((2, 3)) / ring.sum() for ring in rings], 2)
    return torch.cat(
        [
            F.adaptive_avg_pool2d(z[:, None], 4).flatten(1),
            F.adaptive_avg_pool2d(centred, 2).flatten(1),
            lopsided,
            moments,
            (means[:, :, 1:] - means[:, :, :1]).flatten(1),
        ],
        1,
    )


def flat_areas(rgb: Tensor) -> Tensor:
    """How flat the flattest square of several sizes is, and how flat and grey the greyest."""
    grey = 127.5 / 255
    both = torch.cat([rgb, (rgb * rgb).mean(1, keepdim=True)], 1).double()
    sums = F.pad(both.cumsum(2).cumsum(3), (1, 0, 1, 0))
    found = []
    for fraction in (8, 5, 3, 2):
        k = max(rgb.shape[2] // fraction, 3)
        means = (sums[..., k:, k:] - sums[..., :-k, k:] - sums[..., k:, :-k] + sums[..., :-k, :-k]) / k**2
        colour, square = means[:, :3], means[:, 3]
        variance = square - colour.square().mean(1)
        distance = square - 2 * grey * colour.mean(1) + grey**2
        found += [(part.flatten(1).amin(1).clamp(min=0) + 1e-6).log() for part in (variance, distance)]
    return torch.stack(found, 1).float()


def noise_floor(opponent: Tensor) -> Tensor:
    """Energy of the finest diagonal differences in quiet, usual and busy blocks, and whether channels share it."""
    x = opponent
    fine = (x[..., :-1, :-1] - x[..., 1:, :-1] - x[..., :-1, 1:] + x[..., 1:, 1:]) / 2
    blocks = F.avg_pool2d(fine.square(), x.shape[2] // 8).flatten(2).sort(2).values
    count = blocks.shape[2]
    quiet, usual, busy = ((blocks[:, :, i] + 1e-7).log() for i in (count // 10, count // 2, count - 1 - count // 10))
    size = fine.square().mean((2, 3)).sqrt() + 1e-4
    shared = [(fine[:, i] * fine[:, j]).mean((1, 2)) / (size[:, i] * size[:, j]) for i, j in ((0, 1), (1, 2))]
    return torch.cat([quiet, usual, busy, torch.stack(shared, 1), quiet[:, 1:] - quiet[:, :1]], 1)


def _quantiles(values: Tensor, levels: tuple[float, ...]) -> Tensor:
    """[N, len(levels)], without interpolation."""
    ordered = values.sort(1).values
    places = (torch.tensor(levels) * (values.shape[1] - 1)).round().long()
    return ordered[:, places]
