"""FIR filter, demodulation, noise, bias, activation, gain and clamp in one call."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from adaflow.cuda.bias_act import ACTIVATIONS, belongs_to, bias_act, slopes_of
from adaflow.cuda.fused_autograd import filter_and_activate
from adaflow.cuda.fused_kernels import runs_natively
from adaflow.cuda.upfirdn2d import filter_axes, parse_padding, upfirdn2d


def fir_bias_act(
    x: Tensor,
    f: Tensor | None = None,
    padding: int | Sequence[int] = 0,
    fir_gain: float = 1.0,
    up: int = 1,
    down: int = 1,
    scale: Tensor | None = None,
    noise: Tensor | None = None,
    bias: Tensor | None = None,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    flip_filter: bool = False,
) -> Tensor:
    """clamp(gain · act(FIR(x) · scale + noise + bias), -clamp, clamp). Twice differentiable in every tensor but `f`.

    Args:
        x: activations, [N, C, H, W].
        f: taps from `setup_filter`, [taps] or [height, width]; None leaves the filter out.
        padding: as for `upfirdn2d`.
        fir_gain: factor on the filtered signal.
        up: upsampling factor.
        down: downsampling factor.
        scale: factor on each channel of each image, [N, C], or None.
        noise: added to every channel; broadcasts to [N, 1, H', W'] (at most 4 axes), or None.
        bias: [C] or None.
        act: a name in `ACTIVATIONS`.
        alpha: as for `bias_act`.
        gain: as for `bias_act`.
        clamp: as for `bias_act`.
        flip_filter: as for `upfirdn2d`.

    Returns:
        activations, [N, C, H', W'], sizes as for `upfirdn2d`; the dtype and memory format of `x`.
    """
    activation = ACTIVATIONS[act]
    alpha = activation.default_alpha if alpha is None else alpha
    gain = activation.default_gain if gain is None else gain
    slopes = slopes_of(act, alpha, gain, clamp)
    pads = parse_padding(padding)
    plain = f is None and up == down == 1 and pads == (0, 0, 0, 0) and fir_gain == 1

    if slopes is not None and runs_natively(x) and _fit(x, scale, noise, bias):
        axes = None if plain else filter_axes(x, f, (up, up), (down, down), pads, flip_filter, fir_gain)
        if plain or axes is not None:
            height, width = x.shape[2:] if axes is None else (axis.size_out for axis in axes)
            noise = None if noise is None else noise.expand(x.shape[0], 1, height, width)
            return filter_and_activate(x, scale, noise, bias, axes, slopes)

    if not plain:
        x = upfirdn2d(x, f, up=up, down=down, padding=padding, flip_filter=flip_filter, gain=fir_gain)
    if scale is not None:
        x = x * scale.to(x.dtype)[:, :, None, None]
    if noise is not None:
        x = x + noise.to(x.dtype)
    return bias_act(x, None if bias is None else bias.to(x.dtype), act=act, alpha=alpha, gain=gain, clamp=clamp)


def _fit(x: Tensor, scale: Tensor | None, noise: Tensor | None, bias: Tensor | None) -> bool:
    if not belongs_to(scale, x, tuple(x.shape[:2])) or not belongs_to(bias, x, (x.shape[1],)):
        return False
    return noise is None or (noise.device == x.device and (noise.ndim < 3 or (noise.ndim < 5 and noise.shape[-3] == 1)))
