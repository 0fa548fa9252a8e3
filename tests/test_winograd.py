"""Winograd convolutions: equal to exact ones, up to rounding, to every derivative, and used only where they pay."""

import pytest
import torch
import torch.nn.functional as F

from adaflow.core.networks import Discriminator, DiscriminatorConfig
from adaflow.cuda import winograd
from adaflow.cuda.conv2d import conv2d
from adaflow.cuda.library import offers, recorded_calls, reference_ops

CPU = torch.device("cpu")
F32, BF16 = "adaflow_winograd_forward_f32", "adaflow_winograd_forward_bf16"

# batch, channels, filters, size (y, x)
SHAPES = [
    (4, 32, 32, (8, 8)),
    (1, 48, 64, (16, 18)),
    (5, 64, 32, (4, 14)),
    (2, 80, 112, (12, 12)),
    (1, 32, 48, (2, 130)),
    (3, 32, 48, (22, 18)),  # more tiles than a block of the weight gradient has
]
LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}

only_with = {
    name: pytest.mark.skipif(not offers(name, CPU), reason=f"this processor has no {instructions}")
    for name, instructions in ((F32, "AVX-512"), (BF16, "AVX512-BF16"))
}


def inputs(shape, dtype=torch.float32, layout="nhwc"):
    torch.manual_seed(0)
    batch, channels, filters, size = shape
    x = torch.randn(batch, channels, *size).to(dtype).contiguous(memory_format=LAYOUTS[layout])
    w = torch.randn(filters, channels, 3, 3).to(dtype).contiguous(memory_format=LAYOUTS[layout])
    return x.requires_grad_(), w.requires_grad_()


def derivatives(convolve, x, w):
    """The result, its gradients, and the gradients of a function of those, which are linear in nothing."""
    generator = torch.Generator().manual_seed(1)
    y = convolve(x, w)
    cotangent = torch.randn(y.shape, generator=generator).to(y)
    first = torch.autograd.grad((y * cotangent).sum(), (x, w), create_graph=True)
    weights = [torch.randn(g.shape, generator=generator).to(g) for g in first]
    second = torch.autograd.grad(sum((g * v).sum() for g, v in zip(first, weights, strict=True)), (x, w))
    return [part.detach() for part in (y, *first, *second)]


def exact(x, w):
    """All derivatives in float64 by torch."""
    wide = [part.detach().double().requires_grad_() for part in (x, w)]
    return derivatives(lambda x, w: F.conv2d(x, w, padding=1), *wide)


def ours(x, w):
    return derivatives(lambda x, w: conv2d(x, w, padding=(1, 1)), x, w)


@only_with[F32]
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_as_exact_as_torch(shape, layout):
    x, w = inputs(shape, layout=layout)
    with recorded_calls() as calls:
        found = ours(x, w)
    assert calls == {F32, "adaflow_winograd_weights_f32"}
    with reference_ops():
        usual = ours(x, w)
    for got, torchs, wanted in zip(found, usual, exact(x, w), strict=True):
        error, theirs = (float((part - wanted).norm() / wanted.norm()) for part in (got, torchs))
        assert error < max(3 * theirs, 5e-7)
        assert got.dtype == torch.float32


@only_with[BF16]
@pytest.mark.parametrize("shape", [(4, 64, 64, (8, 8)), (3, 80, 112, (22, 18))], ids=str)
def test_in_bf16_it_rounds_a_few_times(shape):
    x, w = inputs(shape, torch.bfloat16)
    with recorded_calls() as calls:
        found = ours(x, w)
    assert calls == {BF16, "adaflow_winograd_weights_bf16"}
    for got, wanted in zip(found, exact(x, w), strict=True):
        assert got.dtype == torch.bfloat16
        assert float((got - wanted).norm() / wanted.norm()) < 0.006  # a rounding is 0.0017


@only_with[F32]
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=only_with[BF16])])
def test_the_number_of_threads_does_not_matter(dtype):
    x, w = inputs((16, 64, 64, (16, 16)), dtype)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(ours(x, w))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@only_with[F32]
def test_an_image_does_not_depend_on_the_others():
    x, w = inputs((6, 32, 48, (12, 10)))
    together = conv2d(x, w, padding=(1, 1))
    assert torch.equal(conv2d(x[2:5], w, padding=(1, 1)), together[2:5])


@only_with[F32]
@pytest.mark.parametrize(
    ("x", "w", "kwargs"),
    [
        ((4, 24, 8, 8), (32, 24, 3, 3), {"padding": (1, 1)}),  # no multiple of 16
        ((4, 16, 8, 8), (32, 16, 3, 3), {"padding": (1, 1)}),  # narrow
        ((4, 32, 8, 8), (40, 32, 3, 3), {"padding": (1, 1)}),
        ((4, 32, 9, 8), (32, 32, 3, 3), {"padding": (1, 1)}),  # odd
        ((4, 32, 8, 9), (32, 32, 3, 3), {"padding": (1, 1)}),
        ((3, 32, 8, 8), (32, 32, 3, 3), {"padding": (1, 1)}),  # few
        ((0, 32, 8, 8), (32, 32, 3, 3), {"padding": (1, 1)}),
        ((4, 32, 8, 8), (32, 32, 3, 3), {"padding": (0, 0)}),
        ((4, 32, 8, 8), (32, 32, 3, 3), {"padding": (1, 1), "stride": 2}),
        ((4, 64, 8, 8), (64, 32, 3, 3), {"padding": (1, 1), "groups": 2}),
        ((4, 32, 8, 8), (32, 32, 5, 5), {"padding": (1, 1)}),
    ],
)
def test_other_convolutions_are_torchs(x, w, kwargs):
    x, w = torch.randn(x), torch.randn(w)
    with recorded_calls() as calls:
        y = conv2d(x, w, **kwargs)
    assert not calls
    assert torch.equal(y, F.conv2d(x, w, **kwargs))


@only_with[F32]
@pytest.mark.parametrize("channels", [1, 24, 48, 64])
def test_what_does_not_fit_together_is_refused_as_by_torch(channels):
    with pytest.raises(RuntimeError, match="channels"):
        conv2d(torch.randn(4, channels, 8, 8), torch.randn(32, 32, 3, 3), padding=(1, 1))


@only_with[F32]
def test_results_are_where_the_images_are():
    x, w = inputs((4, 32, 32, (8, 8)))
    with torch.device("meta"):
        assert conv2d(x, w, padding=(1, 1)).device == CPU


@only_with[F32]
def test_not_in_float64_nor_on_the_reference_path():
    x, w = inputs((4, 32, 32, (8, 8)))
    assert winograd.suits(x, w)
    assert not winograd.suits(x.double(), w.double())
    with reference_ops():
        assert not winograd.suits(x, w)


@only_with[F32]
def test_what_is_not_finite_does_not_disappear():
    x, w = inputs((4, 32, 32, (8, 8)))
    with torch.no_grad():
        x[1, 3, 4, 4] = torch.inf
    y = conv2d(x, w, padding=(1, 1)).detach()
    assert not y[1, :, 3:6, 3:6].isfinite().any()
    assert y[[0, 2, 3]].isfinite().all()


@only_with[F32]
def test_networks_use_it():
    torch.manual_seed(0)
    config = DiscriminatorConfig(c_dim=0, img_resolution=16, img_channels=3, channel_base=1024, channel_max=64)
    D, images = Discriminator(config), torch.randn(4, 3, 16, 16)
    weights = [parameter for parameter in D.parameters() if parameter.ndim == 4]
    with recorded_calls() as calls:
        logits = D(images, None)
        gradients = torch.autograd.grad(logits.sum(), weights)
    assert {F32, "adaflow_winograd_weights_f32"} <= calls
    with reference_ops():
        expected = D(images, None)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
        for got, wanted in zip(gradients, torch.autograd.grad(expected.sum(), weights), strict=True):
            torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))
