"""The language of specs, and pipelines built from it."""

from dataclasses import dataclass

import pytest

from adaflow.core.augment import build_pipeline
from adaflow.core.augment.transform import Transform
from adaflow.core.spec import SpecItem, create, parse_spec
from adaflow.errors import ConfigError, PluginError, UsageError
from adaflow.plugin_manager import PluginManager
from adaflow.registry import Registry

BLIT = ["xflip", "rotate90", "xint"]
GEOM = ["scale", "rotate", "aniso", "xfrac"]
COLOR = ["brightness", "contrast", "lumaflip", "hue", "saturation"]
FILTER = ["band1", "band2", "band3", "band4"]


@pytest.fixture
def registry():
    return PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"}).augmentations


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("", []),
        ("  \n ", []),
        ("blit", [SpecItem("blit")]),
        (" blit ,\tgeom ", [SpecItem("blit"), SpecItem("geom")]),
        ("rotate90=off", [SpecItem("rotate90", on=False)]),
        ("rotate90 = on", [SpecItem("rotate90")]),
        ("color*0.5", [SpecItem("color", weight=0.5)]),
        ("color * 2e-1", [SpecItem("color", weight=0.2)]),
        ("noise(std=0.2)", [SpecItem("noise", {"std": 0.2})]),
        ("noise ( std = .2 , n = -3 ) * 2 , x", [SpecItem("noise", {"std": 0.2, "n": -3}, weight=2.0), SpecItem("x")]),
        ("a(size=(1, (2, 3)), on=True, none=None)", [SpecItem("a", {"size": (1, (2, 3)), "on": True, "none": None})]),
        ("a(text='x),(y'),b", [SpecItem("a", {"text": "x),(y"}), SpecItem("b")]),
        ("a()", [SpecItem("a")]),
        ("pack.age:name-1", [SpecItem("pack.age:name-1")]),
    ],
)
def test_parse(text, items):
    assert parse_spec(text) == items


@pytest.mark.parametrize(
    ("text", "what", "character"),
    [
        (",", "a name is missing", 1),
        ("blit,", "a name is missing", 6),
        ("blit,,geom", "a name is missing", 6),
        ("blit geom", "'g' does not belong here", 6),
        ("blit;geom", "';' does not belong here", 5),
        ("2", "a name is missing", 1),
        ("noise(std=0.2", "the settings cannot be read", 7),
        ("noise(0.2)", "the settings cannot be read", 7),
        ("noise(**{})", "the settings cannot be read", 7),
        ("noise(std=1,std=2)", "a setting is given twice", 7),
        ("noise(std=print(1))", "a setting is not a plain value", 7),
        ("noise(std=high)", "a setting is not a plain value", 7),
        ("color*", "the weight is not a number", 7),
        ("color*-1", "the weight is not a number", 7),
        ("color*1.2.3", "the weight is not a number", 7),
        ("color*nan", "the weight is not a number", 7),
        ("color=maybe", "after '=' stands on or off", 7),
        ("color*0.5=off", "'=' does not belong here", 10),
        ("color)", "')' does not belong here", 6),
    ],
)
def test_parse_errors(text, what, character):
    with pytest.raises(UsageError) as error:
        parse_spec(text)
    assert what in error.value.message
    assert error.value.message.endswith(f"(character {character})")
    assert "name(setting=1.0)" in error.value.hint


def names(pipeline):
    return [active.name for active in pipeline.transforms]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", []),
        ("none", []),
        ("bgc,none", []),
        ("none,xflip", ["xflip"]),
        ("blit", BLIT),
        ("geom", GEOM),
        ("color", COLOR),
        ("filter", FILTER),
        ("imgfilter", FILTER),
        ("bg", BLIT + GEOM),
        ("bgc", BLIT + GEOM + COLOR),
        ("bgcf", BLIT + GEOM + COLOR + FILTER),
        ("bgcfn", [*BLIT, *GEOM, *COLOR, *FILTER, "noise"]),
        ("bgcfnc", [*BLIT, *GEOM, *COLOR, *FILTER, "noise", "cutout"]),
        ("cutout,noise,hue,xflip", ["xflip", "hue", "noise", "cutout"]),
        ("bg,blit=off", GEOM),
        ("bg,rotate90=off,xint=off", ["xflip", *GEOM]),
        ("rotate90=off", []),
        ("blit=off,blit", BLIT),
    ],
)
def test_which_transforms(registry, spec, expected):
    assert names(build_pipeline(spec, registry)) == expected


def test_eighteen_transforms_of_our_own(registry):
    own = [entry for entry in registry if entry.provider != "kornia"]
    assert len(own) == 18
    assert all(entry.value.__doc__ and not entry.value.__doc__.startswith(entry.value.__name__) for entry in own)


def weights(pipeline):
    return {active.name: active.weight for active in pipeline.transforms}


def test_weights(registry):
    assert weights(build_pipeline("bgc,color*0.5,hue*0.25", registry)) == {
        **dict.fromkeys([*BLIT, *GEOM], 1.0),
        **dict.fromkeys(COLOR, 0.5),
        "hue": 0.25,
    }
    assert weights(build_pipeline("hue*0.25,color", registry))["hue"] == 0.25
    assert weights(build_pipeline("hue*0.25,color*0.5", registry))["hue"] == 0.5
    assert weights(build_pipeline("color*0.5", registry)) == dict.fromkeys(COLOR, 0.5)


def test_settings(registry):
    pipeline = build_pipeline("bg,scale(std=0.3),noise(std=1)*0.5,scale", registry)
    settings = {active.name: active.transform for active in pipeline.transforms}
    assert settings["scale"].std == 0.3
    assert settings["aniso"].std == 0.2
    assert settings["noise"].std == 1
    assert weights(pipeline)["noise"] == 0.5
    both = build_pipeline("filter(std=0.5)", registry)
    assert [active.transform.std for active in both.transforms] == [0.5] * 4


def test_canonical_spec(registry):
    pipeline = build_pipeline("noise*0.5,blit,rotate", registry)
    assert pipeline.spec() == "xflip,rotate90,xint(max=0.125),rotate(max=1.0),noise(std=0.1)*0.5"
    assert build_pipeline("", registry).spec() == "none"
    for spec in ("none", "bgcfnc,color*0.3,scale(std=1e-05)", "cutout(size=1)*1e-07"):
        canonical = build_pipeline(spec, registry).spec()
        assert build_pipeline(canonical, registry).spec() == canonical
    assert build_pipeline("bgc", registry).spec() == build_pipeline("color,geom,blit", registry).spec()


def test_alias_of_an_alias(registry):
    registry.add_alias("gentle", "bg, color*0.5, hue=off, noise(std=0.05)", "test")
    found = weights(build_pipeline("gentle", registry))
    assert "hue" not in found
    assert (found["contrast"], found["scale"]) == (0.5, 1.0)
    assert set(weights(build_pipeline("gentle*0.2", registry)).values()) == {0.2}
    assert names(build_pipeline("bgc,gentle=off", registry)) == []


def test_alias_of_itself(registry):
    registry.add_alias("snake", "blit,tail", "test")
    registry.add_alias("tail", "snake", "test")
    with pytest.raises(PluginError, match="contains itself") as error:
        build_pipeline("snake", registry)
    assert "snake → tail → snake" in error.value.hint


@pytest.mark.parametrize("spec", ["bgcc", "bgc,rotate9=off", "scael(std=0.1)"])
def test_unknown_name(registry, spec):
    with pytest.raises(PluginError, match="there is no augmentation named") as error:
        build_pipeline(spec, registry)
    assert "Did you mean" in error.value.hint


@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        ("noise(sdt=0.1)", "augmentation 'noise' has no setting 'sdt'", "It has std."),
        ("xflip(p=0.5)", "augmentation 'xflip' has no setting 'p'", "It has no settings."),
        ("noise(std='a lot')", "augmentation 'noise': std is 'a lot', which does not fit", "The default is 0.1."),
        ("noise(std=True)", "augmentation 'noise': std is True, which does not fit", "0.1"),
        ("noise(std=1e999)", "augmentation 'noise': std is inf, which does not fit", "0.1"),
        ("noise(std=-1)", "augmentation 'noise': std is -1, which is out of range", "between 0 and inf"),
        ("hue(max=2)", "augmentation 'hue': max is 2, which is out of range", "between 0 and 1"),
        ("geom(std=1)", "augmentation 'rotate' has no setting 'std'", "It has max."),
    ],
)
def test_bad_settings(registry, spec, message, hint):
    with pytest.raises(ConfigError) as error:
        build_pipeline(spec, registry)
    assert error.value.message == message
    assert hint in error.value.hint


def test_create_checks_kinds():
    @dataclass
    class Thing:
        count: int = 3
        flag: bool = False
        text: str = "a"
        free: float | None = None

        def __post_init__(self):
            if self.count == 13:
                raise ValueError("13 brings bad luck")

    assert create("thing", "it", Thing, {"count": 4, "flag": True, "text": "b", "free": 2.5}) == Thing(
        4, True, "b", 2.5
    )
    for arguments in ({"count": 2.5j}, {"flag": 1}, {"text": 1}, {"count": float("nan")}):
        with pytest.raises(ConfigError, match="does not fit"):
            create("thing", "it", Thing, arguments)
    with pytest.raises(ConfigError, match="thing 'it' cannot be made: 13 brings bad luck"):
        create("thing", "it", Thing, {"count": 13})


def test_something_else_is_registered():
    class Kindless(Transform):
        pass

    registry = Registry("augmentation")
    for name, value in (("instance", object()), ("odd", dict), ("kindless", Kindless)):
        registry.add(name, value, "test")
        with pytest.raises(PluginError, match=f"'{name}'.* is no transform"):
            build_pipeline(name, registry)
