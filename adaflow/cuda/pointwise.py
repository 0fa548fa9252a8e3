"""1×1 convolution with weights of each image's own, for a few output channels.

It is a product of two arguments, and each of its derivatives is one of two others. Written as Functions that
call each other, every order of derivative is one of three batched matrix products, each in the order that is fast
where one side has only a few channels, and activations stay channels last.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def pointwise_conv2d(x: Tensor, own: Tensor) -> Tensor:
    """Mix the channels of every pixel. Differentiable any number of times.

    Args:
        x: activations, [N, C_in, H, W].
        own: weights of each image, [N, C_out, C_in], of the dtype of `x`.

    Returns:
        [N, C_out, H, W], contiguous.
    """
    batch, _, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
    return _mix(own, pixels).view(batch, own.shape[1], height, width)


def _mix(own: Tensor, pixels: Tensor) -> Tensor:
    result: Tensor = _Mix.apply(own, pixels)  # type: ignore[no-untyped-call]
    return result


def _spread(own: Tensor, planes: Tensor) -> Tensor:
    result: Tensor = _Spread.apply(own, planes)  # type: ignore[no-untyped-call]
    return result


def _correlate(planes: Tensor, pixels: Tensor) -> Tensor:
    result: Tensor = _Correlate.apply(planes, pixels)  # type: ignore[no-untyped-call]
    return result


class _Mix(torch.autograd.Function):
    """own [N, O, C], pixels [N, P, C] → planes [N, O, P]."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, pixels: Tensor) -> Tensor:
        ctx.save_for_backward(own, pixels)
        return torch.bmm(own, pixels.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (own, pixels), (d_planes,) = ctx.saved_tensors, gradients
        d_own = _correlate(d_planes, pixels) if ctx.needs_input_grad[0] else None
        return d_own, _spread(own, d_planes) if ctx.needs_input_grad[1] else None


class _Spread(torch.autograd.Function):
    """own [N, O, C], planes [N, O, P] → pixels [N, P, C]."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, planes: Tensor) -> Tensor:
        ctx.save_for_backward(own, planes)
        return torch.bmm(planes.transpose(1, 2), own)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (own, planes), (d_pixels,) = ctx.saved_tensors, gradients
        d_own = _correlate(planes, d_pixels) if ctx.needs_input_grad[0] else None
        return d_own, _mix(own, d_pixels) if ctx.needs_input_grad[1] else None


class _Correlate(torch.autograd.Function):
    """planes [N, O, P], pixels [N, P, C] → own [N, O, C]."""

    @staticmethod
    def forward(ctx: Any, planes: Tensor, pixels: Tensor) -> Tensor:
        ctx.save_for_backward(planes, pixels)
        return torch.bmm(planes, pixels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (planes, pixels), (d_own,) = ctx.saved_tensors, gradients
        d_planes = _mix(d_own, pixels) if ctx.needs_input_grad[0] else None
        return d_planes, _spread(d_own, planes) if ctx.needs_input_grad[1] else None
