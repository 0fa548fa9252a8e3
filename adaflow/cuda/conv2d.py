"""2-D convolution and transposed convolution whose second derivatives cost what the first do.

torch computes the second derivative with respect to the weights as a convolution whose kernel is a whole feature map,
image by image. It need not: a convolution, its transpose and its weight gradient are each linear in two arguments, and
the derivatives of each are the other two. Two Functions that call each other give every order. On CPUs, wide 3 × 3
layers are computed by `adaflow.cuda.winograd`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from adaflow.cuda import winograd

Pair = tuple[int, int]


def conv2d(x: Tensor, w: Tensor, stride: int = 1, padding: Pair = (0, 0), groups: int = 1) -> Tensor:
    """Correlate images with weights, as `torch.nn.functional.conv2d` does. Differentiable to any order.

    Args:
        x: images, [N, C_in, H, W].
        w: weights, [C_out, C_in / groups, k_y, k_x], of the dtype of `x`.
        stride: of both axes.
        padding: zeros around the image, (y, x).
        groups: number of groups of channels.

    Returns:
        images, [N, C_out, (H + 2·padding_y - k_y) // stride + 1, W'].
    """
    return _convolve(x, w, _Geometry((stride, stride), padding, groups))


def conv_transpose2d(x: Tensor, w: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """The transpose of `conv2d`, as `torch.nn.functional.conv_transpose2d` gives it. Differentiable to any order.

    Args:
        x: images, [N, C_in, H, W].
        w: weights, [C_in, C_out / groups, k_y, k_x], of the dtype of `x`.
        stride: of both axes.
        groups: number of groups of channels.

    Returns:
        images, [N, C_out, (H - 1)·stride + k_y, W'].
    """
    return _convolve(x, w, _Geometry((stride, stride), (0, 0), groups, transposed=True))


class _Geometry(NamedTuple):
    stride: Pair
    padding: Pair
    groups: int
    transposed: bool = False
    output_padding: Pair = (0, 0)

    def by_winograd(self, x: Tensor, w: Tensor) -> bool:
        """Whether the convolution of images and weights is taken by `adaflow.cuda.winograd`."""
        plain = self == _Geometry((1, 1), (1, 1), 1, self.transposed)
        return plain and winograd.suits(x, w, self.transposed)

    def transpose(self, shape: torch.Size, gradient: torch.Size, w: torch.Size) -> _Geometry:
        """What takes the gradient of the result back to the images of this shape, with the same weights."""
        if self.transposed:
            return self._replace(transposed=False, output_padding=(0, 0))
        # Pixels at the end that no stride reached.
        left_over = [
            size - ((steps - 1) * stride - 2 * padding + kernel)
            for size, steps, stride, padding, kernel in zip(
                shape[2:], gradient[2:], self.stride, self.padding, w[2:], strict=True
            )
        ]
        return self._replace(transposed=True, output_padding=(left_over[0], left_over[1]))


def _convolve(x: Tensor, w: Tensor, geometry: _Geometry) -> Tensor:
    # A view, so that the weights are never a leaf: of leaves the engine does not say whether it wants their gradient.
    result: Tensor = _Convolution.apply(x, w.view_as(w), geometry)  # type: ignore[no-untyped-call]
    return result


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, w)
        ctx.geometry, ctx.shape = geometry, x.shape
        stride, padding, groups, transposed, output_padding = geometry
        if geometry.by_winograd(x, w):
            return winograd.convolve(x, w, transposed)
        result: Tensor = torch.ops.aten.convolution(
            x, w, None, stride, padding, (1, 1), transposed, output_padding, groups
        )
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (x, w), (gradient,), geometry = ctx.saved_tensors, gradients, ctx.geometry
        for_x = for_w = None
        if ctx.needs_input_grad[0]:
            for_x = _convolve(gradient, w, geometry.transpose(ctx.shape, gradient.shape, w.shape))
        # R1 and path length differentiate with respect to images and latents only; half of the work is saved.
        if ctx.needs_input_grad[1] and torch._C._will_engine_execute_node(ctx.next_functions[1][0]):
            for_w = _WeightGradient.apply(x, gradient, w.detach(), geometry)  # type: ignore[no-untyped-call]
        return for_x, for_w, None


class _WeightGradient(torch.autograd.Function):
    """Gradient of <gradient, convolution of x with w> with respect to w, of which only shape and layout matter."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gradient: Tensor, w: Tensor, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(x, gradient)
        ctx.geometry = geometry
        stride, padding, groups, transposed, output_padding = geometry
        if geometry.by_winograd(x, w):
            return winograd.weight_gradient(gradient, x, w) if transposed else winograd.weight_gradient(x, gradient, w)
        result: Tensor = torch.ops.aten.convolution_backward(
            gradient, x, w, None, stride, padding, (1, 1), transposed, output_padding, groups, (False, True, False)
        )[1]
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (x, gradient), (w,), geometry = ctx.saved_tensors, gradients, ctx.geometry
        for_x = for_gradient = None
        if ctx.needs_input_grad[0]:
            for_x = _convolve(gradient, w, geometry.transpose(x.shape, gradient.shape, w.shape))
        if ctx.needs_input_grad[1]:
            for_gradient = _convolve(x, w, geometry)
        return for_x, for_gradient, None, None
