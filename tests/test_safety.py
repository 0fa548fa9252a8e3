"""Leak safety: eigenvalues against closed forms, families that are recognised, and those that are not."""

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adaflow.core.augment.bands import normalised_gains
from adaflow.core.augment.build import build_pipeline
from adaflow.core.augment.families import (
    Axis,
    Erasure,
    EvenDraw,
    Family,
    UnknownFamilyError,
    find_family,
)
from adaflow.core.augment.matrices import color_matrix, rotation, scaling, translation
from adaflow.core.augment.pipeline import ActiveTransform
from adaflow.core.augment.safety import analyse
from adaflow.core.augment.safety_plot import COLORS, plot_safety
from adaflow.core.augment.spectrum import spectrum_of
from adaflow.core.augment.transform import ColorTransform, FilterTransform, GeometryTransform, ImageTransform
from adaflow.plugin_manager import PluginManager

pytest_plugins = ["tests.command_line"]
REGISTRY = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"}).augmentations
P = (0.1, 0.5, 0.8)
TOLERANCE = 0.005
"""As the docs state: of eigenvalues."""


def safety(spec, p=P, resolution=256):
    (active,) = build_pipeline(spec, REGISTRY).transforms
    return analyse(active, p, resolution)


def of(transform, p=P):
    return analyse(ActiveTransform("mine", transform), p, 64)


def on_line(values):
    """The spectrum of a number on the line."""
    return spectrum_of(Family((Axis("offset", np.asarray(values, dtype=float)),), 1))


def even(n=1 << 14):
    """[n] uniform numbers in the order of a draw."""
    return EvenDraw(n).unit().double()


# Draws


def test_every_number_of_an_even_draw_runs_over_all_quantiles():
    draw = EvenDraw(256)
    numbers = torch.cat((draw.unit()[:, None], draw.unit((2, 3)).flatten(1), draw.uniform(0, 1, (5,))), dim=1)
    assert numbers.shape == (256, 12)
    quantiles = (torch.arange(256) + 0.5) / 256
    assert (numbers.sort(0).values == quantiles[:, None]).all()
    assert len(numbers.T.unique(dim=0)) == 12
    assert draw.used == 12
    again = EvenDraw(256)
    again.unit()
    chosen = again.select(torch.arange(256) < 9)
    assert (chosen.unit((2,)) == numbers[:9, 1:3]).all()


# The built-in ones


@pytest.mark.parametrize("name", ["xflip", "rotate90", "rotate", "lumaflip", "hue", "cutout"])
def test_singular_only_at_one(name):
    found = safety(name)
    assert found.singular_at == pytest.approx(1, abs=1e-6)
    assert "only at p = 1" in found.sentence()
    for p, value in found.eigenvalues.items():
        assert value == pytest.approx(1 - p, abs=1e-6)


@pytest.mark.parametrize("name", ["scale", "aniso", "xfrac", "brightness", "contrast", "saturation", "noise"])
def test_gaussian_and_log_normal_ones_are_never_singular(name):
    found = safety(name)
    assert found.family
    assert found.singular_at is None
    assert found.sentence().startswith("Never stops being invertible; at p = 0.8 the smallest eigenvalue is 0.2")
    for p, value in found.eigenvalues.items():
        assert value == pytest.approx(1 - p, abs=1e-6)


@pytest.mark.parametrize("resolution", [16, 64, 256, 1024])
def test_shifts_by_whole_pixels_are_a_dirichlet_kernel(resolution):
    """U(±m) rounded has half the weight at both ends: φ(ω) = sin(mω) / (2m·tan(ω/2))."""
    m = resolution // 8
    omega = np.linspace(1e-4, math.pi, 100_001)
    lowest = (np.sin(m * omega) / (2 * m * np.tan(omega / 2))).min()
    found = safety("xint", (0.3, 0.7), resolution)
    assert found.singular_at == pytest.approx(1 / (1 - lowest), abs=1e-4)
    for p, value in found.eigenvalues.items():
        assert value == pytest.approx(1 - p + p * lowest, abs=1e-4)


def test_shifts_stop_being_invertible_near_0_82():
    assert safety("xint").singular_at == pytest.approx(0.8218, abs=1e-3)
    found = safety("xint", (0.5, 0.8, 0.9))
    assert found.eigenvalues[0.8] == pytest.approx(0.2 - 0.8 * 0.2169, abs=1e-3)
    assert found.eigenvalues[0.9] == 0
    assert found.plain()["p"][2]["conditioning"] is None
    assert "at p = 0.82; at p = 0.8 the smallest eigenvalue is 0.027: to undo it amplifies noise 38 times" in (
        found.sentence()
    )


@pytest.mark.parametrize("name", ["hue", "rotate"])
def test_part_of_a_circle_is_like_a_shift(name):
    """An angle uniform in ± 90° has the eigenvalues sin(kπ/2)/(kπ/2): the third is -2/(3π)."""
    found = safety(f"{name}(max=0.5)")
    gate = 1 / (1 + 2 / (3 * math.pi))
    # Rotation acts twice, with 1 - √(1 - p).
    expected = gate if name == "hue" else 1 - (1 - gate) ** 2
    assert found.singular_at == pytest.approx(expected, abs=1e-3)
    g = 0.5 if name == "hue" else 1 - math.sqrt(0.5)
    assert found.eigenvalues[0.5] == pytest.approx(
        (1 - g - g * 2 / (3 * math.pi)) ** (1 + (name == "rotate")), abs=1e-3
    )


def test_a_weight_lowers_p():
    assert safety("hue*0.5").singular_at is None
    assert safety("hue*0.5").eigenvalues[0.8] == pytest.approx(0.6, abs=1e-6)
    assert safety("xint*2").singular_at == pytest.approx(0.8218 / 2, abs=1e-3)


@pytest.mark.parametrize(("band", "at"), [("band1", (69.76733, 4.69945)), ("band4", (4.28942, 223.81364))])
def test_normalised_bands_have_a_zero(band, at):
    """Power normalisation makes a curve of a line. One eigenvalue by integration, the smallest is not above it."""
    of_band, of_others = at
    z = np.linspace(-9, 9, 200_001)
    density = np.exp(-(z**2) / 2)
    power = 10 / 13 if band == "band1" else 1 / 13
    gain = 2.0**z
    norm = np.log(power * gain**2 + 1 - power) / 2
    phase = of_band * (np.log(gain) - norm) - of_others * norm
    phi = (density * np.exp(1j * phase)).sum() / density.sum()
    assert abs(phi.imag) < 1e-3
    assert phi.real < -0.26
    found = safety(band)
    assert found.singular_at == pytest.approx(1 / (1 - phi.real), abs=TOLERANCE)
    # The gain by itself is log-normal.
    gains = EvenDraw(1 << 14).lognormal2(1.0)
    ratio = normalised_gains(2, gains)
    assert on_line((ratio[:, 2] / ratio[:, 0]).double().log()).singular_gate() is None


# Any family


@settings(max_examples=15)
@given(st.floats(0.01, 100), st.floats(-1, 1))
def test_a_normal_number_of_any_spread_is_never_singular(std, mean):
    """Also about a mean within its spread: φ turns in the plane while it fades."""
    spectrum = on_line(even().mul(2).sub(1).erfinv() * math.sqrt(2) * std)
    assert spectrum.singular_gate() is None
    assert spectrum.smallest(0.8) == pytest.approx(0.2, abs=TOLERANCE)
    shifted = spectrum_of(Family((Axis("offset", (even() * 2 - 1).erfinv().numpy() * std + 0.2 * mean * std),), 1))
    assert shifted.smallest(0.8) > 0.1


@settings(max_examples=15)
@given(st.floats(0.01, 100))
def test_heavy_tails_are_never_singular(scale):
    """Laplace: 1/(1 + ω²); Cauchy: exp(-|ω|)."""
    u = even().numpy()
    assert on_line(scale * np.sign(u - 0.5) * np.log(1 - 2 * np.abs(u - 0.5))).singular_gate() is None
    assert on_line(scale * np.tan(math.pi * (u - 0.5))).singular_gate() is None


@settings(max_examples=15)
@given(st.floats(0.01, 100), st.floats(0, 0.02))
def test_two_points_are_singular_at_one_half(distance, jitter):
    """cos(aω) reaches -1, or -exp(-(πj)²/2) with a normal deviation of j·a around each point."""
    draw = EvenDraw(1 << 14)
    side = draw.integers(2) * 2 - 1
    values = distance * (side.double() + draw.normal(jitter).double())
    lowest = math.exp(-((math.pi * jitter) ** 2) / 2)
    assert on_line(values).singular_gate() == pytest.approx(1 / (1 + lowest), abs=TOLERANCE)


@settings(max_examples=15)
@given(st.floats(0.01, 100))
def test_uniform_and_triangular_numbers(width):
    """sin(x)/x has the minimum -0.2172; its square touches 0 and comes back."""
    u = even().numpy()
    assert on_line(width * (2 * u - 1)).singular_gate() == pytest.approx(1 / 1.21723, abs=1e-3)
    triangular = np.where(u < 0.5, np.sqrt(2 * u) - 1, 1 - np.sqrt(2 * (1 - u)))
    assert on_line(width * triangular).singular_gate() == 1


@settings(max_examples=15)
@given(st.floats(0.5, 20))
def test_a_shift_that_is_always_the_same_is_singular_at_one_half(distance):
    assert on_line(np.full(1 << 10, distance)).singular_gate() == pytest.approx(0.5, abs=TOLERANCE)
    # And far from 0, compared with its spread.
    far = distance * (1 + 0.001 * (even() * 2 - 1).erfinv().numpy())
    assert on_line(far).singular_gate() == pytest.approx(0.5, abs=TOLERANCE)


@settings(max_examples=15)
@given(st.floats(0.51, 1))
def test_a_flip_that_is_more_frequent_than_not(share):
    """(1 - p) + p(1 - 2q), which is 0 at p = 1/(2q), and not beyond."""
    flips = Family((Axis("angle", math.pi * (even().numpy() < share), 2 * math.pi),), 1)
    spectrum = spectrum_of(flips)
    assert spectrum.singular_gate() == pytest.approx(1 / (2 * share), abs=TOLERANCE)
    assert spectrum.smallest(1.0) == pytest.approx(2 * share - 1, abs=TOLERANCE)


@settings(max_examples=15)
@given(st.floats(1.5, 3), st.floats(0.01, 100))
def test_a_normal_number_to_one_side(middle, std):
    """exp(iωm - ω²/2) turns while it fades, and is -exp(-(π/m)²/2) after half a turn."""
    values = std * (middle + math.sqrt(2) * (even() * 2 - 1).erfinv().numpy())
    lowest = math.exp(-((math.pi / middle) ** 2) / 2)
    assert on_line(values).singular_gate() == pytest.approx(1 / (1 + lowest), abs=1e-3)


def test_a_number_that_often_is_nothing_stays_away_from_zero():
    """Half of the time nothing: φ = 1/2 + 1/2·exp(iωm - ω²/2), well away from 0."""
    u = even().numpy()
    normal = math.sqrt(2) * (torch.from_numpy(2 * np.clip(2 * u - 1, 1e-6, 1)) - 1).erfinv().numpy()
    for middle in (0.0, 2.0):
        spectrum = on_line(np.where(u < 0.5, 0.0, middle + normal))
        assert spectrum.singular_gate() is None
        assert spectrum.smallest(1.0) > 0.3
    assert on_line(np.where(u < 0.5, 0.0, normal)).smallest(1.0) == pytest.approx(0.5, abs=0.01)


# Recognising families from their matrices


@dataclass
class Mapped(GeometryTransform):
    """Any map of the plane."""

    make: object = None

    def matrix(self, draw, height, width):
        return self.make(draw)


@dataclass
class Mixed(ColorTransform):
    """Any map of colours."""

    make: object = None

    def matrix(self, draw):
        return self.make(draw)


def shear(draw):
    matrix = torch.eye(3).repeat(draw.n, 1, 1)
    matrix[:, 0, 1] = draw.normal(0.3)
    return matrix


def about_a_corner(draw):
    corner = translation(torch.tensor([[9.0, -7.0]]))
    factor = draw.lognormal2(0.5)
    return corner @ scaling(factor, factor) @ torch.linalg.inv(corner)


def per_channel(draw):
    matrix = torch.eye(4).repeat(draw.n, 1, 1)
    matrix[:, :3, 3] = draw.normal(0.2, shape=(3,))
    return matrix


def flip_or_turn(draw):
    turns = rotation(draw.integers(4) * (math.pi / 2)).round()
    sign = 1.0 - 2.0 * draw.integers(2)
    return turns @ scaling(sign, torch.ones_like(sign))


FAMILIES = {
    "a shear": (Mapped(make=shear), ("x shear",)),
    "a scaling about a corner": (Mapped(make=about_a_corner), ("factor",)),
    "a shift along a diagonal": (
        Mapped(make=lambda draw: translation(draw.normal(5.0)[:, None].repeat(1, 2))),
        ("x shift",),
    ),
    "x and y by themselves": (
        Mapped(make=lambda draw: scaling(draw.lognormal2(0.3), draw.lognormal2(0.2))),
        ("factor", "factor"),
    ),
    "a spiral": (
        Mapped(make=lambda draw: (lambda x: rotation(x) @ scaling(x.exp(), x.exp()))(draw.normal(0.2))),
        ("angle", "factor"),
    ),
    "nothing": (Mixed(make=lambda draw: torch.eye(4).repeat(draw.n, 1, 1)), ()),
    "an offset of each colour": (Mixed(make=per_channel), ("offset", "offset", "offset")),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_families_are_recognised(name):
    transform, axes = FAMILIES[name]
    family = find_family(transform, 64)
    assert tuple(axis.name for axis in family.axes) == axes
    found = of(transform)
    assert found.singular_at is None
    assert found.eigenvalues[0.5] == pytest.approx(0.5 if axes else 1.0, abs=0.03)


def test_numbers_are_read_off_the_matrices():
    draw = EvenDraw(1 << 14)
    expected = draw.normal(0.3).double().numpy()
    (axis,) = find_family(Mapped(make=shear), 64).axes
    assert np.abs(axis.values - expected).max() < 1e-6
    (axis,) = find_family(Mapped(make=about_a_corner), 64).axes
    expected = EvenDraw(1 << 14).lognormal2(0.5).double().log().numpy()
    assert np.abs(axis.values - expected).max() < 1e-5
    x, y = find_family(build_pipeline("xfrac", REGISTRY).transforms[0].transform, 64).axes
    shifts = EvenDraw(1 << 14).normal(0.125, shape=(2,)).double().numpy()
    assert np.abs(np.stack((x.values, y.values), 1) - shifts).max() < 1e-6
    assert find_family(build_pipeline("rotate90", REGISTRY).transforms[0].transform, 64).axes[0].order == 4


@dataclass
class Gains(FilterTransform):
    """A gain that may be 0."""

    band = 1

    def gain(self, draw):
        return draw.uniform(0, 2).floor()


@dataclass
class Gamma(ImageTransform):
    """Depends on the image."""

    def apply(self, images, draw):
        exponent = draw.lognormal2(0.5).view(-1, 1, 1, 1)
        return ((images + 1) / 2).clamp(min=0) ** exponent * 2 - 1


@dataclass
class DeclaredGamma(Gamma):
    """The same, with its parameter."""

    def group_parameter(self, draw):
        return draw.lognormal2(0.5).log(), math.inf


@dataclass
class PixelFlip(ImageTransform):
    """A flip of pixels, seven times of ten."""

    def apply(self, images, draw):
        return torch.where(draw.fires(0.7).view(-1, 1, 1, 1), images.flip(3), images)

    def group_parameter(self, draw):
        return draw.fires(0.7).long(), 2.0


@dataclass
class Idle(Gamma):
    """Says that it draws nothing."""

    def group_parameter(self, draw):
        return torch.zeros(draw.n), math.inf


@dataclass
class Broken(ImageTransform):
    """Raises."""

    def apply(self, images, draw):
        raise RuntimeError("no\nway")


@dataclass
class Threshold(ImageTransform):
    """Blanks what is bright: what is erased depends on the image."""

    def apply(self, images, draw):
        return images.masked_fill(images > draw.uniform(0, 1).view(-1, 1, 1, 1), 0.0)


UNKNOWN = {
    "blanks that depend on the image": (Threshold(), "depends on the image"),
    "flips and turns at once": (Mapped(make=flip_or_turn), "the order of two of its maps matters"),
    "a scale and a shift": (
        Mapped(make=lambda draw: translation(draw.normal(9.0, shape=(2,))) @ scaling(*[draw.lognormal2(0.3)] * 2)),
        "the order of two of its maps matters",
    ),
    "a projection": (
        Mixed(make=lambda draw: color_matrix(draw.integers(2)[:, None, None] * torch.eye(3))),
        "flatten what they act on",
    ),
    "a stretching shear": (
        Mapped(
            make=lambda draw: scaling(*[draw.lognormal2(0.3)] * 2) @ shear(draw),
        ),
        "neither shifts nor stretchings and turns",
    ),
    "not a number": (Mixed(make=lambda draw: torch.full((draw.n, 4, 4), math.nan)), "not finite"),
    "a gain of 0": (Gains(), "not above 0"),
    "pixels that depend on the image": (Gamma(), "depends on the image"),
    "a wrong shape": (Mapped(make=lambda draw: torch.eye(3)), "it returned [3, 3] where [16384, 3, 3] was wanted"),
    "an error": (Broken(), "it raised RuntimeError: no way"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_cannot_be_analysed_says_why(name):
    transform, reason = UNKNOWN[name]
    found = of(transform)
    assert found.sentence().startswith("Cannot be analysed, because ")
    assert reason in found.sentence()
    assert found.singular_at is None
    assert found.eigenvalues == {}
    assert json.loads(json.dumps(found.plain(), allow_nan=False))["analysed"] is False


def test_a_transform_may_say_what_adds_up():
    assert of(DeclaredGamma()).singular_at is None
    assert of(DeclaredGamma()).eigenvalues[0.8] == pytest.approx(0.2, abs=TOLERANCE)
    found = of(PixelFlip())
    assert found.family == "parameter on a cyclic group of 2"
    assert found.singular_at == pytest.approx(1 / 1.4, abs=1e-3)
    assert of(Idle()).eigenvalues[0.8] == 1


# Transforms of pixels


@dataclass
class Stripes(ImageTransform):
    """Adds to every column one of two numbers."""

    def apply(self, images, draw):
        return images + 0.3 * (2.0 * draw.integers(2) - 1).view(-1, 1, 1, 1)


@dataclass
class Spots(ImageTransform):
    """Replaces pixels by noise in half of the images."""

    def apply(self, images, draw):
        where = draw.fires(0.5).view(-1, 1, 1, 1) & (draw.unit((1, *images.shape[2:])) < 0.2)
        return torch.where(where, draw.uniform(-1, 1, tuple(images.shape[1:])), images)


def test_what_is_added_is_a_family():
    family = find_family(build_pipeline("noise", REGISTRY).transforms[0].transform, 64)
    assert not family.joint
    pixel = family.axes[0].values
    # A half-normal number of deviation 0.1 times a normal one: the variance is 0.01.
    assert pixel.std() == pytest.approx(0.1, rel=0.05)
    found = of(Stripes())
    assert found.family == "noise"
    assert found.singular_at == pytest.approx(0.5, abs=TOLERANCE)


def test_what_is_erased_has_the_chance_to_be_spared_as_its_smallest_eigenvalue():
    assert find_family(build_pipeline("cutout", REGISTRY).transforms[0].transform, 64) == Erasure(0.0)
    assert "no group" in safety("cutout").note
    found = of(Spots())
    assert found.singular_at is None
    assert found.eigenvalues[0.8] == pytest.approx(1 - 0.8 * 0.5, abs=1e-3)


def test_erasing_is_diagonalised_by_the_chance_to_be_spared():
    """Two pixels of two values; a mask erases one, the other or none: the whole operator, 4 × 4, by hand."""
    p, chances = 0.7, {(1, 0): 0.5, (0, 1): 0.3, (0, 0): 0.2}
    operator = (1 - p) * np.eye(4)
    for (a, b), chance in chances.items():
        for image in range(4):
            left, right = divmod(image, 2)
            operator[2 * (0 if a else left) + (0 if b else right), image] += p * chance
    expected = sorted([1, 1 - p * 0.5, 1 - p * 0.3, 1 - p * 0.8])
    assert np.allclose(sorted(np.linalg.eigvals(operator).real), expected)


def test_a_family_of_three_numbers_is_looked_at_along_each():
    """And in no plane: it is said."""
    family = find_family(Mixed(make=per_channel), 64)
    assert spectrum_of(family).tolerance > TOLERANCE
    with pytest.raises(UnknownFamilyError):
        find_family(Mapped(make=flip_or_turn), 64)


# The picture and the command


def test_the_picture_has_a_curve_for_each_spectrum(tmp_path):
    curve = [number / 20 for number in range(21)]
    found = [safety(name, curve) for name in ("xflip", "xint", "hue")]
    picture = plot_safety([*found, of(Gamma(), curve)]).convert("RGB")
    pixels = np.asarray(picture).astype(int)
    # xflip and hue share a line; the one that cannot be analysed has none.
    colors = [np.frombuffer(bytes.fromhex(color[1:]), np.uint8) for color in COLORS[:3]]
    assert [(np.abs(pixels - color).max(-1) < 20).sum() > 100 for color in colors] == [True, True, False]


def test_the_command(cli, tmp_path):
    plot = tmp_path / "new" / "safety.png"
    result = cli("augs", "safety", "xint,hue,cutout", "--p", "0.5,0.9", "--plot", plot)
    assert result.code == 0, result.err
    assert "p = 0.82" in " ".join(result.out.split())
    assert max(map(len, result.out.splitlines())) <= max(80, len(str(plot)) + 9)
    with Image.open(plot) as picture:
        assert picture.format == "PNG"
        assert picture.width > 400
    found = json.loads(cli("augs", "safety", "xint", "--p", "0.5,0.9", "--resolution", "64", "--json").out)
    assert found["resolution"] == 64
    (one,) = found["transforms"]
    assert one["singular_at"] == pytest.approx(0.8254, abs=1e-3)
    assert [row["p"] for row in one["p"]] == [0.5, 0.9]
    assert one["p"][0]["conditioning"] == pytest.approx(1 / one["p"][0]["smallest_eigenvalue"])
    assert cli("augs", "safety", "hu").code == 3
    assert cli("augs", "safety", "hue", "--p", "2").code == 2
