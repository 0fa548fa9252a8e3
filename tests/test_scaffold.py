"""`adaflow plugins new`: what it writes works at once, and it writes nowhere it should not."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adaflow.conformance import check_subject, offered_by
from adaflow.core.scaffold import KINDS, module_name, write_plugin
from adaflow.errors import FileError, UsageError
from adaflow.plugin_manager import KINDS as KINDS_OF_PLUGINS

pytest_plugins = ["tests.command_line"]

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_passes_every_check(kind, tmp_path):
    (file,) = write_plugin("lesion-hair", kind, tmp_path, package=False)
    assert file == tmp_path / "lesion_hair.py"
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8))
    settings = {"lesion-hair": {"source": str(tmp_path / "images.npy")}} if kind == "dataset" else {}
    (subject,) = offered_by(file, settings)
    assert subject.kind == KINDS_OF_PLUGINS[KINDS[kind].hook]
    results = check_subject(subject)
    assert [(r.check, r.reason) for r in results if r.status != "passed"] == []
    assert all(len(line) <= 120 for line in file.read_text(encoding="utf-8").splitlines())


def test_every_kind_of_plugin_but_extractors_can_be_begun():
    assert {kind.hook for kind in KINDS.values()} == set(KINDS_OF_PLUGINS) - {"register_feature_extractors"}


@pytest.mark.parametrize(("kind", "count"), [("augmentation", 22), pytest.param("dataset", 8, marks=pytest.mark.slow)])
def test_a_package(tmp_path, kind, count):
    files = write_plugin("freckles", kind, tmp_path, package=True)
    home = tmp_path / "adaflow-freckles"
    names = ("freckles.py", "pyproject.toml", "README.md", "tests/test_freckles.py")
    assert files == [home / name for name in names]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=home,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{home}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert f"{count} passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_installed_package_is_found(kind, tmp_path):
    write_plugin("my-thing", kind, tmp_path, package=True)
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", site]
    subprocess.run([*pip, tmp_path / "adaflow-my-thing"], check=True)
    code = (
        "from adaflow.plugin_manager import PluginManager\n"
        "(info,) = [i for i in PluginManager().infos if i.name == 'my_thing']\n"
        "print(info.source, info.version, info.status, info.registered)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{site}"},
        capture_output=True,
        text=True,
    )
    kind_name = KINDS_OF_PLUGINS[KINDS[kind].hook]
    assert done.stdout.strip() == f"package adaflow-my-thing 0.1.0 ok {{'{kind_name}': ['my-thing']}}", done.stderr


def test_from_the_command_line(cli, tmp_path):
    result = cli("plugins", "new", "lesion-hair", "--dest", tmp_path)
    assert result.code == 0, result.err
    assert f"adaflow plugins check {tmp_path / 'lesion_hair.py'}" in result.out
    again = cli("plugins", "new", "lesion-hair", "--dest", tmp_path)
    assert again.code == 3
    assert "is there already" in again.err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../../evil", "cannot be called"),
        ("/etc/passwd", "cannot be called"),
        ("a\x1b[31mred", "cannot be called"),
        ("two\nlines", "cannot be called"),
        ("", "cannot be called"),
        ("none", "cannot be called"),
        ("a" * 65, "cannot be called"),
        ("hue", "the augmentation 'hue' exists already"),
        ("bgc", "the augmentation 'bgc' exists already"),
        ("torch", "the module torch of Python"),
        ("lambda", "the module lambda of Python"),
        ("json", "the module json of Python"),
    ],
)
def test_names_that_cannot_be_used(cli, tmp_path, name, message):
    result = cli("plugins", "new", "--dest", tmp_path / "here", "--", name)
    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err
    assert "\x1b[31m" not in result.err
    assert not (tmp_path / "here").exists()


def test_an_unknown_kind(tmp_path):
    with pytest.raises(UsageError, match="no kind of plugin called 'augmentations'"):
        write_plugin("hair", "augmentations", tmp_path, package=False)


def test_nothing_is_written_over_or_where_nothing_can_be(tmp_path):
    (tmp_path / "hair.py").write_text("mine")
    with pytest.raises(FileError, match="is there already"):
        write_plugin("hair", "metric", tmp_path, package=False)
    assert (tmp_path / "hair.py").read_text() == "mine"
    with pytest.raises(FileError, match="cannot write"):
        write_plugin("hair", "metric", tmp_path / "hair.py" / "deeper", package=False)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("reader", "dataset"), ("finding", "leak-detector"), ("draw", "augmentation"), ("path", "dataset")],
)
def test_names_that_the_template_uses_itself(name, kind, tmp_path):
    (file,) = write_plugin(name, kind, tmp_path, package=False)
    np.save(tmp_path / "images.npy", np.zeros((5, 16, 16), dtype=np.uint8) + np.arange(16, dtype=np.uint8))
    (subject,) = offered_by(file, {name: {"source": str(tmp_path / "images.npy")}} if kind == "dataset" else {})
    assert [(r.check, r.reason) for r in check_subject(subject) if r.status == "failed"] == []


def test_a_file_beside_its_package(tmp_path, monkeypatch):
    """The file of the same name in the present folder is no module of Python."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    write_plugin("freckles", "augmentation", tmp_path, package=False)
    assert len(write_plugin("freckles", "augmentation", tmp_path, package=True)) == 4


def test_modules_of_names():
    assert module_name("lesion-hair") == "lesion_hair"
    assert module_name("My.Own:Thing-") == "my_own_thing"
