"""Nearest neighbours among feature vectors, exact, in blocks of bounded memory, on the device of the vectors.

Distances are computed in float64 from centred vectors: ‖x‖² + ‖y‖² − 2·x·y loses half of the digits of near
neighbours, which float32 cannot spare.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 1 << 23
"""Distances in memory at a time: 64 MB, and as much again while they are computed."""


def distance_blocks(x: Tensor, y: Tensor, block: int = BLOCK) -> Iterator[tuple[int, Tensor]]:
    """Squared Euclidean distances of x [N, D] to y [M, D], some rows at a time.

    Yields:
        The first row of a block, and its distances, float64 [n, M], which the caller may change.
    """
    centre = y.mean(0, dtype=torch.float64)
    y = y.double() - centre
    y_square = y.square().sum(1)
    rows = max(block // max(len(y), 1), 1)
    for start in range(0, len(x), rows):
        part = x[start : start + rows].double() - centre
        distances = torch.addmm(y_square, part, y.T, alpha=-2)
        yield start, distances.add_(part.square().sum(1, keepdim=True)).clamp_(min=0)


def nearest(x: Tensor, y: Tensor, same: bool = False, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """The nearest of y for each of x.

    Args:
        x: [N, D].
        y: [M, D].
        same: x and y are the same set, and none is its own neighbour.
        block: distances in memory at a time.

    Returns:
        Distances float64 [N] and places in y int64 [N].
    """
    distances, places = [], []
    for start, squares in distance_blocks(x, y, block):
        if same:
            _exclude_self(squares, start)
        least = squares.min(1)
        distances.append(least.values.sqrt())
        places.append(least.indices)
    return torch.cat(distances), torch.cat(places)


def radii(x: Tensor, k: int, block: int = BLOCK) -> Tensor:
    """Distance of each of x [N, D] to the k-th nearest other one, float64 [N].

    Raises:
        ValueError: there are no k others.
    """
    if not 1 <= k < len(x):
        raise ValueError(f"{len(x)} vectors have no {k} neighbours each")
    parts = []
    for start, squares in distance_blocks(x, x, block):
        _exclude_self(squares, start)
        parts.append(squares.kthvalue(k, dim=1).values.sqrt())
    return torch.cat(parts)


def balls_around(x: Tensor, centres: Tensor, radius: Tensor, block: int = BLOCK) -> Tensor:
    """In how many balls each of x lies, borders included.

    Args:
        x: [N, D].
        centres: [M, D].
        radius: [M].
        block: distances in memory at a time.

    Returns:
        int64 [N].
    """
    limit = radius.square()
    return torch.cat([(squares <= limit).sum(1) for _, squares in distance_blocks(x, centres, block)])


def _exclude_self(squares: Tensor, start: int) -> None:
    squares.diagonal(start).fill_(torch.inf)
