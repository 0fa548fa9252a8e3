"""What native code draws for the built-in augmentations, against their methods; noise and cutout in the same pass."""

from dataclasses import dataclass, fields
from itertools import product

import pytest
import torch

from adaflow.core.augment import (
    ActiveTransform,
    AugmentPipeline,
    build_pipeline,
    self_test,  # noqa: F401
)
from adaflow.core.augment import pipeline as pipeline_module
from adaflow.core.augment.bands import band_taps, filters
from adaflow.core.augment.transform import ColorTransform, GeometryTransform, ImageTransform
from adaflow.core.draw import PercentileDraws, RandomDraws
from adaflow.cuda.augment import COLORED, CUT, FILTERED, FORMULAS, MOVED, NOISY, RESAMPLED, draw_plan
from adaflow.cuda.library import native, recorded_calls, reference_ops, self_tests
from adaflow.plugin_manager import PluginManager
from adaflow.plugins.augmentations.geom import Scale

REGISTRY = PluginManager(block=["kornia"], environ={"ADAFLOW_NO_PLUGINS": "1"}).augmentations
DRAWING = "adaflow_draw_f32"
FAR = 2**40  # the number of an image that takes more than 32 bits
SETTINGS = "xint(max=0.4),scale(std=0.5),rotate(max=0.2),aniso(std=0.1),xfrac(std=0.3),brightness(std=0.4)," + (
    "contrast(std=0.1),hue(max=0.3),saturation(std=0.4),band1(std=0.3),band3(std=2.0),noise(std=0.3),cutout(size=0.2)"
)

STILL = ("scale(std=0)", "rotate(max=0)", "aniso(std=0)", "xfrac(std=0)")  # where nothing moves, but is resampled


@pytest.fixture(scope="module", autouse=True)
def _kernels():
    if native(torch.device("cpu")) is None:
        pytest.skip("there are no native kernels here")


def pipeline(spec, *others):
    return AugmentPipeline([*build_pipeline(spec, REGISTRY).transforms, *others])


def draws_for(n, first=0):
    return RandomDraws(0, "test", torch.arange(first, first + n))


def random_images(*shape, dtype=torch.float32):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=dtype) * 2 - 1).requires_grad_()


def plan_of(pipe, images, p, draws):
    """What the pipeline has its native kernel do."""
    seen = []
    with pytest.MonkeyPatch.context() as patch, recorded_calls() as calls:
        patch.setattr(pipeline_module, "augment", lambda images, plan: seen.append(plan) or images)
        pipe(images, p, draws)
    assert calls == {DRAWING}
    return seen[0]


def pass_and_gradients(pipe, images, p, draws):
    """The output, the gradient of a product with it, and the gradient of that."""
    cotangent = images.detach().flip(-1).requires_grad_()
    out = pipe(images, p, draws)
    (gradient,) = torch.autograd.grad(out, images, cotangent, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), cotangent)
    return out.detach(), gradient.detach(), second


def assert_same_on_both_paths(pipe, images, p, draws, tolerance=1e-4):
    values = pass_and_gradients(pipe, images, p, draws)
    with reference_ops():
        wanted = pass_and_gradients(pipe, images, p, draws)
    for value, want in zip(values, wanted, strict=True):
        size = float(want.abs().max()) if want.numel() else 0.0
        torch.testing.assert_close(value, want, atol=tolerance * max(size, 1.0), rtol=0)
    return values


# Drawing


def test_formulas_are_those_of_the_built_in_transforms():
    """Each has the name of its formula, and one setting at most."""
    assert sorted(FORMULAS) == sorted(entry.name for entry in REGISTRY)
    for entry in REGISTRY:
        assert vars(entry.value)["formula"] == entry.name
        assert len(fields(entry.value)) <= 1


@pytest.mark.parametrize("spec", [*FORMULAS, *STILL, "bgcfnc", "blit,color*0.5,noise,rotate*1.7,cutout*0.8", SETTINGS])
@pytest.mark.parametrize("p", [0.3, 1.0, 1.5, torch.tensor(0.3), torch.tensor(0.3, dtype=torch.float64)])
@pytest.mark.parametrize(("channels", "height", "width"), [(3, 16, 16), (1, 9, 14), (2, 8, 9), (4, 7, 7)])
def test_drawn_as_the_methods_draw(spec, p, channels, height, width):
    n = 300
    pipe, draws = build_pipeline(spec, REGISTRY), draws_for(n, FAR)
    plan = plan_of(pipe, torch.zeros(n, channels, height, width), p, draws)
    none = torch.zeros(n, dtype=torch.bool)

    inverses, moved, blurred = torch.eye(3).expand(n, 3, 3), none, none
    if pipe.geometry_places:
        inverses, moved, blurred = pipe.geometry(p, draws, height, width)
    torch.testing.assert_close(plan.inverses, inverses, atol=1e-4, rtol=1e-5)
    # A quarter turn needs resampling where height and width differ by an odd number.
    resampled = plan.kinds & RESAMPLED > 0
    assert torch.equal(plan.kinds & (MOVED | RESAMPLED) > 0, moved)
    assert not (blurred & ~resampled).any()
    assert torch.equal(blurred, resampled) or (height - width) % 2
    assert not (resampled & (plan.kinds & MOVED > 0)).any()

    colors, colored = torch.eye(4).expand(n, 4, 4), none
    if pipe.color_places:
        colors, colored = pipe.color(p, draws, channels)
    torch.testing.assert_close(plan.colors, colors[:, :3], atol=1e-5, rtol=1e-5)
    assert torch.equal(plan.kinds & COLORED > 0, colored)

    if pipe.filter_places:
        gains, filtered = pipe.band_gains(p, draws)
        assert torch.equal(plan.kinds & FILTERED > 0, filtered)
        torch.testing.assert_close(plan.taps[filtered], band_taps(gains)[filtered], atol=1e-5, rtol=1e-5)
    else:
        assert plan.taps is None

    for place in pipe.image_places:
        (draw,), (fired,) = draws.open([place.stream], [place.transform.gate(min(p * place.weight, 1.0))])
        noisy = place.name == "noise"
        assert torch.equal(plan.kinds & (NOISY if noisy else CUT) > 0, fired)
        if noisy:
            strengths = draw.half_normal(place.transform.std)
            torch.testing.assert_close(plan.strengths[fired], strengths[fired], atol=1e-7, rtol=1e-5)
        else:
            assert torch.equal(plan.centres[fired], draw.uniform(shape=(2,))[fired])
            assert plan.cutout == place.transform.size


@pytest.mark.parametrize(("name", "weight"), [("scale", 1.0), ("scale", 0.7), ("hue", 3.3), ("noise", 0.9)])
def test_gates_at_their_very_thresholds(name, weight):
    """With a p as near to what an image drew as can be, the same images are changed."""
    n = 100
    pipe, images = pipeline(f"{name}*{weight}"), torch.zeros(n, 3, 4, 4)
    thresholds = draws_for(n).draw(name).unit().double() / weight
    around = 1.0 + torch.tensor([[-1e-8], [0.0], [1e-8]], dtype=torch.float64)
    for p in (thresholds[thresholds < 1] * around).flatten().tolist():
        _, (wanted,) = draws_for(n).open([(name, 0)], [min(p * weight, 1.0)])
        assert torch.equal(plan_of(pipe, images, p, draws_for(n)).kinds > 0, wanted)


def test_weight_zero_is_never():
    images = random_images(8, 3, 8, 8)
    assert torch.equal(pipeline("bgcfnc*0")(images, 1.0, draws_for(8)), images)


def test_numbers_elsewhere():
    pipe, numbers = pipeline("scale"), torch.arange(3)
    with pytest.raises(ValueError, match="p is on meta"):
        draw_plan(pipe.known, torch.empty((), device="meta"), (1,), numbers, filters(numbers.device), 3, 8, 8)
    with pytest.raises(ValueError, match="a plan for"):
        pipe(torch.zeros(4, 3, 8, 8), 0.5, draws_for(3))
    with pytest.raises(TypeError, match="must be int64"):
        RandomDraws(0, "test", numbers.int())


def test_numbers_in_steps():
    """The numbers of every other image, which are not next to each other in memory."""
    images = random_images(5, 3, 8, 8)
    steps = RandomDraws(0, "test", torch.arange(10)[::2])
    copied = RandomDraws(0, "test", torch.arange(10)[::2].clone())
    assert torch.equal(*(pipeline("bgcfnc")(images, 0.7, draws) for draws in (steps, copied)))


# What is drawn natively, and what is not


@dataclass
class Twice(Scale):
    """Another map under the settings of a built-in one."""

    def matrix(self, draw, height, width):
        matrix = super().matrix(draw, height, width)
        return matrix @ matrix


@dataclass
class Shear(GeometryTransform):
    order = 4.5

    def matrix(self, draw, height, width):
        matrix = torch.eye(3, device=draw.device).repeat(draw.n, 1, 1)
        matrix[:, 0, 1] = draw.normal(0.3)
        return matrix


@dataclass
class Swap(ColorTransform):
    order = 2.5

    def matrix(self, draw):
        return torch.eye(4, device=draw.device)[[1, 2, 0, 3]].repeat(draw.n, 1, 1)


@dataclass
class Fade(ImageTransform):
    def apply(self, images, draw):
        return images * draw.uniform(0.0, 0.9)[:, None, None, None]


@dataclass
class LateFade(Fade):
    order = 25.0


@dataclass
class LastFade(Fade):
    order = 40.0


class FixedDraws(RandomDraws):
    """Numbers of another kind, as an experiment may want them."""

    def draw(self, name, place=0):
        return PercentileDraws(0.3, len(self.images)).draw(name)

    def open(self, places, probabilities):
        return super(RandomDraws, self).open(places, probabilities)


@pytest.mark.parametrize(
    ("spec", "others", "known"),
    [
        ("bgcfnc", [], 19),
        ("noise", [], 1),
        ("cutout", [], 1),
        ("cutout,hue", [], 2),
        ("bgcfnc", [Twice()], 0),
        ("bgcfnc", [Shear()], 0),
        ("bgcfnc", [Swap()], 0),
        ("bgcfnc", [Fade()], 17),
        ("bgcfnc", [LateFade()], 18),
        ("bgcfnc", [LastFade()], 19),
        ("noise", [Twice()], 0),
    ],
)
def test_contributed_transforms(spec, others, known):
    """All of them take part, in their order, whoever draws."""
    pipe = pipeline(spec, *(ActiveTransform(type(other).__name__.lower(), other) for other in others))
    assert len(pipe.known_places) == known
    images = random_images(16, 3, 12, 10)
    with recorded_calls() as calls:
        out, *_ = assert_same_on_both_paths(pipe, images, 0.6, draws_for(16))
    assert (DRAWING in calls) == (known > 0)
    if others:
        without = pipeline(spec)(images, 0.6, draws_for(16))
        assert not torch.allclose(out, without, atol=1e-2)


@pytest.mark.parametrize("draws", [PercentileDraws(0.3, 8), FixedDraws(0, "test", torch.arange(8))])
def test_other_draws_are_asked(draws):
    """A percentile, or a kind of draws that knows better than the random numbers that it inherits."""
    images = random_images(8, 3, 12, 10)
    with recorded_calls() as calls:
        out, *_ = assert_same_on_both_paths(pipeline("bgcfnc,noise=off"), images, 0.5, draws)
    assert DRAWING not in calls
    assert torch.equal(out, pipeline("bgcfnc,noise=off")(images, 0.5, PercentileDraws(0.3, 8)))


@pytest.mark.parametrize("name", ["noise", "cutout"])
def test_twice_the_same_formula(name):
    """Under a second name, with numbers of its own."""
    transform = REGISTRY[name].value()
    pipe = pipeline(name, ActiveTransform("another", transform))
    assert len(pipe.known_places) == 1
    assert_same_on_both_paths(pipe, random_images(8, 1, 9, 7), 0.9, draws_for(8))


@pytest.mark.parametrize(("operation", "draws"), [("augment", True), ("augment, contributed", False)])
def test_both_ways_are_in_the_self_test(operation, draws):
    with recorded_calls() as calls:
        self_tests[operation](torch.device("cpu"))
    assert (DRAWING in calls) == draws


# Noise and cutout


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 2, 1), (1, 1, 5), (3, 2, 1), (1, 7, 1), (2, 2, 2), (3, 17, 20), (1, 32, 32), (4, 33, 40)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_noise_is_the_same_on_both_paths(shape, dtype):
    """Also where it follows the strength in the first block of numbers, and where it takes thousands of blocks."""
    images = torch.zeros(5, *shape, dtype=dtype)
    out = pipeline("noise")(images, 0.8, draws_for(5, FAR))
    with reference_ops():
        wanted = pipeline("noise")(images, 0.8, draws_for(5, FAR))
    assert out.dtype == dtype
    torch.testing.assert_close(out, wanted, atol=1e-6, rtol=0.01 if dtype == torch.bfloat16 else 1e-5)
    assert out.any()


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (9, 14), (33, 5)])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.3])
def test_cutouts_are_the_same_on_both_paths(size, share):
    images = torch.full((40, 2, *size), torch.nan)
    pipe = pipeline(f"cutout(size={share})")
    out = pipe(images, 0.8, draws_for(40))
    with reference_ops():
        wanted = pipe(images, 0.8, draws_for(40))
    assert torch.equal(out == 0, wanted == 0)
    assert torch.equal(out.isnan(), out != 0)


def test_gradients_of_noise_and_cutout():
    """Noise adds nothing to them, and what is cut out has none."""
    images = random_images(16, 2, 9, 7)
    ones = torch.ones_like(images)
    out = pipeline("noise")(images, 1.0, draws_for(16))
    assert torch.equal(torch.autograd.grad(out, images, ones)[0], ones)
    out = pipeline("cutout")(images, 1.0, draws_for(16))
    assert torch.equal(torch.autograd.grad(out, images, ones)[0], (out != 0).float())


def test_what_is_cut_out_has_no_noise_and_no_color():
    images = random_images(16, 3, 12, 12)
    cut = pipeline("cutout")(images, 0.7, draws_for(16)) == 0
    out = pipeline("bgcfnc")(images, 0.7, draws_for(16))
    assert cut.any()
    assert not out[cut].any()


# All of it


@pytest.mark.parametrize("p", [0.2, 0.6, 1.0])
@pytest.mark.parametrize("shape", [(12, 1, 9, 14), (12, 2, 16, 16), (12, 3, 17, 30), (12, 4, 1, 1), (12, 6, 8, 8)])
def test_the_pipeline_on_both_paths_in_float64(p, shape):
    """Maps are drawn in float32: where they amplify much, the paths differ by that much."""
    assert_same_on_both_paths(pipeline("bgcfnc"), random_images(*shape, dtype=torch.float64), p, draws_for(12), 1e-3)


@pytest.mark.parametrize("n", [0, 1])
def test_small_batches(n):
    assert_same_on_both_paths(pipeline("bgcfnc"), random_images(n, 3, 12, 10), 0.9, draws_for(n, 3))


@pytest.mark.parametrize("shape", [(40, 1, 16, 16), (40, 3, 12, 15), (40, 4, 16, 12), (40, 2, 1, 9)])
def test_blits_are_exact(shape):
    images = random_images(*shape)
    draws = draws_for(40)
    # A turn of an image whose height and width differ by an odd number is none.
    pipe = pipeline("blit" if (shape[2] - shape[3]) % 2 == 0 else "xflip,xint")
    values = pipe(images, 0.7, draws)
    with reference_ops():
        wanted = pipe(images, 0.7, draws)
    assert torch.equal(values, wanted)
    integers = (images.detach() * 50).round()
    assert torch.equal(*(torch.autograd.grad(out, images, integers)[0] for out in (values, wanted)))


def test_untouched_images_have_untouched_gradients():
    images = random_images(64, 3, 9, 7)
    pipe, draws = pipeline("bgcfnc"), draws_for(64)
    still = plan_of(pipe, images, 0.05, draws).kinds == 0
    assert 10 < still.sum() < 60
    out, gradient, second = pass_and_gradients(pipe, images, 0.05, draws)
    cotangent = images.detach().flip(-1)
    for value, want in ((out, images.detach()), (gradient, cotangent), (second, 2 * cotangent)):
        assert torch.equal(value[still], want[still])


def test_threads_and_company_change_no_bit():
    images, pipe = random_images(9, 3, 40, 36), pipeline("bgcfnc")
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(pass_and_gradients(pipe, images, 0.5, draws_for(9)))
    finally:
        torch.set_num_threads(before)
    for others, (k, whole) in product(results[1:], enumerate(results[0])):
        assert torch.equal(others[k], whole)
    for number in range(9):
        image = images[number : number + 1].detach().requires_grad_()
        alone = pass_and_gradients(pipe, image, 0.5, draws_for(1, number))
        assert all(torch.equal(one[0], whole[number]) for one, whole in zip(alone, results[0], strict=True))


@pytest.mark.parametrize("layout", ["channels_last", "crop", "expanded"])
def test_layouts(layout):
    images = {
        "channels_last": random_images(6, 3, 16, 12).to(memory_format=torch.channels_last),
        "crop": random_images(6, 3, 20, 20)[:, :, 2:18, 3:15],
        "expanded": random_images(1, 3, 16, 12).expand(6, 3, 16, 12),
    }[layout].detach()
    pipe = pipeline("bgcfnc")
    given, copied = (
        pass_and_gradients(pipe, x.requires_grad_(), 0.6, draws_for(6)) for x in (images, images.detach().contiguous())
    )
    assert all(torch.equal(one, other) for one, other in zip(given, copied, strict=True))


def test_half_precision():
    """Computed in float32, rounded at the end."""
    images = random_images(12, 3, 16, 12).bfloat16()
    out = pipeline("bgcfnc")(images, 0.5, draws_for(12))
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, pipeline("bgcfnc")(images.float(), 0.5, draws_for(12)).bfloat16())
