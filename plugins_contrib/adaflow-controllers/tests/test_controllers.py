"""A p for each transform, and p from a file."""

from pathlib import Path

import pytest

from adaflow.conformance import offered_by, parametrize_with_checks
from adaflow.core.p_controller import Observation
from adaflow.core.train import train
from adaflow.core.training_step import training_step
from adaflow.errors import ConfigError, PluginError
from adaflow.plugin_manager import PluginManager
from tests.runs import differences, small_run

FILE = Path(__file__).parents[1] / "adaflow_controllers.py"
MANAGER = PluginManager([FILE], environ={"ADAFLOW_NO_PLUGINS": "1"})


TABLE = FILE.parent / "tests" / "p.csv"


@parametrize_with_checks(offered_by(FILE, settings={"schedule": {"file": str(TABLE)}}))
def test_conformance(subject, check):
    check(subject)


def observation(signs=None, sign=0.0, images=0, p=0.2, p_max=0.8):
    return Observation(p, images, 32, 1000, sign, 0.0, 0.0, p_max=p_max, signs=signs or {})


def each(**settings):
    return MANAGER.p_controllers["each"].value(**settings)


def schedule(tmp_path, text):
    file = tmp_path / "p.csv"
    file.write_text(text)
    return MANAGER.p_controllers["schedule"].value(file=str(file))


def test_the_plugin_loads():
    MANAGER.require_named()


def test_each_goes_its_own_way():
    controller = each(target=0.5, kimg=0.32)
    assert controller.update(observation({"hue": 0.9, "xflip": 0.1, "noise": None}, sign=0.7)) == pytest.approx(0.3)
    assert controller.p == pytest.approx({"hue": 0.3, "xflip": 0.1, "noise": 0.3})
    assert controller.weights((), 0.3) == pytest.approx({"hue": 1, "xflip": 1 / 3, "noise": 1})


def test_each_stays_within_bounds_and_tells_when_it_wants_more():
    controller = each(target=0.0, kimg=0.032)
    assert controller.update(observation({"hue": 1.0, "xflip": -1.0})) == pytest.approx(1.2)
    assert controller.p == {"hue": 0.8, "xflip": 0.0}
    assert controller.weights((), 0.8) == {"hue": 1.0, "xflip": 0.0}


def test_each_without_transforms_goes_by_all_reals():
    """As rt does, for a method that goes by p."""
    controller = each(target=0.5, kimg=0.32)
    assert controller.update(observation(sign=0.7)) == pytest.approx(0.3)
    assert controller.update(observation(sign=0.2)) == pytest.approx(0.1)
    assert controller.weights((), 0.3) == {}


def test_each_goes_on_after_a_resume():
    controller, again = each(), each()
    controller.update(observation({"hue": 1.0}))
    again.load_state_dict(controller.state_dict())
    assert again.update(observation({"hue": 1.0})) == controller.update(observation({"hue": 1.0}))


def test_each_in_a_run(tmp_path):
    """hue, of which D is shown to be sure, rises while x-flip falls; a resume is exact."""
    folders = [tmp_path / name for name in ("whole", "halves")]
    for folder in folders:
        folder.mkdir()
    table = {"augment": {"augs": "xflip,hue", "controller": "each(kimg=0.5)", "p": 0.4}, "schedule": {"kimg": 0.16}}
    run = small_run(folders[0], table, MANAGER)
    train(run)
    assert set(run.controller.p) == {"xflip", "hue"}
    assert run.state.p == max(run.controller.p.values())
    first = small_run(folders[1], {**table, "schedule": {"kimg": 0.08}}, MANAGER)
    train(first)
    second = small_run(folders[1], table, MANAGER, fresh=False)
    train(second, resume=True)
    ignore = ("seconds", "tick_seconds", "best")
    assert differences(run.state.state_dict(), second.state.state_dict(), ignore) == []


def test_a_schedule_goes_in_straight_lines(tmp_path):
    controller = schedule(tmp_path, "kimg,p\n10,0.2\n20,0.4\n")
    at = [controller.update(observation(images=1000 * kimg)) for kimg in (0, 10, 15, 20, 99)]
    assert at == pytest.approx([0.2, 0.2, 0.3, 0.4, 0.4])
    assert controller.first_p(0.7) == pytest.approx(0.4)


def test_a_schedule_for_each_transform(tmp_path):
    controller = schedule(tmp_path, "\ufeffkimg, p, hue\n0, 0.4, 0.1\n\n10, 0.4, 0.8\n")
    assert controller.weights(("hue", "xflip"), 0.4) == pytest.approx({"hue": 0.25, "xflip": 1.0})
    assert controller.update(observation(images=10_000)) == pytest.approx(0.8)
    assert controller.weights(("hue", "xflip"), 0.8) == pytest.approx({"hue": 1.0, "xflip": 0.5})
    assert controller.weights(("hue", "xflip"), 0.5) == pytest.approx({"hue": 1.0, "xflip": 0.8})  # p was cut to 0.5
    only = schedule(tmp_path, "kimg,hue\n0,0.1\n")
    assert only.weights(("hue", "xflip"), 0.1) == {"hue": 1.0, "xflip": 0.0}


def test_a_schedule_in_a_run(tmp_path):
    file = tmp_path / "p.csv"
    file.write_text("kimg,hue,xflip\n0,0,0.5\n0.064,0.5,0\n")
    table = {"augment": {"augs": "xflip,hue", "controller": f"schedule(file={str(file)!r})"}}
    run = small_run(tmp_path, table, MANAGER)
    assert run.state.p == 0.5
    seen = []
    for _ in range(9):
        training_step(run)
        seen.append({place.name: place.weight for place in run.augment.color_places + run.augment.geometry_places})
    assert seen[0] == {"hue": 0.0, "xflip": 1.0}
    assert seen[4] == pytest.approx({"hue": 1.0, "xflip": 1.0})
    assert seen[8] == {"hue": 1.0, "xflip": 0.0}
    file.write_text("kimg,hue,xflip\n0,0,0\n")
    with pytest.raises(PluginError, match="no p for 'hue'"):
        small_run(tmp_path, {"augment": {**table["augment"], "augs": "xflip"}}, MANAGER)


def test_p_max_caps_each_p(tmp_path):
    """Not only the greatest, of which the others are shares."""
    file = tmp_path / "p.csv"
    file.write_text("kimg,xflip,hue\n0,0.9,0.3\n")
    table = {"augment": {"augs": "xflip,hue", "controller": f"schedule(file={str(file)!r})", "p_max": 0.6}}
    run = small_run(tmp_path, table, MANAGER)
    for _ in range(6):
        training_step(run)
        weights = {place.name: place.weight for place in run.augment.color_places + run.augment.geometry_places}
        assert {name: run.state.p * weight for name, weight in weights.items()} == pytest.approx(
            {"hue": 0.3, "xflip": 0.6}
        )


def test_a_resumed_run_keeps_its_table(tmp_path):
    before, edited = schedule(tmp_path, "kimg,p\n0,0\n10,0.5\n"), schedule(tmp_path, "kimg,p\n0,0\n10,0.9\n")
    edited.load_state_dict(before.state_dict())
    assert edited.update(observation(images=10_000)) == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no table"),
        ("kimg,p\n", "no table"),
        ("p\n0.5\n", "no table"),
        ("kimg,p,p\n0,1,1\n", "no table"),
        ("kimg,p\n0\n", "line 2"),
        ("kimg,p\n0,high\n", "line 2"),
        ("kimg,p\n0,1.5\n", "line 2"),
        ("kimg,p\n0,nan\n", "line 2"),
        ("kimg,p\ninf,0.5\n", "line 2"),
        ("kimg,p\n5,0.5\n5,0.6\n", "line 3"),
    ],
)
def test_bad_schedules_are_named(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        schedule(tmp_path, text)


def test_a_missing_schedule():
    with pytest.raises(ConfigError, match="cannot be read"):
        MANAGER.p_controllers["schedule"].value(file="nowhere.csv")
    with pytest.raises(ConfigError, match="no file is named"):
        MANAGER.p_controllers["schedule"].value()
