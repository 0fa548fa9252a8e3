"""Plugins: where they come from, what becomes of broken ones, and a run with one of a user's own."""

import hashlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from adaflow import hookspecs
from adaflow.errors import PluginError
from adaflow.plugin_manager import BUILTINS, HOOKS, KINDS, PluginInfo, PluginManager
from adaflow.registry import Registry

pytest_plugins = ["tests.command_line"]

ALONE = {"ADAFLOW_NO_PLUGINS": "1"}

MINE = '''from dataclasses import dataclass
import adaflow

@dataclass
class Darker(adaflow.ImageTransform):
    """Darkens."""
    by: float = 0.5
    def apply(self, images, draw):
        return images - self.by

@dataclass
class Stairs(adaflow.PController):
    step: float = 0.1
    def update(self, seen):
        return seen.p + self.step

class Brightness(adaflow.Metric):
    def compute(self, context):
        return {"brightness": float(next(context.fakes(4)).float().mean())}

@adaflow.hookimpl
def register_augmentations(register): register("darker", Darker)
@adaflow.hookimpl
def register_p_controllers(register): register("stairs", Stairs)
@adaflow.hookimpl
def register_metrics(register): register("brightness-of-fakes", Brightness)
'''

WATCHERS = ("status", "health")
"""The built-in plugins that listen to ticks."""

HOOK = "import adaflow\n@adaflow.hookimpl\n"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def load(path: Path) -> PluginInfo:
    return PluginManager([path], environ=ALONE).infos[-1]


def by_name(manager: PluginManager) -> dict[str, PluginInfo]:
    return {info.name: info for info in manager.infos}


def test_built_in_plugins_come_in_through_the_hooks_of_everybody():
    manager = PluginManager(environ=ALONE)
    assert len(manager.infos) == len(BUILTINS)
    assert {(info.source, info.status, info.error) for info in manager.infos} == {("built-in", "ok", "")}
    for hook, kind in KINDS.items():
        registered = [name for info in manager.infos for name in info.registered.get(kind, [])]
        assert registered or kind == "method"
        assert sorted(registered) == [entry.name for entry in manager.registries[hook]]
    assert "run_finished" in by_name(manager)["status"].hooks


def test_every_hook_says_what_it_is_for():
    assert len(HOOKS) == 12
    for hook in HOOKS:
        assert len(getattr(hookspecs, hook).__doc__) > 40


def test_a_plugin_file_offers_its_things(tmp_path):
    path = write(tmp_path, "mine.py", MINE)
    manager = PluginManager([path], environ=ALONE)
    manager.require_named()
    info = manager.infos[-1]
    assert (info.name, info.source, info.status) == ("mine", f"file {path}", "ok")
    assert info.sha256 == hashlib.sha256(MINE.encode()).hexdigest()
    assert info.hooks == ["register_augmentations", "register_p_controllers", "register_metrics"]
    assert info.registered == {
        "augmentation": ["darker"],
        "p controller": ["stairs"],
        "metric": ["brightness-of-fakes"],
    }
    assert manager.augmentations["darker"].provider == "mine"
    assert manager.provenance() == [
        {"name": "mine", "source": f"file {path}", "version": "", "status": "ok", "sha256": info.sha256}
    ]


def test_a_run_with_a_plugin_of_ones_own(tmp_path, cli):
    path = write(tmp_path, "mine.py", MINE)
    options = ("--plugin", path, "--augs", "xflip,darker(by=0.25)", "--p-controller", "stairs(step=0.2)")
    result = cli("train", *cli.small_run, *options, "--metrics", "brightness-of-fakes", "--outdir", tmp_path / "runs")
    assert result.code == 0, result.err
    (run,) = (tmp_path / "runs").iterdir()
    stats = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    assert [row["Progress/augment"]["mean"] for row in stats] == [0.0, 0.2]
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["images"] for row in metrics] == [8, 16]
    assert 0 < metrics[0]["results"]["brightness"] < 255
    config = tomllib.loads((run / "config.toml").read_text())
    assert config["plugins"] == [str(path)]
    assert config["augment"]["augs"] == "xflip,darker(by=0.25)"
    assert (run / "plugins" / "mine.py").read_text() == MINE
    (plugin,) = json.loads((run / "provenance.json").read_text())["plugins"]
    assert plugin["sha256"] == hashlib.sha256(MINE.encode()).hexdigest()

    resumed = cli("resume", run, "--kimg", "0.024")
    assert resumed.code == 0, resumed.err
    assert json.loads((run / "status.json").read_text())["p"] == 0.2


BROKEN = {
    "a syntax error": ("x = 1\ndef f(:\n", "SyntaxError: invalid syntax", 2),
    "an import that fails": ("\nimport nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_at_all'", 2),
    "an exit": ("import sys\nsys.exit(3)\n", "SystemExit: 3", 2),
    "an exception of the worst kind": ("class E(BaseException): pass\nraise E('no')\n", "E: no", 2),
    "an exception without words": (
        "class E(Exception):\n    def __str__(self): raise self\nraise E\n",
        "<exception str() failed>",
        3,
    ),
    "an error in a library it calls": ("import json\njson.loads('{')\n", "JSONDecodeError: Expecting", 2),
    "an unknown hook": (
        HOOK + "def register_augmentation(register): pass\n",
        "there is no hook named 'register_augmentation'",
        2,
    ),
    "arguments the hook does not have": (
        HOOK + "def tick(run, statistics): pass\n",
        "tick asks for statistics, which the hook does not have",
        2,
    ),
    "a wrapper": ("import adaflow\n@adaflow.hookimpl(wrapper=True)\ndef tick(run):\n    yield\n", "is a wrapper", 2),
    "an error while it registers": (
        HOOK + "def register_metrics(register):\n    register('one', int)\n    1 / 0\n",
        "ZeroDivisionError: division by zero",
        5,
    ),
    "a path for a name": (
        HOOK + "def register_metrics(register):\n    register('../one', int)\n",
        "registers the name '../one'",
        4,
    ),
    "control characters in a name": (
        HOOK + "def register_metrics(register):\n    register('a\\x1b[31m\\n', int)\n",
        r"registers the name 'a\x1b[31m\n'",
        4,
    ),
    "no text for a name": (HOOK + "def register_metrics(register):\n    register(3, int)\n", "the name 3", 4),
    "the word for nothing": (HOOK + "def register_metrics(register):\n    register('none', int)\n", "'none'", 4),
    "the name of a built-in": (
        HOOK + "def register_augmentations(register):\n    register('one', int)\n    register('xflip', int)\n",
        "registers the augmentation 'xflip', which plugin blit already has",
        5,
    ),
    "the name of a built-in list": (
        HOOK + "def register_augmentations(register):\n    register.alias('bgc', 'xflip')\n",
        "registers the augmentation 'bgc', which plugin color already has",
        4,
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_named_with_file_and_line_and_harms_nobody(case, tmp_path):
    text, words, line = BROKEN[case]
    path = write(tmp_path, "broken.py", text)
    manager = PluginManager([path], block=WATCHERS, environ=ALONE)
    info = manager.infos[-1]
    assert info.status == "failed"
    assert words in info.error
    assert info.error.endswith(f"({path}, line {line})")
    assert info.error.isprintable()
    assert info.registered == {}
    assert "one" not in manager.metrics
    assert "one" not in manager.augmentations
    assert manager.augmentations["xflip"].provider == "blit"
    assert len(manager.augmentations) == len(PluginManager(environ=ALONE).augmentations)
    manager.notify("tick", pytest.fail, run=None, stats={})
    with pytest.raises(PluginError, match="plugin broken cannot be used"):
        manager.require_named()


def test_a_hook_that_is_nearly_right_gets_a_suggestion(tmp_path):
    info = load(write(tmp_path, "broken.py", HOOK + "def register_augmentation(register): pass\n"))
    assert "Did you mean register_augmentations" in info.hint


def test_a_plugin_without_hooks_is_told_what_it_lacks(tmp_path):
    info = load(write(tmp_path, "mine.py", MINE.replace("@adaflow.hookimpl\n", "")))
    assert (info.status, info.error) == ("failed", "no function in it is a hook")
    assert "@adaflow.hookimpl" in info.hint


def test_a_hook_may_leave_out_arguments_and_have_its_own_defaults(tmp_path):
    path = write(
        tmp_path,
        "counting.py",
        "import adaflow\nseen = []\n@adaflow.hookimpl\ndef tick(stats, n=2):\n    seen.append((stats, n))\n",
    )
    manager = PluginManager([path], block=WATCHERS, environ=ALONE)
    manager.require_named()
    manager.notify("tick", pytest.fail, run=None, stats={"a": 1})
    assert sys.modules["adaflow_plugin_file_counting"].seen == [({"a": 1}, 2)]


def test_a_missing_file_and_a_missing_module(tmp_path):
    assert "there is no file" in load(tmp_path / "absent.py").error
    assert "No module named 'absent_module'" in PluginManager(["absent_module"], environ=ALONE).infos[-1].error


def test_a_file_that_takes_the_name_of_a_built_in_does_not_replace_it(tmp_path):
    path = write(tmp_path, "noise.py", MINE)
    manager = PluginManager([path], environ=ALONE)
    assert manager.infos[-1].error == "another plugin is called noise already"
    assert manager.augmentations["noise"].provider == "noise"
    assert "darker" not in manager.augmentations


def test_a_file_called_numpy_is_not_numpy(tmp_path):
    import numpy

    assert load(write(tmp_path, "numpy.py", MINE)).status == "ok"
    assert sys.modules["numpy"] is numpy
    assert hasattr(numpy, "ndarray")


def test_a_file_name_with_control_characters_is_shown_harmlessly(tmp_path):
    info = load(write(tmp_path, "red\x1b[31m.py", MINE))
    assert info.status == "ok"
    assert info.name == r"red\x1b[31m"
    assert info.source.isprintable()


def test_the_same_file_twice_is_one_plugin(tmp_path):
    path = write(tmp_path, "mine.py", MINE)
    manager = PluginManager([path, path], environ={"ADAFLOW_PLUGINS": str(path)})
    manager.require_named()
    assert [info.name for info in manager.infos].count("mine") == 1


def test_a_module_that_is_loaded_already_is_named():
    manager = PluginManager(["adaflow.plugins.augmentations.blit"], environ=ALONE)
    assert manager.infos[-1].error == "it is loaded already, as blit"
    assert manager.augmentations["xflip"].provider == "blit"


def test_plugins_of_the_environment(tmp_path):
    first, second = write(tmp_path, "first.py", MINE), write(tmp_path, "second.py", HOOK + "def tick(run): pass\n")
    infos = by_name(PluginManager(environ={"ADAFLOW_PLUGINS": f"{first}, {second}\njson"}))
    assert infos["first"].status == infos["second"].status == "ok"
    assert infos["json"].error == "no function in it is a hook"
    assert "first" not in by_name(PluginManager(environ={"ADAFLOW_PLUGINS": str(first), **ALONE}))


def test_blocked_plugins_offer_nothing(tmp_path):
    path = write(tmp_path, "mine.py", MINE)
    manager = PluginManager(block=["mine", "cutout", "nobody"], environ={"ADAFLOW_PLUGINS": str(path)})
    infos = by_name(manager)
    assert infos["mine"].status == infos["cutout"].status == "blocked"
    assert "darker" not in manager.augmentations
    assert "cutout" not in manager.augmentations
    assert manager.unknown_blocks() == ["nobody"]
    with pytest.raises(PluginError) as error, manager.explain_unknown():
        _ = manager.augmentations["darker"]
    assert "plugin mine is blocked" in error.value.hint


def test_an_unknown_name_comes_with_the_failures_that_may_explain_it(tmp_path):
    path = write(tmp_path, "mine.py", MINE + "1 / 0\n")
    manager = PluginManager(environ={"ADAFLOW_PLUGINS": str(path)})
    with pytest.raises(PluginError) as error, manager.explain_unknown():
        _ = manager.augmentations["darker"]
    assert "plugin mine failed to load: ZeroDivisionError" in error.value.hint


def test_registry_suggests_near_names():
    registry: Registry[int] = Registry("thing")
    registry.add("rotate", 1, "a")
    registry.add_alias("all", "rotate", "a")
    with pytest.raises(PluginError, match="no thing named 'rotat'") as error:
        _ = registry["rotat"]
    assert error.value.hint == "Did you mean rotate?"
    with pytest.raises(PluginError) as error:
        _ = registry["zzz"]
    assert error.value.hint == "Known: all, rotate."


def test_what_is_registered_lazily_is_loaded_once_when_it_is_wanted():
    registry: Registry[list[int]] = Registry("thing")
    loads: list[int] = []

    def load():
        loads.append(1)
        return [len(loads)]

    registry.add_lazy("late", load, "a")
    registry.add("early", [0], "a")
    assert [entry.name for entry in registry] == ["early", "late"]
    assert "late" in registry
    entry = registry["late"]
    assert (entry.name, entry.provider, entry.lazy, registry["early"].lazy, loads) == ("late", "a", True, False, [])
    assert registry["late"].value == [1]
    assert registry["late"].value is entry.value
    assert loads == [1]
    with pytest.raises(PluginError, match="'late', which plugin a already has"):
        registry.add("late", [2], "b")
    with pytest.raises(PluginError, match="'late', which plugin a already has"):
        registry.add_lazy("late", load, "b")
    with pytest.raises(PluginError) as error:
        _ = registry["lat"]
    assert "late" in error.value.hint
    with pytest.raises(PluginError) as error:
        _ = registry["zzz"]
    assert error.value.hint == "Known: early."


LAZY = (
    HOOK
    + """def register_augmentations(register):
    def absent():
        import nowhere_at_all
    def sorry():
        from adaflow.errors import ConfigError
        raise ConfigError('it is Sunday', 'Come back tomorrow.')
    register.lazy('absent', absent)
    register.lazy('sorry', sorry)
"""
)


def test_what_cannot_be_loaded_lazily_is_named_and_harms_nobody(tmp_path, cli):
    path = write(tmp_path, "lazy.py", LAZY)
    manager = PluginManager([path], environ=ALONE)
    manager.require_named()
    assert manager.infos[-1].registered == {"augmentation": ["absent", "sorry"]}
    for _ in range(2):
        with pytest.raises(PluginError) as error:
            _ = manager.augmentations["absent"].value
        assert error.value.message == (
            "'absent' of plugin lazy cannot be used: ModuleNotFoundError: No module named 'nowhere_at_all'"
        )
    with pytest.raises(PluginError) as error:
        _ = manager.augmentations["sorry"].value
    assert (error.value.message, error.value.hint) == (
        "'sorry' of plugin lazy cannot be used: it is Sunday",
        "Come back tomorrow.",
    )

    result = cli("train", *cli.small_run, "--dry-run", "--plugin", path, "--augs", "blit,absent")
    assert result.code == 3
    assert result.err.count("\n") == 1
    assert "'absent' of plugin lazy cannot be used" in result.err
    rows = {row["name"]: row for row in json.loads(cli("augs", "list", "--plugin", path, "--json").out)["transforms"]}
    assert rows["absent"]["kind"] == "unknown"
    assert rows["absent"]["summary"].startswith("'absent' of plugin lazy cannot be used")
    assert rows["xflip"]["kind"] == "geometry"
    assert "2 transforms of lazy:\nabsent, sorry\n" in cli("augs", "list", "--plugin", path).out


RAISING = HOOK + "def tick(run):\n    {}\n"


def test_a_plugin_that_raises_in_a_tick_is_named_once_and_the_run_goes_on(tmp_path, cli):
    path = write(tmp_path, "raising.py", RAISING.format("raise ValueError('two\\nlines')"))
    result = cli("train", *cli.small_run, "--plugin", path, "--outdir", tmp_path / "runs")
    assert result.code == 0, result.err
    (run,) = (tmp_path / "runs").iterdir()
    log = (run / "log.txt").read_text()
    assert log.count("tick ") >= 2
    assert log.count("plugin raising failed in tick and is left out from now on: ValueError: two lines") == 1
    assert f"({path}, line 4)" in log
    assert json.loads((run / "status.json").read_text())["status"] == "finished"


def test_a_plugin_may_stop_a_run_on_purpose(tmp_path, cli):
    stop = "from adaflow.errors import AdaflowError; raise AdaflowError('enough is enough')"
    path = write(tmp_path, "stopping.py", RAISING.format(stop))
    result = cli("train", *cli.small_run, "--plugin", path, "--outdir", tmp_path / "runs")
    assert (result.code, result.err) == (3, "Error: enough is enough.\n")


def test_a_broken_plugin_stops_only_the_command_that_names_it(tmp_path, cli, monkeypatch):
    path = write(tmp_path, "broken.py", "1 / 0\n")
    named = cli("train", *cli.small_run, "--dry-run", "--plugin", path)
    assert named.code == 3
    assert f"plugin broken cannot be used: ZeroDivisionError: division by zero ({path}, line 1)" in named.err

    listed = cli("plugins", "list", "--plugin", path, "--json")
    assert listed.code == 0
    info = json.loads(listed.out)[-1]
    assert (info["name"], info["status"]) == ("broken", "failed")
    assert str(path) in cli("plugins", "list", "--plugin", path).out

    monkeypatch.delenv("ADAFLOW_NO_PLUGINS")
    monkeypatch.setenv("ADAFLOW_PLUGINS", str(path))
    unnamed = cli("train", *cli.small_run, "--dry-run")
    assert unnamed.code == 0
    assert "Note: plugin broken failed to load: ZeroDivisionError" in unnamed.err
    assert cli("augs", "list").code == 0
    assert cli("train", *cli.small_run, "--dry-run", "--block", "broken").err == ""


def test_things_that_are_no_class_are_refused_when_they_are_named(tmp_path, cli):
    text = HOOK + "def register_p_controllers(register):\n    register('odd', 3)\n"
    result = cli(
        "train", *cli.small_run, "--dry-run", "--plugin", write(tmp_path, "odd.py", text), "--p-controller", "odd"
    )
    assert result.code == 3
    assert "p controller 'odd' of plugin odd is no class" in result.err


def test_plugins_list_shows_everything(tmp_path, cli):
    path = write(tmp_path, "mine.py", MINE)
    rows = json.loads(cli("plugins", "list", "--plugin", path, "--block", "cutout", "--json").out)
    assert {"name", "version", "source", "status", "hooks", "registered", "error"} <= set(rows[0])
    status = {row["name"]: row["status"] for row in rows}
    assert (status["mine"], status["cutout"], status["geom"]) == ("ok", "blocked", "ok")
    text = cli("plugins", "list", "--plugin", path).out
    assert f"mine (file {path}): ok" in text
    assert "darker" in text
    assert "geom 0.1.0 (built-in): ok" in text
    assert max(len(line) for line in text.splitlines() if str(path) not in line) <= 80


def test_a_package_brings_plugins_by_entry_points(tmp_path):
    source = tmp_path / "source"
    (source / "spots").mkdir(parents=True)
    write(source / "spots", "__init__.py", "")
    write(source / "spots", "good.py", MINE)
    write(source / "spots", "bad.py", "import adaflow\nfrom spots import nothing\n")
    (source / "pyproject.toml").write_text(
        """
        [build-system]
        requires = ["setuptools"]
        build-backend = "setuptools.build_meta"
        [project]
        name = "adaflow-spots"
        version = "1.2"
        [project.entry-points.adaflow]
        spots = "spots.good"
        bad-spots = "spots.bad"
        gone = "spots.gone"
        [tool.setuptools]
        packages = ["spots"]
        """
    )
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True, capture_output=True, text=True)

    def listed(**environ: str) -> dict[str, dict[str, object]]:
        path = os.pathsep.join((str(site), *sys.path))
        command = [sys.executable, "-m", "adaflow", "plugins", "list", "--json"]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("ADAFLOW_")}
        text = subprocess.run(
            command, env={**clean, "PYTHONPATH": path, **environ}, check=True, capture_output=True, text=True
        ).stdout
        return {row["name"]: row for row in json.loads(text)}

    rows = listed()
    assert rows["spots"]["status"] == "ok"
    assert (rows["spots"]["source"], rows["spots"]["version"]) == ("package adaflow-spots", "1.2")
    assert rows["spots"]["registered"]["augmentation"] == ["darker"]  # type: ignore[index]
    assert rows["bad-spots"]["status"] == rows["gone"]["status"] == "failed"
    assert f"({site / 'spots' / 'bad.py'}, line 2)" in str(rows["bad-spots"]["error"])
    assert rows["gone"]["error"] == "ModuleNotFoundError: No module named 'spots.gone'"
    assert "spots" not in listed(ADAFLOW_NO_PLUGINS="1")
