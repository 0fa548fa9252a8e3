"""`adaflow augs show`: what is said of a transform is what it is."""

import json

import pytest
from scipy import stats

from adaflow.core.augment.show import argument_meanings, show_transform, summary
from adaflow.plugin_manager import PluginManager

pytest_plugins = ["tests.command_line"]
MANAGER = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"})
NAMES = [entry.name for entry in MANAGER.augmentations if not entry.lazy]
PLUGIN = """
from dataclasses import dataclass
from adaflow import ImageTransform, hookimpl
from adaflow.core.augment.transform import parameter

@dataclass
class Bare(ImageTransform):
    colour: str = "red"
    amount: float = parameter(0.5, low=0.1)

    def apply(self, images, draw):
        return images * draw.uniform(0, self.amount).view(-1, 1, 1, 1)

@hookimpl
def register_augmentations(register):
    register("bare", Bare)
    register.alias("all-bare", "bare")
    register.alias("odd", "bare,never-there")
"""


def show(spec):
    return show_transform(spec, MANAGER, 256)


@pytest.mark.parametrize("name", NAMES)
def test_every_built_in_transform_is_described_whole(name):
    facts = show(name)
    json.dumps(facts, allow_nan=False)
    assert facts["summary"].endswith(".")
    assert facts["groups"]
    assert all(setting["meaning"].endswith(".") for setting in facts["settings"])
    assert all(setting["value"] == setting["default"] for setting in facts["settings"])
    assert facts["draws"] or name == "cutout"
    assert facts["source"] == "built-in"
    assert facts["file"].endswith(f"{facts['plugin']}.py")
    assert facts["safety"]["analysed"]


def test_what_is_drawn_is_measured():
    five, ninety_five = (stats.norm.ppf(q) for q in (0.05, 0.95))
    (factor,) = show("scale")["draws"]
    assert factor["words"] == "×0.80 … ×1.00 … ×1.26"
    assert factor["percentiles"]["5"] == pytest.approx(2 ** (0.2 * five), rel=1e-3)
    (angle,) = show("rotate")["draws"]
    assert angle["percentiles"]["95"] == pytest.approx(162, abs=0.1)
    assert angle["words"] == "−162° … 0° … 162°"
    x, y = show("xfrac(std=0.1)")["draws"]
    assert (x["number"], y["number"]) == ("x shift", "y shift")
    assert x["percentiles"]["95"] == pytest.approx(0.1 * ninety_five, rel=1e-2)
    assert x["words"] == "−16.4 % … 0 % … 16.4 %"
    (offset,) = show("brightness(std=0.1)")["draws"]
    assert offset["percentiles"]["95"] == pytest.approx(0.1 * ninety_five, rel=1e-3)
    (turns,) = show("rotate90")["draws"]
    assert turns["number"] == "step of 4"
    assert turns["words"] == "0 (25%), 1 (25%), 2 (25%), 3 (25%)"


def test_place_lists_and_settings():
    facts = show("rotate(max=0.5)")
    assert facts["kind"] == "geometry"
    assert facts["order"] == [5.0, 7.0]
    assert facts["groups"] == ["geom", "bg", "bgc", "bgcf", "bgcfn", "bgcfnc"]
    (setting,) = facts["settings"]
    assert setting == {
        "name": "max",
        "value": 0.5,
        "default": 1.0,
        "low": 0.0,
        "high": 1.0,
        "meaning": "the greatest angle, in half turns: 1 is 180 degrees.",
    }
    assert facts["safety"]["singular_at"] < 1
    assert show("noise")["stage"].startswith("4 of 4")


def test_docstrings_are_read():
    text = """Does it.

Over two lines.

Args:
    a, b: two of them
        in two lines.
    c: a colon: too.

Raises:
    ValueError: never.
"""
    assert argument_meanings(text) == {
        "a": "two of them in two lines.",
        "b": "two of them in two lines.",
        "c": "a colon: too.",
    }
    assert argument_meanings("Does it.") == {}
    kind = type("Kind", (), {"__doc__": text})
    assert summary(kind) == "Does it. Over two lines."


def test_a_plugin_of_ones_own(cli, tmp_path):
    file = tmp_path / "bare_plugin.py"
    file.write_text(PLUGIN)
    result = cli("augs", "show", "bare(amount=0.2)", "--plugin", file, "--json")
    assert result.code == 0, result.err
    facts = json.loads(result.out)
    # A dataclass without a docstring has its signature there, which says nothing.
    assert facts["summary"] == ""
    assert (facts["plugin"], facts["source"], facts["file"]) == ("bare_plugin", f"file {file}", str(file))
    assert [(s["name"], s["value"], s["low"], s["high"]) for s in facts["settings"]] == [
        ("colour", "red", None, None),
        ("amount", 0.2, 0.1, None),
    ]
    assert facts["groups"] == ["all-bare"]
    assert facts["draws"] == []
    assert facts["safety"]["sentence"].startswith("Cannot be analysed, because")
    text = cli("augs", "show", "bare", "--plugin", file).out
    assert "0.5 (default 0.5, 0.1 … ∞)" in text


def test_the_command(cli):
    text = " ".join(cli("augs", "show", "xint").out.split())
    for part in (
        "Moves by whole pixels.",
        "geometry; stage 1 of 4",
        "blit, bg, bgc",
        "0.125 (default 0.125, 0 … ∞): the greatest distance",
        "−11.3 % … 0 % … 11.3 % (5, 50, 95 % of draws)",
        "p = 0.82",
        "blit (built-in)",
        "blit.py",
    ):
        assert part in text
    result = cli("augs", "show", "geom")
    assert result.code == 3
    assert "It stands for scale, rotate, aniso, xfrac." in result.err
    assert "Did you mean hue" in cli("augs", "show", "hu").err
