"""2-D convolution with up- or downsampling around it."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from adaflow.cuda.upfirdn2d import (
    downsampling_padding,
    pad2d,
    parse_padding,
    symmetric_part,
    upfirdn2d,
    upsampling_padding,
)


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
) -> Tensor:
    """Upsample (FIR), convolve, downsample (FIR). Twice differentiable with respect to `x` and `w`.

    FIR filtering and convolution commute, so each case takes the order with the least work.

    Args:
        x: images, [N, C_in, H, W].
        w: weights, [C_out, C_in / groups, k_y, k_x].
        f: low-pass filter from `setup_filter`, or None for a single tap.
        up: upsampling factor.
        down: downsampling factor.
        padding: with respect to the upsampled image, on top of what the filter needs: one number, (x, y) or
            (left, right, top, bottom).
        groups: number of groups of channels.
        flip_weight: True correlates with `w`, False convolves.
        flip_filter: False convolves with `f`, True correlates.

    Returns:
        images, [N, C_out, H', W']; with padding k // 2 and odd k, H' = H·up / down.
    """
    pads = list(parse_padding(padding))
    if up > 1:
        pads = [a + b for a, b in zip(pads, upsampling_padding(f, up, up), strict=True)]
    if down > 1:
        pads = [a + b for a, b in zip(pads, downsampling_padding(f, down, down), strict=True)]
    left, right, top, bottom = pads
    kernel_y, kernel_x = w.shape[2:]
    one_by_one = kernel_x == kernel_y == 1

    if up == 1 and down == 1:
        return _conv2d(x, w, (left, right, top, bottom), groups=groups, flip_weight=flip_weight)

    if up == 1 and one_by_one:
        x = upfirdn2d(x, f, down=down, padding=pads, flip_filter=flip_filter)
        return _conv2d(x, w, groups=groups)

    if up == 1:
        x = upfirdn2d(x, f, padding=pads, flip_filter=flip_filter)
        return _conv2d(x, w, stride=down, groups=groups, flip_weight=flip_weight)

    if one_by_one:
        x = _conv2d(x, w, groups=groups)
        x = upfirdn2d(x, f, up=up, padding=pads, gain=up**2, flip_filter=flip_filter)
    else:
        # The transposed convolution gives every position the weights touch, and no zeros after the last pixel.
        x = _conv_transpose2d(x, w, stride=up, groups=groups, flip_weight=flip_weight)
        x_pads = [left - (kernel_x - 1), right - (kernel_x - up)]
        y_pads = [top - (kernel_y - 1), bottom - (kernel_y - up)]
        x = upfirdn2d(x, f, padding=x_pads + y_pads, gain=up**2, flip_filter=flip_filter)
    return x if down == 1 else upfirdn2d(x, f, down=down, flip_filter=flip_filter)


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
    return F.conv2d(x, w, stride=stride, padding=(pad_y, pad_x), groups=groups)


def _conv_transpose2d(x: Tensor, w: Tensor, stride: int, groups: int, flip_weight: bool) -> Tensor:
    c_out, c_in, kernel_y, kernel_x = w.shape
    w = w.reshape(groups, c_out // groups, c_in, kernel_y, kernel_x).transpose(1, 2)
    w = w.reshape(groups * c_in, c_out // groups, kernel_y, kernel_x)
    # a transposed convolution is a true convolution: for a correlation the weights are flipped
    w = w.flip([2, 3]) if flip_weight else w
    return F.conv_transpose2d(x, w, stride=stride, groups=groups)
