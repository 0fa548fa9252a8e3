"""Convolution and its transpose: equal to torch's, derivatives of every order, and no work nobody asked for."""

import pytest
import torch
import torch.nn.functional as F

from adaflow.cuda import conv2d_resample, modulated_conv2d, setup_filter
from adaflow.cuda.conv2d import conv2d, conv_transpose2d
from adaflow.cuda.fused import fir_bias_act

# batch, channels in and out, size (y, x), kernel, stride, padding (y, x), groups
SHAPES = [
    (2, 3, 5, (8, 8), 3, 1, (1, 1), 1),
    (1, 4, 6, (9, 7), 3, 2, (0, 0), 1),
    (3, 2, 4, (8, 6), 3, 2, (1, 0), 2),
    (2, 1, 3, (5, 4), 1, 1, (0, 0), 1),
    (1, 4, 2, (6, 9), 1, 2, (0, 0), 1),
    (2, 2, 2, (10, 10), 5, 3, (2, 1), 2),
]
IDS = [f"k{s[4]}-s{s[5]}-g{s[7]}-n{s[0]}-c{s[1]}" for s in SHAPES]


def inputs(shape, transposed, dtype=torch.float32, layout=torch.contiguous_format):
    torch.manual_seed(0)
    batch, c_in, c_out, size, kernel, _, _, groups = shape
    x = torch.randn(batch, c_in, *size, dtype=dtype).contiguous(memory_format=layout)
    filters = (c_in, c_out // groups) if transposed else (c_out, c_in // groups)
    w = torch.randn(*filters, kernel, kernel, dtype=dtype).contiguous(memory_format=layout)
    return x.requires_grad_(), w.requires_grad_()


def ours(shape, transposed):
    _, _, _, _, _, stride, padding, groups = shape
    if transposed:
        return lambda x, w: conv_transpose2d(x, w, stride=stride, groups=groups)
    return lambda x, w: conv2d(x, w, stride=stride, padding=padding, groups=groups)


def torchs(shape, transposed):
    _, _, _, _, _, stride, padding, groups = shape
    if transposed:
        return lambda x, w: F.conv_transpose2d(x, w, stride=stride, groups=groups)
    return lambda x, w: F.conv2d(x, w, stride=stride, padding=padding, groups=groups)


def derivatives(convolve, x, w):
    """The result, its gradients, and the gradients of a function of those."""
    torch.manual_seed(1)
    y = convolve(x, w)
    first = torch.autograd.grad((y * torch.randn_like(y)).sin().sum(), (x, w), create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), (x, w))
    return [y, *first, *second]


@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "transposed"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_equals_torch(shape, transposed, layout):
    x, w = inputs(shape, transposed, layout=layout)
    expected = derivatives(torchs(shape, transposed), x, w)
    for got, wanted in zip(derivatives(ours(shape, transposed), x, w), expected, strict=True):
        scale = float(wanted.detach().abs().max()) if wanted.numel() else 1.0
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5 * max(scale, 1.0))


@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "transposed"])
@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_derivatives(shape, transposed):
    _, c_in, c_out, _, kernel, stride, padding, groups = shape
    small = (1, c_in, c_out, (kernel + 1, kernel), kernel, stride, padding, groups)
    x, w = inputs(small, transposed, torch.float64)
    assert torch.autograd.gradcheck(ours(small, transposed), (x, w))
    assert torch.autograd.gradgradcheck(ours(small, transposed), (x, w))


def test_third_derivative():
    shape = (1, 2, 2, (4, 3), 3, 1, (1, 1), 1)
    x, w = inputs(shape, False, torch.float64)

    def gradient(x, w):
        y = conv2d(x, w, padding=(1, 1)).pow(3).sum()
        return torch.autograd.grad(y, (x, w), create_graph=True)

    assert torch.autograd.gradgradcheck(gradient, (x, w))


def test_an_empty_batch():
    x, w = torch.empty(0, 3, 6, 6, requires_grad=True), torch.randn(2, 3, 3, 3, requires_grad=True)
    y, *gradients = derivatives(lambda x, w: conv2d(x, w, padding=(1, 1)), x, w)
    assert y.shape == (0, 2, 6, 6)
    assert all(not gradient.any() for gradient in gradients)


def test_not_contiguous():
    x = torch.randn(2, 8, 6, 3).permute(0, 3, 1, 2)[:, :, ::2, 1:]
    w = torch.randn(3, 4, 3, 3).transpose(0, 1)
    torch.testing.assert_close(conv2d(x, w, padding=(1, 1)), F.conv2d(x, w, padding=1), rtol=1e-5, atol=1e-5)


def kernels(work):
    """How often each convolution kernel ran, and for which weights: (name, shape of the second argument)."""
    calls = []

    class Count(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            name = function.name().removeprefix("aten::")
            if name in ("convolution", "convolution_backward"):
                calls.append((name, tuple(args[2 if name.endswith("backward") else 1].shape)))
            return function(*args, **(kwargs or {}))

    with Count():
        work()
    return calls


def test_a_penalty_on_gradients_costs_six_convolutions():
    """Forward, gradient of images, and their four derivatives; none of them with a feature map for a kernel."""
    x = torch.randn(2, 3, 16, 16, requires_grad=True)
    w = torch.randn(4, 3, 3, 3, requires_grad=True)

    def penalty():
        y = conv2d(x, w, padding=(1, 1)).square().sum()
        (gradient,) = torch.autograd.grad(y, x, create_graph=True)
        gradient.square().sum().backward()

    calls = kernels(penalty)
    # grad(x) alone does not touch the weight gradient; backward then wants images and weights through both of them.
    assert calls.count(("convolution_backward", (4, 3, 3, 3))) == 2
    assert calls.count(("convolution", (4, 3, 3, 3))) == 4
    assert len(calls) == 6


def test_gradients_nobody_wants_are_not_computed():
    x, w = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3, requires_grad=True)
    assert len(kernels(lambda: conv2d(x, w).sum().backward())) == 2
    x.requires_grad_()
    assert len(kernels(lambda: torch.autograd.grad(conv2d(x, w).sum(), x))) == 2
    assert len(kernels(lambda: torch.autograd.grad(conv2d(x, w).sum(), w))) == 3
    w.requires_grad_(False)
    assert len(kernels(lambda: conv2d(x, w).sum().backward())) == 2


def test_weights_follow_the_type_of_the_images():
    torch.manual_seed(0)
    x, w, styles = torch.randn(2, 4, 8, 8), torch.randn(5, 4, 3, 3, requires_grad=True), torch.randn(2, 4)
    f = setup_filter([1.0, 3.0, 3.0, 1.0])
    for function in (
        lambda x: conv2d_resample(x, w, f, up=2, padding=1),
        lambda x: modulated_conv2d(x, w, styles, padding=1),
        lambda x: modulated_conv2d(x, w[:, :, :1, :1], styles),
    ):
        y, exact = function(x.bfloat16()), function(x)
        assert y.dtype == torch.bfloat16
        assert float((y.float() - exact).detach().abs().max()) < 0.02 * float(exact.detach().abs().max())
        (gradient,) = torch.autograd.grad(y.float().sum(), w)
        assert gradient.dtype == torch.float32


@pytest.mark.parametrize("kwargs", [{}, {"up": 2}, {"down": 2}, {"up": 2, "down": 2}])
@pytest.mark.parametrize("size", [1, 3])
def test_finish_is_what_would_be_done_after(size, kwargs):
    torch.manual_seed(0)
    f = setup_filter([1.0, 3.0, 3.0, 1.0])
    x, w = torch.randn(2, 4, 8, 8), torch.randn(6, 4, size, size)
    y = conv2d_resample(x, w, f, padding=size // 2, **kwargs)
    finish = {
        "scale": torch.randn(2, 6),
        "noise": torch.randn(2, 1, *y.shape[2:]),
        "bias": torch.randn(6),
        "act": "lrelu",
        "gain": 0.7,
        "clamp": 1.5,
    }
    expected = fir_bias_act(y, **finish)
    torch.testing.assert_close(conv2d_resample(x, w, f, padding=size // 2, **kwargs, **finish), expected)


def test_one_by_one_convolution_with_styles():
    torch.manual_seed(0)
    x, w, styles, bias = torch.randn(3, 4, 6, 5), torch.randn(2, 4, 1, 1), torch.randn(3, 4), torch.randn(2)
    for demodulate in (False, True):
        own = w[None] * styles[:, None, :, None, None]
        if demodulate:
            own = own / (own.square().sum(dim=[2, 3, 4], keepdim=True) + 1e-8).sqrt()
        expected = torch.cat([F.conv2d(x[n : n + 1], own[n]) for n in range(3)]) + bias[:, None, None]
        y = modulated_conv2d(x, w, styles, demodulate=demodulate, bias=bias)
        torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
