"""The operations against golden outputs and gradients, and their second derivatives against finite differences."""

import pytest
import torch

from adaflow import cuda
from adaflow.cuda import (
    ACTIVATIONS,
    bias_act,
    conv2d_resample,
    downsample2d,
    modulated_conv2d,
    setup_filter,
    upfirdn2d,
    upsample2d,
)
from adaflow.errors import ConfigError
from tests.golden import Golden

golden = Golden("ops")
CASES = {case["key"]: case for case in golden.cases}
FILTER_SETTINGS = {
    "f4_sep": {"separable": True},
    "asym5_sep": {"separable": True},
    "f4_flip_gain2_nonorm": {"flip_filter": True, "gain": 2.0, "normalize": False},
}


def relative_error(value: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the largest expected value where that is above 1."""
    assert value.shape == expected.shape
    return float((value - expected).detach().abs().max() / expected.abs().max().clamp(min=1.0))


def run(case: dict, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    f = golden[case["filter"]] if case.get("filter") else None
    kwargs = {name: value for name, value in case["kwargs"].items() if name != "kernel"}
    if case["op"] == "bias_act":
        return bias_act(inputs["x"], inputs.get("b"), **kwargs)
    if case["op"] == "conv2d_resample":
        return conv2d_resample(inputs["x"], inputs["w"], f, **kwargs)
    if case["op"] == "modulated_conv2d":
        noise = golden[f"{case['key']}__noise"] if "noise" in case["arrays"] else None
        return modulated_conv2d(inputs["x"], inputs["w"], inputs["s"], noise=noise, f=f, **kwargs)
    return getattr(cuda, case["op"])(inputs["x"], f, **kwargs)


@pytest.mark.parametrize("key", CASES)
def test_golden(key):
    case = CASES[key]
    inputs = {name: golden[f"{key}__{name}"].requires_grad_() for name in "xwsb" if name in case["arrays"]}
    y = run(case, inputs)
    assert relative_error(y, golden[f"{key}__y"]) < 1e-5
    gradients = torch.autograd.grad(y, list(inputs.values()), golden[f"{key}__cot"])
    for name, gradient in zip(inputs, gradients, strict=True):
        assert relative_error(gradient, golden[f"{key}__g{name}"]) < 1e-5, name


@pytest.mark.parametrize("name", [key.split("__")[1] for key in golden.keys("filter__")])
def test_filter_preparation(name):
    taps = [1.0] if name == "imp" else golden["rawfilter__" + name.removesuffix("_sep")]
    f = setup_filter(taps, **FILTER_SETTINGS.get(name, {}))
    torch.testing.assert_close(f, golden[f"filter__{name}"], rtol=1e-6, atol=1e-7)


def test_activation_defaults():
    names = ["linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish"]
    assert list(ACTIVATIONS) == names
    gains = torch.tensor([ACTIVATIONS[name].default_gain for name in names])
    alphas = torch.tensor([ACTIVATIONS[name].default_alpha for name in names])
    torch.testing.assert_close(gains, golden["bias_act_default_gain"].float())
    torch.testing.assert_close(alphas, golden["bias_act_default_alpha"].float())


@pytest.mark.parametrize("taps", [[], [[[1.0]]], [1.0, -1.0]])
def test_unusable_filter(taps):
    with pytest.raises(ConfigError):
        setup_filter(taps)


@pytest.mark.parametrize("taps", [[1, 3, 3, 1], [1, 2, 1], [1, 7, 21, 35, 35, 21, 7, 1]])
def test_resampling_keeps_a_constant_image(taps):
    f = setup_filter(taps)
    x = torch.full([1, 2, 16, 12], 0.7)
    up, down = upsample2d(x, f), downsample2d(x, f)
    assert up.shape == (1, 2, 32, 24)
    assert down.shape == (1, 2, 8, 6)
    torch.testing.assert_close(up[:, :, 8:-8, 8:-8], torch.full([1, 2, 16, 8], 0.7))
    torch.testing.assert_close(down[:, :, 3:-3, 2:-2], torch.full([1, 2, 2, 2], 0.7))


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64).requires_grad_()


def check_derivatives(function, *inputs: torch.Tensor):
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"padding": [2, 1, -1, 3]},
        {"up": 2, "padding": [2, 1, 2, 1], "gain": 4.0},
        {"up": 2, "padding": [5, -1, 0, 6]},
        {"down": 2, "padding": 1, "flip_filter": True},
        {"up": [3, 2], "down": [2, 3], "padding": [1, 4, 0, 2]},
    ],
)
@pytest.mark.parametrize("separable", [False, True])
def test_upfirdn2d_derivatives(kwargs, separable):
    torch.manual_seed(0)
    f = setup_filter([1.0, 2.0, 4.0, -1.0], separable=separable)
    check_derivatives(lambda x: upfirdn2d(x, f, **kwargs), normal(1, 2, 5, 4))


@pytest.mark.parametrize("clamp", [None, 0.7])
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_bias_act_derivatives(act, clamp):
    torch.manual_seed(0)
    check_derivatives(lambda x, b: bias_act(x, b, act=act, clamp=clamp), normal(3, 4, 2), normal(4))


@pytest.mark.parametrize(
    ("size", "kwargs"),
    [
        (3, {"padding": 1}),
        (3, {"padding": 1, "up": 2}),
        (3, {"padding": 1, "up": 2, "flip_weight": False}),
        (3, {"padding": 1, "up": 2, "groups": 2}),
        (3, {"padding": 1, "down": 2}),
        (1, {"up": 2}),
        (1, {"down": 2}),
        (3, {"padding": 1, "up": 2, "down": 2}),
    ],
)
def test_conv2d_resample_derivatives(size, kwargs):
    torch.manual_seed(0)
    f = setup_filter([1.0, 3.0, 2.0])
    w = normal(2, 2 // kwargs.get("groups", 1), size, size)
    check_derivatives(lambda x, w: conv2d_resample(x, w, f, **kwargs), normal(1, 2, 4, 4), w)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("kwargs", [{}, {"up": 2, "flip_weight": False}, {"down": 2}])
def test_modulated_conv2d_derivatives(kwargs, demodulate):
    torch.manual_seed(0)
    f = setup_filter([1.0, 3.0, 3.0, 1.0])

    def convolve(x, w, styles, noise):
        return modulated_conv2d(x, w, styles, noise=noise, padding=1, f=f, demodulate=demodulate, **kwargs)

    side = 4 * kwargs.get("up", 1) // kwargs.get("down", 1)
    check_derivatives(convolve, normal(2, 2, 4, 4), normal(2, 2, 3, 3), normal(2, 2), normal(2, 1, side, side))


def test_modulated_conv2d_is_a_convolution_with_the_weights_of_each_image():
    torch.manual_seed(0)
    x, w, styles = torch.randn(3, 4, 6, 6), torch.randn(5, 4, 3, 3), torch.randn(3, 4)
    y = modulated_conv2d(x, w, styles, padding=1)
    for n in range(3):
        own = w * styles[n][None, :, None, None]
        own = own / (own.square().sum(dim=[1, 2, 3], keepdim=True) + 1e-8).sqrt()
        expected = torch.nn.functional.conv2d(x[n : n + 1], own, padding=1)
        torch.testing.assert_close(y[n : n + 1], expected, rtol=1e-4, atol=1e-5)
