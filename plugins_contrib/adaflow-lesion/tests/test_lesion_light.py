"""Light, lens and pigment do what physics says."""

import pytest
import torch
from adaflow_lesion.blur import blur, disc_kernels
from adaflow_lesion.pigment import HAEMOGLOBIN, MELANIN, optical_density, shift_pigments
from hypothesis import given, settings
from hypothesis import strategies as st
from lesion_helpers import draws, pipeline, random_images, skin

from adaflow.core.draw import PercentileDraws

checked = settings(max_examples=40, deadline=None, derandomize=True)
NEUTRAL, NOTHING = torch.ones(1, 2), torch.zeros(1, 2)


def factors(spec, images, seed=0):
    """[n, C, H, W]: by what a transform multiplies brightness."""
    return (pipeline(spec)(images, 1.0, draws(len(images), seed)) + 1) / (images + 1)


# Illumination, corners, vignette


@pytest.mark.parametrize(("height", "width"), [(16, 16), (33, 20), (64, 63)])
def test_illumination_keeps_the_mean_and_is_linear(height, width):
    images = torch.full((32, 3, height, width), 0.2)
    factor = factors("lesion-illumination(strength=0.5)", images)
    torch.testing.assert_close(factor.mean((1, 2, 3)), torch.ones(32), rtol=0, atol=1e-5)
    assert 1.42 < factor.max() <= 1.5  # the strongest of 32
    assert factor.min() >= 0.5
    assert factor.diff(n=2, dim=2).abs().max() < 1e-5
    assert factor.diff(n=2, dim=3).abs().max() < 1e-5
    slopes = torch.stack((factor[:, 0].diff(dim=1).mean((1, 2)), factor[:, 0].diff(dim=2).mean((1, 2))))
    assert (slopes > 0).float().mean(1).sub(0.5).abs().max() < 0.35  # any direction


def test_corners_are_black_outside_the_aperture_and_untouched_inside():
    """At the median, the radius is 0.57 and the edge a quarter of its greatest width, 0.02."""
    images = random_images(1, 3, 128, 128)
    out = pipeline("lesion-corners(smallest=0.44, largest=0.7)")(images, 1.0, PercentileDraws(0.5, 1))
    position = (torch.arange(128) - 63.5) / 128
    distance = torch.hypot(position, position[:, None])
    outside, inside = distance > 0.57 + 0.011, distance < 0.57 - 0.011
    assert outside.any()
    assert (out[0, :, outside] + 1).max() <= 0.1 + 1e-6
    assert torch.equal(out[0, :, inside], images[0, :, inside])


def test_corners_never_hide_the_middle():
    change = pipeline("lesion-corners")(skin(200, 32), 1.0, draws(200)) - skin(200, 32)
    assert change.max() <= 1e-6
    assert change[..., 8:24, 8:24].abs().max() == 0
    assert (change[..., 0, 0] < -0.3).float().mean() > 0.7


def test_a_vignette_darkens_the_corners_most():
    factor = factors("lesion-vignette(offset=0)", skin(32, 64))
    assert factor.max() <= 1 + 1e-6
    assert factor[..., 31, 31].min() > 0.999
    diagonal = torch.arange(32, 64)
    assert factor[:, 0, diagonal, diagonal].diff(dim=1).max() <= 1e-6
    assert 0.4 < factor[..., 0, 0].min() < factor[..., 0, 0].max() <= 1
    assert factor[..., 0, 0].std() > 0.1


# Pigment


def coloured(density_of_melanin, density_of_haemoglobin):
    """[1, 3, 2, 2]: skin with these densities and nothing else."""
    density = density_of_melanin * torch.tensor(MELANIN) + density_of_haemoglobin * torch.tensor(HAEMOGLOBIN)
    return (2 * (-density.double()).exp() - 1).view(1, 3, 1, 1).repeat(1, 1, 2, 2)


def densities(images):
    return -((images + 1) / 2).log()


@checked
@given(st.integers(0, 1000), st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
def test_no_shift_is_the_identity(seed, dtype):
    images = (3 * random_images(1, 3, 5, 5, seed=seed)).to(dtype)
    assert torch.equal(shift_pigments(images, NEUTRAL, NOTHING), images)


def test_melanin_darkens_blue_most_and_haemoglobin_green():
    images = skin(1, 4)
    red, green, blue = shift_pigments(images, NEUTRAL, torch.tensor([[0.2, 0.0]]))[0, :, 0, 0] - images[0, :, 0, 0]
    assert blue < green < red < 0
    red, green, blue = shift_pigments(images, NEUTRAL, torch.tensor([[0.0, 0.2]]))[0, :, 0, 0] - images[0, :, 0, 0]
    assert green < blue < red < 0


@checked
@given(st.floats(0, 1.2), st.floats(0, 0.5), st.floats(0.6, 1.5), st.floats(0.6, 1.5))
def test_densities_are_separated_and_scaled(melanin, haemoglobin, melanin_factor, haemoglobin_factor):
    """Skin made of the two pigments becomes skin of more or less of them, nearly: black and great changes bend."""
    scale = torch.tensor([[melanin_factor, haemoglobin_factor]], dtype=torch.float64)
    out = shift_pigments(coloured(melanin, haemoglobin), scale, NOTHING.double())
    expected = coloured(melanin * melanin_factor, haemoglobin * haemoglobin_factor)
    torch.testing.assert_close(densities(out), densities(expected), rtol=0.02, atol=0.02)


def test_grey_has_no_pigment_and_black_stays_black():
    grey = torch.linspace(-1, 1, 9).view(1, 1, 3, 3).repeat(1, 3, 1, 1)
    scaled = shift_pigments(grey, torch.tensor([[2.0, 0.5]]), NOTHING)
    torch.testing.assert_close(scaled, grey, rtol=0, atol=1e-5)
    black = torch.full((1, 3, 2, 2), -1.0)
    assert torch.equal(shift_pigments(black, torch.tensor([[2.0, 2.0]]), torch.ones(1, 2)), black)


def test_images_without_colours_are_left_alone():
    for channels in (1, 2, 5):
        images = random_images(3, channels, 16, 16)
        assert torch.equal(pipeline("lesion-pigment")(images, 1.0, draws(3)), images)


def test_derivatives_at_black_are_small():
    """Of the first and second order, also below black and above white."""
    ramp = torch.linspace(-1.5, 1.5, 601, dtype=torch.float64).view(1, 1, 1, -1).repeat(1, 3, 1, 1).requires_grad_()
    out = shift_pigments(ramp, torch.tensor([[1.5, 0.7]]), torch.tensor([[0.2, -0.1]]))
    (first,) = torch.autograd.grad(out.sum(), ramp, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), ramp)
    assert first.abs().max() < 6
    assert second.abs().max() < 60
    assert optical_density(torch.tensor(0.0)) == pytest.approx(3.912, abs=0.001)


def test_pigment_makes_skin_both_lighter_and_darker():
    change = (pipeline("lesion-pigment")(skin(200, 2), 1.0, draws(200)) - skin(200, 2)).mean((1, 2, 3))
    assert 60 < (change > 0).sum() < 140
    assert 0.02 < change.std() < 0.15


# Blur


@checked
@given(st.floats(0.0, 6.0))
def test_the_kernel_averages_over_a_disc(radius):
    kernel = disc_kernels(torch.tensor([radius], dtype=torch.float64), 7)[0]
    offset = torch.arange(-7.0, 8.0, dtype=torch.float64)
    assert float(kernel.sum()) == pytest.approx(1)
    assert kernel.min() >= 0
    along_x, along_y = kernel.sum(0), kernel.sum(1)
    for weights in (along_x, along_y):
        assert float((weights * offset).sum()) == pytest.approx(0, abs=0.02 * radius + 1e-6)
        # A disc has the variance r²/4; interpolation between pixels adds up to a quarter.
        spread = float((weights * offset**2).sum())
        assert 0.98 * radius**2 / 4 <= spread + 1e-9
        assert spread <= 1.02 * radius**2 / 4 + 0.25


def test_the_blur_grows_with_the_radius_from_nothing():
    radii = torch.tensor([0.0, 0.05, 0.1, 0.3, 0.6, 1.0, 1.5, 2.5])
    images = random_images(1, 3, 32, 32).repeat(len(radii), 1, 1, 1)
    out = blur(images, radii, 3)
    torch.testing.assert_close(out[0], images[0], rtol=0, atol=1e-5)
    assert (out.std((1, 2, 3)).diff() < 0).all()
    assert (out[1] - images[1]).abs().max() < 0.15


@pytest.mark.parametrize("reach", [1, 4])
def test_the_blur_is_a_convolution_of_the_reflected_image(reach):
    images = random_images(2, 3, 12, 17, dtype=torch.float64)
    radii = torch.tensor([0.4, 0.9 * reach], dtype=torch.float64)
    padded = torch.nn.functional.pad(images, (reach,) * 4, mode="reflect")
    kernels = disc_kernels(radii, reach).flip(1, 2)[:, None].repeat(1, 3, 1, 1).view(6, 1, 2 * reach + 1, -1)
    expected = torch.nn.functional.conv2d(padded.view(1, 6, *padded.shape[2:]), kernels, groups=6).view_as(images)
    torch.testing.assert_close(blur(images, radii, reach), expected)


def test_the_blur_keeps_plain_images_and_the_range():
    torch.testing.assert_close(pipeline("lesion-lensblur")(skin(4, 32), 1.0, draws(4)), skin(4, 32), rtol=0, atol=1e-5)
    noise = random_images(8, 1, 16, 16).sign()
    out = pipeline("lesion-lensblur(radius=0.25)")(noise, 1.0, draws(8))
    assert out.abs().max() <= 1 + 1e-5
    assert out.std() < 0.7 * noise.std()
    assert torch.equal(
        pipeline("lesion-lensblur(radius=0)")(skin(1, 16), 1.0, draws(1)).round(decimals=5),
        skin(1, 16).round(decimals=5),
    )
