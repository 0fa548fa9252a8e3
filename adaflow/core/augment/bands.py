"""The image filter: gains for four octaves of the spectrum, one filter per image (arXiv 2006.06676, App. B)."""

from __future__ import annotations

from functools import cache, lru_cache

import torch
from torch import Tensor

from adaflow.core.augment.matrices import constant
from adaflow.core.augment.resample import reflect
from adaflow.core.augment.wavelets import band_filters

BANDS = 4
# Expected power of natural images (1/f) in the four bands.
POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)


def normalised_gains(band: int, gain: Tensor) -> Tensor:
    """The gains of all bands when one of them is amplified and the expected power stays the same.

    Args:
        band: the number of the amplified band.
        gain: [n], its gain.

    Returns:
        [n, 4].
    """
    gains = torch.ones(len(gain), BANDS, device=gain.device)
    gains[:, band] = gain
    # Sums, not matrix products, of which GPUs may round the factors.
    return gains / (gains.square() * constant(POWER, gain.device)).sum(-1, keepdim=True).sqrt()


def filter_bands(images: Tensor, gains: Tensor) -> Tensor:
    """Images with their bands amplified along both axes, reflected beyond their borders.

    Args:
        images: [N, C, H, W].
        gains: [N, 4], the lowest band first.

    Returns:
        [N, C, H, W]. 16-bit images are computed in float32.
    """
    dtype = torch.promote_types(images.dtype, torch.float32)
    along_y, along_x = (
        (gains.to(dtype) @ band_matrices(size, dtype, images.device)).view(-1, 1, size, size)
        for size in images.shape[-2:]
    )
    return (along_y @ images.to(dtype) @ along_x.mT).to(images.dtype)


def band_taps(gains: Tensor) -> Tensor:
    """[N, 43] float32: the filter of each image as `filter_bands` uses it. `gains`: [N, 4]."""
    return (gains[:, :, None] * filters(gains.device)).sum(1)


@lru_cache(maxsize=64)
def band_matrices(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[4, size·size]: each band's filter as a matrix [size, size] on a reflected signal."""
    filters = torch.from_numpy(band_filters().copy())
    matrices = torch.zeros(BANDS, size, size, dtype=torch.float64)
    rows = torch.arange(size)
    for tap, weights in enumerate(filters.T):
        pixels = reflect(rows + tap - filters.shape[1] // 2, size)
        for matrix, weight in zip(matrices, weights, strict=True):
            matrix.index_put_((rows, pixels), weight, accumulate=True)
    return matrices.flatten(1).to(device, dtype)


@cache  # for the life of the process: CUDA graphs read it where it is
def filters(device: torch.device) -> Tensor:
    """[4, 43] float32, the filters of the bands."""
    with torch.inference_mode(False):
        return torch.from_numpy(band_filters().copy()).to(device, torch.float32)
