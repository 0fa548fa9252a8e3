"""The fused filter, scale, noise, bias and activation: native kernels against the reference path in pure torch."""

import pytest
import torch

from adaflow.cuda import ACTIVATIONS, bias_act, setup_filter, upfirdn2d
from adaflow.cuda.fir import separate_taps
from adaflow.cuda.fused import fir_bias_act
from adaflow.cuda.library import native, reference_ops

SMOOTH = setup_filter([1.0, 3.0, 3.0, 1.0])
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12, torch.bfloat16: 0.01}

GEOMETRIES = {
    "none": {},
    "same": {"f": SMOOTH, "padding": (2, 1, 1, 2), "fir_gain": 4.0},
    "up": {"f": SMOOTH, "padding": (2, 1, 2, 1), "up": 2, "fir_gain": 4.0},
    "down": {"f": SMOOTH, "padding": (1, 1, 2, 0), "down": 2},
    "crop": {"f": SMOOTH, "padding": (-1, 3, 4, -2)},
    "flipped": {"f": setup_filter([1.0, 2.0, 4.0, -1.0, 0.5]), "padding": 2, "flip_filter": True},
    "long": {"f": setup_filter(list(range(1, 10))), "padding": (4, 4, 5, 3), "up": 2},
    "odd": {"f": SMOOTH, "padding": (4, 5, 2, 3), "up": 3, "down": 2},
    "not separable": {"f": setup_filter([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]]), "padding": 1},
}
ENDS = {
    "all": {"scale", "noise", "bias"},
    "bias": {"bias"},
    "scale": {"scale"},
    "noise": {"noise"},
    "nothing": set(),
}

pytestmark = pytest.mark.skipif(native(torch.device("cpu")) is None, reason="there are no native kernels here")


def relative_error(value: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the largest expected value where that is above 1."""
    assert value.shape == expected.shape
    if not value.numel():
        return 0.0
    value, expected = value.detach(), expected.detach()
    return float((value.double() - expected.double()).abs().max() / expected.double().abs().max().clamp(min=1.0))


def make_inputs(shape, parts, geometry, dtype=torch.float32, memory_format=torch.contiguous_format):
    """x and what is added to its filtered image, all of which require gradients."""
    x = torch.randn(shape).to(dtype=dtype, memory_format=memory_format)
    height, width = filtered(x, geometry).shape[2:]
    values = {
        "scale": torch.rand(shape[:2]) + 0.5,
        "noise": torch.randn(shape[0], 1, height, width),
        "bias": torch.randn(shape[1]),
    }
    inputs = {"x": x, **{name: values[name].to(dtype) for name in values if name in parts}}
    return {name: value.requires_grad_() for name, value in inputs.items()}


def filtered(x, geometry):
    kwargs = dict(geometry)
    return upfirdn2d(x.detach(), kwargs.pop("f", None), gain=kwargs.pop("fir_gain", 1.0), **kwargs)


def derivatives(inputs, geometry, **kwargs):
    """The result, its gradients, and the gradients of those; cotangents are random numbers that bfloat16 can hold."""
    y = fir_bias_act(**inputs, **geometry, **kwargs)
    generator = torch.Generator().manual_seed(1)

    def random(like):
        return torch.randn(like.shape, generator=generator).bfloat16().to(like.dtype)

    dy = random(y).requires_grad_()
    first = torch.autograd.grad(y, inputs.values(), dy, create_graph=True)
    plain = torch.autograd.grad(fir_bias_act(**inputs, **geometry, **kwargs), inputs.values(), dy)
    sources = [dy, inputs["x"], *(inputs[name] for name in ("scale",) if name in inputs)]
    second = torch.autograd.grad(first, sources, [random(gradient) for gradient in first], allow_unused=True)
    return [y, *plain, *first, *second]


def compare(inputs, geometry, tolerance, **kwargs):
    """Against the reference path, which computes in float32 where the native path stores bfloat16."""
    ours = derivatives(inputs, geometry, **kwargs)
    exact = torch.float64 if inputs["x"].dtype == torch.float64 else torch.float32
    with reference_ops():
        wide = {name: value.detach().to(exact).requires_grad_() for name, value in inputs.items()}
        expected = derivatives(wide, geometry, **kwargs)
    for one, other in zip(ours, expected, strict=True):
        if one is None or other is None:  # the reference may give zeros for what does not depend on an input
            assert all(it is None or not it.any() for it in (one, other))
        else:
            assert relative_error(one, other) < tolerance
    for name, gradient in zip(inputs, ours[1:], strict=False):
        assert gradient.dtype == inputs[name].dtype
    return ours[0]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_same_as_the_reference(geometry, dtype, memory_format):
    torch.manual_seed(0)
    for parts in ENDS.values():
        inputs = make_inputs((2, 9, 9, 7), parts, GEOMETRIES[geometry], dtype, memory_format)
        # bfloat16 may round a value to the clamp that is below it, and sums of few of its numbers to exactly 0
        clamp = None if dtype == torch.bfloat16 else 0.8
        act = "lrelu" if parts else "linear"
        compare(inputs, GEOMETRIES[geometry], TOLERANCE[dtype], act=act, clamp=clamp)


LARGE = (2, 32, 230, 24)  # some chunks of work for each image


@pytest.mark.parametrize(
    "shape", [(0, 3, 4, 4), (1, 1, 5, 8), (3, 2, 2, 2), (2, 17, 3, 70), (1, 4, 130, 3), (2, 3, 64, 300), LARGE]
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("geometry", ["none", "same", "up", "down", "crop"])
def test_shapes(geometry, memory_format, shape):
    torch.manual_seed(0)
    inputs = make_inputs(shape, ENDS["all"], GEOMETRIES[geometry], torch.float32, memory_format)
    compare(inputs, GEOMETRIES[geometry], 2e-5, act="lrelu", clamp=0.8)


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("kwargs", [{}, {"alpha": 0.3, "gain": 0.5, "clamp": 0.2}, {"alpha": -0.1, "gain": -2.0}])
def test_activations(act, kwargs):
    torch.manual_seed(0)
    inputs = make_inputs((2, 3, 5, 6), ENDS["all"], GEOMETRIES["same"], torch.float64)
    compare(inputs, GEOMETRIES["same"], 1e-12, act=act, **kwargs)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("geometry", ["none", "same", "up", "down", "odd"])
def test_derivatives_up_to_the_third(geometry, memory_format):
    torch.manual_seed(0)
    inputs = make_inputs((2, 8, 3, 2), ENDS["all"], GEOMETRIES[geometry], torch.float64, memory_format)

    def function(x, scale, noise, bias):
        kwargs = {"act": "lrelu", "clamp": 1.5, **GEOMETRIES[geometry]}
        return fir_bias_act(x, scale=scale, noise=noise, bias=bias, **kwargs)

    def pullback(*values):
        y = function(*values)
        return torch.autograd.grad(y, values, torch.linspace(-1, 2, y.numel()).double().view_as(y), create_graph=True)

    values = tuple(inputs.values())
    assert torch.autograd.gradcheck(function, values, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, values, fast_mode=True)
    assert torch.autograd.gradgradcheck(pullback, values, fast_mode=True)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("geometry", ["none", "same", "up", "down"])
def test_threads_do_not_change_a_bit(geometry, memory_format):
    torch.manual_seed(0)
    inputs = make_inputs(LARGE, ENDS["all"], GEOMETRIES[geometry], torch.float32, memory_format)
    results = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(derivatives(inputs, GEOMETRIES[geometry], act="lrelu", clamp=0.8))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def strided(x):
    """The same values, in no memory format that kernels read."""
    return torch.stack([x, x], dim=4)[..., 0]


@pytest.mark.parametrize("geometry", ["none", "same", "down"])
def test_inputs_and_gradients_in_any_memory_format(geometry):
    torch.manual_seed(0)
    x = torch.randn(2, 10, 6, 5)
    expected = fir_bias_act(x, act="lrelu", **GEOMETRIES[geometry])
    dy = torch.randn(expected.shape)
    height, width = expected.shape[2:]
    weights = {"scale": torch.rand(10, 2).T, "noise": torch.randn(width, height).T, "bias": torch.randn(20)[::2]}

    def gradients(x, dy, **weights):
        inputs = [value.detach().requires_grad_() for value in (x, *weights.values())]
        y = fir_bias_act(inputs[0], **dict(zip(weights, inputs[1:], strict=True)), act="lrelu", **GEOMETRIES[geometry])
        return [y, *torch.autograd.grad(y, inputs, dy)]

    expected = gradients(x, dy, **{name: value.contiguous() for name, value in weights.items()})
    layouts = [strided, lambda t: t.contiguous(memory_format=torch.channels_last), torch.Tensor.contiguous]
    for of_x in layouts:
        for of_dy in layouts:
            for one, other in zip(gradients(of_x(x), of_dy(dy), **weights), expected, strict=True):
                assert relative_error(one, other) < 1e-5
    expanded = gradients(x, dy[:1, :1, :1, :1].expand_as(dy), **weights)
    for one, other in zip(
        expanded, gradients(x, dy[:1, :1, :1, :1].repeat(2, 10, *dy.shape[2:]), **weights), strict=True
    ):
        assert torch.equal(one, other)


def test_the_memory_format_is_kept():
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 8, 6, 5).to(memory_format=memory_format).requires_grad_()
        y = fir_bias_act(x, act="lrelu", **GEOMETRIES["up"])
        (dx,) = torch.autograd.grad(y, x, torch.randn(y.shape))
        assert y.is_contiguous(memory_format=memory_format)
        assert dx.is_contiguous(memory_format=memory_format)


def test_bfloat16_has_no_gradient_where_the_stored_result_is_clamped():
    x = torch.tensor([-3.0, 0.5, 181.0, 181.019, 181.5, 190.0], dtype=torch.bfloat16).view(1, 1, 1, 6).requires_grad_()
    y = fir_bias_act(x, clamp=256 * 0.5**0.5)
    (dx,) = torch.autograd.grad(y.sum(), x)
    assert y.flatten().tolist() == [-3, 0.5, 181, 181, 181, 181]
    assert dx.flatten().tolist() == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (3, 4, 5, 6), (3, 4, 2, 2, 2)])
def test_bias_act_of_any_number_of_axes(shape):
    torch.manual_seed(0)
    x, b = torch.randn(shape).requires_grad_(), torch.randn(4).requires_grad_()

    def results():
        y = bias_act(x, b, act="lrelu", clamp=1.0)
        return [y, *torch.autograd.grad(y.square().sum(), [x, b])]

    ours = results()
    with reference_ops():
        expected = results()
    for one, other in zip(ours, expected, strict=True):
        assert relative_error(one, other) < 1e-6


@pytest.mark.parametrize("wrong", [{"bias": (4,)}, {"scale": (2, 4)}, {"bias": (2, 3)}, {"noise": (2, 1, 5, 4)}])
def test_what_does_not_fit_is_refused(wrong):
    ((name, shape),) = wrong.items()
    with pytest.raises(RuntimeError):
        fir_bias_act(torch.randn(2, 3, 5, 5), **{name: torch.randn(shape)})


def test_taps_are_separated_anew_when_a_filter_changes():
    f = setup_filter([1.0, 3.0, 3.0, 1.0])
    y, x = separate_taps(f)
    torch.testing.assert_close(torch.outer(torch.tensor(y), torch.tensor(x)), f)
    f.mul_(2)
    y, x = separate_taps(f)
    torch.testing.assert_close(torch.outer(torch.tensor(y), torch.tensor(x)), f)
    f[0, 0] += 1
    assert separate_taps(f) is None
    assert separate_taps(torch.zeros(3, 3)) == ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    with torch.inference_mode():
        assert separate_taps(setup_filter([1.0, 1.0])) == ((1.0, 1.0), (0.25, 0.25))


def test_a_second_derivative_that_is_zero_is_not_computed():
    x, bias = torch.randn(2, 8, 6, 5).requires_grad_(), torch.randn(8).requires_grad_()
    dy = torch.randn(2, 8, 6, 5).requires_grad_()
    (dx,) = torch.autograd.grad(fir_bias_act(x, bias=bias, act="lrelu", clamp=1.0), x, dy, create_graph=True)
    d2y, d2x, d2bias = torch.autograd.grad(dx.sum(), [dy, x, bias], allow_unused=True)
    assert d2y is not None
    assert d2x is None
    assert d2bias is None
