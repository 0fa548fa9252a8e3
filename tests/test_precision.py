"""Reduced precision: what computes in which format, how close it stays to float32, and that nothing else changes."""

import numpy as np
import pytest
import torch
from PIL import Image

from adaflow.config import from_table, to_table
from adaflow.core import precision as precisions
from adaflow.core.networks import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from adaflow.core.precision import choose_precision, set_precision
from adaflow.core.run_config import RunConfig
from adaflow.core.snapshot import save_network
from adaflow.core.training_step import training_step
from adaflow.errors import ConfigError
from tests.runs import differences, small_run, tensors

pytest_plugins = ["tests.command_line"]

SHAPE = {"img_resolution": 32, "channel_base": 512, "channel_max": 32}
WIDE = GeneratorConfig(img_resolution=64, channel_base=4096, channel_max=128)
TINY = GeneratorConfig(img_resolution=64, channel_base=512, channel_max=64)


def networks(architecture_g="skip", architecture_d="resnet", activation="lrelu"):
    torch.manual_seed(0)
    shape = {"activation": activation, **SHAPE}
    G = Generator(GeneratorConfig(z_dim=32, w_dim=32, mapping_layers=2, architecture=architecture_g, **shape))
    D = Discriminator(DiscriminatorConfig(architecture=architecture_d, **shape))
    return G, D


def dtypes_of(network, *inputs):
    """What each block gives on: resolution → dtype of its first output."""
    seen = {}
    for name, block in network.named_modules():
        if name.rpartition(".")[2] in ("b4", "b8", "b16", "b32"):
            resolution = int(name.rpartition(".b")[2] if "." in name else name[1:])
            block.register_forward_hook(
                lambda _module, _inputs, output, r=resolution: seen.__setitem__(
                    r, (output[0] if isinstance(output, tuple) else output).dtype
                )
            )
    return seen, network(*inputs)


@pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])
def test_what_computes_in_bf16(architecture):
    G, D = networks(architecture, architecture)
    for network in (G, D):
        set_precision(network, "bf16")
    seen, images = dtypes_of(G, torch.randn(4, 32))
    low, high = torch.float32, torch.bfloat16
    assert seen == {4: low, 8: low, 16: high, 32: high}
    assert images.dtype == torch.float32
    seen, logits = dtypes_of(D, images)
    assert seen == {32: high, 16: high, 8: low, 4: low}
    assert logits.dtype == torch.float32
    logits.sum().backward()
    assert all(p.grad.dtype == p.dtype == torch.float32 for p in [*G.parameters(), *D.parameters()])


@pytest.mark.parametrize("activation", ["linear", "lrelu"])
@pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])
def test_bf16_stays_close_to_fp32(architecture, activation):
    G, D = networks(architecture, architecture, activation)
    z, unit = torch.randn(8, 32), torch.randn(8, 3, 32, 32)
    results = {}
    for name in ("fp32", "bf16"):
        for network in (G, D):
            set_precision(network, name)
        images = G(z, noise="const")
        logits = D(images)
        gradients = torch.autograd.grad(logits.sum(), G.synthesis.parameters(), allow_unused=True)
        reals = unit.clone().requires_grad_()
        (slope,) = torch.autograd.grad(D(reals).sum(), reals)
        gradient = torch.cat([g.flatten() for g in gradients if g is not None])
        results[name] = [output.detach() for output in (images, logits, slope, gradient)]
    errors = [float((b - a).norm() / a.norm()) for a, b in zip(results["fp32"], results["bf16"], strict=True)]
    assert max(errors[:2]) < 0.03, errors
    # Rounding takes activations near 0 over the kink of the leaky ReLU, where their gradient jumps.
    assert max(errors) < (0.03 if activation == "linear" else 0.4), errors
    assert min(errors) > 1e-4, "bf16 was not used"


@pytest.mark.parametrize("name", ["fp32", "tf32"])
def test_on_a_cpu_the_others_are_float32(name):
    G, D = networks()
    z = torch.randn(4, 32)
    images = G(z, noise="const")
    logits = D(images)
    for network in (G, D):
        set_precision(network, name)
    assert torch.equal(G(z, noise="const"), images)
    assert torch.equal(D(images), logits)


def test_reduced_and_back():
    G, _ = networks()
    z = torch.randn(4, 32)
    images = G(z, noise="const")
    set_precision(G, "bf16")
    assert not torch.equal(G(z, noise="const"), images)
    set_precision(G, "fp32")
    assert torch.equal(G(z, noise="const"), images)


TRAINED = {
    "data": {"source": "demo:lesions,resolution=32,images=64"},
    "generator": {"channel_base": 256, "channel_max": 16},
    "discriminator": {"channel_base": 256, "channel_max": 16},
    "augment": {"augs": "blit", "controller": "fixed", "p": 0.2},
}


def trained(folder, name, steps):
    """Losses of every step, and the run."""
    run = small_run(folder, {**TRAINED, "precision": name})
    rows = []
    for _ in range(steps):
        training_step(run)
        rows.append({key: value["mean"] for key, value in run.state.statistics.take().items()})
    return run, rows


@pytest.mark.slow
def test_a_run_in_bf16_goes_as_one_in_fp32(tmp_path):
    steps = 24
    (exact, wanted), (reduced, got) = (trained(tmp_path, name, steps) for name in ("fp32", "bf16"))
    for name in ("Loss/G/loss", "Loss/D/loss", "Loss/r1_penalty", "Loss/pl_penalty"):
        pairs = [(a[name], b[name]) for a, b in zip(wanted, got, strict=True) if name in a]
        assert pairs
        assert pairs[0][0] == pytest.approx(pairs[0][1], rel=0.02, abs=1e-4), name
        means = [sum(column) / len(pairs) for column in zip(*pairs, strict=True)]
        assert means[0] == pytest.approx(means[1], rel=0.15, abs=0.02), name
    z = torch.randn(64, 16)
    with torch.no_grad():
        a, b = (run.state.G_ema(z, noise="const") for run in (exact, reduced))
    # first and second moments of what they draw, and how far they went from where they began
    assert float((a.mean(dim=0) - b.mean(dim=0)).abs().mean()) < 0.03
    assert float(a.std()) == pytest.approx(float(b.std()), rel=0.05)


def test_the_averaged_generator_and_all_that_is_saved_are_float32(tmp_path):
    run, _ = trained(tmp_path, "bf16", 1)
    floats = {name: t for name, t in tensors(run.state.state_dict()).items() if isinstance(t, torch.Tensor)}
    assert {t.dtype for t in floats.values()} <= {torch.float32, torch.float64, torch.int64}
    seen, _ = dtypes_of(run.state.G_ema, torch.randn(2, 16))
    assert set(seen.values()) == {torch.float32}
    seen, _ = dtypes_of(run.state.G, torch.randn(2, 16))
    assert torch.bfloat16 in seen.values()


@pytest.mark.slow
def test_resume_is_exact_in_bf16(tmp_path):
    whole, _ = trained(tmp_path, "bf16", 9)
    first, _ = trained(tmp_path, "bf16", 5)
    second = small_run(tmp_path, {**TRAINED, "precision": "bf16"})
    second.state.load_state_dict(first.state.state_dict(), second.world)
    for _ in range(4):
        training_step(second)
        second.state.statistics.take()
    assert differences(whole.state.state_dict(), second.state.state_dict()) == []


def test_runs_that_began_without_the_setting_stay_in_fp32():
    table = to_table(from_table(RunConfig, {"data": {"source": "x"}}))
    del table["precision"]
    assert from_table(RunConfig, table).precision == "fp32"


def test_auto(monkeypatch):
    monkeypatch.setattr(precisions, "multiplies_bf16", lambda: True)
    assert choose_precision("auto", False, WIDE) == "bf16"
    assert choose_precision("auto", False, TINY) == "fp32"  # too narrow to gain
    assert choose_precision("bf16", False, TINY) == "bf16"
    monkeypatch.setattr(precisions, "multiplies_bf16", lambda: False)
    assert choose_precision("auto", False, WIDE) == "fp32"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    assert choose_precision("auto", True, TINY) == "bf16"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert choose_precision("auto", True, WIDE) == "fp32"
    assert choose_precision("tf32", True, WIDE) == "tf32"


def test_a_new_run_writes_what_auto_became(tmp_path, monkeypatch):
    monkeypatch.setattr(precisions, "multiplies_bf16", lambda: True)
    assert small_run(tmp_path).config.precision == "fp32"
    wide = {"channel_base": 1024, "channel_max": 64}
    assert small_run(tmp_path, {"generator": wide, "discriminator": wide}).config.precision == "bf16"
    assert small_run(tmp_path, {"precision": "bf16"}).config.precision == "bf16"


def test_unknown_precision(tmp_path):
    with pytest.raises(ConfigError, match="no precision 'fp16'"):
        small_run(tmp_path, {"precision": "fp16"})


def test_the_option(cli, tmp_path):
    dry = ("train", "--data", "demo:lesions,resolution=16,images=8", "--dry-run", "--precision")
    assert 'precision = "bf16"' in cli(*dry, "bf16").out
    assert 'precision = "fp32"' in cli(*dry, "auto").out
    wrong = cli(*dry, "fp16")
    assert wrong.code == 3
    assert "no precision 'fp16'" in wrong.err


def test_drawing_in_bf16(cli, tmp_path):
    run = small_run(tmp_path, TRAINED)
    save_network(tmp_path / "run.pkl", run.state.G, run.state.D, run.state.G_ema, {})
    for name in ("fp32", "bf16", "auto"):
        options = ("--seeds", "0-3", "--precision", name, "--outdir", tmp_path / name)
        assert cli("generate", tmp_path / "run.pkl", *options).code == 0
    pixels = {
        name: torch.stack([torch.from_numpy(read_pixels(path)) for path in sorted((tmp_path / name).iterdir())])
        for name in ("fp32", "bf16", "auto")
    }
    assert torch.equal(pixels["fp32"], pixels["auto"])
    steps = (pixels["fp32"] - pixels["bf16"]).abs()
    assert 0 < steps.max() <= 6
    assert steps.float().mean() < 1
    assert cli("generate", tmp_path / "run.pkl", "--precision", "fp8").code == 3


def read_pixels(path):
    return np.asarray(Image.open(path)).astype(np.int32)


def test_tf32_is_allowed_for_all_but_fp32():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        for name, allowed in (("fp32", False), ("tf32", True), ("bf16", True)):
            precisions.allow_tf32(name)
            assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (allowed, allowed)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
