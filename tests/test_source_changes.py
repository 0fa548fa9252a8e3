"""A source that changes or goes away while a set is made of it: half a set never passes for a whole one."""

import json
import os
import shutil

import pytest

from adaflow.core.data.clean import write_clean
from adaflow.core.data.prepare import PrepareConfig, prepare
from adaflow.core.data.scan import examine
from adaflow.core.data.source import open_source
from adaflow.errors import FileError
from tests.images import pixels, save, zip_folder

pytest_plugins = ["tests.images"]

COUNT = 30


@pytest.fixture
def images(tmp_path):
    for index in range(COUNT):
        save(tmp_path / "in", f"{index:02d}.png", pixels(index))
    return tmp_path / "in"


def run(readers, source, dest, event=None, at=5, **settings):
    """Prepare; when so many images are done, the event happens."""

    def progress(done, total):
        if done == at and event is not None:
            event()

    config = PrepareConfig(str(source), dest, 8, workers=1, **settings)
    return prepare(config, readers, progress)


def cut(path):
    return lambda: os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("dest", ["set.zip", "set"])
@pytest.mark.parametrize("strict", [False, True])
def test_a_zip_that_is_cut_short(readers, images, tmp_path, dest, strict):
    source = zip_folder(images, tmp_path / "source.zip")
    whole = source.read_bytes()
    expected = run(readers, source, tmp_path / "expected" / dest).fingerprint
    with pytest.raises(FileError, match="source changed while it was read") as error:
        run(readers, source, tmp_path / dest, cut(source), strict=strict)
    assert "Nothing was written" in error.value.hint
    assert not (tmp_path / dest).exists()
    assert (tmp_path / f".{dest}.partial").exists()
    source.write_bytes(whole)
    report = run(readers, source, tmp_path / dest, strict=strict)
    assert (report.written, report.left_out, report.fingerprint) == (COUNT, [], expected)
    assert report.continued_from >= 5


def test_a_disk_that_is_pulled_out_and_put_in_again(readers, images, tmp_path):
    with pytest.raises(FileError, match=r"in changed while it was read: folder .* cannot be listed"):
        run(readers, images, tmp_path / "set.zip", lambda: images.rename(tmp_path / "away"))
    (tmp_path / "away").rename(images)
    report = run(readers, images, tmp_path / "set.zip")
    assert (report.written, report.left_out) == (COUNT, [])
    assert 5 <= report.continued_from < COUNT


def test_what_was_noted_while_it_was_away_is_looked_at_again_after_a_kill(readers, images, tmp_path):
    def pull_out_and_stop(done, total):
        if done == 5:
            images.rename(tmp_path / "away")
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(PrepareConfig(str(images), tmp_path / "set.zip", 8, workers=1), readers, pull_out_and_stop)
    (tmp_path / "away").rename(images)
    report = run(readers, images, tmp_path / "set.zip")
    assert (report.written, report.left_out) == (COUNT, [])
    assert 5 <= report.continued_from < 20


@pytest.mark.parametrize("at", [5, COUNT])
def test_an_image_that_is_replaced(readers, images, tmp_path, at):
    with pytest.raises(FileError, match="its files are not those of before"):
        run(readers, images, tmp_path / "set.zip", lambda: save(images, "02.png", pixels(99)), at)
    assert not (tmp_path / "set.zip").exists()
    assert run(readers, images, tmp_path / "set.zip").continued_from == 0


def test_really_broken_images_stay_left_out_after_an_interruption(readers, images, tmp_path):
    (images / "03.png").write_bytes(b"broken")

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(readers, images, tmp_path / "set.zip", stop, at=10)
    report = run(readers, images, tmp_path / "set.zip")
    assert (report.continued_from, [name for name, _ in report.left_out]) == (10, ["03.png"])


@pytest.mark.parametrize("when", ["looking", "writing"])
def test_a_cleaned_copy_of_half_a_set_is_not_written(readers, images, tmp_path, when):
    source = zip_folder(images, tmp_path / "source.zip")
    damage = cut(source)
    with open_source(str(source), readers) as opened:
        seen = examine(opened, workers=1, progress=lambda done, _: damage() if (when, done) == ("looking", 5) else None)
        assert bool(seen.broken) == (when == "looking")
        if when == "writing":
            damage()
        with pytest.raises(FileError, match="source changed while it was read"):
            write_clean(seen, str(source), tmp_path / "clean.zip")
    assert not (tmp_path / "clean.zip").exists()


def test_a_changed_image_is_not_judged_by_its_former_self(readers, images, tmp_path):
    with open_source(str(images), readers) as opened:
        seen = examine(opened)
        save(images, "02.png", pixels(2))
        with pytest.raises(FileError, match="its files are not those of before"):
            write_clean(seen, str(images), tmp_path / "clean.zip")


def test_a_destination_that_appears_in_the_meantime_is_kept(readers, images, tmp_path):
    dest = tmp_path / "set.zip"
    with pytest.raises(FileError, match="exists already"):
        run(readers, images, dest, lambda: dest.write_bytes(b"precious"))
    assert dest.read_bytes() == b"precious"
    assert not (tmp_path / "set.report.json").exists()
    dest.unlink()
    assert run(readers, images, dest).continued_from == COUNT


def test_a_report_that_appears_in_the_meantime_is_kept(readers, images, tmp_path):
    report = tmp_path / "set.report.json"
    with pytest.raises(FileError, match="no report of adaflow"):
        run(readers, images, tmp_path / "set.zip", lambda: report.write_text(json.dumps("precious")))
    assert report.read_text() == '"precious"'
    assert not (tmp_path / "set.zip").exists()
    shutil.rmtree(images)
