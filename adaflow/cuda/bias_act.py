"""Bias, activation, gain and clamp in one call.

Images take the native kernel; for the short vectors of fully connected layers torch's own operations take less time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adaflow.cuda.fused_autograd import filter_and_activate
from adaflow.cuda.fused_kernels import Slopes, runs_natively


@dataclass(frozen=True)
class Activation:
    """An activation function.

    Args:
        function: takes (x, alpha).
        default_gain: keeps the variance of N(0, 1) inputs roughly at 1 (He et al. 2015 for the rectifiers).
        default_alpha: the shape parameter; 0 where the function has none.
    """

    function: Callable[[Tensor, float], Tensor]
    default_gain: float = 1.0
    default_alpha: float = 0.0


ACTIVATIONS = {
    "linear": Activation(lambda x, _: x),
    "relu": Activation(lambda x, _: F.relu(x), default_gain=2**0.5),
    "lrelu": Activation(lambda x, alpha: F.leaky_relu(x, alpha), default_gain=2**0.5, default_alpha=0.2),
    "tanh": Activation(lambda x, _: torch.tanh(x)),
    "sigmoid": Activation(lambda x, _: torch.sigmoid(x)),
    "elu": Activation(lambda x, _: F.elu(x)),
    "selu": Activation(lambda x, _: F.selu(x)),
    "softplus": Activation(lambda x, _: F.softplus(x)),
    "swish": Activation(lambda x, _: torch.sigmoid(x) * x, default_gain=2**0.5),
}


def bias_act(
    x: Tensor,
    b: Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """clamp(gain · act(x + b), -clamp, clamp). Twice differentiable with respect to `x` and `b`.

    Args:
        x: any shape.
        b: bias, [x.shape[dim]], or None.
        dim: the axis of `x` that `b` belongs to.
        act: a name in `ACTIVATIONS`.
        alpha: slope of lrelu for negative values; None is the default of the activation. The others ignore it.
        gain: factor on the result; None is the default of the activation.
        clamp: the largest absolute value to return, or None.

    Returns:
        same shape as `x`.
    """
    activation = ACTIVATIONS[act]
    alpha = activation.default_alpha if alpha is None else alpha
    gain = activation.default_gain if gain is None else gain

    slopes = slopes_of(act, alpha, gain, clamp)
    if slopes is not None and dim == 1 and runs_natively(x) and belongs_to(b, x, (x.shape[1],)):
        return filter_and_activate(x, None, None, b, None, slopes)

    if b is not None:
        x = x + b.reshape([-1 if axis == dim else 1 for axis in range(x.ndim)])
    x = activation.function(x, alpha)
    if gain != 1:
        x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


def slopes_of(act: str, alpha: float, gain: float, clamp: float | None) -> Slopes | None:
    """A piecewise linear activation as native kernels take it; None for the others, which are torch's.

    The derivative is read off the result, so the sign of that has to be the sign of what went in.
    """
    negative = {"linear": 1.0, "relu": 0.0, "lrelu": alpha}.get(act)
    if negative is None or negative < 0 or gain <= 0 or (clamp is not None and clamp < 0):
        return None
    return Slopes(gain, gain * negative, clamp)


def belongs_to(values: Tensor | None, x: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether a kernel may read `values` beside `x`: there are none, or of this shape, on the same device."""
    return values is None or (values.shape == shape and values.device == x.device and values.is_floating_point())
