"""The augmentation of a batch by a native kernel: geometry, colours, filter bands, noise and cutout, image by image.

It is a linear map of the images but for what is added, noise and an offset of the colours. So its derivative is its
adjoint, and the derivative of that is the map again, without what is added: one autograd function gives derivatives of
every order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from adaflow.cuda.library import call, declare

MOVED, RESAMPLED, COLORED, FILTERED, NOISY, CUT = 1, 2, 4, 8, 16, 32
"""What happens to an image, as bits: whole pixels moved, or resampled; its colours mapped; its bands filtered; noise
added; a rectangle cut out."""
MOST_PLACES = 63
"""Transforms of a kind that `compose` takes."""
FORMULAS = (
    *("xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac"),
    *("brightness", "contrast", "lumaflip", "hue", "saturation"),
    *("band1", "band2", "band3", "band4"),
    *("noise", "cutout"),
)
"""The transforms that `draw_plan` knows, each kind after the other; `native/formulas.h` has the same order."""
_BANDS = frozenset(number for number, name in enumerate(FORMULAS) if name.startswith("band"))
_NOISE, _CUTOUT = FORMULAS.index("noise"), FORMULAS.index("cutout")

_SUFFIX = {torch.float32: "f32", torch.float64: "f64"}


@dataclass(frozen=True)
class Plan:
    """What happens to each of N images.

    Args:
        inverses: [N, 3, 3] float32, from output to input, in pixels from the centre, x right, y down.
        colors: [N, 3, 4] float32, of colours as (r, g, b, 1).
        kinds: [N] uint8, bits as above. What is not named here is not done; what is done to none needs no tensor below.
        taps: [N, 43] float32, a symmetric filter for each image, along both axes.
        strengths: [N] float32, the standard deviation of the noise.
        images: [N] int64, the number of each image in the run, which names its noise.
        noise_key: the key of the stream of the noise.
        centres: [N, 2] float32, (x, y) of what is cut out, as shares of width and height.
        cutout: the size of what is cut out, as a share.
    """

    inverses: Tensor
    colors: Tensor
    kinds: Tensor
    taps: Tensor | None = None
    strengths: Tensor | None = None
    images: Tensor | None = None
    noise_key: int = 0
    centres: Tensor | None = None
    cutout: float = 0.0


@dataclass(frozen=True)
class Places:
    """K places where transforms of `FORMULAS` act, in order; at most one is noise, and one cutout.

    Args:
        formulas: K numbers in `FORMULAS`.
        settings: K numbers, the only setting of each transform, or anything where it has none.
        weights: K factors on p.
    """

    formulas: tuple[int, ...]
    settings: tuple[float, ...]
    weights: tuple[float, ...]


def draw_plan(
    places: Places,
    p: Tensor,
    keys: tuple[int, ...],
    images: Tensor,
    filters: Tensor,
    channels: int,
    height: int,
    width: int,
) -> Plan:
    """Draw all that the transforms of some places need, in one go: the same numbers as their methods draw.

    Args:
        places: K of them.
        p: float64 scalar, the probability of a transform of weight 1.
        keys: K stream keys.
        images: [N] int64, the number of each image in the run.
        filters: [4, 43] float32, of the bands.
        channels, height, width: of the images.

    Raises:
        ValueError: `p` or `filters` is not where `images` is.
    """
    if p.device != images.device or filters.device != images.device:
        raise ValueError(f"p is on {p.device}, the filters on {filters.device}, and the numbers on {images.device}")
    n, device, formulas = len(images), images.device, places.formulas
    inverses = torch.empty(n, 3, 3, device=device)
    colors = torch.empty(n, 3, 4, device=device)
    kinds = torch.empty(n, dtype=torch.uint8, device=device)
    bands, noise, cutout = not _BANDS.isdisjoint(formulas), _NOISE in formulas, _CUTOUT in formulas
    taps = torch.empty(n, filters.shape[1], device=device) if bands else None
    strengths = torch.empty(n, device=device) if noise else None
    centres = torch.empty(n, 2, device=device) if cutout else None
    images, (numbers, settings, weights, key_numbers) = images.contiguous(), _on_device(places, keys, device)
    call(
        "adaflow_draw_f32", device, inverses.data_ptr(), colors.data_ptr(), kinds.data_ptr(), _pointer(taps),
        _pointer(strengths), _pointer(centres), numbers.data_ptr(), settings.data_ptr(), weights.data_ptr(),
        key_numbers.data_ptr(), p.data_ptr(), images.data_ptr(), filters.data_ptr(), len(formulas), n, channels, height,
        width,
    )  # fmt: skip
    return Plan(
        inverses,
        colors,
        kinds,
        taps,
        strengths,
        images,
        keys[formulas.index(_NOISE)] if noise else 0,
        centres,
        places.settings[formulas.index(_CUTOUT)] if cutout else 0.0,
    )


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


def with_filters(plan: Plan, taps: Tensor, fired: Tensor) -> Plan:
    """The plan, and a filter for each image of those that `fired`, [N] bool. `taps`: [N, 43] float32."""
    return replace(plan, kinds=plan.kinds | FILTERED * fired.to(torch.uint8), taps=taps.contiguous())


def augment(images: Tensor, plan: Plan) -> Tensor:
    """What a plan says, done to images. Needs `native(images.device)`.

    Args:
        images: [N, C, H, W], floating point.
        plan: what happens to each, on the same device.

    Returns:
        [N, C, H, W], differentiable in `images` to any order. 16-bit images are computed in float32. An image to which
        nothing happens is the same bit for bit.

    Raises:
        ValueError: the plan is for another number of images, or elsewhere.
    """
    if plan.kinds.shape != images.shape[:1] or plan.kinds.device != images.device:
        raise ValueError(
            f"a plan for {list(plan.kinds.shape)} images on {plan.kinds.device} is none for "
            f"{list(images.shape)} on {images.device}"
        )
    supported = images if images.dtype in _SUFFIX else images.float()
    computed: Tensor = _Augment.apply(supported, plan, False, False)  # type: ignore[no-untyped-call]
    return computed.to(images.dtype)


class _Augment(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, plan: Plan, transposed: bool, derivative: bool) -> Tensor:
        ctx.plan, ctx.transposed = plan, transposed
        images = images.contiguous()
        out = torch.empty_like(images)
        grid, spare = _workspace(images, plan, transposed)
        call(
            f"adaflow_augment_{_SUFFIX[images.dtype]}", images.device, images.data_ptr(), out.data_ptr(),
            plan.inverses.data_ptr(), plan.colors.data_ptr(), plan.kinds.data_ptr(), _pointer(plan.taps),
            _pointer(plan.strengths), _pointer(plan.images), _pointer(plan.centres), plan.noise_key, plan.cutout,
            _pointer(grid), _pointer(spare), *images.shape, transposed, derivative,
        )  # fmt: skip
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        gradient = _Augment.apply(gradients[0], ctx.plan, not ctx.transposed, True)  # type: ignore[no-untyped-call]
        return gradient, None, None, None


def _workspace(images: Tensor, plan: Plan, transposed: bool) -> tuple[Tensor | None, Tensor | None]:
    """What GPUs keep in memory: the gradient at the points of lookup, and the images between two passes."""
    if images.device.type != "cuda":
        return None, None
    n, channels, height, width = images.shape
    grid = images.new_empty((n, channels, 2 * height + 10, 2 * width + 10)) if transposed else None
    filtered, cut = plan.taps is not None, plan.centres is not None
    return grid, images.new_empty(images.shape) if filtered or (cut and transposed) else None


@cache  # for the life of the process: CUDA graphs read them where they are
def _on_device(places: Places, keys: tuple[int, ...], device: torch.device) -> tuple[Tensor, ...]:
    """Of K places, formulas [K] int64, settings [K] float32, weights [K] float64, the bits of the keys [K] int64."""
    bits = [key - (key >> 63 << 64) for key in keys]
    with torch.inference_mode(False):
        return (
            torch.tensor(places.formulas, dtype=torch.int64, device=device),
            torch.tensor(places.settings, dtype=torch.float32, device=device),
            torch.tensor(places.weights, dtype=torch.float64, device=device),
            torch.tensor(bits, dtype=torch.int64, device=device),
        )


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _bits(flags: Sequence[bool]) -> int:
    return sum(1 << place for place, flag in enumerate(flags) if flag)


for _suffix in _SUFFIX.values():
    declare(f"adaflow_augment_{_suffix}", "pppppppppqfppqqqqii")
declare("adaflow_compose_f32", "ppppppqqqqqqq")
declare("adaflow_draw_f32", "pppppppppppppqqqqq")
