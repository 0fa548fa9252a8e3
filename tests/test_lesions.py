"""The drawn lesions: reproducible, the same at every resolution, true to their ground truth, skin-coloured."""

from __future__ import annotations

import colorsys
import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from adaflow.errors import DataError
from adaflow.plugins.datasets import lesion_truth, lesions
from adaflow.plugins.datasets.lesion_painter import paint, paint_lesion
from adaflow.plugins.datasets.lesion_truth import Lesion, draw_lesion
from adaflow.plugins.datasets.lesions import Lesions, LesionsReader

# Red, green and blue of image 7 of seed 0 at 32×32, at (row, column).
STORED_PIXELS = {
    (0, 0): (237, 190, 173),
    (3, 28): (225, 183, 167),
    (16, 16): (197, 133, 111),
    (14, 19): (170, 102, 75),
    (22, 9): (207, 160, 145),
    (31, 31): (182, 147, 134),
}


@cache
def truths(count: int = 4000) -> list[Lesion]:
    return [draw_lesion(11, index) for index in range(count)]


def values(name: str, label: int) -> np.ndarray:
    return np.array([getattr(lesion, name) for lesion in truths() if lesion.label == label])


def bare(lesion: Lesion) -> Lesion:
    """The same lesion without anything on top."""
    return replace(lesion, hairs=0, ruler=None, vignette=0.0, bubbles=0)


def axes(lesion: Lesion, resolution: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y and the distance from the middle in units of the elliptic radius, all `[resolution, resolution]`."""
    y, x = (np.mgrid[:resolution, :resolution] + 0.5) / resolution
    angle = np.radians(lesion.orientation)
    dx, up = x - lesion.centre[0], lesion.centre[1] - y
    along = (np.cos(angle) * dx + np.sin(angle) * up) * np.sqrt(lesion.aspect) / lesion.size
    across = (np.cos(angle) * up - np.sin(angle) * dx) / np.sqrt(lesion.aspect) / lesion.size
    return x, y, np.hypot(along, across)


def measured_mask(lesion: Lesion, resolution: int = 64) -> np.ndarray:
    """What is darker than half-way between lesion and skin, near the lesion, `[resolution, resolution]`."""
    grey = paint(bare(lesion), resolution).mean(axis=0)
    _, _, radius = axes(lesion, resolution)
    half_way = 0.5 * (np.median(grey[radius < 0.6]) + np.median(grey[radius > 1.6]))
    return (grey < half_way) & (radius < 2.0)


def box_downsampled(image: np.ndarray, resolution: int) -> np.ndarray:
    factor = image.shape[1] // resolution
    return image.astype(float).reshape(3, resolution, factor, resolution, factor).mean(axis=(2, 4))


def rate_bounds(rate: float, count: int) -> tuple[float, float]:
    """Four standard deviations of a binomial share to either side: 1 in 16,000 falls outside."""
    deviation = 4 * np.sqrt(rate * (1 - rate) / count)
    return rate - deviation, rate + deviation


def test_stored_pixels():
    image, _ = paint_lesion(0, 7, 32)
    for (row, column), colour in STORED_PIXELS.items():
        np.testing.assert_allclose(image[:, row, column].astype(int), colour, atol=1)


def test_same_in_another_process():
    code = (
        "import hashlib; from adaflow.plugins.datasets.lesion_painter import paint_lesion;"
        "image, lesion = paint_lesion(3, 14, 48); print(hashlib.sha256(image.tobytes()).hexdigest(), lesion)"
    )
    image, lesion = paint_lesion(3, 14, 48)
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert there == f"{hashlib.sha256(image.tobytes()).hexdigest()} {lesion}"


def test_independent_of_order_of_calls_and_of_threads():
    source = Lesions(resolution=32, images=12, seed=5)
    forwards = [source.read(index) for index in range(12)]
    backwards = [source.read(index) for index in reversed(range(12))][::-1]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(source.read, range(12)))
    longer = [Lesions(resolution=32, images=500, seed=5).read(index) for index in range(12)]
    for other in (backwards, threaded, longer):
        np.testing.assert_array_equal(forwards, other)


def test_every_image_and_seed_differs():
    pictures = {paint_lesion(seed, index, 16)[0].tobytes() for seed in range(4) for index in range(25)}
    assert len(pictures) == 100


@pytest.mark.parametrize(
    ("high", "low", "mean", "worst"), [(128, 32, 0.5, 1.0), (256, 64, 2.5, 90), (512, 128, 4, 110)]
)
def test_same_picture_at_another_resolution(high: int, low: int, mean: float, worst: float):
    """Grey levels, in the mean of each image and at worst: edges of hairs and fine grain are what differs."""
    for index in range(20):
        fine, fine_truth = paint_lesion(2, index, high)
        coarse, coarse_truth = paint_lesion(2, index, low)
        difference = np.abs(box_downsampled(fine, low) - coarse)
        assert fine_truth == coarse_truth
        assert difference.mean() < mean
        assert difference.max() <= worst


@pytest.mark.parametrize("resolution", [16, 17, 100, 1024])
def test_any_resolution(resolution: int):
    image, _ = paint_lesion(0, 3, resolution)
    assert image.shape == (3, resolution, resolution)
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image.mean(axis=(1, 2)), paint_lesion(0, 3, 64)[0].mean(axis=(1, 2)), atol=1.0)


@pytest.mark.parametrize(
    ("name", "threshold", "error"), [("asymmetry", 0.39, 0.24), ("irregularity", 0.39, 0.25), ("size", 0.22, 0.38)]
)
def test_classes_differ_and_overlap(name: str, threshold: float, error: float):
    """One threshold tells the classes apart with some errors in both, about 18, 20 and 30 %."""
    false_alarms = np.mean(values(name, 0) > threshold)
    misses = np.mean(values(name, 1) <= threshold)
    assert 0.10 < false_alarms < error
    assert 0.10 < misses < error


def test_melanomas_have_more_colours_and_alone_a_veil():
    count = [np.mean([len(colours) for colours in values_of_colours(label)]) for label in (0, 1)]
    assert count[0] < 1.7 < 2.4 < count[1]
    veiled = [np.mean(["blue-grey" in colours for colours in values_of_colours(label)]) for label in (0, 1)]
    assert veiled[0] == 0
    assert 0.2 < veiled[1] < 0.5


def values_of_colours(label: int) -> list[tuple[str, ...]]:
    return [lesion.colours for lesion in truths() if lesion.label == label]


def test_rates():
    everyone = truths()
    rates = {
        "label": (0.25, [lesion.label for lesion in everyone]),
        "hairs": (0.25, [lesion.hairs > 0 for lesion in everyone]),
        "ruler": (0.08, [lesion.ruler is not None for lesion in everyone]),
        "vignette": (0.15, [lesion.vignette > 0 for lesion in everyone]),
        "bubbles": (0.05, [lesion.bubbles > 0 for lesion in everyone]),
        "ruler at the bottom": (0.70, [lesion.ruler == "bottom" for lesion in everyone if lesion.ruler]),
    }
    for name, (rate, found) in rates.items():
        low, high = rate_bounds(rate, len(found))
        assert low < np.mean(found) < high, name
    assert {lesion.hairs for lesion in everyone} == {0, *range(1, 13)}


def test_lesion_is_darker_than_skin():
    darker = 0
    for index in range(300):
        lesion = bare(draw_lesion(21, index))
        grey = paint(lesion, 32).mean(axis=0)
        _, _, radius = axes(lesion, 32)
        around = radius > min(1.5, np.sort(radius.ravel())[-60])
        darker += np.median(grey[radius < 0.6]) < 0.95 * np.median(grey[around])
    assert darker >= 0.97 * 300


def test_skin_is_never_green_or_violet():
    """Hue of the skin far from the lesion, in degrees from red, and brightness from dark to light."""
    brightness = []
    for index in range(300):
        lesion = bare(draw_lesion(22, index))
        _, _, radius = axes(lesion, 32)
        skin = paint(lesion, 32)[:, radius >= np.sort(radius.ravel())[-250]]
        red, green, blue = np.median(skin, axis=1) / 255
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        assert -15 < (360 * hue + 180) % 360 - 180 < 48
        assert 0.03 < saturation < 0.75
        brightness.append(value)
    assert min(brightness) < 0.55
    assert max(brightness) > 0.95


def test_size_and_orientation_are_true():
    """Radius of the disc of equal area within 25 %, long axis within 12 degrees in the median, upright y."""
    ratios, turns = [], []
    for lesion in truths()[:400]:
        if lesion.size > 0.22 or lesion.asymmetry > 0.4:
            continue
        mask = measured_mask(lesion)
        ratios.append(np.sqrt(mask.mean() / np.pi) / lesion.size)
        if lesion.aspect < 0.75:
            down, right = np.nonzero(mask)
            spread, directions = np.linalg.eigh(np.cov(right, -down))
            turn = np.degrees(np.arctan2(*directions[::-1, 1])) - lesion.orientation
            turns.append(abs((turn + 90) % 180 - 90))
            assert spread[0] < spread[1]
    assert len(ratios) > 100
    assert len(turns) > 40
    assert np.mean(np.abs(np.array(ratios) - 1) < 0.25) > 0.9
    assert np.median(turns) < 12


def unlike_half_turn(lesion: Lesion) -> float:
    """Share of a lesion's shape that half a turn about its centre of mass does not map onto itself."""
    mask = measured_mask(lesion)
    down, right = (round(float(np.mean(place) - 31.5)) for place in np.nonzero(mask))
    mask = np.roll(mask, (-down, -right), axis=(0, 1))
    return float(np.mean(mask != mask[::-1, ::-1]) / np.mean(mask))


def test_asymmetry_shows():
    """In the data's own lesions, and in the same lesion made symmetric or not."""
    everyone = [replace(lesion, centre=(0.5, 0.5), size=0.2) for lesion in truths()[:200]]
    seen = [unlike_half_turn(lesion) for lesion in everyone]
    assert np.corrcoef([lesion.asymmetry for lesion in everyone], seen)[0, 1] > 0.35
    plain = [replace(lesion, irregularity=0.0, colours=("brown",), softness=0.1, depth=1.5) for lesion in everyone[:40]]
    without, much = ([unlike_half_turn(replace(lesion, asymmetry=level)) for lesion in plain] for level in (0.0, 0.8))
    assert np.mean(without) < 0.15
    assert np.mean(much) > 1.6 * np.mean(without)


def test_light_comes_from_its_direction():
    lesion = replace(bare(draw_lesion(0, 0)), light_gradient=0.2, size=0.08, centre=(0.5, 0.5))
    borders = {0: np.s_[:, :, -8:], 90: np.s_[:, :8], 180: np.s_[:, :, :8], 270: np.s_[:, -8:]}
    for direction, near in borders.items():
        image = paint(replace(lesion, light_direction=float(direction)), 32).astype(float)
        far = borders[(direction + 180) % 360]
        assert image[near].mean() > 1.05 * image[far].mean()


def test_hairs_and_ruler_and_vignette_are_where_they_should_be():
    lesion = replace(bare(draw_lesion(0, 0)), skin_tone=0.1)
    clean = paint(lesion, 64).astype(int)
    hairy = paint(replace(lesion, hairs=12), 64).astype(int)
    assert 0.015 < np.mean((clean - hairy).max(axis=0) > 25) < 0.4
    assert (hairy - clean).max() < 25
    for side, place in {"bottom": np.s_[:, 48:], "top": np.s_[:, :16], "left": np.s_[:, :, :16]}.items():
        changed = paint(replace(lesion, ruler=side), 64).astype(int) != clean
        assert changed.any()
        assert changed[place].sum() == changed.sum(), side
    dark = paint(replace(lesion, vignette=0.5), 64)
    assert dark[:, [0, 0, -1, -1], [0, -1, 0, -1]].max() < 20
    np.testing.assert_array_equal(dark[:, 24:40, 24:40], clean[:, 24:40, 24:40])


def test_source():
    source = LesionsReader().open("demo:lesions,resolution=32,images=40,seed=9")
    assert len(source) == 40
    assert source.class_names == ("benign", "melanoma")
    assert len({source.image_name(index) for index in range(40)}) == 40
    for index in (0, 39):
        image, lesion = paint_lesion(9, index, 32)
        np.testing.assert_array_equal(source.read(index), image)
        assert source.truth(index) == lesion
        assert source.label(index) == lesion.label
    source.close()


@pytest.mark.parametrize("method", ["read", "label", "truth", "image_name"])
@pytest.mark.parametrize("index", [-1, 40])
def test_no_image_outside_the_source(method: str, index: int):
    with pytest.raises(IndexError):
        getattr(Lesions(images=40), method)(index)


def test_defaults():
    reader = LesionsReader()
    source = reader.open("demo:lesions")
    assert (source.resolution, len(source), source.seed) == (64, 2000, 0)
    assert source.fingerprint() == reader.open("demo:lesions,seed=0,images=2000,resolution=64").fingerprint()


def test_fingerprint_follows_everything(monkeypatch: pytest.MonkeyPatch):
    specs = ["", ",seed=1", ",images=1999", ",resolution=65"]
    prints = {LesionsReader().open("demo:lesions" + options).fingerprint() for options in specs}
    monkeypatch.setattr(lesions, "PICTURES_VERSION", lesion_truth.PICTURES_VERSION + 1)
    assert len({*prints, Lesions().fingerprint()}) == 5


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("demo:lesions", True),
        ("demo:lesions,seed=1", True),
        ("demo:lesionsX", False),
        ("demo", False),
        ("/data", False),
    ],
)
def test_can_open(spec: str, expected: bool):
    assert LesionsReader().can_open(spec) is expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("size=3", "no option 'size'"),
        ("", "no option ''"),
        ("resolution", "resolution="),
        ("resolution=15", "from 16 to 1024"),
        ("resolution=1025", "from 16 to 1024"),
        ("images=0", "images=0"),
        ("images=two", "images=two"),
        ("seed=-1", "seed=-1"),
        ("seed=1.5", "seed=1.5"),
        ("seed=1,seed=2", "twice"),
    ],
)
def test_bad_options(options: str, words: str):
    with pytest.raises(DataError, match=words) as caught:
        LesionsReader().open("demo:lesions," + options)
    assert caught.value.hint


def test_registers_its_reader():
    registered = {}
    lesions.register_datasets(registered.__setitem__)
    assert isinstance(registered["demo:lesions"], LesionsReader)
