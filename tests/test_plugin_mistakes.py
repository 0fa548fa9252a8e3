"""Mistakes in the code of somebody's plugin end in one sentence with file and line, not in a traceback."""

import pytest

pytest_plugins = ["tests.command_line"]

AUGMENTATION = """
from dataclasses import dataclass
from adaflow import ImageTransform, hookimpl, parameter

@dataclass
class Boom(ImageTransform):
    size: int = parameter(4, low=1, high=64)

    def apply(self, images, draw):
        raise ValueError("my own \x1b[31mmistake")

@hookimpl
def register_augmentations(register):
    register("boom", Boom)
"""

CONTROLLER = """
from adaflow import PController, hookimpl

class Cold(PController):
    def update(self, seen):
        return seen.pp

@hookimpl
def register_p_controllers(register):
    register("cold", Cold)
"""

LOGGER = """
from adaflow import Logger, hookimpl

class Mine(Logger):
    def tick(self, run, stats):
        1 / 0

@hookimpl
def register_loggers(register):
    register("mine", Mine)
"""


def write(folder, text, name="mine.py"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_in_a_preview(cli, tmp_path):
    file = write(tmp_path, AUGMENTATION)
    result = cli("augs", "preview", "boom", "--plugin", file, "--p", "1", "--out", tmp_path / "x.png")
    assert result.code == 3
    assert "Traceback" not in result.err
    assert f"plugin mine failed: ValueError: my own \\x1b[31mmistake ({file}, line 10)" in result.err.replace("\n", " ")
    assert f"adaflow plugins check {file}" in result.err.replace("\n", " ")


def test_with_a_switch_all_of_it_is_shown(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("ADAFLOW_TRACEBACK", "1")
    file = write(tmp_path, AUGMENTATION)
    with pytest.raises(ValueError, match="my own"):
        cli("augs", "preview", "boom", "--plugin", file, "--p", "1", "--out", tmp_path / "x.png")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (AUGMENTATION, ("--augs", "boom", "--p", "0.8"), "ValueError"),
        (CONTROLLER, ("--p-controller", "cold"), "AttributeError: 'Observation' object has no attribute 'pp'"),
        (LOGGER, ("--loggers", "mine"), "ZeroDivisionError"),
    ],
)
def test_in_training(cli, tmp_path, text, options, message):
    file = write(tmp_path, text)
    result = cli("train", *cli.small_run, *options, "--kimg", "0.064", "--plugin", file, "--outdir", tmp_path / "runs")
    assert result.code == 3
    assert f"plugin mine failed: {message}" in result.err.replace("\n", " ")


def test_whole_numbers(cli, tmp_path):
    result = cli("augs", "preview", "boom(size=2.5)", "--plugin", write(tmp_path, AUGMENTATION))
    assert result.code == 3
    assert "size is 2.5" in result.err
    assert "whole number" in result.err


def test_a_plugin_that_is_gone_when_a_run_is_resumed(cli, tmp_path):
    file = write(tmp_path, LOGGER.replace("1 / 0", "pass"))
    train = ("train", *cli.small_run, "--plugin", file, "--loggers", "mine", "--outdir", tmp_path / "runs")
    assert cli(*train).code == 0
    (run,) = (tmp_path / "runs").iterdir()
    file.unlink()
    result = cli("resume", run, "--kimg", "0.1")
    assert result.code == 3
    assert f"Put it back; what it was is kept: {run / 'plugins' / 'mine.py'}" in result.err.replace("\n", " ")


def test_leakcheck_of_a_run_with_a_plugin_says_which(cli, tmp_path):
    file = write(tmp_path, AUGMENTATION.replace('raise ValueError("my own \x1b[31mmistake")', "return images * 0.9"))
    options = ("--plugin", file, "--augs", "boom", "--val-fraction", "0.2", "--outdir", tmp_path / "runs")
    assert cli("train", *cli.small_run, *options).code == 0
    (run,) = (tmp_path / "runs").iterdir()
    result = cli("leakcheck", run, "--num", "100", "--data", "demo:lesions,resolution=16,images=300")
    assert result.code == 3
    assert f"--plugin {file}" in result.err.replace("\n", " ")


def test_a_folder_that_is_a_package(cli, tmp_path):
    folder = tmp_path / "my_package_of_plugins"
    folder.mkdir()
    assert "is no package" in cli("augs", "show", "packed", "--plugin", folder).err
    write(folder, "from my_package_of_plugins.inner import register_augmentations\n", "__init__.py")
    write(folder, AUGMENTATION.replace("boom", "packed"), "inner.py")
    result = cli("augs", "list", "--plugin", folder, "--json")
    assert result.code == 0, result.err
    assert '"packed"' in result.out


def test_in_a_module_of_a_package(cli, tmp_path):
    folder = tmp_path / "another_package_of_plugins"
    folder.mkdir()
    write(folder, "from another_package_of_plugins.inner import register_augmentations\n", "__init__.py")
    inner = write(folder, AUGMENTATION, "inner.py")
    result = cli("augs", "preview", "boom", "--plugin", folder, "--p", "1", "--out", tmp_path / "x.png")
    assert result.code == 3
    assert f"({inner}, line 10)" in result.err.replace("\n", " ")


def test_in_a_file_named_from_where_one_is(cli, tmp_path, monkeypatch):
    write(tmp_path, AUGMENTATION)
    monkeypatch.chdir(tmp_path)
    result = cli("augs", "preview", "boom", "--plugin", "mine.py", "--p", "1")
    assert result.code == 3
    assert "plugin mine failed: ValueError" in result.err
