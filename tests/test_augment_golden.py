"""The augmentations against golden arrays: matrices, outputs and gradients of every transform and of combinations.

The golden percentiles are not the true ones (no √2 before erfinv, no second rotation): `GoldenDraw` follows them.
"""

import numpy as np
import pytest
import torch

from adaflow.core.augment import build_pipeline
from adaflow.core.augment.bands import filter_bands
from adaflow.core.augment.colors import map_colors
from adaflow.core.augment.resample import resample
from adaflow.core.augment.wavelets import band_filters, sym6_lowpass
from adaflow.core.draw import Draws, PercentileDraw
from adaflow.plugin_manager import PluginManager
from tests.golden import Golden

GOLDEN = Golden("augment")
REGISTRY = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"}).augmentations
BLIT = {"xflip", "rotate90", "xint"}
GEOMETRY = BLIT | {"scale", "rotate", "aniso", "xfrac"}
COLOR = {"brightness", "contrast", "lumaflip", "hue", "saturation"}
# The golden margins are cut off at one image here, and beyond them zeros were looked up.
CLAMPED = "given__geomwide__rgb32__seed21"
CASES = [pytest.param(case, id=case["key"]) for case in GOLDEN.cases if case["key"] != CLAMPED]
GIVEN = [pytest.param(case, id=case["key"]) for case in GOLDEN.cases if case["key"].startswith("given__")]
DRAWN = [pytest.param(case, id=case["key"]) for case in GOLDEN.cases if not case["key"].startswith("given__")]


class GoldenDraw(PercentileDraw):
    unit_noise = None

    def normal(self, std=1.0, mean=0.0, shape=()):
        if len(shape) == 3:
            return self.unit_noise
        return self.unit(shape).mul(2).sub(1).erfinv() * std + mean

    def half_normal(self, std):
        return self.unit().erfinv() * std

    def select(self, index):
        return self


class GoldenDraws(Draws):
    def __init__(self, case, n):
        self.case, self.n = case, n

    def draw(self, name, place=0):
        draw = GoldenDraw(0.5 if (name, place) == ("rotate", 1) else self.case["percentile"], self.n)
        if "unit_noise" in self.case["arrays"]:
            draw.unit_noise = array(self.case, "unit_noise")
        return draw


def array(case, name):
    return GOLDEN[f"{case['key']}__{name}"]


def pipeline_of(case):
    settings = {}
    for setting, value in case["extra"].items():
        name, argument = setting.split("_")
        settings[name] = (argument, value)
    items = []
    for name in case["transforms"]:
        argument, value = settings.get(name, (None, None))
        if argument == "bands":
            items += [f"band{band + 1}" for band in range(4) if value[band]]
        else:
            items.append(name if argument is None else f"{name}({argument}={value})")
    return build_pipeline(",".join(items), REGISTRY)


def augmented(case, images):
    """What our code makes of the images of a case."""
    if case["key"].startswith("given__"):
        if "G_inv" in case["arrays"]:
            images = resample(images, array(case, "G_inv"))
        if "C" in case["arrays"]:
            images = map_colors(images, array(case, "C"))
        if "band_gains" in case["arrays"]:
            images = filter_bands(images, array(case, "band_gains"))
        return images
    pipeline = pipeline_of(case)
    draws = GoldenDraws(case, len(images))
    if set(case["transforms"]) <= BLIT:
        return resample(images, pipeline.geometry(1.0, draws, *images.shape[2:])[0])
    return pipeline(images, 1.0, draws)


def tolerance(case):
    return 2e-5 if {"G_inv", "filter_taps"} & set(case["arrays"]) else 1e-5


def test_there_are_cases():
    assert len(GOLDEN.cases) >= 25
    assert len(GIVEN) >= 3


def test_filters():
    np.testing.assert_allclose(sym6_lowpass(), GOLDEN["filter_geom_taps"], atol=1e-7)
    np.testing.assert_allclose(band_filters(), GOLDEN["filter_bank"], atol=1e-7)


@pytest.mark.parametrize("case", DRAWN)
def test_matrices(case):
    images = GOLDEN[case["input"]]
    n, channels, height, width = images.shape
    pipeline, draws, names = pipeline_of(case), GoldenDraws(case, n), set(case["transforms"])
    if names & GEOMETRY:
        inverse, fired, blurred = pipeline.geometry(1.0, draws, height, width)
        torch.testing.assert_close(inverse, array(case, "G_inv").expand(n, 3, 3), atol=1e-5, rtol=0)
        assert fired.all()
        assert blurred.all() == bool(names & (GEOMETRY - BLIT))
    if "C" in case["arrays"]:
        matrix, fired = pipeline.color(1.0, draws, channels)
        torch.testing.assert_close(matrix[:, :3], array(case, "C")[:3].expand(n, 3, 4), atol=1e-5, rtol=0)
        assert fired.all()
    if "band_gains" in case["arrays"]:
        gains, fired = pipeline.band_gains(1.0, draws)
        torch.testing.assert_close(gains, array(case, "band_gains").expand(n, 4), atol=1e-5, rtol=0)
        taps = gains @ torch.from_numpy(band_filters().copy()).float()
        torch.testing.assert_close(taps, array(case, "filter_taps").expand(n, 43), atol=1e-5, rtol=0)
        assert fired.all()
    if "sigma" in case["arrays"]:
        sigma = draws.draw("noise").half_normal(0.1)
        torch.testing.assert_close(sigma, array(case, "sigma").expand(n), atol=1e-6, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_output_and_gradient(case):
    images = GOLDEN[case["input"]].requires_grad_()
    out = augmented(case, images)
    torch.testing.assert_close(out, array(case, "out"), atol=tolerance(case), rtol=0)
    if "grad" in case["arrays"]:
        cotangent = GOLDEN["cotangent_" + case["input"].removeprefix("input_")]
        (gradient,) = torch.autograd.grad((out * cotangent).sum(), images)
        expected = array(case, "grad")
        torch.testing.assert_close(gradient, expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


def within_margins(case, height, width):
    """[N, 1, H, W] bool: the output pixels that depend on nothing beyond the golden margins."""
    left, right, top, bottom = array(case, "margins").tolist()
    reach = np.array([-2.5, 3.0])  # of the downsampling filter, in output pixels
    support = 3.5  # of the upsampling filter and the lookup, in input pixels
    valid = np.ones((len(array(case, "G_inv")), height, width), dtype=bool)
    for dy in reach:
        for dx in reach:
            x = np.arange(width) - (width - 1) / 2 + dx
            y = np.arange(height)[:, None] - (height - 1) / 2 + dy
            for inverse, mask in zip(array(case, "G_inv").double().numpy(), valid, strict=True):
                column = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2] + (width - 1) / 2
                row = inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2] + (height - 1) / 2
                mask &= (column >= support - left) & (column <= width - 1 + right - support)
                mask &= (row >= support - top) & (row <= height - 1 + bottom - support)
    return torch.from_numpy(valid)[:, None]


@pytest.mark.parametrize("case", [param for param in GIVEN if param.id == CLAMPED])
def test_beyond_the_golden_margins(case):
    """Within the margins the numbers are the same; beyond them the image goes on being reflected, not black."""
    images = GOLDEN[case["input"]].requires_grad_()
    n, channels, height, width = images.shape
    valid = within_margins(case, height, width).expand(n, channels, height, width)
    out, expected = augmented(case, images), array(case, "out")
    assert 0.5 < valid.float().mean() < 0.99
    torch.testing.assert_close(out[valid], expected[valid], atol=2e-5, rtol=0)
    assert (out - expected)[~valid].abs().max() > 0.1
    assert out.abs().max() < 1.5

    cotangent = GOLDEN["cotangent_" + case["input"].removeprefix("input_")]
    (gradient,) = torch.autograd.grad((out * cotangent).sum(), images, retain_graph=True)
    (touched,) = torch.autograd.grad((out * cotangent * ~valid).sum(), images)
    clean = touched == 0
    assert clean.float().mean() > 0.2
    torch.testing.assert_close(
        gradient[clean], array(case, "grad")[clean], atol=1e-4 * float(gradient.abs().max()), rtol=0
    )


@pytest.mark.parametrize("case", [param for param in DRAWN if set(param.values[0]["transforms"]) <= BLIT])
def test_blits_are_exact_copies(case):
    """The pipeline moves whole pixels; the golden arrays, which are resampled, say where to."""
    images = GOLDEN[case["input"]]
    height, width = images.shape[2:]
    q, names = case["percentile"], set(case["transforms"])
    moved = images.numpy()
    if "xflip" in names and int(2 * q):
        moved = np.flip(moved, 3)
    if "rotate90" in names:
        if height != width and int(4 * q) % 2:
            side = max(height, width)
            moved = np.pad(moved, ((0, 0), (0, 0), ((side - height) // 2,) * 2, ((side - width) // 2,) * 2), "reflect")
        moved = np.rot90(moved, int(4 * q), (2, 3))
        top, left = (moved.shape[2] - height) // 2, (moved.shape[3] - width) // 2
        moved = moved[:, :, top : top + height, left : left + width]
    if "xint" in names:
        share = (2 * q - 1) * case["extra"].get("xint_max", 0.125)
        dx, dy = int(np.round(share * width)), int(np.round(share * height))
        # The reflection is about the borders of the image as it was, which rotations and flips of a square keep.
        padded = np.pad(moved, ((0, 0), (0, 0), (height // 2,) * 2, (width // 2,) * 2), "reflect")
        moved = padded[:, :, height // 2 - dy : height // 2 - dy + height, width // 2 - dx : width // 2 - dx + width]
    out = pipeline_of(case)(images, 1.0, GoldenDraws(case, len(images)))
    assert torch.equal(out, torch.from_numpy(moved.copy()))
    assert (out - array(case, "out")).abs().max() < 0.1
