"""docs/augmentations.md is what the transforms say of themselves, and its pictures are there."""

import importlib.util
import re
from pathlib import Path

import pytest
from PIL import Image

from adaflow.core.augment.safety import analyse
from adaflow.plugin_manager import PluginManager
from adaflow.plugins.augmentations.blit import XInt

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("make_augmentations", DOCS / "make_augmentations.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def text():
    return (DOCS / "augmentations.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_transforms_say(maker, text):
    assert maker.page() == text, "run python docs/make_augmentations.py"


def test_every_built_in_transform_has_its_section_and_picture(text):
    manager = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"})
    names = [entry.name for entry in manager.augmentations if not entry.lazy]
    assert sorted(re.findall(r"^### `(\w+)`", text, flags=re.MULTILINE)) == names
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert len(pictures) == len(names) + 1
    for picture in pictures:
        with Image.open(DOCS / picture) as image:
            assert min(image.size) > 100
    assert sum((DOCS / picture).stat().st_size for picture in pictures) < 1.5e6


def test_sizes_at_which_shifts_are_singular(text):
    """The numbers in the text, which no table gives."""
    from adaflow.core.augment import ActiveTransform

    (sentence,) = re.findall(r"0 is reached at (.*?)\. Hues", text, flags=re.DOTALL)
    stated = re.findall(r"(0\.\d+) for (\d+)", sentence)
    assert len(stated) == 6
    for p, size in stated:
        found = analyse(ActiveTransform("xint", XInt()), [], int(size)).singular_at
        assert found == pytest.approx(float(p), abs=0.6 * 10 ** (2 - len(p)))
