"""`adaflow doctor`: what is here, which path operations take, and whether both paths agree."""

import json
import shutil
import tempfile

import pytest
import torch

from adaflow.core import doctor
from adaflow.core.doctor import examine
from adaflow.cuda import build as builder
from adaflow.cuda import library
from adaflow.cuda.self_test import compare

pytest_plugins = ["tests.command_line"]

needs_gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")


def agrees(device):
    out = torch.zeros(4)
    assert library.native(device) is not None
    library.call("adaflow_probe_f32", device, out.data_ptr(), 4)
    torch.testing.assert_close(out, torch.arange(4.0))


def differs(_device):
    torch.testing.assert_close(torch.ones(1), torch.zeros(1))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A house with one small native source, one operation, no GPU, and an empty cache."""
    (tmp_path / "native").mkdir()
    for name in ("common.h", "probe_cpu.cpp"):
        shutil.copy(builder.NATIVE / name, tmp_path / "native")
    monkeypatch.setattr(builder, "NATIVE", tmp_path / "native")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("ADAFLOW_CACHE", str(tmp_path / "cache"))
    for name in ("ADAFLOW_OPS", "CXX", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(library, "_libraries", {})
    monkeypatch.setattr(library, "_chosen", {})
    monkeypatch.setattr(library, "self_tests", {"counting": agrees})
    return tmp_path


@pytest.fixture
def no_nvcc(monkeypatch):
    """As if there were none, wherever it is looked for."""
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if "nvcc" in name else which(name))


@needs_gxx
def test_all_is_well(here, cli):
    outcome = cli("doctor")
    assert outcome.code == 0
    assert "building native CPU kernels, once" in outcome.err
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["counting", "cpu", "native", "passed"] in lines
    assert ["ADAFLOW_OPS", "auto"] in lines
    assert "Problem" not in outcome.out
    for word in (torch.__version__, "g++", "nvcc", "cores", "1 in the cache"):
        assert word in outcome.out


@needs_gxx
def test_json_says_the_same(here, cli):
    found = json.loads(cli("doctor", "--json").out)
    assert found["operations"] == [{"name": "counting", "device": "cpu", "path": "native", "why": "", "failure": ""}]
    assert found["problems"] == []
    (library_file,) = found["libraries"]
    assert library_file.startswith(str(here / "cache" / "native" / "cpu-"))


@needs_gxx
@pytest.mark.parametrize("test", [differs, lambda device: 1 / 0])
def test_self_test_that_fails(test, here, cli, monkeypatch):
    monkeypatch.setitem(library.self_tests, "broken", test)
    outcome = cli("doctor")
    assert outcome.code == 3
    assert ["broken", "cpu", "reference", "failed"] in [line.split() for line in outcome.out.splitlines()]
    assert ["counting", "cpu", "native", "passed"] in [line.split() for line in outcome.out.splitlines()]
    assert "Problem: broken on cpu: " in outcome.out
    assert "AssertionError: Tensor-likes are not close" in outcome.out or "ZeroDivisionError" in outcome.out


@needs_gxx
def test_operation_that_calls_no_kernel(here, cli, monkeypatch):
    monkeypatch.setitem(library.self_tests, "plain", lambda device: None)
    outcome = cli("doctor")
    assert outcome.code == 0
    assert ["plain", "cpu", "reference", "it"] in [line.split()[:4] for line in outcome.out.splitlines()]


@needs_gxx
def test_calls_are_recorded_within_the_block_only(here):
    agrees(torch.device("cpu"))
    with library.recorded_calls() as calls:
        assert calls == set()
        agrees(torch.device("cpu"))
    agrees(torch.device("cpu"))
    assert calls == {"adaflow_probe_f32"}
    assert library._recording is None


class Shifted(torch.autograd.Function):
    """x², with an error on the native path: in the output, its gradient, or the gradient of that."""

    @staticmethod
    def forward(ctx, x, errors):
        ctx.save_for_backward(x)
        ctx.errors = errors
        return x * x + errors[0]

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return Twice.apply(x, dy, ctx.errors), None


class Twice(torch.autograd.Function):
    """2 x dy."""

    @staticmethod
    def forward(ctx, x, dy, errors):
        ctx.save_for_backward(x, dy)
        ctx.errors = errors
        return 2 * x * dy + errors[1]

    @staticmethod
    def backward(ctx, d2):
        x, dy = ctx.saved_tensors
        return 2 * dy * d2 + ctx.errors[2], 2 * x * d2, None


@pytest.mark.parametrize(("wrong", "named"), [(0, "output"), (1, "gradient 0"), (2, "second gradient 0"), (None, "")])
def test_comparison_finds_what_differs(wrong, named, monkeypatch):
    def function(x):
        errors = [0.01 if index == wrong and not library._reference_only else 0.0 for index in range(3)]
        return Shifted.apply(x, errors)

    if wrong is None:
        return compare(function, torch.ones(3, 4))
    with pytest.raises(AssertionError, match=f"^{named}: "):
        compare(function, torch.ones(3, 4))


def test_reference_path_is_fine(here, cli, monkeypatch):
    monkeypatch.setenv("ADAFLOW_OPS", "reference")
    outcome = cli("doctor")
    assert outcome.code == 0
    assert ["counting", "cpu", "reference", "ADAFLOW_OPS=reference"] in [
        line.split() for line in outcome.out.splitlines()
    ]
    assert not (here / "cache").exists()


@pytest.mark.parametrize(("mode", "code"), [("auto", 0), ("native", 3)])
def test_no_compiler(mode, code, here, cli, monkeypatch):
    monkeypatch.setenv("PATH", str(here))
    monkeypatch.setenv("ADAFLOW_OPS", mode)
    outcome = cli("doctor")
    assert outcome.code == code
    assert "counting" in outcome.out
    assert "reference" in outcome.out
    assert "there is no C++ compiler" in outcome.out
    assert ("Problem" in outcome.out) == (code == 3)


def test_unknown_mode(here, cli, monkeypatch):
    monkeypatch.setenv("ADAFLOW_OPS", "fast")
    outcome = cli("doctor")
    assert outcome.code == 2
    assert "ADAFLOW_OPS=fast is unknown" in outcome.err


@needs_gxx
def test_build_ahead(here, cli, no_nvcc, monkeypatch):
    monkeypatch.setenv("ADAFLOW_OPS", "reference")
    assert cli("doctor", "--build").code == 0
    assert len(list((here / "cache" / "native").glob("cpu-*.so"))) == 1


@needs_gxx
def test_build_ahead_that_fails(here, cli, no_nvcc):
    (here / "native" / "broken_cpu.cpp").write_text("broken;")
    outcome = cli("doctor", "--build")
    assert outcome.code == 3
    assert outcome.err.count("building native CPU kernels") == 1
    assert "Problem: native CPU kernels:" in outcome.out
    assert "broken_cpu.cpp:1:1: error" in outcome.out.replace("\n", "")
    assert cli("doctor").code == 0


def test_gpu_without_nvcc_is_a_problem_when_building_ahead(here, no_nvcc, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: torch.Size())
    monkeypatch.setattr(doctor, "_facts", lambda mode: {})
    monkeypatch.setattr(library, "why_not", lambda device: builder.BuildError(f"none for {device}"))
    found = examine(build_ahead=True)
    assert found.problems == ["native CUDA kernels: there is no nvcc"]
    assert [(row.device, row.why) for row in found.operations] == [
        ("cpu", "none for cpu"),
        ("cuda:0", "none for cuda:0"),
    ]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_every_operation_on_every_gpu():
    found = examine()
    assert found.problems == []
    assert {row.path for row in found.operations if row.device.startswith("cuda")} == {"native"}
    assert any(row.device.startswith("cuda") for row in found.operations)
