"""Lookup in images between their pixels, with derivatives of every order.

`torch.nn.functional.grid_sample` has no second derivative before torch 2.12. The lookup is linear in the image, so its
derivative is its adjoint, whose derivative is the lookup again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_MODES = ("bilinear", "nearest", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")


class _Rule(NamedTuple):
    """How a lookup is done: the last three arguments of torch's operation."""

    mode: int
    padding: int
    align_corners: bool


def grid_sample(
    images: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "border", align_corners: bool = True
) -> Tensor:
    """Look images up at the points of a grid.

    Args:
        images: [N, C, H, W], float32 or float64.
        grid: [N, h, w, 2], (x, y) from -1, the centre of the first pixel, to 1, that of the last; or, unless
            `align_corners`, from the outer edge of the first to that of the last. It gets no gradient.
        mode: bilinear, nearest or bicubic.
        padding_mode: what is outside of the image: zeros, the border's value (border) or its mirror image (reflection).
        align_corners: see `grid`.

    Returns:
        [N, C, h, w]. Differentiable in `images`, to any order.

    Raises:
        ValueError: the grid requires a gradient, or a mode is unknown.
    """
    if grid.requires_grad:
        raise ValueError("grid_sample gives no gradient for the grid: detach it")
    if mode not in _MODES or padding_mode not in _PADDINGS:
        raise ValueError(f"grid_sample has {', '.join((*_MODES, *_PADDINGS))}; not {mode} with {padding_mode}")
    rule = _Rule(_MODES.index(mode), _PADDINGS.index(padding_mode), align_corners)
    sampled: Tensor = _Lookup.apply(images, grid, rule)  # type: ignore[no-untyped-call]
    return sampled


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor, rule: _Rule) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.rule, ctx.size = rule, images.shape[-2:]
        sampled: Tensor = torch.ops.aten.grid_sampler_2d(images, grid, *rule)
        return sampled

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Adjoint.apply(gradients[0], grid, ctx.rule, ctx.size), None, None  # type: ignore[no-untyped-call]


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, samples: Tensor, grid: Tensor, rule: _Rule, size: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.rule = rule
        # Only the shape of the images matters for their gradient.
        images = samples.new_zeros(()).expand(*samples.shape[:2], *size)
        spread: Tensor = torch.ops.aten.grid_sampler_2d_backward(samples, images, grid, *rule, [True, False])[0]
        return spread

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (grid,) = ctx.saved_tensors
        return _Lookup.apply(gradients[0], grid, ctx.rule), None, None, None  # type: ignore[no-untyped-call]


class TwiceDifferentiable(TorchFunctionMode):
    """Within it, `torch.nn.functional.grid_sample`, whoever calls it, is the lookup of this module.

    For the warps of other libraries, whose grids depend on nothing that wants a gradient. It holds in this thread only.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, arguments: tuple[Any, ...] = (), settings: Any = None
    ) -> Any:
        """What a function of torch gives. `grid_sample` fills in its defaults before it asks here."""
        if function is not torch.nn.functional.grid_sample:
            return function(*arguments, **(settings or {}))
        images, grid = arguments
        return grid_sample(images, grid, settings["mode"], settings["padding_mode"], bool(settings["align_corners"]))
