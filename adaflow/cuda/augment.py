"""The augmentation of a batch by native kernels: one for geometry and colour together, one for the filter bands.

Both are linear maps of the images (but for an offset of the colours), so the derivative is their adjoint, whose
derivative is the map again, without the offset: one autograd function each gives derivatives of every order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adaflow.cuda.library import call, declare

MOVED, RESAMPLED, COLORED = 1, 2, 4
"""What happens to an image, as bits: whole pixels moved, or resampled; its colours mapped."""
MOST_PLACES = 63
"""Transforms of a kind that `compose` takes."""

_SUFFIX = {torch.float32: "f32", torch.float64: "f64"}


@dataclass(frozen=True)
class Plan:
    """What happens to each of N images.

    Args:
        inverses: [N, 3, 3] float32, from output to input, in pixels from the centre, x right, y down.
        colors: [N, 3, 4] float32, of colours as (r, g, b, 1).
        kinds: [N] uint8, bits as above. What is not named here is not done.
    """

    inverses: Tensor
    colors: Tensor
    kinds: Tensor


def compose(
    geometry: Sequence[Tensor],
    color: Sequence[Tensor],
    gates: Tensor,
    resampling: Sequence[bool],
    skipped: Sequence[bool],
    height: int,
    width: int,
) -> Plan:
    """Compose the maps that were drawn, those whose gates are open, the first one acting first.

    Args:
        geometry: G maps of the plane, each [N, 3, 3], where points go, in pixels from the centre.
        color: K maps of colours, each [N, 4, 4].
        gates: [G + K, N] bool.
        resampling: [G], whether the map needs resampling in any case.
        skipped: [K], whether the map means nothing for these images.
        height, width: of the images.
    """
    n, device = gates.shape[1], gates.device
    inverses = torch.empty(n, 3, 3, device=device)
    colors = torch.empty(n, 3, 4, device=device)
    kinds = torch.empty(n, dtype=torch.uint8, device=device)
    planar_drawn = torch.stack([matrix.float() for matrix in geometry]) if geometry else inverses
    colors_drawn = torch.stack([matrix.float() for matrix in color]) if color else colors
    gates = gates.contiguous()
    call(
        "adaflow_compose_f32", device, inverses.data_ptr(), colors.data_ptr(), kinds.data_ptr(),
        planar_drawn.data_ptr(), colors_drawn.data_ptr(), gates.data_ptr(), len(geometry), len(color), n, height, width,
        _bits(resampling), _bits(skipped),
    )  # fmt: skip
    return Plan(inverses, colors, kinds)


def augment(images: Tensor, plan: Plan) -> Tensor:
    """Images moved or resampled, and their colours mapped. Needs `native(images.device)`.

    Args:
        images: [N, C, H, W], floating point.
        plan: what happens to each, on the same device.

    Returns:
        [N, C, H, W], differentiable in `images` to any order. 16-bit images are computed in float32. An image to which
        nothing happens is the same bit for bit.
    """
    computed: Tensor = _Augment.apply(_supported(images), plan, False, False)  # type: ignore[no-untyped-call]
    return computed.to(images.dtype)


def filter_taps(images: Tensor, taps: Tensor, fired: Tensor) -> Tensor:
    """Images filtered along both axes, reflected at their borders. Needs `native(images.device)`.

    Args:
        images: [N, C, H, W], floating point.
        taps: [N, 43], symmetric, a filter for each image.
        fired: [N] bool; the other images are left alone.

    Returns:
        [N, C, H, W], differentiable in `images` to any order. 16-bit images are computed in float32.
    """
    supported = _supported(images)
    taps = taps.to(supported.dtype).contiguous()
    computed: Tensor = _Filter.apply(supported, taps, fired.contiguous(), False)  # type: ignore[no-untyped-call]
    return computed.to(images.dtype)


class _Augment(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, plan: Plan, transposed: bool, derivative: bool) -> Tensor:
        ctx.plan, ctx.transposed = plan, transposed
        images = images.contiguous()
        n, channels, height, width = images.shape
        out = torch.empty_like(images)
        # GPUs keep the gradient at the points of lookup in memory.
        on_gpu = transposed and images.is_cuda
        scratch = images.new_empty(n, channels, 2 * height + 10, 2 * width + 10) if on_gpu else None
        call(
            f"adaflow_augment_{_SUFFIX[images.dtype]}", images.device, images.data_ptr(), out.data_ptr(),
            plan.inverses.data_ptr(), plan.colors.data_ptr(), plan.kinds.data_ptr(),
            None if scratch is None else scratch.data_ptr(), n, channels, height, width, transposed, derivative,
        )  # fmt: skip
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        gradient = _Augment.apply(gradients[0], ctx.plan, not ctx.transposed, True)  # type: ignore[no-untyped-call]
        return gradient, None, None, None


class _Filter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, taps: Tensor, fired: Tensor, transposed: bool) -> Tensor:
        ctx.taps, ctx.fired, ctx.transposed = taps, fired, transposed
        images = images.contiguous()
        n, channels, height, width = images.shape
        out = torch.empty_like(images)
        call(
            f"adaflow_bands_{_SUFFIX[images.dtype]}", images.device, images.data_ptr(), out.data_ptr(),
            taps.data_ptr(), fired.data_ptr(), n, channels, height, width, transposed,
        )  # fmt: skip
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        gradient = _Filter.apply(gradients[0], ctx.taps, ctx.fired, not ctx.transposed)  # type: ignore[no-untyped-call]
        return gradient, None, None, None


def _supported(images: Tensor) -> Tensor:
    return images if images.dtype in _SUFFIX else images.float()


def _bits(flags: Sequence[bool]) -> int:
    return sum(1 << place for place, flag in enumerate(flags) if flag)


for _suffix in _SUFFIX.values():
    declare(f"adaflow_augment_{_suffix}", "ppppppqqqqii")
    declare(f"adaflow_bands_{_suffix}", "ppppqqqqi")
declare("adaflow_compose_f32", "ppppppqqqqqqq")
