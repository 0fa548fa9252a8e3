"""1×1 convolution with weights of each image's own: equal to the sum it is, derivatives of every order, layouts."""

import pytest
import torch

from adaflow.cuda.pointwise import pointwise_conv2d


def plain(x, own):
    return torch.einsum("nchw,noc->nohw", x, own)


def inputs(shape, dtype=torch.float32, layout=torch.channels_last):
    torch.manual_seed(0)
    batch, c_in, c_out, height, width = shape
    x = torch.randn(batch, c_in, height, width, dtype=dtype).contiguous(memory_format=layout)
    return x.requires_grad_(), torch.randn(batch, c_out, c_in, dtype=dtype, requires_grad=True)


def derivatives(function, x, own):
    torch.manual_seed(1)
    y = function(x, own)
    first = torch.autograd.grad((y * torch.randn_like(y)).sin().sum(), (x, own), create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), (x, own))
    return [y, *first, *second]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("shape", [(2, 8, 3, 5, 4), (1, 1, 1, 1, 1), (3, 5, 4, 2, 7), (0, 4, 3, 4, 4)])
def test_equals_the_plain_sum(shape, layout):
    x, own = inputs(shape, layout=layout)
    for ours, theirs in zip(
        derivatives(pointwise_conv2d, x, own), derivatives(plain, x.detach().requires_grad_(), own), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_derivatives_of_second_order():
    x, own = inputs((2, 3, 2, 3, 2), dtype=torch.float64)
    assert torch.autograd.gradcheck(pointwise_conv2d, (x, own))
    assert torch.autograd.gradgradcheck(pointwise_conv2d, (x, own))


def test_gradients_of_activations_stay_channels_last():
    x, own = inputs((2, 8, 3, 4, 4))
    (gradient,) = torch.autograd.grad(pointwise_conv2d(x, own).square().sum(), x)
    assert gradient.is_contiguous(memory_format=torch.channels_last)
