"""The kernels for GPUs against those for CPUs: on a GPU, and, where there is none, emulated on a CPU."""

import ctypes
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from adaflow.core.augment import ActiveTransform, AugmentPipeline, build_pipeline
from adaflow.core.augment.matrices import scaling
from adaflow.core.augment.transform import GeometryTransform
from adaflow.core.draw import RandomDraws
from adaflow.cuda import augment as augmentation
from adaflow.cuda import build as builder
from adaflow.cuda import fused_kernels, library, setup_filter
from adaflow.cuda.augment import COLORED, MOVED, RESAMPLED, Plan, augment
from adaflow.cuda.fused import fir_bias_act
from adaflow.cuda.self_test import derivatives, some
from adaflow.plugin_manager import PluginManager

CPU = torch.device("cpu")
REGISTRY = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"}).augmentations
SHIM = Path(__file__).with_name("cuda_on_cpu.h")
SMOOTH = setup_filter([1.0, 3.0, 3.0, 1.0])
# Products and sums are rounded in different places. A bfloat16 has 8 bits.
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12, torch.bfloat16: 0.01}

FILTERS = {
    "none": {},
    "same": {"f": SMOOTH, "padding": (2, 1, 1, 2)},
    "up": {"f": SMOOTH, "padding": (2, 1, 2, 1), "up": 2, "fir_gain": 4.0},
    "down": {"f": SMOOTH, "padding": (2, 1, 3, 0), "down": 2},
    "odd": {"f": SMOOTH, "padding": (4, 5, 2, 3), "up": 3, "down": 2},
}
SIZES = {"small": (2, 9, 9, 7), "one pixel": (3, 40, 1, 1), "slices": (1, 3, 40, 44), "none": (0, 9, 4, 4)}
LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}


def fused(geometry, size, dtype, layout):
    """Outputs and derivatives up to the second, with all that there is to add and multiply."""

    def run(device):
        kwargs = dict(FILTERS[geometry])
        if "f" in kwargs:
            kwargs["f"] = kwargs["f"].to(device)
        x = some(*SIZES[size]).to(device, dtype).contiguous(memory_format=LAYOUTS[layout])
        height, width = fir_bias_act(x, **kwargs).shape[2:]
        others = (some(*x.shape[:2], seed=1), some(len(x), 1, height, width, seed=2), some(x.shape[1], seed=3))
        # A clamp in bfloat16 may be met by one side alone, which has the value before rounding a little below it.
        clamp = None if dtype == torch.bfloat16 else 1.5

        def function(x, scale, noise, bias):
            return fir_bias_act(x, scale=scale, noise=noise, bias=bias, act="lrelu", clamp=clamp, **kwargs)

        return derivatives(function, (x, *(value.to(device, dtype) for value in others)))

    return run


def augmented(shape, dtype):
    """Each kind of map, and some that fold the image thousands of times, or into a point."""

    def run(device):
        kinds = torch.tensor([0, MOVED, RESAMPLED, COLORED, MOVED | COLORED, RESAMPLED | COLORED, RESAMPLED, MOVED])
        inverses = torch.eye(3).repeat(len(kinds), 1, 1)
        inverses[:, :2] += 0.5 * some(len(kinds), 2, 3, seed=1)
        inverses[6, :2, :2] *= 5000.0
        inverses[[1, 4, 7]] = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        # Where height and width differ by an odd number, a turn takes pixels to places between pixels.
        inverses[[1, 4, 7], :2, 2] = torch.tensor([9.0, -4.0]) + (shape[2] - shape[1]) % 2 / 2
        inverses[7, :2, :2] = 0
        plan = Plan(inverses.to(device), some(len(kinds), 3, 4, seed=2).to(device), kinds.to(device, torch.uint8))
        images = some(len(kinds), *shape).to(device, dtype)
        library.native(device)
        return derivatives(lambda x: augment(x, plan), (images,))

    return run


def pipeline(spec, shape, dtype):
    """Random numbers, composed maps, filter bands, noise and cutouts."""

    def run(device):
        pipe = build_pipeline(spec, REGISTRY)
        draws = RandomDraws(1, "test", torch.arange(shape[0], device=device))
        return derivatives(lambda x: pipe(x, 0.5, draws), (some(*shape).to(device, dtype),))

    return run


class Mine(GeometryTransform):
    def matrix(self, draw, height, width):
        return scaling(draw.uniform(0.5, 2.0), draw.uniform(0.5, 2.0))


def contributed(device):
    """Maps that Python code drew."""
    transforms = (*build_pipeline("bgcf", REGISTRY).transforms, ActiveTransform("mine", Mine()))
    draws = RandomDraws(1, "test", torch.arange(70, device=device))
    return derivatives(lambda x: AugmentPipeline(transforms)(x, 0.5, draws), (some(70, 3, 5, 4).to(device),))


CASES = {
    f"{geometry} {size} {dtype} {layout}".replace("torch.", ""): (fused(geometry, size, dtype, layout), dtype)
    for geometry in FILTERS
    for size in SIZES
    for dtype in TOLERANCE
    for layout in LAYOUTS
    if size == "small" or dtype == torch.float32
}
CASES |= {
    f"augment {shape} {dtype}".replace("torch.", ""): (augmented(shape, dtype), dtype)
    for shape in ((3, 12, 9), (1, 7, 7), (5, 40, 20))
    for dtype in (torch.float32, torch.float64)
}
CASES |= {
    f"pipeline {spec} {shape} {dtype}".replace("torch.", ""): (pipeline(spec, shape, dtype), torch.float32)  # draws are
    for spec in ("bgcfnc", "bgc,noise,cutout", "noise")
    for shape, dtype in (
        ((12, 1, 20, 17), torch.float32),
        ((12, 3, 20, 17), torch.float64),
        ((5, 4, 40, 37), torch.float32),
        ((70, 1, 2, 3), torch.float32),
    )
}
CASES["pipeline, contributed"] = (contributed, torch.float32)

needs_kernels = pytest.mark.skipif(library.native(CPU) is None, reason="there are no native kernels here")


def assert_same(values, wanted, dtype):
    for name, expected in wanted.items():
        value = values[name].cpu()
        assert value.shape == expected.shape
        if expected.numel():
            difference = (value.double() - expected.double()).abs().max()
            assert difference <= TOLERANCE[dtype] * expected.double().abs().max().clamp(min=1.0), name


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    """The CUDA library as a compiler for CPUs makes it of the same sources."""
    sources = {path.name: path.read_bytes() for path in builder.NATIVE.glob("*.h")}
    sources[SHIM.name] = SHIM.read_bytes()
    for path in builder.NATIVE.glob(builder.PATTERNS["cuda"]):
        launches = r"(\w+(?:<[^<>;]*>)?)<<<(.+?)>>>\((.*?)\);"
        code = re.sub(launches, r"emulation::launch(\2, [=] { \1(\3); });", path.read_text(), flags=re.DOTALL)
        sources[f"{path.stem}.cpp"] = f'#include "{SHIM.name}"\n{code}'.encode()
    recipe = builder.Recipe("cpu", builder.find_compiler("cpu"), ("-std=c++17", "-O1", "-fPIC"), sources)
    kernels = ctypes.CDLL(str(builder._compile(recipe, tmp_path_factory.mktemp("emulated"), builder.TIMEOUT)))
    kernels.adaflow_error.restype = ctypes.c_char_p
    for name in library._signatures:
        library._apply(kernels, "cuda", name)
    return kernels


@pytest.fixture
def as_a_gpu(emulated, monkeypatch):
    """Tensors on the CPU are computed by the emulation, with the working memory that a GPU gets."""

    def for_gpus(workspace):
        def sized(tensor, *arguments):
            seen = SimpleNamespace(device=SimpleNamespace(type="cuda"), shape=tensor.shape, dtype=tensor.dtype)
            seen.new_empty = lambda shape, dtype=tensor.dtype: torch.full(shape, torch.nan, dtype=dtype)
            return workspace(seen, *arguments)

        return sized

    def use():
        monkeypatch.setitem(library._chosen, CPU, emulated)
        for module in (fused_kernels, augmentation):
            monkeypatch.setattr(module, "_workspace", for_gpus(module._workspace))

    return use


@pytest.mark.slow
@needs_kernels
@pytest.mark.parametrize("case", CASES)
def test_emulated(case, as_a_gpu, emulated):
    run, dtype = CASES[case]
    wanted = run(CPU)
    as_a_gpu()
    assert library.native(CPU) is emulated
    results = []
    for descending in (0, 1):
        emulated.set_descending(descending)
        results.append(run(CPU))
    assert_same(results[0], wanted, dtype)
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), f"{name} depends on the order of the threads"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("case", CASES)
def test_on_a_gpu(case):
    run, dtype = CASES[case]
    device = torch.device("cuda", torch.cuda.current_device())
    assert library.native(device) is not None
    values = run(device)
    assert_same(values, run(CPU), dtype)
    again = run(device)
    assert all(torch.equal(value, again[name]) for name, value in values.items())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_is_not_waited_for():
    device = torch.device("cuda", torch.cuda.current_device())
    taps = SMOOTH.to(device)
    x = some(4, 8, 16, 16, device=device).requires_grad_()
    bias = some(8, device=device).requires_grad_()
    images = some(4, 3, 16, 16, device=device).requires_grad_()
    pipe = build_pipeline("bgcfnc", REGISTRY)
    numbers, p = torch.arange(4, device=device), torch.tensor(0.5, device=device)

    def run():
        y = fir_bias_act(x, taps, 1, bias=bias, act="lrelu", clamp=1.0)
        torch.autograd.grad(y.square().sum(), (x, bias), create_graph=True)[0].square().sum().backward()
        out = pipe(images, p, RandomDraws(1, "test", numbers))
        torch.autograd.grad(out.square().sum(), images, create_graph=True)[0].square().sum().backward()

    run()
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
