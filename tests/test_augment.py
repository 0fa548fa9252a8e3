"""The augmentation pipeline: gates, statistics, independence, derivatives, sizes, and what plugins may do."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats

from adaflow.conformance.derivatives import graph_nodes
from adaflow.core.augment import ActiveTransform, AugmentPipeline, build_pipeline
from adaflow.core.augment import bands as bands_module
from adaflow.core.augment import resample as resample_module
from adaflow.core.augment.matrices import invert, rotation, scaling, translation
from adaflow.core.augment.resample import copy_pixels, resample
from adaflow.core.augment.transform import GeometryTransform, ImageTransform, Transform, parameter
from adaflow.core.draw import PercentileDraws, RandomDraws
from adaflow.cuda.grid_sample import TwiceDifferentiable, grid_sample
from adaflow.cuda.library import reference_ops
from adaflow.errors import PluginError
from adaflow.plugin_manager import PluginManager

REGISTRY = PluginManager(block=["kornia"], environ={"ADAFLOW_NO_PLUGINS": "1"}).augmentations
NAMES = [entry.name for entry in REGISTRY]
RARE = 1e-6  # a statistical test here fails by chance this often
MANY = 6000


def pipeline(spec):
    return build_pipeline(spec, REGISTRY)


def random_draws(n, seed=0, first=0):
    return RandomDraws(seed, "test", torch.arange(first, first + n))


def random_images(*shape, seed=0, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 2 - 1


def fired(pipe, p, n, seed=0):
    """[n] bool: whether the only transform of a pipeline fired."""
    draws = random_draws(n, seed)
    if pipe.geometry_places:
        return pipe.geometry(p, draws, 8, 8)[1]
    if pipe.color_places:
        return pipe.color(p, draws, 3)[1]
    if pipe.filter_places:
        return pipe.band_gains(p, draws)[1]
    return (pipe(torch.ones(n, 1, 4, 4), p, draws) != 1).flatten(1).any(1)


# Gates


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("p", "weight"), [(0.3, 1.0), (0.8, 0.5), (2.0, 1.0), (torch.tensor(0.3), 0.5)])
def test_gate_rates(name, p, weight):
    """Each transform acts on a share p · weight of the images, rotate with its two gates included."""
    expected = min(float(p) * weight, 1.0)
    count = int(fired(pipeline(f"{name}*{weight}"), p, MANY).sum())
    low, high = stats.binom.ppf([RARE / 2, 1 - RARE / 2], MANY, expected)
    assert low <= count <= high


def test_gates_are_independent():
    """Between transforms of one image, and between an image and the next one."""
    gates = torch.stack([fired(pipeline(name), 0.4, MANY) for name in NAMES]).double()
    gates = torch.cat([gates[:, :-1], gates[:, 1:]])
    correlation = torch.corrcoef(gates).fill_diagonal_(0)
    assert correlation.abs().max() < stats.norm.isf(RARE / correlation.numel()) / MANY**0.5


@pytest.mark.parametrize("p", [0, 0.0, -1.0, torch.tensor(0.0)])
def test_p_zero_is_the_identity(p):
    images = random_images(4, 3, 16, 16)
    out = pipeline("bgcfnc")(images, p, random_draws(4))
    assert torch.equal(out, images)
    assert isinstance(p, torch.Tensor) or out is images


def test_nothing_fired_nothing_changed():
    """Bit for bit, also for zeros with a sign, in a batch where others are changed."""
    images = random_images(64, 3, 16, 16)
    images[:, :, 0] = -0.0
    pipe = pipeline("bgcfnc")
    gates = torch.stack([fired(pipeline(name), 0.05, 64) for name in NAMES]).any(0)
    out = pipe(images, 0.05, random_draws(64))
    same = (out == images).flatten(1).all(1)
    assert torch.equal(out[~gates].view(torch.int32), images[~gates].view(torch.int32))
    assert 10 < (~gates).sum() <= same.sum() < 64


def test_input_is_not_modified():
    images = random_images(8, 3, 16, 16)
    before = images.clone()
    pipeline("bgcfnc")(images, 0.8, random_draws(8))
    assert torch.equal(images, before)


def test_p_as_a_tensor():
    images = random_images(8, 3, 16, 16)
    pipe = pipeline("bgcfnc")
    assert torch.equal(pipe(images, torch.tensor(0.4), random_draws(8)), pipe(images, 0.4, random_draws(8)))


# Distributions


def parameters(name, n=MANY):
    """One parameter per image, as the matrices show it, and its distribution."""
    pipe, draws = pipeline(name), random_draws(n)
    if name in ("xint", "scale", "aniso", "xfrac"):
        forward = invert(pipe.geometry(1.0, draws, 1000, 100)[0])
        return {
            # Rounding to whole pixels is undone by the next best thing, a uniform number.
            "xint": (
                forward[:, 1, 2] + torch.rand(n, generator=torch.Generator().manual_seed(1)) - 0.5,
                stats.uniform(-125, 250),
            ),
            "scale": (forward[:, 0, 0].log2(), stats.norm(0, 0.2)),
            "aniso": (forward[:, 0, 0].log2(), stats.norm(0, 0.2)),
            "xfrac": (forward[:, 0, 2], stats.norm(0, 12.5)),
        }[name]
    if name.startswith("band"):
        gains = pipe.band_gains(1.0, draws)[0]
        band = int(name[4:]) - 1
        return (gains[:, band] / gains[:, band - 1]).log2(), stats.norm(0, 1)
    matrix = pipe.color(1.0, draws, 3)[0]
    return {
        "brightness": (matrix[:, 0, 3], stats.norm(0, 0.2)),
        "contrast": (matrix[:, 0, 0].log2(), stats.norm(0, 0.5)),
        "hue": (
            torch.atan2((matrix[:, 1, 0] - matrix[:, 0, 1]) * 3**0.5, 3 * matrix[:, 0, 0] - 1),
            stats.uniform(-np.pi, 2 * np.pi),
        ),
        "saturation": (((3 * matrix[:, 0, 0] - 1) / 2).log2(), stats.norm(0, 1)),
    }[name]


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in ("xflip", "rotate90", "rotate", "lumaflip", "noise", "cutout")]
)
def test_distribution_of_parameters(name):
    numbers, distribution = parameters(name)
    assert stats.kstest(numbers.double().numpy(), distribution.cdf).pvalue > RARE


def test_distribution_of_angles():
    """One rotation alone, for those images where the other gate stayed shut."""
    draws = random_draws(MANY)
    rotate = pipeline("rotate").geometry_places
    angles = []
    for place in rotate:
        matrix = place.transform.matrix(draws.draw("rotate", place.number), 8, 8)
        angles.append(torch.atan2(matrix[:, 0, 1], matrix[:, 0, 0]))
        assert stats.kstest(angles[-1].double().numpy(), stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > RARE
    assert abs(np.corrcoef(angles[0].cos(), angles[1].cos())[0, 1]) < stats.norm.isf(RARE / 2) / MANY**0.5


def test_distribution_of_discrete_transforms():
    images = random_images(1, 3, 8, 8).expand(MANY, 3, 8, 8)
    for name, outcomes in (("xflip", 2), ("rotate90", 4), ("lumaflip", 2)):
        out = pipeline(name)(images, 1.0, random_draws(MANY))
        counts = out[:, 0, 0, 0].unique(return_counts=True)[1]
        assert len(counts) == outcomes
        assert stats.chisquare(counts.numpy()).pvalue > RARE


def test_distribution_of_noise():
    """Divided by its half-normal strength, it is white."""
    out = pipeline("noise")(torch.zeros(MANY, 1, 8, 8), 1.0, random_draws(MANY))
    strength = random_draws(MANY).draw("noise")
    strength.fires(1.0)
    white = out.flatten(1) / strength.half_normal(0.1)[:, None]
    assert stats.kstest(white[:, ::9].flatten().double().numpy(), "norm").pvalue > RARE
    correlation = torch.corrcoef(white.T).fill_diagonal_(0)
    assert correlation.abs().max() < stats.norm.isf(RARE / correlation.numel()) / MANY**0.5


def test_distribution_of_cutouts():
    out = pipeline("cutout")(torch.ones(MANY, 1, 40, 20), 1.0, random_draws(MANY))
    hit = (out == 0).float().mean(0)[0]
    # The middle of the image is covered from 1/4 to 3/4 on both axes, the corner up to half a pixel over 1/4.
    for row, column, share in ((20, 10, 0.25), (0, 0, 0.2625 * 0.275)):
        low, high = stats.binom.ppf([RARE / 2, 1 - RARE / 2], MANY, share) / MANY
        assert low <= hit[row, column] <= high


# Independence


def test_an_image_does_not_depend_on_its_batch():
    images = random_images(24, 3, 20, 16)
    pipe = pipeline("bgcfnc")
    whole = pipe(images, 0.5, random_draws(24))
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        pipe(images[order], 0.5, RandomDraws(0, "test", order)), whole[order], atol=1e-6, rtol=1e-6
    )
    for index in range(24):
        alone = pipe(images[index : index + 1], 0.5, random_draws(1, first=index))
        torch.testing.assert_close(alone[0], whole[index], atol=1e-6, rtol=1e-6)


def test_order_and_company_are_of_no_consequence():
    images = random_images(16, 3, 16, 16)
    transforms = pipeline("bgcfnc").transforms
    shuffled = AugmentPipeline([transforms[i] for i in torch.randperm(18, generator=torch.Generator().manual_seed(1))])
    whole = pipeline("bgcfnc")
    assert torch.equal(shuffled(images, 0.5, random_draws(16)), whole(images, 0.5, random_draws(16)))
    # The numbers of a transform are the same whatever else is on.
    alone = pipeline("hue,saturation").color(0.5, random_draws(16), 3)[0]
    together = pipeline("bgcfnc,brightness=off,contrast=off,lumaflip=off").color(0.5, random_draws(16), 3)[0]
    assert torch.equal(alone, together)


def test_seed_and_stream():
    images = random_images(16, 3, 16, 16)
    pipe = pipeline("bgc")
    base = pipe(images, 1.0, random_draws(16))
    assert not torch.equal(pipe(images, 1.0, random_draws(16, seed=1)), base)
    assert not torch.equal(pipe(images, 1.0, RandomDraws(0, "other", torch.arange(16))), base)


# Geometry


def at(*rows):
    return torch.tensor([*rows, [0.0, 0.0, 1.0]], dtype=torch.float32)[None]


def test_matrices():
    angle, factor = torch.tensor([0.3]), torch.tensor([2.0])
    offset = torch.tensor([[3.0, -1.0]])
    c, s = np.cos(0.3), np.sin(0.3)
    torch.testing.assert_close(rotation(angle), at([c, s, 0.0], [-s, c, 0.0]))
    torch.testing.assert_close(scaling(factor, 1 / factor), at([2.0, 0.0, 0.0], [0.0, 0.5, 0.0]))
    torch.testing.assert_close(translation(offset), at([1.0, 0.0, 3.0], [0.0, 1.0, -1.0]))
    chain = translation(offset) @ rotation(angle) @ scaling(factor, 3 * factor)
    torch.testing.assert_close(invert(chain) @ chain, torch.eye(3)[None], atol=1e-6, rtol=0)


def translated(images, dx, dy):
    """By whole pixels, with numpy's own reflection."""
    height, width = images.shape[2:]
    reach = max(abs(dx), abs(dy))
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (reach, reach), (reach, reach)), "reflect")
    return torch.from_numpy(padded[:, :, reach - dy : reach - dy + height, reach - dx : reach - dx + width].copy())


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (-3, 5), (9, -30), (100, 77)])
def test_reflection_without_end(shift):
    images = random_images(2, 3, 11, 8)
    inverse = invert(translation(torch.tensor([shift, shift]).float()))
    expected = translated(images, *shift)
    assert torch.equal(copy_pixels(images, inverse), expected)
    torch.testing.assert_close(resample(images, inverse), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_quarter_turns(degrees):
    """Counter-clockwise as numpy's; on a grid that they do not map to itself the image is resampled."""
    draws = PercentileDraws(degrees / 360 + 0.1, 2)
    square, oblong, odd = (random_images(2, 3, height, 8) for height in (8, 10, 9))
    pipe = pipeline("rotate90")
    assert torch.equal(
        pipe(square, 1.0, draws), torch.from_numpy(np.rot90(square.numpy(), degrees // 90, (2, 3)).copy())
    )
    inverse = pipe.geometry(1.0, draws, 9, 8)[0]
    assert torch.equal(pipe(oblong, 1.0, draws), copy_pixels(oblong, inverse))
    if degrees % 180 == 0:
        assert torch.equal(pipe(odd, 1.0, draws), copy_pixels(odd, inverse))
    else:
        torch.testing.assert_close(pipe(odd, 1.0, draws), resample(odd, inverse), atol=1e-5, rtol=0)


def test_blits_are_copies_image_by_image():
    """In a batch where geometry fires for some images, those with blits only still have their very own pixels."""
    images = random_images(64, 1, 12, 12)
    pipe, draws = pipeline("bg"), random_draws(64)
    _, any_fired, blurred = pipe.geometry(0.15, draws, 12, 12)
    out = pipe(images, 0.15, draws)
    copied = any_fired & ~blurred
    assert copied.sum() > 5
    assert blurred.sum() > 5
    for new, old, copy, blur in zip(out, images, copied, blurred, strict=True):
        own = bool(torch.isin(new, old).all())
        assert own == (not blur)
        assert copy or blur or torch.equal(new, old)


def test_resampling_keeps_constants_and_low_frequencies():
    x = torch.arange(64) - 31.5
    wave = torch.cos(0.2 * x[None, :] + 0.1 * x[:, None])[None, None]
    angle = 0.4
    turned = resample(torch.cat([wave, torch.ones_like(wave)], 1), rotation(torch.tensor([angle])))
    torch.testing.assert_close(turned[:, 1], torch.ones(1, 64, 64), atol=1e-5, rtol=0)
    u = np.cos(angle) * x[None, :] + np.sin(angle) * x[:, None]
    v = -np.sin(angle) * x[None, :] + np.cos(angle) * x[:, None]
    inner = (u.abs() < 28) & (v.abs() < 28)
    expected = torch.cos(0.2 * u + 0.1 * v)
    assert (turned[0, 0] - expected)[inner].abs().max() < 6e-3


# Derivatives


@pytest.mark.parametrize("name", [*NAMES, "bgcfnc"])
@pytest.mark.parametrize("channels", [3, 1])
def test_derivatives(name, channels):
    pipe = pipeline(name)
    images = random_images(3, channels, 8, 7, dtype=torch.float64).requires_grad_()

    def augment(x):
        return pipe(x, 0.8, random_draws(3)).sin()

    assert torch.autograd.gradcheck(augment, images, fast_mode=True)
    assert torch.autograd.gradgradcheck(augment, images, fast_mode=True)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align_corners", [True, False])
def test_lookup_derivatives(mode, padding, align_corners):
    rule = (mode, padding, align_corners)
    grid = random_images(2, 4, 3, 2, dtype=torch.float64) * 1.3
    images = random_images(2, 3, 5, 6, dtype=torch.float64).requires_grad_()
    expected = torch.nn.functional.grid_sample(images, grid, mode, padding, align_corners)
    torch.testing.assert_close(grid_sample(images, grid, *rule), expected)
    assert torch.autograd.gradcheck(lambda x: grid_sample(x, grid, *rule).sin(), images)
    assert torch.autograd.gradgradcheck(lambda x: grid_sample(x, grid, *rule).sin(), images)
    if rule == ("bilinear", "border", True):
        assert torch.equal(grid_sample(images, grid), grid_sample(images, grid, *rule))


def test_lookup_refuses_what_it_cannot_do():
    images, grid = random_images(2, 3, 5, 6), random_images(2, 4, 3, 2)
    with pytest.raises(ValueError, match="no gradient for the grid"):
        grid_sample(images, grid.clone().requires_grad_())
    with pytest.raises(ValueError, match="not linear with border"):
        grid_sample(images, grid, "linear")


def test_the_lookup_of_others_is_ours_within_a_block():
    """Whatever way it is called; the values are torch's; its own is back afterwards, and in other threads."""
    images, grid = random_images(2, 3, 5, 6).requires_grad_(), random_images(2, 4, 3, 2) * 1.3
    for call in (
        lambda: torch.nn.functional.grid_sample(images, grid, align_corners=False),
        lambda: torch.nn.functional.grid_sample(images, grid, "bicubic", "border", True),
        lambda: torch.nn.functional.grid_sample(input=images, grid=grid, padding_mode="reflection", align_corners=True),
    ):
        expected = call()
        with TwiceDifferentiable():
            ours = call()
            with ThreadPoolExecutor() as pool:
                elsewhere = pool.submit(call).result()
        torch.testing.assert_close(ours, expected)
        assert "Lookup" in ours.grad_fn.name()
        assert "GridSampler" in expected.grad_fn.name()
        assert "GridSampler" in elsewhere.grad_fn.name()
        assert "GridSampler" in call().grad_fn.name()


def test_without_a_double_backward_of_grid_sample(monkeypatch):
    """As with torch 2.11: neither graph contains torch's own node, and its function is not called."""

    def unavailable(*arguments, **settings):
        raise NotImplementedError

    monkeypatch.setattr(torch.nn.functional, "grid_sample", unavailable)
    images = random_images(4, 3, 16, 16).requires_grad_()
    with reference_ops():
        out = pipeline("bgc")(images, 1.0, random_draws(4))
    (gradient,) = torch.autograd.grad(out.square().sum(), images, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), images)
    assert second.abs().max() > 0
    for nodes in (graph_nodes(out), graph_nodes(gradient)):
        assert any("Lookup" in name for name in nodes)
        assert not any("GridSampler" in name for name in nodes)


def test_first_use_in_inference_mode():
    """Matrices made while sampling without gradients serve training as well."""
    for made in (
        *(resample_module.upsampling, resample_module.downsampling),
        *(bands_module.band_matrices, bands_module.filters, bands_module.constant),
    ):
        made.cache_clear()
    images = random_images(4, 3, 16, 16)
    for path in (nullcontext, reference_ops):
        with path():
            with torch.inference_mode():
                pipeline("bgcfnc")(images, 1.0, random_draws(4))
            grown = images.clone().requires_grad_()
            out = pipeline("bgcfnc")(grown, 1.0, random_draws(4))
            torch.autograd.grad(out.sum(), grown)


# Sizes and types


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("n", "height", "width"), [(3, 8, 8), (1, 33, 20), (2, 9, 14), (2, 1, 6), (0, 8, 8)])
def test_sizes(channels, n, height, width):
    images = random_images(n, channels, height, width)
    for spec in ("bgcfnc", *(NAMES if n == 3 else ())):
        out = pipeline(spec)(images, 0.9, random_draws(n))
        assert out.shape == images.shape
        assert out.isfinite().all()


@pytest.mark.parametrize("name", [*NAMES, "bgcfnc"])
def test_types(name):
    images = random_images(6, 3, 16, 16, dtype=torch.float64)
    double, single, half = (
        pipeline(name)(images.to(dtype), 0.7, random_draws(6))
        for dtype in (torch.float64, torch.float32, torch.bfloat16)
    )
    assert (double.dtype, single.dtype, half.dtype) == (torch.float64, torch.float32, torch.bfloat16)
    torch.testing.assert_close(single.double(), double, atol=2e-5, rtol=0)
    torch.testing.assert_close(half.double(), double, atol=0.1, rtol=0)


def test_channels_without_colours():
    """Two greys get what one grey gets; a fourth channel beside RGB stays as it is."""
    images = random_images(4, 4, 8, 8)
    pipe = pipeline("color")
    rgb, rgba = pipe(images[:, :3], 1.0, random_draws(4)), pipe(images, 1.0, random_draws(4))
    assert torch.equal(rgba[:, :3], rgb)
    assert torch.equal(rgba[:, 3], images[:, 3])
    assert not torch.equal(rgb, images[:, :3])
    two = pipe(images[:, :2], 1.0, random_draws(4))
    assert torch.equal(two[:, 1:], pipe(images[:, 1:2], 1.0, random_draws(4)))
    assert torch.equal(pipeline("hue,saturation")(images[:, :1], 1.0, random_draws(4)), images[:, :1])
    # A grey goes where the same grey in three colours goes, on average.
    grey = images[:, :1]
    spec = pipeline("brightness,contrast,lumaflip")
    torch.testing.assert_close(
        spec(grey, 1.0, random_draws(4)),
        spec(grey.expand(-1, 3, -1, -1), 1.0, random_draws(4)).mean(1, True),
        atol=1e-6,
        rtol=0,
    )


# Plugins of others


@dataclass
class Invert(ImageTransform):
    strength: float = parameter(1.0)

    def apply(self, images, draw):
        assert draw.n == len(images)
        return -self.strength * images


def test_an_image_transform_gets_those_that_fired():
    pipe = AugmentPipeline([ActiveTransform("invert", Invert())])
    images = random_images(40, 3, 8, 8)
    out = pipe(images, 0.5, random_draws(40))
    turned = random_draws(40).draw("invert").fires(0.5)
    assert torch.equal(out, torch.where(turned[:, None, None, None], -images, images))


def test_image_transforms_come_before_noise_and_cutout():
    pipe = build_pipeline("cutout,noise,band4,hue,xflip", REGISTRY)
    pipe = AugmentPipeline([*pipe.transforms, ActiveTransform("aaa", Invert()), ActiveTransform("zzz", Invert())])
    assert [active.name for active in pipe.transforms] == ["xflip", "hue", "band4", "aaa", "zzz", "noise", "cutout"]
    assert pipe.spec().startswith("xflip,hue(max=1.0),band4(std=1.0),aaa(strength=1.0)")


class Wrong(GeometryTransform):
    def matrix(self, draw, height, width):
        return torch.eye(3)


class Cropped(ImageTransform):
    def apply(self, images, draw):
        return images[:, :, 1:]


class Listed(ImageTransform):
    def apply(self, images, draw):
        return images.tolist()


class Kindless(Transform):
    pass


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (Wrong(), "returned [3, 3] where [2, 3, 3]"),
        (Cropped(), "returned [2, 3, 7, 8] where"),
        (Listed(), "returned a list where [2, 3, 8, 8]"),
    ],
)
def test_wrong_shapes_are_named(transform, message):
    with pytest.raises(PluginError) as error:
        AugmentPipeline([ActiveTransform("mine", transform)])(random_images(2, 3, 8, 8), 1.0, random_draws(2))
    assert error.value.message.startswith(f"augmentation 'mine' {message}")


def test_kindless():
    with pytest.raises(PluginError, match="'mine' is no transform"):
        AugmentPipeline([ActiveTransform("mine", Kindless())])
