"""Copies of pictures: found in spite of what was done to them, and nothing else taken for one."""

import io
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from adaflow.core.data import duplicates
from adaflow.core.data.duplicates import Look, agreement, connected, find_copies, look, turn
from tests.images import ISIC


def picture(seed, side=64):
    """A smooth picture with fine texture; no two alike."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((side, side), Image.BICUBIC)
    fine = random.normal(0, 12, (side, side, 1))
    return Image.fromarray(np.clip(np.asarray(coarse) * 0.7 + 30 + fine, 0, 255).astype(np.uint8))


def jpeg(image, quality):
    data = io.BytesIO()
    image.save(data, "jpeg", quality=quality)
    return Image.open(data).convert("RGB")


def resized(image, factor):
    small = image.resize((round(image.width * factor), round(image.height * factor)), Image.LANCZOS)
    return small.resize(image.size, Image.LANCZOS)


def cropped(image, share, at):
    side = image.width * (1 - share)
    left, top = at * (image.width - side)
    return image.resize(image.size, Image.BICUBIC, (left, top, left + side, top + side))


def turned(image, k):
    return Image.fromarray(np.stack([turn(np.asarray(band), k) for band in image.split()], axis=-1))


def noisy(image, random):
    values = np.asarray(image) + random.normal(0, 5, (image.height, image.width, 3))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def with_ruler(image):
    image = image.copy()
    draw, y = ImageDraw.Draw(image), round(image.height * 0.93)
    draw.line((0, y, image.width, y), fill="white")
    for x in range(0, image.width, 8):
        draw.line((x, y, x, y + 4), fill="white")
    draw.text((4, 4), "12", fill="yellow")
    return image


COPIES = {
    "jpeg 30": (lambda image, random: jpeg(image, 30), 0.95),
    "jpeg 95": (lambda image, random: jpeg(image, 95), 1.0),
    "half size": (lambda image, random: resized(image, 0.5), 1.0),
    "larger": (lambda image, random: resized(image, 1.5), 1.0),
    "crop 2 %": (lambda image, random: cropped(image, 0.02, random.random(2)), 1.0),
    "crop 5 %": (lambda image, random: cropped(image, 0.05, random.random(2)), 0.9),
    "darker": (lambda image, random: ImageEnhance.Brightness(image).enhance(0.8), 1.0),
    "brighter": (lambda image, random: ImageEnhance.Brightness(image).enhance(1.2), 0.95),
    "flatter": (lambda image, random: ImageEnhance.Contrast(image).enhance(0.8), 1.0),
    "harder": (lambda image, random: ImageEnhance.Contrast(image).enhance(1.2), 0.95),
    "turned": (lambda image, random: turned(image, int(random.integers(1, 8))), 1.0),
    "blurred": (lambda image, random: image.filter(ImageFilter.GaussianBlur(1)), 1.0),
    "noisy": (lambda image, random: noisy(image, random), 1.0),
    "with a ruler": (lambda image, random: with_ruler(image), 0.95),
    "all of it": (lambda image, random: turned(jpeg(cropped(image, 0.03, random.random(2)), 50), 5), 0.9),
}
"""What is done to an image, and the share of such copies to be found at least."""


@pytest.mark.skipif(not ISIC.is_dir(), reason="the dermoscopy images are not here")
@pytest.mark.parametrize("name", COPIES)
def test_planted_copies_of_real_images_are_found(name):
    files = sorted((ISIC / "images").iterdir())[::80]
    images = [Image.open(file).convert("RGB") for file in files]
    change, share = COPIES[name]
    random = np.random.default_rng(0)
    looks = [look(image) for image in (*images, *(change(image, random) for image in images))]
    pairs = find_copies(looks)
    right = {(index, index + len(images)) for index in range(len(images))}
    assert set(pairs) <= right
    assert len(pairs) >= share * len(right)


@pytest.mark.slow
@pytest.mark.skipif(not ISIC.is_dir(), reason="the dermoscopy images are not here")
def test_the_copies_among_two_thousand_real_images_are_these():
    """Each pair was looked at: the same lesion, hairs and bubbles, with other colours or a few pixels apart."""
    files = sorted((ISIC / "images").iterdir())
    numbers = [int(file.stem.removeprefix("ISIC_")) for file in files]
    pairs = find_copies([look(Image.open(file)) for file in files])
    assert [(numbers[i], numbers[j]) for i, j in pairs] == [
        (164, 14795),
        (165, 14788),
        (177, 14657),
        (204, 14748),
        (205, 14742),
        (206, 14739),
        (222, 14846),
        (224, 14791),
        (225, 14778),
        (229, 14771),
        (12672, 12673),
        (12756, 13184),
    ]


@pytest.mark.parametrize("name", COPIES)
def test_planted_copies_of_drawn_images_are_found(name):
    images = [picture(seed) for seed in range(12)]
    random = np.random.default_rng(0)
    change, _ = COPIES[name]
    pairs = find_copies([look(image) for image in (*images, *(change(image, random) for image in images))])
    right = {(index, index + 12) for index in range(12)}
    assert set(pairs) <= right
    assert len(pairs) >= 11


def test_grey_and_colour_and_other_sizes_and_shapes_are_compared():
    image = picture(0, 96)
    variants = [image, image.convert("L"), image.resize((300, 300), Image.LANCZOS), image.resize((200, 150))]
    assert find_copies([look(variant) for variant in variants]) == list(itertools.combinations(range(4), 2))


def test_images_with_one_frame_around_different_pictures_are_no_copies():
    """The rim of a round field of view has much texture, and it is the same in all images of an instrument."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    inside = (x**2 + y**2 < 0.85)[..., None]
    images = [Image.fromarray((np.asarray(picture(seed)) * 0.2 + 160).astype(np.uint8) * inside) for seed in range(8)]
    assert find_copies([look(image) for image in images]) == []


def test_flips_and_turns_are_all_eight_and_different():
    image = np.arange(12).reshape(3, 4).astype(np.uint8)
    ways = [turn(image, k) for k in range(8)]
    assert len({(way.shape, way.tobytes()) for way in ways}) == 8
    np.testing.assert_array_equal(ways[4], image[:, ::-1])
    np.testing.assert_array_equal(ways[2], image[::-1, ::-1])


def test_agreement_undoes_shift_and_stretch():
    base = picture(3, 128).convert("L")
    a = np.asarray(base.resize((64, 64), Image.BICUBIC, (0, 0, 120, 120)))
    b = np.asarray(base.resize((64, 64), Image.BICUBIC, (8, 6, 124, 126)))
    other = np.asarray(picture(4, 128).convert("L").resize((64, 64)))
    same, different = agreement(np.stack([a, a]), np.stack([b, other]))
    assert same > 0.8
    assert abs(different) < 0.2


def test_images_without_contrast_give_numbers():
    plain = np.zeros((2, 64, 64), np.uint8)
    assert np.isfinite(agreement(plain, plain + np.uint8(3))).all()
    assert np.isfinite(agreement(plain, np.stack([np.asarray(picture(0).convert("L"))] * 2))).all()
    assert np.isfinite(agreement(plain + 255, plain)).all()


def test_the_same_pairs_whatever_the_blocks_and_threads(monkeypatch):
    images = [picture(seed // 2) for seed in range(20)]
    looks = [look(turned(image, seed % 8)) for seed, image in enumerate(images)]
    expected = [(2 * pair, 2 * pair + 1) for pair in range(10)]
    assert find_copies(looks, workers=1) == expected
    monkeypatch.setattr(duplicates, "ROWS_AT_ONCE", 3)
    monkeypatch.setattr(duplicates, "PAIRS_AT_ONCE", 1)
    seen = []
    assert find_copies(looks, 4, lambda *done: seen.append(done)) == expected
    assert seen[0] == (3, 20)
    assert seen[-1] == (20, 20)


def test_few_pairs_are_proposed_however_alike_everything_is(monkeypatch):
    monkeypatch.setattr(duplicates, "MAX_PROPOSED", 5)
    found = find_copies([look(picture(0))] * 30)
    assert len(found) <= 30 * 5
    assert connected(30, found) == [list(range(30))]


def test_nothing_to_compare():
    assert find_copies([]) == []
    assert find_copies([look(picture(0))]) == []


def test_a_look_is_small():
    seen = look(picture(0, 300))
    assert isinstance(seen, Look)
    assert seen.thumbnail.nbytes + seen.hashes.nbytes < 5000
    assert seen.hashes.shape == (8, 4)


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30))
def test_groups_are_what_pairs_connect(pairs):
    groups = connected(20, pairs)
    assert groups == sorted(sorted(group) for group in groups)
    members = [item for group in groups for item in group]
    assert len(members) == len(set(members))
    where = {item: number for number, group in enumerate(groups) for item in group}
    assert all(a == b or where[a] == where[b] for a, b in pairs)
    touched = {item for a, b in pairs if a != b for item in (a, b)}
    assert touched == set(members)
    for group in groups:  # no larger than needed: some pair joins any part to the rest
        part = {group[0]}
        while more := {y for x, y in (*pairs, *((b, a) for a, b in pairs)) if x in part} - part:
            part |= more
        assert part == set(group)
