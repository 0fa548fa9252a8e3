"""The policies of DiffAugment."""

from pathlib import Path

import torch

from adaflow.conformance import offered_by, parametrize_with_checks
from adaflow.core.augment import build_pipeline
from adaflow.core.draw import PercentileDraw, RandomDraw
from adaflow.plugin_manager import PluginManager

FILE = Path(__file__).parents[1] / "adaflow_diffaugment.py"
NAMES = ("diff-color", "diff-translation", "diff-cutout")
MANAGER = PluginManager([FILE], environ={"ADAFLOW_NO_PLUGINS": "1"})


@parametrize_with_checks(offered_by(FILE))
def test_conformance(subject, check):
    check(subject)


def transform(name, **settings):
    return MANAGER.augmentations[name].value(**settings)


def draw(n=64):
    return RandomDraw(7, torch.arange(n))


def test_the_plugin_loads():
    MANAGER.require_named()
    assert [active.name for active in build_pipeline("diffaugment", MANAGER.augmentations).transforms] == list(NAMES)


def test_color_in_the_middle_is_the_identity():
    images = torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(transform("diff-color").apply(images, PercentileDraw(0.5, 4)), images)


def test_color_at_the_end_of_its_range():
    """+0.5, then saturation × 2, then contrast × 1.5, one after the other."""
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    x = images + 0.5
    x = 2 * x - x.mean(1, keepdim=True)
    x = 1.5 * x - 0.5 * x.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(transform("diff-color").apply(images, PercentileDraw(1 - 1e-7, 4)), x, atol=1e-5, rtol=0)


def test_translation_moves_whole_pixels_and_fills_with_grey():
    images = torch.randn(64, 3, 16, 24)
    moved = transform("diff-translation").apply(images, draw())
    shifts = set()
    for before, after in zip(images, moved, strict=True):
        matches = []
        for down in range(-2, 3):
            for right in range(-3, 4):
                expected = torch.zeros_like(before)
                rows = slice(max(down, 0), 16 + min(down, 0))
                columns = slice(max(right, 0), 24 + min(right, 0))
                source = before.roll((down, right), (1, 2))
                expected[:, rows, columns] = source[:, rows, columns]
                matches += [(down, right)] if torch.equal(expected, after) else []
        assert len(matches) == 1
        shifts.add(matches[0])
    assert len(shifts) > 15
    assert {down for down, _ in shifts} == {-2, -1, 0, 1, 2}


def test_cutout_is_a_rectangle_of_half_the_size():
    """Where the middle is well inside, a quarter of the image is grey; never more."""
    grey = (transform("diff-cutout").apply(torch.ones(256, 1, 16, 16), draw(256)) == 0).flatten(1).sum(1)
    assert grey.max() == 64
    assert grey.min() >= 16
    assert (grey == 64).double().mean() > 0.1
