"""The usual matrices of affine maps, for batches of parameters [n]."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


def identity(like: Tensor, size: int = 3) -> Tensor:
    """[n, size, size] identity matrices, as many as `like` [n] has elements. The result may be written to."""
    return torch.eye(size, device=like.device, dtype=like.dtype).repeat(len(like), 1, 1)


def scaling(x: Tensor, y: Tensor) -> Tensor:
    """[n, 3, 3]: x times `x` [n], y times `y` [n]."""
    return torch.diag_embed(torch.stack((x, y, torch.ones_like(x)), dim=-1))


def rotation(angle: Tensor) -> Tensor:
    """[n, 3, 3]: by `angle` [n] in radians, counter-clockwise as one sees the image (y points down)."""
    cos, sin = angle.cos(), angle.sin()
    matrix = identity(angle)
    matrix[:, :2, :2] = torch.stack((cos, sin, -sin, cos), dim=-1).view(-1, 2, 2)
    return matrix


def translation(offset: Tensor) -> Tensor:
    """[n, 3, 3]: by `offset` [n, 2], (x, y)."""
    matrix = identity(offset[:, 0])
    matrix[:, :2, 2] = offset
    return matrix


def invert(matrix: Tensor) -> Tensor:
    """[n, 3, 3]: the inverse of affine maps of the plane."""
    (a, b, x), (c, d, y) = (row.unbind(-1) for row in matrix[:, :2].unbind(-2))
    scale = 1.0 / (a * d - b * c)
    a, b, c, d = d * scale, -b * scale, -c * scale, a * scale
    inverse = identity(a)
    inverse[:, :2] = torch.stack((a, b, -(a * x + b * y), c, d, -(c * x + d * y)), dim=-1).view(-1, 2, 3)
    return inverse


def luma_projection(device: torch.device) -> Tensor:
    """[3, 3]: the projection onto the luma axis, the greys: (1, 1, 1)/√3 times its transpose."""
    return torch.full((3, 3), 1.0 / 3.0, device=device)


def color_matrix(linear: Tensor) -> Tensor:
    """[n, 4, 4]: the map of colours with the linear part `linear` [n, 3, 3] and no offset."""
    matrix = torch.eye(4, device=linear.device).repeat(len(linear), 1, 1)
    matrix[:, :3, :3] = linear
    return matrix


@cache  # for the life of the process: CUDA graphs read it where it is
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """[k] float32: these numbers on a device, where they are brought only once. Not to be written to."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=device)
