"""`adaflow.core.data.destination`: what a prepared set may replace, and what it may be called."""

import os
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from adaflow.core.data.prepare import PrepareConfig, prepare
from adaflow.errors import ConfigError, FileError

pytest_plugins = ["tests.images", "tests.command_line"]


@pytest.fixture
def make(readers, folder, tmp_path):
    """Prepare the folder of six images into a destination."""

    def run(dest, resolution=8, **settings):
        return prepare(PrepareConfig(str(folder), tmp_path / dest, resolution, **settings), readers)

    return run


def test_an_existing_file_is_kept_unless_forced(make, tmp_path):
    out = tmp_path / "out.zip"
    out.write_bytes(b"precious")
    with pytest.raises(FileError, match="exists already"):
        make("out.zip")
    assert out.read_bytes() == b"precious"
    make("out.zip", force=True)
    assert zipfile.is_zipfile(out)


def test_only_a_folder_of_adaflows_own_is_replaced(make, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    make("out")  # an empty folder may be filled
    with pytest.raises(FileError, match="is not empty"):
        make("out")
    make("out", resolution=16, force=True)
    assert Image.open(out / "00000" / "img00000000.png").size == (16, 16)
    (out / "diary.txt").write_text("precious")
    with pytest.raises(FileError, match="did not write"):
        make("out", force=True)
    (out / "diary.txt").unlink()
    (tmp_path / "out.report.json").unlink()
    with pytest.raises(FileError, match="did not write"):
        make("out", force=True)
    assert len(list(out.rglob("*.png"))) == 6


def test_a_foreign_file_in_the_place_of_the_report_is_kept(make, tmp_path):
    (tmp_path / "out.report.json").write_text('{"precious": 1}')
    with pytest.raises(FileError, match="no report of adaflow"):
        make("out.zip")
    assert (tmp_path / "out.report.json").read_text() == '{"precious": 1}'
    assert not (tmp_path / "out.zip").exists()


@pytest.mark.parametrize(("first", "second"), [("out.zip", "out"), ("out", "out.zip"), ("out.zip", "out.ZIP")])
def test_the_report_of_another_set_is_kept_unless_forced(make, tmp_path, first, second):
    make(first)
    report = (tmp_path / "out.report.json").read_bytes()
    with pytest.raises(FileError, match=f"is the report of {first}"):
        make(second)
    assert (tmp_path / "out.report.json").read_bytes() == report
    assert not (tmp_path / second).exists() or first.lower() == second.lower()
    make(second, force=True)
    assert (tmp_path / "out.report.json").read_bytes() != report


@pytest.mark.parametrize("length", [221, 240, 249, 250, 255, 256, 300, 5000])
@pytest.mark.parametrize("letter", ["n", "é"])
def test_names_that_are_too_long(cli, folder, tmp_path, length, letter):
    name = letter * (length // len(letter.encode()) - 3)
    name += "n" * (length - 4 - len(name.encode())) + ".zip"
    commands = [
        ("prepare", folder, "--resolution", "8", "--dest", tmp_path / name),
        ("prepare", folder, "--resolution", "8", "--dest", tmp_path / f"{name[:-4]}.set"),
        ("check", folder, "--fix", tmp_path / name),
        ("prepare", folder, "--resolution", "8", "--dest", tmp_path / name / "x.zip"),
    ]
    for command in commands[: 3 if length < 256 else 4]:
        result = cli("data", *command)
        assert result.code == 3
        assert "too long" in result.err
    assert os.listdir(tmp_path) == ["images"]


@pytest.mark.parametrize("ending", [".zip", ".set"])
def test_the_longest_name(make, tmp_path, ending):
    name = "n" * (220 - len(ending)) + ending
    make(name)
    assert (tmp_path / name).exists()


def test_a_destination_needs_a_name(readers, folder, tmp_path, monkeypatch):
    (tmp_path / "empty" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "empty" / "below")
    for dest in (".", "..", "/"):
        with pytest.raises(FileError, match="has no name of its own"):
            prepare(PrepareConfig(str(folder), Path(dest), 8), readers)


def test_a_link_to_itself_is_no_destination(make, tmp_path):
    (tmp_path / "x.zip").symlink_to("x.zip")
    (tmp_path / "x").symlink_to("x")
    for dest in ("x/out.zip", "x/out"):
        with pytest.raises(FileError):
            make(dest)
    make("x.zip")
    assert zipfile.is_zipfile(tmp_path / "x.zip")


def test_source_and_destination_lie_apart(make, folder):
    for dest in ("images", "images/within", "."):
        with pytest.raises((ConfigError, FileError)):
            make(dest, force=True)
    assert len(list(folder.rglob("*.png"))) == 6
    make("images/out.zip")


def test_a_prepared_folder_is_not_replaced_by_a_part_of_itself(make, readers, tmp_path):
    make("out")
    with pytest.raises(ConfigError, match="within each other"):
        prepare(PrepareConfig(str(tmp_path / "out" / "00000"), tmp_path / "out", 8, force=True), readers)
    assert len(list((tmp_path / "out").rglob("*.png"))) == 6
