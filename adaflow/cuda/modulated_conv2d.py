"""The modulated convolution of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958, section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor

from adaflow.cuda.conv2d_resample import Finish, conv2d_resample
from adaflow.cuda.fused import fir_bias_act
from adaflow.cuda.pointwise import pointwise_conv2d
from adaflow.cuda.upfirdn2d import parse_padding


def modulated_conv2d(
    x: Tensor,
    w: Tensor,
    styles: Tensor,
    noise: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int | Sequence[int] = 0,
    f: Tensor | None = None,
    demodulate: bool = True,
    flip_weight: bool = True,
    **finish: Unpack[Finish],
) -> Tensor:
    """Convolve each image with weights scaled by its own styles, then finish. Twice differentiable.

    Scaling the weights of sample n by s_n along the input channels is scaling its activations by s_n, and
    demodulation is one factor per output channel, so all samples share one convolution with the plain weights.

    Args:
        x: images, [N, C_in, H, W].
        w: weights, [C_out, C_in, k, k]; convolved with in the dtype of `x`.
        styles: scale of every input channel, [N, C_in].
        noise: added to the result, broadcast against [N, C_out, H', W'], or None.
        up: upsampling factor.
        down: downsampling factor.
        padding: as for `conv2d_resample`.
        f: low-pass filter from `setup_filter` for up- and downsampling.
        demodulate: divide by sqrt(Σ (w·s)² + 1e-8), sum over input channels and kernel (eq. 3).
        flip_weight: True correlates with `w`, False convolves.
        finish: bias, activation, gain and clamp, as for `fir_bias_act`.

    Returns:
        images, [N, C_out, H', W'], in the dtype of `x`.
    """
    scale = (styles.square() @ w.square().sum(dim=[2, 3]).T + 1e-8).rsqrt() if demodulate else None
    if w.shape[2:] == (1, 1) and up == down == 1 and not any(parse_padding(padding)):
        own = (w.flatten(1) * styles[:, None]).to(x.dtype)  # no pass over the activations to scale them
        return fir_bias_act(pointwise_conv2d(x, own), scale=scale, noise=noise, **finish)
    x = fir_bias_act(x, scale=styles)
    return conv2d_resample(
        x, w, f, up=up, down=down, padding=padding, flip_weight=flip_weight, scale=scale, noise=noise, **finish
    )
