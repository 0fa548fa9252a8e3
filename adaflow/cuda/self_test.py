"""Whether the native path of an operation agrees with its reference path, up to second gradients, on small inputs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adaflow.cuda.bias_act import bias_act
from adaflow.cuda.conv2d import conv2d
from adaflow.cuda.fir import setup_filter
from adaflow.cuda.fused import fir_bias_act
from adaflow.cuda.library import reference_ops, register_self_test
from adaflow.cuda.modulated_conv2d import modulated_conv2d
from adaflow.cuda.upfirdn2d import downsample2d, upfirdn2d, upsample2d


def compare(function: Callable[..., Tensor], *inputs: Tensor, tolerance: float = 1e-4) -> None:
    """Compare output, first and second gradients on the native path with those within `reference_ops()`.

    Convolutions in both are exact float32: TF32 would round what differs by little to what differs by much.

    Args:
        function: twice differentiable in all inputs; the same values each time it is called.
        inputs: tensors of floats.
        tolerance: the largest difference allowed, as a part of the largest value of each tensor compared.

    Raises:
        AssertionError: something differs.
    """
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        native = derivatives(function, inputs)
        with reference_ops():
            reference = derivatives(function, inputs)
    for name, expected in reference.items():
        limit = tolerance * max(float(expected.abs().max()), 1e-3) if expected.numel() else 0.0
        try:
            torch.testing.assert_close(native[name], expected, rtol=0, atol=limit)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


def derivatives(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """The output, its gradients for a random cotangent, and the gradients of those for others.

    Args:
        function: as for `compare`.
        inputs: as for `compare`.

    Returns:
        name → tensor.
    """
    inputs = tuple(value.detach().clone().requires_grad_() for value in inputs)
    output = function(*inputs)
    cotangent = some(*output.shape, seed=1).to(output).requires_grad_()
    first = torch.autograd.grad(output, inputs, cotangent, create_graph=True, materialize_grads=True)
    weights = [some(*gradient.shape, seed=2 + index).to(gradient) for index, gradient in enumerate(first)]
    total = torch.stack([(gradient * weight).sum() for gradient, weight in zip(first, weights, strict=True)]).sum()
    second = torch.autograd.grad(total, (*inputs, cotangent), materialize_grads=True)
    named = {"output": output}
    named |= {f"gradient {index}": gradient for index, gradient in enumerate(first)}
    named |= {f"second gradient {index}": gradient for index, gradient in enumerate(second)}
    return {name: value.detach() for name, value in named.items()}


def some(*shape: int, seed: int = 0, device: torch.device | None = None) -> Tensor:
    """Normally distributed numbers, the same ones each time for a shape and a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


def _bias_act(device: torch.device) -> None:
    def function(x: Tensor, b: Tensor) -> Tensor:
        return bias_act(x, b, act="lrelu", clamp=1.0)

    compare(function, some(3, 5, 7, 6, device=device), some(5, device=device))


def _upfirdn2d(device: torch.device) -> None:
    taps = setup_filter([1, 2, 3, 4, 2]).to(device)
    compare(lambda x: upfirdn2d(x, taps, up=2, down=3, padding=(3, 1, 2, -1)), some(2, 3, 9, 8, device=device))


def _resampling(device: torch.device) -> None:
    taps = setup_filter([1, 3, 3, 1]).to(device)
    for function in (upsample2d, downsample2d):
        compare(lambda x, run=function: run(x, taps), some(2, 3, 8, 10, device=device))


def _fir_bias_act(device: torch.device) -> None:
    taps = setup_filter([1, 3, 3, 1]).to(device)

    def function(x: Tensor, scale: Tensor, noise: Tensor, bias: Tensor) -> Tensor:
        return fir_bias_act(x, taps, 1, 2.0, scale=scale, noise=noise, bias=bias, act="lrelu", clamp=3.0)

    for layout in (torch.contiguous_format, torch.channels_last):
        x = some(2, 5, 9, 8, device=device).to(memory_format=layout)
        compare(function, x, some(2, 5, device=device), some(2, 1, 8, 7, device=device), some(5, device=device))


def _modulated_conv2d(device: torch.device) -> None:
    taps = setup_filter([1, 3, 3, 1]).to(device)
    for up in (1, 2):
        compare(
            lambda x, w, styles, factor=up: modulated_conv2d(x, w, styles, up=factor, padding=1, f=taps),
            *(some(2, 4, 8, 8, device=device), some(6, 4, 3, 3, device=device), some(2, 4, device=device)),
        )


def _conv2d(device: torch.device) -> None:
    """Wide enough for `adaflow.cuda.winograd`, where the processor has what that needs."""
    x, w = some(4, 32, 8, 8, device=device), some(48, 32, 3, 3, device=device)
    compare(lambda x, w: conv2d(x, w, padding=(1, 1)), x, w)


register_self_test("bias_act", _bias_act)
register_self_test("conv2d", _conv2d)
register_self_test("fir_bias_act", _fir_bias_act)
register_self_test("modulated_conv2d", _modulated_conv2d)
register_self_test("upfirdn2d", _upfirdn2d)
register_self_test("upsample2d, downsample2d", _resampling)
