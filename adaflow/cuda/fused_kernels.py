"""Calls of the native kernels for FIR filter, scale, noise, bias, activation, gain and clamp. No autograd here.

The names are those of native/fused.h, where the formulas are.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from adaflow.cuda.library import call, declare, native

TensorOrNone = TypeVar("TensorOrNone", Tensor, Tensor | None)

MAX_TAPS = 32
SLICE = 512
"""Pixels that a GPU sums at once: kSlice of native/fused.h."""
SHORTEST_VECTOR = 8
"""Fewer channels than this are not worth a vector: such images are filtered one channel after the other."""
NAMES = {torch.float32: "f32", torch.float64: "f64", torch.bfloat16: "bf16"}


class Axis(NamedTuple):
    """One axis of a filter: out[o] = Σ_k taps[k] · u[o · down - before + k]; u has in[i] at i · up, zeros elsewhere."""

    size_in: int
    size_out: int
    up: int
    down: int
    before: int
    taps: tuple[float, ...]

    def adjoint(self) -> Axis:
        """The axis of the transposed filter, from output pixels to input pixels."""
        before = len(self.taps) - 1 - self.before
        return Axis(self.size_out, self.size_in, self.down, self.up, before, self.taps[::-1])


Axes = tuple[Axis, Axis]
"""The axes of a filter, (y, x)."""


def adjoint(axes: Axes | None) -> Axes | None:
    """The transposed filter; that of no filter is none."""
    return None if axes is None else (axes[0].adjoint(), axes[1].adjoint())


class Slopes(NamedTuple):
    """A piecewise linear activation with gain and clamp: slopes for p > 0 and otherwise, largest absolute result."""

    positive: float = 1.0
    negative: float = 1.0
    limit: float | None = None

    @property
    def constant(self) -> bool:
        """Whether the derivative is the same everywhere."""
        return self.positive == self.negative and self.limit is None


class _Axis(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("in", "out", "up", "down", "before", "taps")),
        ("tap", ctypes.c_double * MAX_TAPS),
    )


class _Args(ctypes.Structure):
    _fields_ = (
        *(("rows", _Axis), ("columns", _Axis)),
        *((name, ctypes.c_int64) for name in ("batch", "channels", "channels_last", "noise_stride")),
        *((name, ctypes.c_double) for name in ("positive", "negative", "limit")),
        *((name, ctypes.c_void_p) for name in ("x", "scale", "noise", "bias", "y", "dy")),
        *((name, ctypes.c_void_p) for name in ("dx", "dscale", "dnoise", "dbias")),
        *((name, ctypes.c_void_p) for name in ("tx", "tscale", "tnoise", "tbias", "ty", "workspace")),
    )


for _operation in ("forward", "backward", "tangent"):
    for _name in NAMES.values():
        declare(f"adaflow_fused_{_operation}_{_name}", "p")


def runs_natively(x: Tensor) -> bool:
    """Whether there are kernels for these images."""
    return x.dtype in NAMES and x.ndim == 4 and x.shape[2] > 0 and x.shape[3] > 0 and native(x.device) is not None


def arithmetic(dtype: torch.dtype) -> torch.dtype:
    """The type of scale, noise and bias, and of their gradients, for images of a type."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def dense(x: Tensor) -> Tensor:
    """`x` itself if kernels can read it: contiguous, or channels_last and vectors long enough; else a copy."""
    last = x.shape[1] >= SHORTEST_VECTOR and x.stride(1) == 1
    return x if x.is_contiguous() else x.contiguous(memory_format=_format(last))


def forward(
    x: Tensor, scale: Tensor | None, noise: Tensor | None, bias: Tensor | None, axes: Axes | None, slopes: Slopes
) -> Tensor:
    """y. `x` [N, C, H, W] is dense; scale [N, C], noise [N, 1, H', W'] and bias [C] have the arithmetic type."""
    last = _channels_last(x, axes)
    y = _empty(x, axes, last)
    if noise is not None and (noise.stride(3) != 1 or noise.stride(2) != noise.shape[3]):
        noise = noise.contiguous()
    _call(
        "forward", x, axes, slopes, last,
        {"x": x, "scale": _contiguous(scale), "noise": noise, "bias": _contiguous(bias), "y": y},
        noise_stride=0 if noise is None else noise.stride(0),
    )  # fmt: skip
    return y


def backward(
    dy: Tensor,
    x: Tensor | None,
    scale: Tensor | None,
    y: Tensor | None,
    axes: Axes | None,
    slopes: Slopes,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """dx, dscale [N, C], dnoise [N, 1, H', W'] and dbias [C], where `wanted`.

    `x` may be missing where dscale is not wanted, `y` where the slopes are constant. `axes` are those of the adjoint.
    """
    like = next(tensor for tensor in (y, x, dy) if tensor is not None)
    last = _channels_last(like, axes)
    dy, x, y = _as(dy, last), _as(x, last), _as(y, last)
    batch, channels, height, width = dy.shape
    number = arithmetic(dy.dtype)
    dx = _empty(dy, axes, last) if wanted[0] else None
    dscale = dy.new_empty([batch, channels], dtype=number) if wanted[1] else None
    dnoise = dy.new_empty([batch, 1, height, width], dtype=number) if wanted[2] else None
    dbias = dy.new_empty([channels], dtype=number) if wanted[3] else None
    workspace = _workspace(dy, axes) if wanted[1] or wanted[3] else None
    _call(
        "backward", dy, axes, slopes, last,
        {"dy": dy, "x": x, "scale": _contiguous(scale), "y": y,
         "dx": dx, "dscale": dscale, "dnoise": dnoise, "dbias": dbias,
         "workspace": workspace},
    )  # fmt: skip
    return dx, dscale, dnoise, dbias


def tangent(
    tangents: Sequence[Tensor | None],
    x: Tensor | None,
    scale: Tensor | None,
    y: Tensor | None,
    like: Tensor,
    axes: Axes | None,
    slopes: Slopes,
) -> Tensor:
    """How y changes along the tangents of x, scale, noise and bias; None is a tangent of 0.

    `x` may be missing where scale has no tangent, `y` where the slopes are constant. `like` is any image of the size
    of the result.
    """
    last = _channels_last(like if y is None else y, axes)
    tx, tscale, tnoise, tbias = tangents
    ty = _empty(like, axes, last)
    _call(
        "tangent", like, axes, slopes, last,
        {"tx": _as(tx, last), "tscale": _contiguous(tscale), "tnoise": _contiguous(tnoise), "tbias": _contiguous(tbias),
         "x": _as(x, last), "scale": _contiguous(scale), "y": _as(y, last), "ty": ty},
    )  # fmt: skip
    return ty


def _call(
    operation: str,
    image: Tensor,
    axes: Axes | None,
    slopes: Slopes,
    last: bool,
    tensors: dict[str, Tensor | None],
    noise_stride: int = 0,
) -> None:
    args = _Args.from_buffer_copy(_args(tuple(image.shape), axes, slopes, last, noise_stride))
    for name, tensor in tensors.items():
        if tensor is not None:
            setattr(args, name, tensor.data_ptr())
    call(f"adaflow_fused_{operation}_{NAMES[image.dtype]}", image.device, ctypes.addressof(args))


@lru_cache(maxsize=4096)
def _args(shape: tuple[int, ...], axes: Axes | None, slopes: Slopes, last: bool, noise_stride: int) -> _Args:
    """All but the pointers. Not to be changed: calls copy it."""
    batch, channels, height, width = shape
    if axes is not None:
        rows, columns = axes
    elif last or width >= 64:
        rows, columns = _unfiltered(height), _unfiltered(width)
    else:  # without a filter, rows that lie one after the other are one long row
        rows, columns = _unfiltered(1), _unfiltered(height * width)
    return _Args(
        rows=_axis(rows),
        columns=_axis(columns),
        batch=batch,
        channels=channels,
        channels_last=last,
        noise_stride=noise_stride,
        positive=slopes.positive,
        negative=slopes.negative,
        limit=math.nan if slopes.limit is None else slopes.limit,
    )


def _unfiltered(size: int) -> Axis:
    return Axis(size, size, 1, 1, 0, ())


def _axis(axis: Axis) -> _Axis:
    return _Axis(*axis[:5], len(axis.taps), axis.taps)


def _channels_last(x: Tensor, axes: Axes | None) -> bool:
    """Whether channels are innermost in memory; a vector of channels without a filter is taken for that."""
    if axes is None and x.shape[2] == x.shape[3] == 1:
        return True
    return x.shape[1] >= SHORTEST_VECTOR and x.stride(1) == 1 and not x.is_contiguous()


def _format(last: bool) -> torch.memory_format:
    return torch.channels_last if last else torch.contiguous_format


def _empty(x: Tensor, axes: Axes | None, last: bool) -> Tensor:
    """For the result of a filter on `x`."""
    shape = x.shape if axes is None else (*x.shape[:2], axes[0].size_out, axes[1].size_out)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_format(last))


def _workspace(dy: Tensor, axes: Axes | None) -> Tensor | None:
    """Room for the sums of the slices that a GPU cuts images into."""
    if dy.device.type != "cuda":
        return None
    batch, channels, height, width = dy.shape
    pixels = height * width if axes is None else max(height * width, axes[0].size_out * axes[1].size_out)
    return dy.new_empty([-(-pixels // SLICE), batch, channels], dtype=arithmetic(dy.dtype))


def _as(x: TensorOrNone, last: bool) -> TensorOrNone:
    """With channels innermost in memory, or not."""
    return None if x is None else x.contiguous(memory_format=_format(last))


def _contiguous(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()
