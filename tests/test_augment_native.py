"""The native kernels of the augmentations against the reference path, on a CPU."""

import ctypes
import subprocess

import pytest
import torch

from adaflow.core.augment import build_pipeline
from adaflow.core.augment.bands import band_taps, filter_bands
from adaflow.core.augment.colors import map_colors
from adaflow.core.augment.resample import copy_pixels, resample
from adaflow.core.augment.wavelets import sym6_lowpass
from adaflow.core.draw import PercentileDraws, RandomDraws
from adaflow.cuda.augment import COLORED, MOVED, RESAMPLED, Plan, augment, compose, with_filters
from adaflow.cuda.build import CPU_FLAGS, NATIVE, find_compiler
from adaflow.cuda.library import native, reference_ops
from adaflow.plugin_manager import PluginManager
from tests.golden import Golden

CPU = torch.device("cpu")
REGISTRY = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"}).augmentations
GOLDEN = Golden("augment")
SHAPES = [(6, 3, 16, 16), (6, 3, 33, 20), (6, 1, 9, 14), (6, 2, 8, 11), (6, 4, 70, 64), (6, 5, 12, 8), (6, 3, 1, 6)]
SHAPES += [(6, 3, 1, 1), (6, 1, 130, 7), (1, 3, 8, 8), (0, 3, 8, 8)]


@pytest.fixture(scope="module", autouse=True)
def _kernels():
    if native(CPU) is None:
        pytest.skip("there are no native kernels here")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_images(*shape, seed=0, dtype=torch.float32):
    return torch.rand(shape, generator=generator(seed), dtype=dtype) * 2 - 1


def random_plan(n, kinds=(0, MOVED, RESAMPLED, COLORED, MOVED | COLORED, RESAMPLED | COLORED), zoom=1.0, seed=0):
    """Kinds in turn; a quarter turn and a shift for what is moved, anything for what is resampled."""
    kinds = torch.tensor([kinds[k % len(kinds)] for k in range(n)], dtype=torch.uint8)
    inverses = torch.eye(3).repeat(n, 1, 1)
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    moved = (kinds & MOVED).bool()
    mixed = torch.randn(n, 2, 2, generator=generator(seed)) * zoom
    inverses[:, :2, :2] = torch.where(moved[:, None, None], turn, mixed)
    shift = torch.randn(n, 2, generator=generator(seed + 1)) * 9
    inverses[:, :2, 2] = torch.where(moved[:, None], shift.round(), shift)
    return Plan(inverses, torch.randn(n, 3, 4, generator=generator(seed + 2)), kinds)


def expected(images, plan):
    """Image by image with the functions of the reference path."""
    if len(images) == 0:
        return images * 1
    done = []
    for number, kind in enumerate(plan.kinds.tolist()):
        image, inverse = images[number : number + 1], plan.inverses[number : number + 1]
        if kind & (MOVED | RESAMPLED):
            image = (resample if kind & RESAMPLED else copy_pixels)(image, inverse)
        if kind & COLORED:
            matrix = torch.eye(4)[None].clone()
            matrix[0, :3] = plan.colors[number]
            image = map_colors(image, matrix)
        done.append(image)
    return torch.cat(done)


def filter_taps(images, taps, fired):
    """Images, those that fired filtered."""
    n = len(images)
    nothing = Plan(torch.eye(3).repeat(n, 1, 1), torch.zeros(n, 3, 4), torch.zeros(n, dtype=torch.uint8))
    return augment(images, with_filters(nothing, taps, fired))


def derivatives(function, images):
    """The output, its gradient, and the gradient of that; of something that is linear in none."""
    images = images.detach().requires_grad_()
    out = function(images)
    (gradient,) = torch.autograd.grad((out.sin() * out).sum(), images, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), images)
    return out.detach(), gradient.detach(), second


def assert_all_close(values, wanted, tolerance):
    for value, want in zip(values, wanted, strict=True):
        assert value.shape == want.shape
        if value.numel():
            assert (value.double() - want.double()).abs().max() <= tolerance * want.abs().max().clamp(min=1.0)


def whole(plan, shape):
    """The plan with shifts that take pixels to pixels: height and width may differ by an odd number."""
    height, width = shape[2:]
    half = ((width - 1) / 2 - (height - 1) / 2) % 1
    inverses = plan.inverses.clone()
    inverses[(plan.kinds & MOVED).bool(), :2, 2] += half
    return Plan(inverses, plan.colors, plan.kinds)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_augment_and_its_derivatives(shape, dtype):
    images = random_images(*shape, dtype=dtype)
    plan = whole(random_plan(shape[0]), shape)
    wanted = derivatives(lambda x: expected(x, plan), images.double())
    assert_all_close(derivatives(lambda x: augment(x, plan), images), wanted, 2e-4 if dtype == torch.float32 else 1e-10)
    # The output alone, where nothing amplifies rounding.
    assert_all_close([augment(images, plan)], wanted[:1], 2e-5 if dtype == torch.float32 else 1e-11)


@pytest.mark.parametrize("zoom", [0.01, 5.0, 50.0, 3000.0])
def test_maps_that_zoom(zoom):
    """Boxes of the lattice of any size, up to those that are looked up point by point."""
    images = random_images(4, 3, 40, 30, dtype=torch.float64)
    plan = random_plan(4, [RESAMPLED, RESAMPLED | COLORED], zoom=zoom)
    values, wanted = (derivatives(lambda x, run=run: run(x, plan), images) for run in (augment, expected))
    # Positions are rounded relative to how far away they are.
    assert_all_close(values, wanted, 1e-10 * max(zoom, 1.0))


def test_many_tiles():
    images = random_images(2, 3, 150, 170, dtype=torch.float64)
    plan = random_plan(2, [RESAMPLED])
    values, wanted = (derivatives(lambda x, run=run: run(x, plan), images) for run in (augment, expected))
    assert_all_close(values, wanted, 1e-10)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e30, 0.0])
def test_maps_beyond_reason(value):
    """No crash, and nothing that was not in the images."""
    images = random_images(2, 3, 8, 8).requires_grad_()
    for kind in (MOVED, RESAMPLED):
        plan = Plan(torch.full((2, 3, 3), value), torch.zeros(2, 3, 4), torch.tensor([kind, 0], dtype=torch.uint8))
        out = augment(images, plan)
        assert torch.equal(out[1], images[1])
        torch.autograd.grad(out.sum(), images)


@pytest.mark.parametrize("shape", SHAPES)
def test_moved_pixels_are_exact(shape):
    shape = (5, *shape[1:])
    plan = whole(random_plan(5, [MOVED, 0]), shape)
    images = random_images(*shape)
    images[:, :, 0] = -0.0
    images[0, 0, 0, 0] = float("nan")
    integers = torch.randint(-50, 50, shape, generator=generator()).float()
    images.requires_grad_()
    out, wanted = augment(images, plan), expected(images, plan)
    assert torch.equal(out.view(torch.int32), wanted.view(torch.int32))
    gradients = [torch.autograd.grad(result, images, integers)[0] for result in (out, wanted)]
    assert torch.equal(*gradients)


def test_threads_and_company_change_no_bit():
    images = random_images(7, 3, 40, 36)
    plan = random_plan(7)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(derivatives(lambda x: augment(x, plan), images))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)
    for number in range(7):
        own = Plan(*(tensor[number : number + 1] for tensor in (plan.inverses, plan.colors, plan.kinds)))
        alone = derivatives(lambda x, own=own: augment(x, own), images[number : number + 1])
        assert all(torch.equal(one[0], batch[number]) for one, batch in zip(alone, results[0], strict=True))


@pytest.mark.parametrize("layout", ["channels_last", "crop", "expanded"])
def test_layouts(layout):
    images = {
        "channels_last": random_images(6, 3, 16, 12).to(memory_format=torch.channels_last),
        "crop": random_images(6, 3, 20, 20)[:, :, 2:18, 3:15],
        "expanded": random_images(1, 3, 16, 12).expand(6, 3, 16, 12),
    }[layout]
    plan = whole(random_plan(6), (6, 3, 16, 12))
    taps = band_taps(torch.rand(6, 4, generator=generator()) + 0.5)
    for function in (lambda x: augment(x, plan), lambda x: filter_taps(x, taps, torch.ones(6, dtype=torch.bool))):
        assert torch.equal(function(images), function(images.contiguous()))


def test_half_precision():
    images = random_images(6, 3, 16, 16).bfloat16()
    plan = random_plan(6)
    out = augment(images, plan)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, augment(images.float(), plan).bfloat16())


def test_second_derivatives_by_differences():
    images = random_images(6, 3, 7, 6, dtype=torch.float64).requires_grad_()
    plan = whole(random_plan(6), images.shape)
    taps, fired = band_taps(torch.rand(6, 4, generator=generator()) + 0.5), torch.arange(6) % 2 == 0
    for function in (lambda x: augment(x, plan).sin(), lambda x: filter_taps(x, taps, fired).sin()):
        assert torch.autograd.gradcheck(function, images, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, images, fast_mode=True)


# Filter bands


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_bands_and_their_derivatives(shape, dtype):
    n = shape[0]
    images = random_images(*shape, dtype=dtype)
    gains = torch.rand(n, 4, generator=generator()) * 2
    fired = torch.arange(n) % 3 != 1
    assert_all_close(
        derivatives(lambda x: filter_taps(x, band_taps(gains), fired), images),
        derivatives(
            lambda x: torch.where(fired[:, None, None, None], filter_bands(x, gains), x) if n else x * 1,
            images.double(),
        ),
        # The taps themselves are float32.
        1e-4 if dtype == torch.float32 else 1e-5,
    )
    out = filter_taps(images, band_taps(gains), fired)
    assert torch.equal(out[~fired], images[~fired])


# Composition, gates, the pipeline


@pytest.mark.parametrize(("channels", "size"), [(3, (16, 16)), (1, (12, 9)), (4, (9, 12))])
def test_composed_maps(channels, size):
    n = 200
    pipe = build_pipeline("bgc", REGISTRY)
    draws = RandomDraws(0, "test", torch.arange(n))
    inverse, fired, blurred = pipe.geometry(0.15, draws, *size)
    matrix, colored = pipe.color(0.15, draws, channels)
    seen = []

    def watch(images, plan):
        seen.append(plan)
        return images

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adaflow.core.augment.pipeline.augment", watch)
        pipe(torch.zeros(n, channels, *size), 0.15, draws)
    (plan,) = seen
    torch.testing.assert_close(plan.inverses, inverse, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(plan.colors, matrix[:, :3], atol=1e-5, rtol=1e-5)
    assert torch.equal((plan.kinds & COLORED) > 0, colored)
    assert torch.equal((plan.kinds & (MOVED | RESAMPLED)) > 0, fired)
    # A quarter turn is no copy where height and width differ by an odd number.
    assert not (blurred & ((plan.kinds & MOVED) > 0)).any()
    resampled = (plan.kinds & RESAMPLED) > 0
    assert torch.equal(resampled, blurred) == ((size[0] - size[1]) % 2 == 0)
    assert 0 < int(resampled.sum()) < n
    assert not ((plan.kinds & MOVED).bool() & resampled).any()


def test_composition_of_nothing():
    gates = torch.zeros(0, 3, dtype=torch.bool)
    plan = compose([], [], gates, [], [], 8, 8)
    assert torch.equal(plan.kinds, torch.zeros(3, dtype=torch.uint8))
    assert torch.equal(plan.inverses, torch.eye(3).expand(3, 3, 3))
    assert torch.equal(plan.colors, torch.eye(4)[:3].expand(3, 3, 4))


def test_what_needs_resampling_gets_it():
    """Though it moves whole pixels this time, and what comes before or after it always does."""
    still = torch.eye(3).expand(3, 3, 3)
    gates = torch.tensor([[True, True, False], [True, False, True], [True, True, True]])
    plan = compose([still] * 3, [], gates, [False, True, False], [], 8, 8)
    assert plan.kinds.tolist() == [RESAMPLED, MOVED, RESAMPLED]


@pytest.mark.parametrize("spec", ["bgc", "bgcfnc", "blit", "color", "filter", "hue,noise"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_pipeline_on_both_paths(spec, channels):
    images = random_images(24, channels, 24, 20)
    pipe = build_pipeline(spec, REGISTRY)

    def run(x):
        return pipe(x, 0.5, RandomDraws(0, "test", torch.arange(24)))

    values = derivatives(run, images)
    with reference_ops():
        wanted = derivatives(run, images)
    assert_all_close(values[:1], wanted[:1], 5e-5)
    assert_all_close(values, wanted, 5e-4)


def test_gates_in_one_go_are_the_same_gates():
    places = [("scale", 0), ("rotate", 0), ("rotate", 1), ("hue", 0)]
    images = torch.arange(500)
    for probabilities in ([0.1, 0.5, 0.9, 0.0], [torch.tensor(p) for p in (0.1, 0.5, 0.9, 0.0)]):
        for order in (places, places[::-1]):
            draws = RandomDraws(3, "test", images)
            draws.prefetch(places)
            opened, gates = draws.open(order, probabilities)
            for place, draw, gate, p in zip(order, opened, gates, probabilities, strict=True):
                single = RandomDraws(3, "test", images).draw(*place)
                assert torch.equal(single.fires(p), gate)
                assert torch.equal(single.uniform(shape=(3,)), draw.uniform(shape=(3,)))
                assert torch.equal(single.uniform(shape=(9,)), draw.uniform(shape=(9,)))
    _, gates = PercentileDraws(0.5, 3).open(places, [0.1, 0.5, 0.9, 0.0])
    assert gates.tolist() == [[True] * 3, [True] * 3, [True] * 3, [False] * 3]


# Golden arrays


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case["key"])
        for case in GOLDEN.cases
        # Reflection has no end here: see test_augment_golden.
        if case["key"].startswith("given__") and case["key"] != "given__geomwide__rgb32__seed21"
    ],
)
def test_golden(case):
    def array(name):
        return GOLDEN[f"{case['key']}__{name}"]

    images = GOLDEN[case["input"]].requires_grad_()
    n, inputs = len(images), case["arrays"]
    kind = (RESAMPLED if "G_inv" in inputs else 0) | (COLORED if "C" in inputs else 0)
    inverses = array("G_inv") if "G_inv" in inputs else torch.eye(3).repeat(n, 1, 1)
    colors = array("C") if "C" in inputs else torch.eye(4).repeat(n, 1, 1)
    out = augment(images, Plan(inverses, colors[:, :3].contiguous(), torch.full((n,), kind, dtype=torch.uint8)))
    if "band_gains" in inputs:
        out = filter_taps(out, band_taps(array("band_gains")), torch.ones(n, dtype=torch.bool))
    torch.testing.assert_close(out, array("out"), atol=2e-5, rtol=0)
    cotangent = GOLDEN["cotangent_" + case["input"].removeprefix("input_")]
    (gradient,) = torch.autograd.grad((out * cotangent).sum(), images)
    wanted = array("grad")
    torch.testing.assert_close(gradient, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)


# What GPUs compute, in loops

POINTS = """
#include "augment_points.h"
using namespace adaflow::augment;
using Whole = std::int64_t;

extern "C" void taps(double* out) {
    for (int k = 0; k < TAPS; ++k) out[k] = lowpass(k);
}

extern "C" void forward(const double* in, double* grid, const float* inverse, Whole height, Whole width) {
    const Map map(inverse, height, width);
    Taps<double> taps;
    taps.fill();
    for (Whole j = 0; j < 2 * height + GRID_MARGIN; ++j)
        for (Whole i = 0; i < 2 * width + GRID_MARGIN; ++i) {
            const Seen<double> across(map.u(i, j), width, taps), down(map.v(i, j), height, taps);
            *grid++ = look_up_point(in, width, across, down);
        }
}

extern "C" void spread(const double* in, double* grid, Whole height, Whole width) {
    Taps<double> taps;
    taps.fill();
    for (Whole j = 0; j < 2 * height + GRID_MARGIN; ++j)
        for (Whole i = 0; i < 2 * width + GRID_MARGIN; ++i) *grid++ = grid_gradient(in, height, width, i, j, taps);
}

extern "C" void gather(const double* grid, double* out, const float* inverse, Whole height, Whole width, int moved) {
    const Map map(inverse, height, width);
    Taps<double> taps;
    taps.fill();
    for (Whole y = 0; y < height; ++y)
        for (Whole x = 0; x < width; ++x, ++out) {
            *out = 0;
            if (moved) {
                gather_moved(grid, 1, height, width, x, y, map.rounded(), out);
            } else {
                gather_resampled(grid, 1, height, width, x, y, map, taps, out);
            }
        }
}
"""


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    """The functions that GPU threads call, compiled for the CPU."""
    folder = tmp_path_factory.mktemp("points")
    (folder / "points.cpp").write_text(POINTS)
    command = [*find_compiler("cpu").command, *CPU_FLAGS, "-O1", "-shared", f"-I{NATIVE}"]
    subprocess.run([*command, str(folder / "points.cpp"), "-o", str(folder / "points.so")], check=True)
    return ctypes.CDLL(str(folder / "points.so"))


def pointer(tensor):
    return ctypes.c_void_p(tensor.data_ptr())


def halved(grid):
    taps = torch.from_numpy(sym6_lowpass())
    return taps @ grid.unfold(0, 12, 2).unfold(1, 12, 2) @ taps


@pytest.mark.parametrize("zoom", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("size", [(12, 10), (1, 5), (9, 2)])
def test_what_gpus_compute_point_by_point(points, size, zoom):
    height, width = (ctypes.c_int64(side) for side in size)
    taps = torch.empty(12, dtype=torch.float64)
    points.taps(pointer(taps))
    assert torch.equal(taps, torch.from_numpy(sym6_lowpass()))
    for seed in range(4):
        image, cotangent = random_images(2, 1, *size, seed=seed, dtype=torch.float64)
        inverse = random_plan(1, [RESAMPLED], zoom, seed).inverses
        if seed == 3:  # along the axes
            inverse[:, 0, 1] = inverse[:, 1, 0] = 0
        image.requires_grad_()
        wanted = resample(image[None], inverse)
        (gradient,) = torch.autograd.grad(wanted, image, cotangent[None])
        grid = torch.empty(2 * size[0] + 10, 2 * size[1] + 10, dtype=torch.float64)
        points.forward(pointer(image), pointer(grid), pointer(inverse), height, width)
        torch.testing.assert_close(halved(grid), wanted[0, 0].detach(), atol=1e-10, rtol=0)
        points.spread(pointer(cotangent), pointer(grid), height, width)
        out = torch.empty(size, dtype=torch.float64)
        points.gather(pointer(grid), pointer(out), pointer(inverse), height, width, 0)
        torch.testing.assert_close(out, gradient[0], atol=1e-10 * float(gradient.abs().max()) + 1e-12, rtol=0)


@pytest.mark.parametrize("size", [(12, 10), (5, 5), (1, 5), (9, 2)])
def test_what_gpus_compute_for_moved_pixels(points, size):
    height, width = (ctypes.c_int64(side) for side in size)
    plan = whole(random_plan(8, [MOVED]), (8, 1, *size))
    plan.inverses[1, :2, :2] = torch.diag(torch.tensor([-1.0, 1.0]))
    plan.inverses[2, :2, :2] = torch.diag(torch.tensor([2.0, 1.0]))
    plan.inverses[1:3, :2, 2] = torch.tensor([3.0, -40.0]) + torch.tensor([[0.0, 0.0], [(size[1] - 1) / 2, 0.0]])
    for inverse in plan.inverses:
        image = random_images(1, 1, *size, dtype=torch.float64).requires_grad_()
        cotangent = torch.randint(-50, 50, size, generator=generator()).double()
        (gradient,) = torch.autograd.grad(copy_pixels(image, inverse[None]), image, cotangent[None, None])
        out = torch.empty(size, dtype=torch.float64)
        points.gather(pointer(cotangent), pointer(out), pointer(inverse.contiguous()), height, width, 1)
        assert torch.equal(out, gradient[0, 0])
