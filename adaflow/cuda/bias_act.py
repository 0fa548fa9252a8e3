"""Bias, activation, gain and clamp in one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


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
    if b is not None:
        x = x + b.reshape([-1 if axis == dim else 1 for axis in range(x.ndim)])
    x = activation.function(x, alpha)
    if gain != 1:
        x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)
