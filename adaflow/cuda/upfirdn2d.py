"""Upsample, filter, downsample: the resampling everything else is built on.

One pass along x and y: put `up - 1` zeros after each pixel, pad (or crop), convolve with an FIR filter, keep every
`down`-th pixel. The zeros are never stored. The native kernel filters row by row; the reference path takes a depthwise
convolution, for upsampling a transposed one, whose result is then cropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch.nn.functional as F
from torch import Tensor

from adaflow.cuda.fir import filter_size, separate_taps
from adaflow.cuda.fused_autograd import filter_images
from adaflow.cuda.fused_kernels import MAX_TAPS, Axes, Axis, runs_natively


def upfirdn2d(
    x: Tensor,
    f: Tensor | None,
    up: int | Sequence[int] = 1,
    down: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Upsample, pad, filter and downsample every channel. Twice differentiable with respect to `x`.

    Args:
        x: images, [N, C, H, W].
        f: taps from `setup_filter`, [taps] (used along both axes) or [height, width]; None is a single tap of 1.
        up: factor, or factors (x, y).
        down: factor, or factors (x, y).
        padding: pixels of the upsampled image: one number, (x, y) or (left, right, top, bottom). Negative crops.
        flip_filter: False convolves, True correlates.
        gain: factor on the result.

    Returns:
        images, [N, C, H', W'] with H' = ceil((H·up + top + bottom - taps + 1) / down), W' alike.
    """
    up_x, up_y = parse_pair(up)
    down_x, down_y = parse_pair(down)
    left, right, top, bottom = parse_padding(padding)
    axes = filter_axes(x, f, (up_x, up_y), (down_x, down_y), (left, right, top, bottom), flip_filter, gain)
    if axes is not None:
        return filter_images(x, axes)

    kernel = x.new_ones(1, 1) if f is None else f.to(x.dtype)
    if flip_filter:
        kernel = kernel.flip(list(range(kernel.ndim)))
    if kernel.ndim == 2:
        return _one_pass(x, kernel * gain, (up_x, up_y), (down_x, down_y), (left, right, top, bottom))
    kernel = kernel * gain**0.5
    x = _one_pass(x, kernel[None, :], (up_x, 1), (down_x, 1), (left, right, 0, 0))
    return _one_pass(x, kernel[:, None], (1, up_y), (1, down_y), (0, 0, top, bottom))


def filter_axes(
    x: Tensor,
    f: Tensor | None,
    up: tuple[int, int],
    down: tuple[int, int],
    padding: tuple[int, int, int, int],
    flip_filter: bool,
    gain: float,
) -> Axes | None:
    """The filter as native kernels take it, (y, x); None where they cannot: the reference path is for those.

    Arguments as for `upfirdn2d`, parsed.
    """
    if not runs_natively(x) or (f is not None and f.requires_grad):
        return None
    taps = separate_taps(f)
    if taps is None or max(len(taps[0]), len(taps[1])) > MAX_TAPS:
        return None
    along_y = _axis(taps[0], x.shape[2], up[1], down[1], padding[2], padding[3], flip_filter, gain)
    along_x = _axis(taps[1], x.shape[3], up[0], down[0], padding[0], padding[1], flip_filter, 1.0)
    return (along_y, along_x) if along_y.size_out > 0 and along_x.size_out > 0 else None


@lru_cache(maxsize=1024)
def _axis(
    taps: tuple[float, ...], size: int, up: int, down: int, before: int, after: int, flip: bool, gain: float
) -> Axis:
    result = (size * up + before + after - len(taps)) // down + 1
    ordered = taps if flip else taps[::-1]
    return Axis(size, result, up, down, before, tuple(tap * gain for tap in ordered))


def filter2d(
    x: Tensor,
    f: Tensor | None,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Filter images and keep their size. Arguments as for `upfirdn2d`; `padding` is added to the automatic one."""
    width, height = filter_size(f)
    automatic = (width // 2, (width - 1) // 2, height // 2, (height - 1) // 2)
    return upfirdn2d(x, f, padding=_add(padding, automatic), flip_filter=flip_filter, gain=gain)


def upsample2d(
    x: Tensor,
    f: Tensor | None,
    up: int | Sequence[int] = 2,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Upsample to exactly `up` times the size, keeping the brightness.

    Arguments as for `upfirdn2d`; `padding` is added to the automatic one.
    """
    up_x, up_y = parse_pair(up)
    pad = _add(padding, upsampling_padding(f, up_x, up_y))
    return upfirdn2d(x, f, up=up, padding=pad, flip_filter=flip_filter, gain=gain * up_x * up_y)


def downsample2d(
    x: Tensor,
    f: Tensor | None,
    down: int | Sequence[int] = 2,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Downsample to exactly 1 / `down` of the size.

    Arguments as for `upfirdn2d`; `padding` is added to the automatic one.
    """
    down_x, down_y = parse_pair(down)
    pad = _add(padding, downsampling_padding(f, down_x, down_y))
    return upfirdn2d(x, f, down=down, padding=pad, flip_filter=flip_filter, gain=gain)


def upsampling_padding(f: Tensor | None, up_x: int, up_y: int) -> tuple[int, int, int, int]:
    """(left, right, top, bottom) with which upsampling gives exactly `up` times the size, centred on the filter."""
    width, height = filter_size(f)
    return (width + up_x - 1) // 2, (width - up_x) // 2, (height + up_y - 1) // 2, (height - up_y) // 2


def downsampling_padding(f: Tensor | None, down_x: int, down_y: int) -> tuple[int, int, int, int]:
    """(left, right, top, bottom) with which downsampling gives exactly 1 / `down` of the size."""
    width, height = filter_size(f)
    return (width - down_x + 1) // 2, (width - down_x) // 2, (height - down_y + 1) // 2, (height - down_y) // 2


def parse_pair(value: int | Sequence[int]) -> tuple[int, int]:
    """One number or (x, y) → (x, y)."""
    x, y = (value, value) if isinstance(value, int) else value
    return x, y


def parse_padding(value: int | Sequence[int]) -> tuple[int, int, int, int]:
    """One number, (x, y) or (left, right, top, bottom) → (left, right, top, bottom)."""
    if isinstance(value, int):
        return value, value, value, value
    if len(value) == 2:
        return value[0], value[0], value[1], value[1]
    left, right, top, bottom = value
    return left, right, top, bottom


def symmetric_part(before_x: int, after_x: int, before_y: int, after_y: int) -> tuple[int, int]:
    """The padding (y, x) a convolution can do itself, the same on both sides: cheaper than padding the image."""
    return max(min(before_y, after_y), 0), max(min(before_x, after_x), 0)


def pad2d(x: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """Pad [N, C, H, W] with zeros; negative crops."""
    return F.pad(x, [left, right, top, bottom]) if left or right or top or bottom else x


def _add(padding: int | Sequence[int], automatic: tuple[int, int, int, int]) -> list[int]:
    return [user + own for user, own in zip(parse_padding(padding), automatic, strict=True)]


def _one_pass(
    x: Tensor, kernel: Tensor, up: tuple[int, int], down: tuple[int, int], padding: tuple[int, int, int, int]
) -> Tensor:
    """`upfirdn2d` with a 2-D kernel [height, width], as one depthwise convolution."""
    channels = x.shape[1]
    height, width = kernel.shape
    left, right, top, bottom = padding
    if up == (1, 1):
        pad_y, pad_x = symmetric_part(left, right, top, bottom)
        x = pad2d(x, left - pad_x, right - pad_x, top - pad_y, bottom - pad_y)
        # conv2d correlates; a convolution is wanted
        weight = kernel.flip([0, 1]).expand(channels, 1, height, width)
        return F.conv2d(x, weight, stride=down[::-1], padding=(pad_y, pad_x), groups=channels)

    # The transposed convolution gives every position the filter touches, and no zeros after the last pixel.
    crop_left, crop_right = width - 1 - left, width - up[0] - right
    crop_top, crop_bottom = height - 1 - top, height - up[1] - bottom
    crop_y, crop_x = symmetric_part(crop_left, crop_right, crop_top, crop_bottom)
    weight = kernel.expand(channels, 1, height, width)
    y = F.conv_transpose2d(x, weight, stride=up[::-1], padding=(crop_y, crop_x), groups=channels)
    y = pad2d(y, crop_x - crop_left, crop_x - crop_right, crop_y - crop_top, crop_y - crop_bottom)
    return y if down == (1, 1) else y[:, :, :: down[1], :: down[0]]
