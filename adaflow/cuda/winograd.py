"""3 × 3 convolutions by Winograd's algorithm in native code, on CPUs with AVX-512. No autograd here.

Four products where nine are usual (Lavin & Gray 2015, arXiv 1509.09308): wide layers take some .6 of torch's time. In
float32 the results are about as exact as torch's. In bfloat16 they differ from exact ones by 2.5 times what rounding
the images does, for the products are of rounded sums of pixels.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from adaflow.cuda.library import call, declare, offers

NAMES = {torch.float32: "f32", torch.bfloat16: "bf16"}
NARROWEST = {torch.float32: 32, torch.bfloat16: 64}
"""Channels and filters, multiples of 16, below which transforming takes longer than it saves."""
FEWEST_TILES = 64
"""2 × 2 pixels each, in all images: with fewer, transforming the weights takes longer than it saves."""


class _Args(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "height", "width", "channels", "filters")),
        *((name, ctypes.c_int64) for name in ("w_filter", "w_channel", "w_y", "w_x")),
        *((name, ctypes.c_void_p) for name in ("x", "dy", "w", "y")),
    )


for _name in NAMES.values():
    declare(f"adaflow_winograd_forward_{_name}", "p")
    declare(f"adaflow_winograd_weights_{_name}", "p")


def suits(x: Tensor, w: Tensor, transposed: bool = False) -> bool:
    """Whether a convolution in steps of 1, padded by 1, is faster so. What does not fit together is left to torch.

    Args:
        x: images, [N, C, H, W].
        w: weights, [K, C, 3, 3]; transposed, [C, K, 3, 3].
        transposed: it is the transposed convolution.
    """
    if x.device.type != "cpu" or w.device != x.device or x.dtype not in NAMES or w.dtype != x.dtype:
        return False
    if x.ndim != 4 or w.shape[2:] != (3, 3) or w.shape[0 if transposed else 1] != x.shape[1]:
        return False
    batch, _, height, width = x.shape
    return (
        all(size >= NARROWEST[x.dtype] and size % 16 == 0 for size in w.shape[:2])
        and height % 2 == width % 2 == 0
        and batch * height * width >= 4 * FEWEST_TILES
        and offers(f"adaflow_winograd_forward_{NAMES[x.dtype]}", x.device)
    )


def convolve(x: Tensor, w: Tensor, transposed: bool = False) -> Tensor:
    """Correlate images [N, C, H, W] with weights [K, C, 3, 3]; transposed, convolve them with [C, K, 3, 3]."""
    x = _channels_last(x)
    start, strides = w.data_ptr(), w.stride()
    if transposed:  # the same with rows and columns read backwards
        start += 2 * (strides[2] + strides[3]) * w.element_size()
        strides = (strides[1], strides[0], -strides[2], -strides[3])
    y = _empty(x, w.shape[1 if transposed else 0])
    _call("forward", x, y, strides, {"x": x.data_ptr(), "w": start, "y": y.data_ptr()})
    return y


def weight_gradient(x: Tensor, gradient: Tensor, w: Tensor) -> Tensor:
    """Gradient of <gradient, images x correlated with w> with respect to w, of which only shape and layout matter."""
    x, gradient, result = _channels_last(x), _channels_last(gradient), torch.empty_like(w)
    pointers = {"x": x.data_ptr(), "dy": gradient.data_ptr(), "w": result.data_ptr()}
    _call("weights", x, gradient, result.stride(), pointers)
    return result


def _call(operation: str, x: Tensor, y: Tensor, strides: tuple[int, ...], pointers: dict[str, int]) -> None:
    batch, channels, height, width = x.shape
    args = _Args(batch, height, width, channels, y.shape[1], *strides, **pointers)
    call(f"adaflow_winograd_{operation}_{NAMES[x.dtype]}", x.device, ctypes.addressof(args))


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _empty(x: Tensor, channels: int) -> Tensor:
    shape = (x.shape[0], channels, *x.shape[2:])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
