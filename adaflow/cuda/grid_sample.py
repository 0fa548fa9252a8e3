"""Bilinear lookup in images, with derivatives of every order.

`torch.nn.functional.grid_sample` has no second derivative before torch 2.12. The lookup is linear in the image, so its
derivative is its adjoint, whose derivative is the lookup again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_BILINEAR = 0
_BORDER = 1


def grid_sample(images: Tensor, grid: Tensor) -> Tensor:
    """Look images up at the points of a grid: bilinear between pixels, the border's value outside.

    Args:
        images: [N, C, H, W], float32 or float64.
        grid: [N, h, w, 2], (x, y) from -1, the centre of the first pixel, to 1, that of the last. It gets no gradient.

    Returns:
        [N, C, h, w]. Differentiable in `images`, to any order.

    Raises:
        ValueError: the grid requires a gradient.
    """
    if grid.requires_grad:
        raise ValueError("grid_sample gives no gradient for the grid: detach it")
    sampled: Tensor = _Lookup.apply(images, grid)  # type: ignore[no-untyped-call]
    return sampled


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.size = images.shape[-2:]
        sampled: Tensor = torch.ops.aten.grid_sampler_2d(images, grid, _BILINEAR, _BORDER, True)
        return sampled

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _Adjoint.apply(gradients[0], grid, ctx.size), None  # type: ignore[no-untyped-call]


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, samples: Tensor, grid: Tensor, size: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(grid)
        # Only the shape of the images matters for their gradient.
        images = samples.new_zeros(()).expand(*samples.shape[:2], *size)
        spread: Tensor = torch.ops.aten.grid_sampler_2d_backward(
            samples, images, grid, _BILINEAR, _BORDER, True, [True, False]
        )[0]
        return spread

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Lookup.apply(gradients[0], grid), None, None  # type: ignore[no-untyped-call]
