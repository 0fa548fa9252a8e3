"""FIR filter, scale, noise, bias and piecewise linear activation as autograd Functions over the native kernels.

`_Fused` is the operation, `_Pullback` its first derivative, and `_Tangent` the derivative of that with respect to the
incoming gradient, which is how the result moves when the inputs do. The activation is piecewise linear, so its own
second derivative is 0 and what remains is bilinear: the three are closed under differentiation, and every order is one
or two kernels. Which piece an element was on is read off the result y.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from adaflow.cuda.fused_kernels import Axes, Slopes, adjoint, arithmetic, backward, dense, forward, tangent

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]


def filter_images(x: Tensor, axes: Axes) -> Tensor:
    """FIR filter alone. Differentiable any number of times.

    Args:
        x: images, [N, C, H, W], float32, float64 or bfloat16.
        axes: the filter, for H and W of x.

    Returns:
        [N, C, H', W'], type and memory format of `x`.
    """
    result: Tensor = _Filter.apply(dense(x), axes)  # type: ignore[no-untyped-call]
    return result


def filter_and_activate(
    x: Tensor, scale: Tensor | None, noise: Tensor | None, bias: Tensor | None, axes: Axes | None, slopes: Slopes
) -> Tensor:
    """clamp(slope · (FIR(x) · scale + noise + bias)). Differentiable any number of times in all tensors.

    Args:
        x: images, [N, C, H, W], float32, float64 or bfloat16.
        scale: [N, C], or None.
        noise: [N, 1, H', W'], or None; it may be expanded from one image.
        bias: [C], or None.
        axes: the filter, for H and W of x, or None.
        slopes: gain and activation, positive gain only.

    Returns:
        [N, C, H', W'], type and memory format of `x`.
    """
    small = (None if t is None else t.to(arithmetic(x.dtype)) for t in (scale, noise, bias))
    result: Tensor = _Fused.apply(dense(x), *small, axes, slopes)  # type: ignore[no-untyped-call]
    return result


class _Filter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, axes: Axes) -> Tensor:
        ctx.axes = axes
        return forward(x, None, None, None, axes, Slopes())

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        y_axis, x_axis = ctx.axes
        return filter_images(dy, (y_axis.adjoint(), x_axis.adjoint())), None


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor | None,
        noise: Tensor | None,
        bias: Tensor | None,
        axes: Axes | None,
        slopes: Slopes,
    ) -> Tensor:
        y = forward(x, scale, noise, bias, axes, slopes)
        ctx.axes, ctx.slopes = axes, slopes
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, scale, None if slopes.constant else y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, y = ctx.saved_tensors
        y = None if y is None else y.detach()  # it only tells the pieces apart: nothing is differentiated through it
        return *_pullback(dy, x, scale, y, ctx.axes, ctx.slopes, ctx.needs_input_grad[:4]), None, None


class _Pullback(torch.autograd.Function):
    """dy → gradients of x, scale, noise and bias."""

    @staticmethod
    def forward(
        ctx: Any,
        dy: Tensor,
        x: Tensor | None,
        scale: Tensor | None,
        y: Tensor | None,
        axes: Axes | None,
        slopes: Slopes,
        wanted: tuple[bool, ...],
    ) -> Gradients:
        ctx.axes, ctx.slopes = axes, slopes
        ctx.save_for_backward(dy, x, scale, y)
        ctx.set_materialize_grads(False)
        return backward(dy, x, scale, y, adjoint(axes), slopes, wanted)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        dy, x, scale, y = ctx.saved_tensors
        d2y = None
        if ctx.needs_input_grad[0]:
            d2y = _Tangent.apply(dy, *cotangents, x, scale, y, ctx.axes, ctx.slopes)  # type: ignore[no-untyped-call]
        d2x, d2scale = _exchange(dy, cotangents, y, ctx.axes, ctx.slopes, ctx.needs_input_grad[1:3])
        return d2y, d2x, d2scale, None, None, None, None


class _Tangent(torch.autograd.Function):
    """Tangents of x, scale, noise and bias → that of y; `like` is any image of the size of y."""

    @staticmethod
    def forward(
        ctx: Any,
        like: Tensor,
        tx: Tensor | None,
        tscale: Tensor | None,
        tnoise: Tensor | None,
        tbias: Tensor | None,
        x: Tensor | None,
        scale: Tensor | None,
        y: Tensor | None,
        axes: Axes | None,
        slopes: Slopes,
    ) -> Tensor:
        ctx.axes, ctx.slopes = axes, slopes
        ctx.save_for_backward(tx, tscale, x, scale, y)
        return tangent((tx, tscale, tnoise, tbias), x, scale, y, like, axes, slopes)

    @staticmethod
    def backward(ctx: Any, dty: Tensor) -> tuple[Tensor | None, ...]:
        tx, tscale, x, scale, y = ctx.saved_tensors
        dtangents = _pullback(dty, x, scale, y, ctx.axes, ctx.slopes, ctx.needs_input_grad[1:5])
        dx, dscale = _exchange(dty, (tx, tscale), y, ctx.axes, ctx.slopes, ctx.needs_input_grad[5:7])
        return None, *dtangents, dx, dscale, None, None, None


def _pullback(
    dy: Tensor,
    x: Tensor | None,
    scale: Tensor | None,
    y: Tensor | None,
    axes: Axes | None,
    slopes: Slopes,
    wanted: tuple[bool, ...],
) -> Gradients:
    if not any(wanted):
        return None, None, None, None
    result: Gradients = _Pullback.apply(dy, x, scale, y, axes, slopes, wanted)  # type: ignore[no-untyped-call]
    return result


def _exchange(
    dy: Tensor,
    tangents: tuple[Tensor | None, ...],
    y: Tensor | None,
    axes: Axes | None,
    slopes: Slopes,
    wanted: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of x and scale of Σ dy · (tangent of y).

    That contains FIR(tx · scale + x · tscale), in which they and their tangents can change places.
    """
    tx, tscale = tangents[:2]
    wanted = (wanted[0] and tscale is not None, wanted[1] and tx is not None)
    return _pullback(dy, tx, tscale, y, axes, slopes, (*wanted, False, False))[:2]
