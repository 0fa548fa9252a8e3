"""From any size to one size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adaflow.core.data.geometry import CROPS, FILTERS, Geometry, fit
from adaflow.errors import ConfigError
from tests.golden import Golden
from tests.images import pixels

pytest_plugins = ["tests.images"]

GOLDEN = {
    "centercrop32_lanczos": Geometry(32, 32),
    "centercrop32_box": Geometry(32, 32, filter="box"),
    "scale32_lanczos": Geometry(32, 32, "none"),
    "scale32_box": Geometry(32, 32, "none", "box"),
    "wide_32x16": Geometry(32, 16, "wide"),
    "gray32": Geometry(32, 32, "none"),
}
SIDES = st.integers(1, 300)


@st.composite
def geometries(draw):
    crop = draw(st.sampled_from(CROPS))
    width, height = draw(st.integers(1, 80)), draw(st.integers(1, 80))
    if crop == "wide":
        width, height = max(width, height) + 1, min(width, height)
    return Geometry(width, height, crop, draw(st.sampled_from(FILTERS)))


def resized(array, width, height, filter="area"):
    return np.asarray(fit(Image.fromarray(array), Geometry(width, height, "none", filter))[0])


@pytest.mark.parametrize("case", GOLDEN)
def test_every_golden_case_is_equal(case):
    golden = Golden("dataset")
    if not golden.keys(f"out__{case}__"):
        pytest.skip("only in the whole set of golden arrays")
    names = ["gray_64x64"] if case == "gray32" else golden.cases["source_order"]
    for index, name in enumerate(names):
        image, enlarged = fit(Image.fromarray(golden[f"src__{name}"].numpy()), GOLDEN[case])
        np.testing.assert_array_equal(np.asarray(image), golden[f"out__{case}__img{index:08d}"].numpy())
        assert not enlarged


@given(SIDES, SIDES, geometries(), st.sampled_from(("L", "RGB")))
@settings(max_examples=300)
def test_the_size_is_exact_and_constant_images_stay_constant(width, height, geometry, mode):
    image, _ = fit(Image.new(mode, (width, height), (200,) * len(mode)), geometry)
    assert image.mode == mode
    assert image.size == geometry.output_size
    values = set(np.unique(np.asarray(image)))
    # Only these two crops leave a part black.
    assert values == {200} or (values == {0, 200} and geometry.crop in ("pad", "wide"))


@given(SIDES, SIDES, st.integers(1, 60), st.integers(1, 60), st.integers(0, 9))
@settings(max_examples=150)
def test_center_keeps_the_largest_part_of_the_aspect_ratio(width, height, new_width, new_height, seed):
    part = min(width, max(1, round(height * new_width / new_height)))
    down = min(height, max(1, round(width * new_height / new_width)))
    array = pixels(seed, height, width)
    left, top = (width - part) // 2, (height - down) // 2
    expected = Image.fromarray(array[top : top + down, left : left + part])
    expected = expected.resize((new_width, new_height), Image.Resampling.LANCZOS)
    image, enlarged = fit(Image.fromarray(array), Geometry(new_width, new_height))
    np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))
    assert enlarged == (part < new_width or down < new_height)
    assert part == width or down == height


def test_center_is_central():
    array = pixels(0, 10, 31)
    np.testing.assert_array_equal(np.asarray(fit(Image.fromarray(array), Geometry(10, 10))[0]), array[:, 10:20])
    np.testing.assert_array_equal(np.asarray(fit(Image.fromarray(array), Geometry(20, 10))[0]), array[:, 5:25])
    tall = array.transpose(1, 0, 2)
    np.testing.assert_array_equal(np.asarray(fit(Image.fromarray(tall), Geometry(10, 20))[0]), tall[5:25])


def test_pad_keeps_everything():
    white = Image.new("RGB", (40, 20), (255, 255, 255))
    image, enlarged = fit(white, Geometry(20, 20, "pad"))
    array = np.asarray(image)
    assert (array[5:15] == 255).all()
    assert not array[:5].any()
    assert not array[15:].any()
    assert not enlarged
    image, enlarged = fit(white, Geometry(80, 80, "pad"))
    assert (np.asarray(image)[20:60] == 255).all()
    assert enlarged


def test_wide_lies_in_the_middle_of_a_square():
    array = np.asarray(fit(Image.new("L", (64, 48), 255), Geometry(32, 24, "wide"))[0])
    assert array.shape == (32, 32)
    assert (array[4:28] == 255).all()
    assert not array[:4].any()
    assert not array[28:].any()


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("crop", ["center", "none", "pad"])
def test_an_image_of_the_right_size_is_not_touched(crop, filter):
    image = Image.fromarray(pixels(0, 20, 30))
    fitted, enlarged = fit(image, Geometry(30, 20, crop, filter))
    assert fitted is image
    assert not enlarged


@pytest.mark.parametrize(
    ("size", "geometry", "expected"),
    [
        ((16, 16), Geometry(16, 16), False),
        ((16, 15), Geometry(16, 16), True),
        ((15, 40), Geometry(16, 16), True),
        ((17, 40), Geometry(16, 16), False),
        ((15, 40), Geometry(16, 16, "none"), True),
        ((15, 40), Geometry(16, 16, "pad"), False),
        ((8, 15), Geometry(16, 16, "pad"), True),
        ((16, 12), Geometry(16, 12, "wide"), False),
        ((15, 30), Geometry(16, 12, "wide"), True),
    ],
)
def test_enlarging_is_told(size, geometry, expected):
    assert fit(Image.new("L", size), geometry)[1] == expected


def covered(array, size):
    """Mean along the first axis over what each output pixel covers."""
    length = len(array)
    edges = np.arange(size + 1)[:, None] * length / size
    row = np.arange(length)
    weights = np.clip(np.minimum(edges[1:], row + 1) - np.maximum(edges[:-1], row), 0, None)
    return np.tensordot(weights, array, 1) * size / length


@given(SIDES, SIDES, st.integers(1, 300), st.integers(1, 300), st.sampled_from((1, 3)))
@settings(max_examples=40)
def test_area_is_the_mean_of_what_a_pixel_covers(height, width, new_height, new_width, channels):
    new_height, new_width = min(height, new_height), min(width, new_width)
    array = pixels(0, height, width, channels)
    exact = covered(np.moveaxis(covered(array.astype(float), new_height), 1, 0), new_width)
    exact = np.moveaxis(exact, 0, 1)
    found = resized(array, new_width, new_height)
    assert np.abs(found - exact).max() <= 0.5 + 1e-6
    # The mean is kept but for the rounding of each pixel, which averages out.
    assert abs(found.mean() - array.mean()) <= 0.5 / np.sqrt(found.size) * 4


def test_area_counts_fractions_of_pixels_where_box_rounds():
    row = np.array([[0, 255, 0]], dtype=np.uint8)
    assert resized(row, 2, 1).tolist() == [[85, 85]]
    assert resized(row, 2, 1, "box").tolist() != [[85, 85]]


def test_area_rounds_halves_to_even():
    assert resized(np.array([[1, 2, 2, 3]], dtype=np.uint8), 2, 1).tolist() == [[2, 2]]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=40)
def test_area_interpolates_linearly_where_it_enlarges(height, width, down, across):
    array = pixels(0, height, width)
    size = (width * across + 1, height * down + 2)
    linear = np.asarray(Image.fromarray(array).resize(size, Image.Resampling.BILINEAR))
    assert np.abs(resized(array, *size).astype(int) - linear).max() <= 1


def test_area_may_enlarge_one_axis_and_shrink_the_other():
    array = np.array([[0, 100], [0, 204]], dtype=np.uint8)
    assert resized(array, 4, 1).tolist() == [[0, 38, 114, 152]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"width": 0}, "cannot be made"),
        ({"height": -5}, "cannot be made"),
        ({"height": 20000}, "cannot be made"),
        ({"crop": "left"}, "no crop 'left'"),
        ({"filter": "cubic"}, "no filter 'cubic'"),
        ({"crop": "wide"}, "width larger than the height"),
        ({"crop": "wide", "height": 33}, "width larger than the height"),
    ],
)
def test_geometry_is_checked(change, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        Geometry(**{"width": 32, "height": 32, **change})
    assert caught.value.hint
