"""What every transform of the package owes the pipeline: adaflow's conformance kit, and more."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesion_helpers import NAMES, REGISTRY, draws, pipeline, random_images, skin

from adaflow.conformance import offered_by, parametrize_with_checks
from adaflow.core.draw import RandomDraws

BRIGHTENING = ("lesion-illumination", "lesion-pigment")  # which may exceed white
every_transform = pytest.mark.parametrize("name", NAMES)


@parametrize_with_checks(offered_by("adaflow_lesion"))
def test_conformance(subject, check):
    check(subject)


@every_transform
@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (3, 1, 17, 23), (2, 4, 31, 16), (2, 2, 16, 16), (1, 3, 128, 128)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_any_shape_and_type(name, shape, dtype):
    images = random_images(*shape, dtype=torch.float64).to(dtype)
    before = images.clone()
    out = pipeline(name)(images, 1.0, draws(shape[0]))
    assert (out.shape, out.dtype) == (images.shape, dtype)
    assert out.isfinite().all()
    assert torch.equal(images, before)
    if name not in BRIGHTENING:
        assert out.abs().max() <= 1 + 1e-6
    if shape[1] == 4 and name != "lesion-lensblur":
        assert torch.equal(out[:, 3], images[:, 3])


@every_transform
def test_it_does_something_and_nothing_at_p_zero(name):
    images = skin(16, 32)
    images[..., 12:20, 12:20] -= 0.6
    assert pipeline(name)(images, 0.0, draws(16)) is images
    changed = (pipeline(name)(images, 1.0, draws(16)) != images).flatten(1).any(1)
    assert changed.sum() >= 15  # a sticker may reach in by less than a pixel


@every_transform
def test_float64_is_not_cast_down(name):
    images = skin(4, 24, torch.float64)
    step = 1e-11
    moved = pipeline(name)(images + step, 1.0, draws(4)) - pipeline(name)(images, 1.0, draws(4))
    assert 0.1 * step < moved.abs().max() < 10 * step


@every_transform
def test_the_same_picture_at_every_resolution(name):
    """At 64 × 64, averaged, it looks as at 32 × 32: units are relative, and shapes are antialiased."""
    fine = torch.nn.functional.avg_pool2d(pipeline(name)(skin(24, 64), 1.0, draws(24)), 2)
    coarse = pipeline(name)(skin(24, 32), 1.0, draws(24))
    assert (fine - coarse).abs().mean() < 0.004
    assert (fine - coarse).abs().max() < 0.35


@st.composite
def transforms_with_settings(draw):
    """A transform with any settings that it allows, those without end up to 2."""
    kind = REGISTRY[draw(st.sampled_from(NAMES))].value
    chosen = {
        field.name: draw(st.floats(field.metadata["low"], min(field.metadata["high"], max(2.0, field.metadata["low"]))))
        for field in dataclasses.fields(kind)
    }
    return kind(**chosen)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    transforms_with_settings(), st.integers(16, 40), st.integers(16, 40), st.sampled_from([1, 3]), st.integers(0, 99)
)
def test_any_settings(transform, height, width, channels, seed):
    images = random_images(2, channels, height, width, seed=seed).requires_grad_()
    out = transform.apply(images, draws(2, seed).draw("any"))
    assert out.shape == images.shape
    assert out.isfinite().all()
    (gradient,) = torch.autograd.grad(out.square().sum(), images, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), images)
    assert gradient.isfinite().all()
    assert second.isfinite().all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@every_transform
def test_a_gpu_gives_the_same_and_is_not_waited_for(name):
    images, pipe = random_images(4, 3, 48, 40), pipeline(name)
    on_gpu, numbers = images.cuda().requires_grad_(), torch.arange(4).cuda()
    p = torch.tensor(1.0).cuda()

    def run():
        out = pipe(on_gpu, p, RandomDraws(0, "test", numbers))
        (gradient,) = torch.autograd.grad(out.square().sum(), on_gpu, create_graph=True)
        gradient.square().sum().backward()
        return out

    out = run()
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(out.detach().cpu(), pipe(images, 1.0, draws(4)), rtol=0, atol=1e-3)
