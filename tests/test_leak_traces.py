"""Traces of augmentations: each statistic sees what it is made for, and innocent distortions are what they say."""

import pytest
import torch

from adaflow.core.leaks import distortions, reference
from adaflow.core.leaks.borders import border_mirrors, turned_border_mirrors
from adaflow.core.leaks.distortions import bank, distort_randomly, rebuild, reduced
from adaflow.core.leaks.reference import among_others, apply_reduced, apply_surely
from adaflow.core.leaks.statistics import flat_areas, frequencies, noise_floor, statistics, to_opponent
from adaflow.core.leaks.traces import traces
from adaflow.plugin_manager import PluginManager
from adaflow.plugins.datasets.lesions import LesionsReader


@pytest.fixture(scope="module")
def lesions():
    source = LesionsReader().open("demo:lesions,resolution=64,images=40,seed=3")
    return torch.stack([torch.from_numpy(source.read(i)) for i in range(40)])


@pytest.fixture(scope="module")
def transforms():
    registry = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"}).augmentations
    return lambda name: registry[name].value()


def luma(images):
    return to_opponent(images.float() / 255)[:, :1]


def transformed(transforms, name, images):
    return apply_surely(transforms(name), name, images, 0)[0]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [32, 48, 65])
def test_statistics_are_finite_for_all_images(channels, size):
    images = torch.stack(
        [
            torch.zeros(channels, size, size, dtype=torch.uint8),
            torch.full((channels, size, size), 255, dtype=torch.uint8),
            torch.full((channels, size, size), 128, dtype=torch.uint8),
            torch.randint(0, 256, (channels, size, size), dtype=torch.uint8),
        ]
    )
    found = statistics(images)
    assert found.shape[0] == 4
    assert found.isfinite().all()


def test_statistics_of_an_image_do_not_depend_on_the_others(lesions):
    torch.testing.assert_close(statistics(lesions)[7:8], statistics(lesions[7:8]), rtol=1e-4, atol=1e-4)


def test_a_mirrored_border_is_seen_through_a_checkerboard_and_a_blur(lesions, transforms):
    moved = transformed(transforms, "xint", lesions)
    numbers = torch.arange(len(lesions))
    for spoil in (lambda x, _: x, bank(lesions)["checkerboard 0.8"], bank(lesions)["smooth 0.8"]):
        before, after = spoil(lesions, numbers), spoil(moved, numbers)
        limit = border_mirrors(luma(before))[:, 7].quantile(0.95)
        assert (border_mirrors(luma(after))[:, 7] > limit).float().mean() > 0.8


def test_the_place_of_a_mirror_is_found(lesions):
    shift = 7
    image = lesions[:1]
    moved = torch.cat([image[..., :shift].flip(3), image[..., :-shift]], 3)  # mirrored about column 6.5
    found = border_mirrors(luma(moved))[0]
    assert found[:4].argmax() == 0
    steps = 2 * 14 - 4
    assert found[9] * steps + 4 == pytest.approx(2 * shift - 1)


def test_turned_borders_are_seen(lesions, transforms):
    turned = transformed(transforms, "rotate", lesions)
    limit = turned_border_mirrors(luma(lesions))[:, 0].quantile(0.95)
    assert (turned_border_mirrors(luma(turned))[:, 0] > limit).float().mean() > 0.5


def test_a_grey_square_is_flat_and_grey(lesions, transforms):
    cut = transformed(transforms, "cutout", lesions)
    before, after = flat_areas(lesions.float() / 255), flat_areas(cut.float() / 255)
    assert (after[:, 1] < before[:, 1].min() - 2).float().mean() > 0.9


def test_noise_raises_the_floor_and_blur_lowers_high_frequencies(lesions):
    numbers = torch.arange(len(lesions))
    noisy, smooth = bank(lesions)["grain 0.8"](lesions, numbers), bank(lesions)["smooth 0.8"](lesions, numbers)
    floor = [noise_floor(to_opponent(x.float() / 255))[:, 0].mean() for x in (smooth, lesions, noisy)]
    assert floor[0] < floor[1] < floor[2]
    fine = [frequencies(to_opponent(x.float() / 255))[:, 0].mean() for x in (smooth, lesions, noisy)]
    assert fine[0] < fine[1] - 0.5


@pytest.mark.parametrize("name", distortions.KINDS)
def test_a_distortion_is_small_grows_with_its_strength_and_is_the_same_again(name, lesions):
    x, numbers = lesions.float() / 255, torch.arange(len(lesions)) + 5
    weak, strong = (distortions.KINDS[name](x, torch.full((len(x),), s), numbers) for s in (0.2, 1.0))
    difference = [(y.clamp(0, 1) - x).abs().mean() for y in (weak, strong)]
    assert 0 < difference[0] < difference[1] < 0.06
    assert torch.equal(distortions.KINDS[name](x, torch.ones(len(x)), numbers), strong)
    single = distortions.KINDS[name](x[3:4], torch.ones(1), numbers[3:4])
    torch.testing.assert_close(single, strong[3:4], atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_random_distortions_keep_shape_and_do_not_depend_on_the_batch(channels):
    images = torch.randint(60, 200, (96, channels, 32, 32), dtype=torch.uint8)
    numbers = torch.arange(96)
    found = distort_randomly(images, numbers, 4)
    assert found.dtype == torch.uint8
    assert found.shape == images.shape
    assert torch.equal(distort_randomly(images[5:9], numbers[5:9], 4), found[5:9])
    assert not torch.equal(distort_randomly(images, numbers, 5), found)
    untouched = (found == images).flatten(1).all(1).float().mean()
    assert 0 < untouched < 0.5
    for function in bank(images).values():
        assert function(images, numbers).shape == images.shape


def test_a_transform_is_drawn_until_it_changes_the_image(lesions, transforms):
    flipped, moved = apply_surely(transforms("xflip"), "xflip", lesions, 0)
    assert moved.all()
    assert torch.equal(flipped, lesions.flip(3))
    grey = lesions[:, :1].expand(-1, 3, -1, -1)
    same, moved = apply_surely(transforms("hue"), "hue", grey, 0)
    assert moved.float().mean() < 0.2
    assert torch.equal(same[~moved], grey[~moved])


def test_traces_join_statistics_and_maps_and_shrink_large_images(lesions):
    def stages(images):
        assert max(images.shape[2:]) <= 128
        return [images.float()[:, :2], torch.ones(len(images), 5, 1, 1)]

    width = statistics(lesions).shape[1]
    found = traces(lesions, stages)
    assert found.shape == (40, width + 3 * 2 + 3 * 5)
    torch.testing.assert_close(found[:, width : width + 2], lesions.float()[:, :2].mean((2, 3)))
    assert found.isfinite().all()
    assert traces(lesions.repeat(1, 1, 4, 4)[:3], stages).shape == (3, found.shape[1])


def test_an_image_is_rebuilt_from_what_the_others_have_in_common(lesions):
    numbers = torch.arange(len(lesions))
    few, many = (rebuild(lesions, count, lesions, numbers).float() for count in (2, 20))
    errors = [float((found - lesions).square().mean()) for found in (few, many)]
    assert errors[0] > errors[1] > 1
    # An even image never sees itself: whatever it is, the components are those of odd ones.
    other = lesions.clone()
    other[0] = 255 - other[0]
    assert torch.equal(rebuild(other, 20, lesions[[0, 2]], numbers[[0, 2]]), many[[0, 2]].to(torch.uint8))
    assert not torch.equal(rebuild(other, 20, lesions[[1]], numbers[[1]]), many[[1]].to(torch.uint8))


@pytest.mark.parametrize("size", [129, 161, 187, 1000])
def test_large_images_are_reduced_to_128_pixels(size):
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    assert reduced(images).shape == (2, 3, 128, 128)
    assert reduced(images[:, :, :100, :100]).shape == (2, 3, 100, 100)


def test_transforms_of_large_images_do_not_depend_on_how_many_are_done_at_a_time(lesions, transforms, monkeypatch):
    whole, moved = apply_surely(transforms("scale"), "scale", lesions[:12], 3)
    monkeypatch.setattr(reference, "AT_A_TIME", 5)
    parts, also_moved = apply_reduced(transforms("scale"), "scale", lesions[:12], 3)
    assert torch.equal(whole, parts)
    assert torch.equal(moved, also_moved)


def test_among_others_a_transform_is_sure_and_the_others_are_not(lesions, transforms):
    known = {name: transforms(name) for name in ("xflip", "cutout")}
    found = among_others(known, "xflip", lesions, 0)
    same = (found == lesions.flip(3)).flatten(1).all(1).float().mean()
    assert 0.5 < same < 0.95
