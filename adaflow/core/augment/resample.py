"""Geometry: resampling of images under an affine map, and the exact copy where the map only moves pixels.

Resampling is linear and, but for the lookup in the middle, separable: y = D · lookup(U · x · Uᵀ) · Dᵀ. U reflects the
image at its borders without end and doubles the resolution with the sym6 low-pass; D halves it with the same low-pass
(arXiv 2006.06676, App. B). The reflected image is periodic with the period 2(size - 1), so U makes one period and the
points of the lookup are folded into it.

Tap 5, the greatest of sym6, counts as the middle of the filter: the samples of both grids then lie at the centres of
pixels and halfway between them.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from adaflow.core.augment.wavelets import sym6_lowpass
from adaflow.cuda.grid_sample import grid_sample

MIDDLE = 5
# A map within this distance of whole pixels is one.
WHOLE_PIXEL = 1e-3


def resample(images: Tensor, inverse: Tensor) -> Tensor:
    """Images under an affine map, antialiased, reflected beyond their borders.

    Args:
        images: [N, C, H, W].
        inverse: [N, 3, 3] float32, from output to input, in pixels from the centre, x right, y down.

    Returns:
        [N, C, H, W], differentiable in `images` to any order. 16-bit images are computed in float32.
    """
    n, _, height, width = images.shape
    dtype = torch.promote_types(images.dtype, torch.float32)
    index_map = pixel_index_map(inverse.to(dtype), height, width)
    up_y, up_x = (upsampling(size, dtype, images.device) for size in (height, width))
    down_y, down_x = (downsampling(size, dtype, images.device) for size in (height, width))

    x = (torch.arange(down_x.shape[1], device=images.device, dtype=dtype) - MIDDLE) / 2
    y = (torch.arange(down_y.shape[1], device=images.device, dtype=dtype) - MIDDLE) / 2
    grid = torch.empty(n, len(y), len(x), 2, device=images.device, dtype=dtype)
    for axis, up in enumerate((up_x, up_y)):
        along_x, along_y, offset = (index_map[:, axis, i, None, None] for i in range(3))
        # Half pixels, folded into one period, in units of half a period.
        period = len(up) - 1
        point = (2 * along_x) * x + ((2 * along_y) * y[:, None] + 2 * offset)
        grid[..., axis] = point.remainder_(period).mul_(2 / period).sub_(1)

    upsampled = up_y @ (images.to(dtype) @ up_x.T)
    return (down_y @ grid_sample(upsampled, grid) @ down_x.T).to(images.dtype)


def copy_pixels(images: Tensor, inverse: Tensor) -> Tensor:
    """Images under a map that only moves whole pixels, exactly, reflected beyond their borders.

    Arguments and result as for `resample`.
    """
    n, channels, height, width = images.shape
    index_map = pixel_index_map(inverse, height, width).round().long()
    x = torch.arange(width, device=images.device)
    y = torch.arange(height, device=images.device)[:, None]
    column, row = (
        reflect(
            index_map[:, axis, 0, None, None] * x
            + index_map[:, axis, 1, None, None] * y
            + index_map[:, axis, 2, None, None],
            size,
        )
        for axis, size in enumerate((width, height))
    )
    source = (row * width + column).view(n, 1, -1).expand(-1, channels, -1)
    return images.flatten(2).gather(2, source).view_as(images)


def moves_whole_pixels(inverse: Tensor, height: int, width: int) -> Tensor:
    """[N] bool: whether each map takes pixels of this grid to pixels. Arguments as for `resample`."""
    index_map = pixel_index_map(inverse, height, width)
    return ((index_map - index_map.round()).abs() < WHOLE_PIXEL).flatten(1).all(1)


def pixel_index_map(inverse: Tensor, height: int, width: int) -> Tensor:
    """[N, 3, 3]: the map from column and row of the output to those of the input, counted from 0."""
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=inverse.device, dtype=inverse.dtype)
    index_map = inverse.clone()
    index_map[:, :2, 2] += centre - inverse[:, :2, :2] @ centre
    return index_map


def reflect(index: Tensor, size: int) -> Tensor:
    """Pixel indices of any size, folded into 0 … size - 1 by reflection at the centres of the outermost pixels."""
    period = max(2 * (size - 1), 1)
    folded = index.remainder(period)
    return torch.minimum(folded, period - folded)


@lru_cache(maxsize=64)
def upsampling(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[4·size - 3, size]: one period of the reflected signal at the half pixels 0, ½, 1 … of a signal [size]."""
    with torch.inference_mode(False):
        taps = torch.from_numpy(sym6_lowpass())
        matrix = torch.zeros(max(4 * (size - 1), 1) + 1, size, dtype=torch.float64)
        rows = torch.arange(len(matrix))
        for tap, weight in enumerate(taps):
            # Zeros stand between the pixels; twice the weight makes up for them.
            position = rows + MIDDLE - tap
            on_pixel = position % 2 == 0
            pixel = reflect(position[on_pixel] // 2, size)
            matrix.index_put_((rows[on_pixel], pixel), 2 * weight, accumulate=True)
        return matrix.to(device, dtype)


@lru_cache(maxsize=64)
def downsampling(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[size, 2·size + 10]: pixels from samples at half pixels, the first of them at -2½."""
    with torch.inference_mode(False):
        taps = torch.from_numpy(sym6_lowpass())
        matrix = torch.zeros(size, 2 * size + len(taps) - 2, dtype=torch.float64)
        for pixel in range(size):
            matrix[pixel, 2 * pixel : 2 * pixel + len(taps)] = taps
        return matrix.to(device, dtype)
