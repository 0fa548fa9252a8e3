"""Names of hidden files can be foretold: what others put there, links above all, is neither followed nor removed."""

import os

import pytest

from adaflow.core.data.prepare import PrepareConfig, prepare
from adaflow.core.data.writer import FolderWriter, ZipWriter, remove_leftovers
from adaflow.core.lock import locked, try_lock
from adaflow.errors import FileError
from tests.images import pixels, save
from tests.test_writer import contents, member, write_all

pytest_plugins = ["tests.images"]

NAMES = {"set.zip": (".set.zip.partial", ".set.zip.partial.jsonl"), "set": (".set.partial", ".set.partial.jsonl")}


@pytest.fixture
def thesis(tmp_path):
    """A folder with a file that must not be lost."""
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "text").write_text("precious")
    return folder


@pytest.fixture
def make(readers, folder, tmp_path):
    def run(dest, **settings):
        return prepare(PrepareConfig(str(folder), tmp_path / dest, 8, **settings), readers)

    return run


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("plant", [os.symlink, os.link])
@pytest.mark.parametrize("name", [".set.zip.partial", ".set.zip.partial.jsonl", ".set.partial.jsonl"])
def test_a_planted_link_to_a_file_is_not_written_through(make, thesis, tmp_path, name, plant):
    plant(thesis / "text", tmp_path / name)
    before = listing(tmp_path)
    with pytest.raises(FileError, match="is a link, or was not made by adaflow"):
        make("set.zip" if "zip" in name else "set")
    assert (thesis / "text").read_text() == "precious"
    assert listing(tmp_path) == before


@pytest.mark.parametrize("name", [".set.partial", ".set.old"])
def test_a_planted_link_to_a_folder_is_not_emptied(make, thesis, tmp_path, name):
    (tmp_path / name).symlink_to(thesis)
    before = listing(tmp_path)
    for _ in range(2):
        with pytest.raises(FileError, match="is a link"):
            make("set")
    assert (thesis / "text").read_text() == "precious"
    assert listing(tmp_path) == before


@pytest.mark.parametrize("name", [".set.partial", ".set.old"])
def test_a_folder_of_others_is_not_emptied(make, thesis, tmp_path, name):
    thesis.rename(tmp_path / name)
    for _ in range(2):
        with pytest.raises(FileError, match="was not made by adaflow"):
            make("set")
    assert (tmp_path / name / "text").read_text() == "precious"


@pytest.mark.parametrize("dest", NAMES)
def test_a_link_in_place_of_interrupted_work_is_not_followed(thesis, tmp_path, dest):
    dest = tmp_path / dest
    write_all(dest, 5, stop=3)
    partial = tmp_path / NAMES[dest.name][0]
    partial.rename(tmp_path / "moved")
    partial.symlink_to(thesis if dest.name == "set" else thesis / "text")
    with pytest.raises(FileError, match="is a link"):
        write_all(dest, 5)
    assert (thesis / "text").read_text() == "precious"
    partial.unlink()
    (tmp_path / "moved").rename(partial)
    assert write_all(dest, 5) == 3


def test_links_within_interrupted_work_are_not_followed(thesis, tmp_path):
    dest = tmp_path / "set"
    write_all(dest, 5, stop=3)
    inside = tmp_path / ".set.partial" / "00000"
    inside.rename(thesis / "00000")
    inside.symlink_to(thesis / "00000")
    kept = contents(thesis)
    assert write_all(dest, 5) == 0
    assert contents(thesis) == kept
    assert not any(path.is_symlink() for path in dest.rglob("*"))


@pytest.mark.parametrize("dest", NAMES)
def test_a_journal_of_others_is_kept(make, tmp_path, dest):
    journal = tmp_path / NAMES[dest][1]
    journal.write_text("my diary\n")
    with pytest.raises(FileError, match="was not made by adaflow"):
        make(dest)
    assert journal.read_text() == "my diary\n"


def test_a_pipe_in_place_of_a_file_is_refused_at_once(make, tmp_path):
    for name in (".set.zip.partial", ".set.zip.partial.jsonl", "set.report.json"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(FileError):
            make("set.zip")
        (tmp_path / name).unlink()


def test_the_lock_of_a_run_is_no_link(thesis, tmp_path):
    (tmp_path / ".lock").symlink_to(thesis / "text")
    with pytest.raises(FileError, match="is a link"), locked(tmp_path):
        pass
    assert (thesis / "text").read_text() == "precious"


@pytest.mark.parametrize("dest", NAMES)
def test_what_a_kill_at_the_very_end_leaves_goes_with_the_next_start(make, tmp_path, dest):
    writer = (ZipWriter if dest.endswith("zip") else FolderWriter)(tmp_path / dest, {})
    with writer:
        writer.add(*member(0))
        writer.finish("{}")
        writer.commit()
    journal = tmp_path / NAMES[dest][1]
    journal.write_text('{"source": "patient 7"}\n')
    if dest == "set":
        save(tmp_path / ".set.old", "x.png", pixels(0))  # the set that the new one replaced
    whole = contents(tmp_path / dest)
    with pytest.raises(FileError, match=r"exists already|is not empty"):
        make(dest)
    assert contents(tmp_path / dest) == whole
    assert listing(tmp_path) == ["images", dest]


def test_a_journal_that_another_process_has_just_begun_is_no_leftover(tmp_path):
    journal = tmp_path / ".set.zip.partial.jsonl"
    journal.write_text("{}\n")
    with open(journal, "rb") as file:
        assert try_lock(file)
        remove_leftovers(tmp_path / "set.zip")
        assert journal.exists()
    remove_leftovers(tmp_path / "set.zip")
    assert not journal.exists()


def test_a_link_to_an_empty_folder_is_replaced_and_nothing_is_left(make, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "set").symlink_to("empty")
    make("set")
    assert not (tmp_path / "set").is_symlink()
    assert listing(tmp_path) == ["empty", "images", "set", "set.report.json"]
    assert listing(tmp_path / "empty") == []


def test_work_that_was_interrupted_is_no_leftover(make, tmp_path):
    write_all(tmp_path / "set.zip", 5, stop=3)
    (tmp_path / "set.zip").write_bytes(b"another")
    with pytest.raises(FileError, match="exists already"):
        make("set.zip")
    (tmp_path / "set.zip").unlink()
    assert write_all(tmp_path / "set.zip", 5) == 3
