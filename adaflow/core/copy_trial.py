"""Copies made for a trial: would copies of training images among these fakes have been recognised?"""

from __future__ import annotations

import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from adaflow.core.copies import TURNS, as_grey, crop_line, turned
from adaflow.core.grid import to_pil

PLANTED = 60

MOST_FOR_DIRECTIONS = 1000
"""Principal directions are those of so many training images at most."""


def planted_copies(fakes: Tensor, reals: Tensor, train: Tensor, seed: int) -> Tensor:
    """Copies of training images, turned, cropped and encoded again, and as soft as the fakes are.

    Args:
        fakes: uint8 [N, C, H, W].
        reals: others than the training images, uint8 [M, C, H, W].
        train: uint8 [T, C, H, W].
        seed: of the draws.

    Returns:
        Grey uint8 [n, 1, h, h], at most 64 pixels high.
    """
    cpu = torch.device("cpu")
    return as_soft_as(*(as_grey(part, cpu) for part in (fakes, reals, train, plant(train, seed))))


def plant(train: Tensor, seed: int) -> Tensor:
    """Copies as a trial: some training images, each turned, cropped to 90 % and encoded as JPEG of quality 75."""
    generator = torch.Generator().manual_seed(seed)
    size, copies = train.shape[-1], []
    for place in torch.randperm(len(train), generator=generator)[:PLANTED].tolist():
        y, x = torch.rand(2, generator=generator).tolist()
        image = crop_line(size, size, 0.9, y) @ train[place].float() @ crop_line(size, size, 0.9, x).T
        image = turned(image, int(torch.randint(TURNS, (1,), generator=generator)))
        file = io.BytesIO()
        to_pil(image.round().clamp(0, 255).to(torch.uint8)).save(file, "JPEG", quality=75)
        decoded = np.asarray(Image.open(file))
        copies.append(torch.from_numpy(decoded.reshape(size, size, -1).transpose(2, 0, 1).copy()))
    return torch.stack(copies)


def as_soft_as(fakes: Tensor, reals: Tensor, train: Tensor, copies: Tensor) -> Tensor:
    """The copies as a generator would make them that leaves out what the fakes lack in each direction.

    Directions are the principal ones of the training images, and what is in none of them.

    Args:
        fakes, reals: grey [N, H, W] and [M, H, W]; how much of each direction the first have and real images have.
        train: grey [T, H, W].
        copies: grey [n, H, W].

    Returns:
        uint8 [n, 1, H, W].
    """
    some = train[:MOST_FOR_DIRECTIONS].flatten(1)
    mean = some.mean(0)
    variances, vectors = torch.linalg.eigh((some - mean) @ (some - mean).T)
    kept = variances > 1e-6 * variances[-1]
    directions = (some - mean).T @ (vectors[:, kept] / variances[kept].sqrt()).flip(1)

    def divided(images: Tensor) -> tuple[Tensor, Tensor]:
        flat = images.flatten(1) - mean
        return flat @ directions, flat - flat @ directions @ directions.T

    (made, made_rest), (real, real_rest) = (
        (neighbours_mean(along.square().mean(0)), rest.square().mean()) for along, rest in map(divided, (fakes, reals))
    )
    along, rest = divided(copies)
    soft: Tensor = mean + (along * (made / real).sqrt().clamp(max=1)) @ directions.T
    soft += rest * (made_rest / real_rest.clamp(min=1e-9)).sqrt().clamp(max=1)
    grey = soft.view(copies.shape)[:, None]
    return grey.round().clamp(0, 255).to(torch.uint8)


def neighbours_mean(values: Tensor) -> Tensor:
    """Each of some positive numbers [D] replaced by the mean of the nine around it."""
    mean: Tensor = F.avg_pool1d(values[None, None], 9, 1, 4, count_include_pad=False)[0, 0]
    return mean.clamp(min=1e-9)
