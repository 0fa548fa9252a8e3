"""The fused filter, scale, noise, bias and activation: native kernels against the reference path in pure torch."""

import ctypes
import mmap
import os

import pytest
import torch

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
from adaflow.cuda.fir import separate_taps
from adaflow.cuda.fused import fir_bias_act
from adaflow.cuda.fused_kernels import Slopes, adjoint, backward, forward, tangent
from adaflow.cuda.library import native, recorded_calls, reference_ops
from adaflow.cuda.self_test import compare as compare_paths
from adaflow.cuda.self_test import derivatives as all_derivatives
from adaflow.cuda.upfirdn2d import filter_axes, parse_padding

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


def axes_of(x, geometry):
    """The filter as kernels take it; None where there is none."""
    if not geometry:
        return None
    up, down, pads = geometry.get("up", 1), geometry.get("down", 1), parse_padding(geometry["padding"])
    flip, gain = geometry.get("flip_filter", False), geometry.get("fir_gain", 1.0)
    return filter_axes(x, geometry["f"], (up, up), (down, down), pads, flip, gain)


VECTORS = GEOMETRIES | {
    f"{taps} taps": {"f": setup_filter(list(range(1, taps + 1))), "padding": taps // 2} for taps in (1, 2, 3, 5)
}
del VECTORS["not separable"]


@pytest.mark.parametrize("slopes", [Slopes(), Slopes(1.4, 0.3), Slopes(1.4, 0.3, 1.0)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("geometry", VECTORS)
def test_channels_in_whole_vectors_are_as_one_by_one(geometry, dtype, slopes):
    """32 channels go 16 at a time where a processor can; 31 of them do not, and another one of zeros changes no sum."""
    torch.manual_seed(0)
    axes = axes_of(torch.empty(2, 32, 9, 7), VECTORS[geometry])
    height, width = (9, 7) if axes is None else (axis.size_out for axis in axes)

    def images(height, width):
        values = torch.randn(2, 32, height, width, dtype=dtype)
        values[:, 31] = 0
        return values.contiguous(memory_format=torch.channels_last)

    def results(channels):
        x, tx, y, dy = (images[:, :channels].contiguous(memory_format=torch.channels_last) for images in given)
        scale, tscale = scales[:, :, :channels].contiguous()
        bias = biases[:channels].contiguous()
        yield forward(x, scale, noise, bias, axes, slopes)
        yield from backward(dy, x, scale, y, adjoint(axes), slopes, [True] * 4)
        yield backward(dy, None, None, y, adjoint(axes), slopes, [True, False, False, False])[0]
        yield tangent((tx, tscale, noise, bias), x, scale, y, dy, axes, slopes)
        x = x.clone()
        x[0, 3, 0, 2], x[0, 5, 8, 6], x[1, 17, 4, 4] = torch.inf, -torch.inf, torch.nan
        yield forward(x, scale, noise, bias, axes, slopes)

    given = [images(9, 7), images(9, 7), images(height, width), images(height, width)]
    scales, biases, noise = torch.rand(2, 2, 32), torch.randn(32), torch.randn(2, 1, height, width)
    for vectors, numbers in zip(results(32), results(31), strict=True):
        kept = numbers.shape[1] if numbers.ndim == 4 else numbers.shape[-1]
        vectors = vectors[:, :kept] if vectors.ndim == 4 else vectors[..., :kept]
        rtol = 2**-7 if numbers.dtype == torch.bfloat16 else 1e-5
        torch.testing.assert_close(vectors, numbers, rtol=rtol, atol=1e-5, equal_nan=True)


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
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_do_not_change_a_bit(dtype, geometry, memory_format):
    torch.manual_seed(0)
    inputs = make_inputs(LARGE, ENDS["all"], GEOMETRIES[geometry], dtype, memory_format)
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


# --- the operations of which networks are made ---

OPERATIONS = {
    "bias_act": lambda x, w, styles: bias_act(x, styles[0] if len(styles) else None, act="lrelu", clamp=1.0),
    "upfirdn2d": lambda x, w, styles: upfirdn2d(x, SMOOTH, up=(2, 1), down=(1, 3), padding=(3, 0, 2, 4), gain=2.0),
    "upsample2d": lambda x, w, styles: upsample2d(x, SMOOTH),
    "downsample2d": lambda x, w, styles: downsample2d(x, SMOOTH),
    "conv2d_resample up": lambda x, w, styles: conv2d_resample(x, w, SMOOTH, up=2, padding=1),
    "conv2d_resample down": lambda x, w, styles: conv2d_resample(x, w, SMOOTH, down=2, padding=1, act="lrelu"),
    "modulated_conv2d": lambda x, w, styles: modulated_conv2d(x, w, styles, padding=1, act="lrelu", clamp=2.0),
    "modulated_conv2d up": lambda x, w, styles: modulated_conv2d(x, w, styles, up=2, padding=1, f=SMOOTH),
    "modulated_conv2d 1x1": lambda x, w, styles: modulated_conv2d(x, w[:, :, 1:2, 1:2], styles, demodulate=False),
}


def operands(shape, dtype=torch.float32):
    """Images, weights for 3 x 3 and 6 channels, and styles."""
    generator = torch.Generator().manual_seed(0)
    batch, channels = shape[:2]
    sizes = (shape, (6, channels, 3, 3), (batch, channels))
    return tuple(torch.randn(size, generator=generator).to(dtype) for size in sizes)


@pytest.mark.parametrize("shape", [(0, 3, 6, 6), (1, 1, 7, 5), (2, 2, 5, 8), (3, 4, 6, 7), (2, 9, 5, 5)])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_on_both_paths(operation, shape):
    """Outputs, first and second gradients; images in any layout."""
    # Demodulated, one channel has the same size whatever its style: that gradient is nothing but rounding.
    dtype = torch.float64 if shape[1] == 1 else torch.float32
    for layout in (torch.Tensor.contiguous, strided, lambda x: x.contiguous(memory_format=torch.channels_last)):
        inputs = operands(shape, dtype=dtype)
        # The leaves are contiguous; what the operation gets is laid out anew.
        with recorded_calls() as kernels:
            compare_paths(lambda x, w, styles, to=layout: OPERATIONS[operation](to(x), w, styles), *inputs)
        assert kernels


# Not those with convolutions, which are torch's: it sums gradients of weights differently for each number of threads.
@pytest.mark.parametrize("operation", ["bias_act", "upfirdn2d", "upsample2d", "downsample2d"])
def test_threads_change_no_bit_of_operations(operation):
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(all_derivatives(OPERATIONS[operation], operands((2, 5, 70, 66))))
    finally:
        torch.set_num_threads(before)
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name


@pytest.mark.parametrize("operation", OPERATIONS)
def test_second_derivatives_of_operations_by_differences(operation):
    inputs = tuple(value.requires_grad_() for value in operands((2, 2, 4, 4), dtype=torch.float64))
    assert torch.autograd.gradgradcheck(OPERATIONS[operation], inputs, fast_mode=True)


def beside_what_cannot_be_read(x, after):
    """The same tensor in memory that ends, or begins, where reading is a crash."""
    size = x.numel() * x.element_size()
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, pages + 2 * mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (start, start + mmap.PAGESIZE + pages):
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    offset = mmap.PAGESIZE + (pages - size if after else 0)
    copy = torch.frombuffer(memory, dtype=x.dtype, count=x.numel(), offset=offset).as_strided(x.shape, x.stride())
    return copy.copy_(x)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a crash is wanted in a process of its own")
@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize(("up", "down", "pads"), [(1, 1, (9, 9, 9, 9)), (3, 2, (4, 5, 2, 3)), (1, 2, (-1, 3, 4, -2))])
def test_nothing_beside_the_images_is_read(up, down, pads, after):

    def run():
        for memory_format in (torch.contiguous_format, torch.channels_last):
            images = torch.randn(1, 9, 7, 6).contiguous(memory_format=memory_format)
            x = beside_what_cannot_be_read(images, after)
            axes = filter_axes(x, SMOOTH, (up, up), (down, down), pads, False, 1.0)
            scale, slopes = torch.rand(1, 9), Slopes(1.0, 0.2, 1.0)
            y = beside_what_cannot_be_read(forward(x, scale, None, None, axes, slopes), after)
            backward(y, x, scale, y, adjoint(axes), slopes, (True, True, True, True))
            tangent((x, scale, None, None), x, scale, y, y, axes, slopes)

    child = os.fork()
    if child == 0:
        try:
            run()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
