"""2-D convolution with up- or downsampling around it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypedDict, Unpack

from torch import Tensor

from adaflow.cuda.conv2d import conv2d, conv_transpose2d
from adaflow.cuda.fused import fir_bias_act
from adaflow.cuda.upfirdn2d import (
    downsampling_padding,
    pad2d,
    parse_padding,
    symmetric_part,
    upfirdn2d,
    upsampling_padding,
)


class Finish(TypedDict, total=False):
    """The end of a layer, by the arguments of `fir_bias_act`; nothing by default."""

    bias: Tensor | None
    act: str
    alpha: float | None
    gain: float | None
    clamp: float | None


def conv2d_resample(
    x: Tensor,
    w: Tensor,
    f: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int | Sequence[int] = 0,
    groups: int = 1,
    flip_weight: bool = True,
    flip_filter: bool = False,
    scale: Tensor | None = None,
    noise: Tensor | None = None,
    **finish: Unpack[Finish],
) -> Tensor:
    """Upsample (FIR), convolve, downsample (FIR), finish. Twice differentiable with respect to `x` and `w`.

    FIR filtering and convolution commute, so each case takes the order with the least work.

    Args:
        x: images, [N, C_in, H, W].
        w: weights, [C_out, C_in / groups, k_y, k_x]; used in the dtype of `x`.
        f: low-pass filter from `setup_filter`, or None for a single tap.
        up: upsampling factor.
        down: downsampling factor.
        padding: with respect to the upsampled image, on top of what the filter needs: one number, (x, y) or
            (left, right, top, bottom).
        groups: number of groups of channels.
        flip_weight: True correlates with `w`, False convolves.
        flip_filter: False convolves with `f`, True correlates.
        scale: factor on each channel of the result, [N, C_out], or None.
        noise: added to the result, as for `fir_bias_act`, or None.
        finish: bias, activation, gain and clamp, as for `fir_bias_act`. All that comes after the convolution, with
            the filter for upsampling, is one pass over the result.

    Returns:
        images, [N, C_out, H', W']; with padding k // 2 and odd k, H' = H·up / down.
    """
    w = w.to(x.dtype)
    pads = list(parse_padding(padding))
    if up > 1:
        pads = [a + b for a, b in zip(pads, upsampling_padding(f, up, up), strict=True)]
    if down > 1:
        pads = [a + b for a, b in zip(pads, downsampling_padding(f, down, down), strict=True)]
    left, right, top, bottom = pads
    kernel_y, kernel_x = w.shape[2:]
    one_by_one = kernel_x == kernel_y == 1
    finished = partial(fir_bias_act, flip_filter=flip_filter, scale=scale, noise=noise, **finish)

    if up == 1 and down == 1:
        return finished(_conv2d(x, w, (left, right, top, bottom), groups=groups, flip_weight=flip_weight))

    if up == 1 and one_by_one:
        x = upfirdn2d(x, f, down=down, padding=pads, flip_filter=flip_filter)
        return finished(_conv2d(x, w, groups=groups))

    if up == 1:
        x = upfirdn2d(x, f, padding=pads, flip_filter=flip_filter)
        return finished(_conv2d(x, w, stride=down, groups=groups, flip_weight=flip_weight))

    if one_by_one:
        x, steps = _conv2d(x, w, groups=groups), up
    else:
        # The transposed convolution gives every position the weights touch, and no zeros after the last pixel.
        x, steps = _conv_transpose2d(x, w, stride=up, groups=groups, flip_weight=flip_weight), 1
        pads = [left - (kernel_x - 1), right - (kernel_x - up), top - (kernel_y - 1), bottom - (kernel_y - up)]
    if down == 1:
        return finished(x, f, up=steps, padding=pads, fir_gain=up**2)
    x = upfirdn2d(x, f, up=steps, padding=pads, gain=up**2, flip_filter=flip_filter)
    return finished(x, f, down=down)


def _conv2d(
    x: Tensor,
    w: Tensor,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    stride: int = 1,
    groups: int = 1,
    flip_weight: bool = True,
) -> Tensor:
    left, right, top, bottom = padding
    pad_y, pad_x = symmetric_part(left, right, top, bottom)
    x = pad2d(x, left - pad_x, right - pad_x, top - pad_y, bottom - pad_y)
    w = w if flip_weight else w.flip([2, 3])
    return conv2d(x, w, stride=stride, padding=(pad_y, pad_x), groups=groups)


def _conv_transpose2d(x: Tensor, w: Tensor, stride: int, groups: int, flip_weight: bool) -> Tensor:
    c_out, c_in, kernel_y, kernel_x = w.shape
    w = w.view(groups, c_out // groups, c_in, kernel_y, kernel_x).transpose(1, 2).flatten(0, 1)
    # a transposed convolution is a true convolution: for a correlation the weights are flipped
    w = w.flip([2, 3]) if flip_weight else w
    return conv_transpose2d(x, w, stride=stride, groups=groups)
