"""Readers of folders and archives."""

import multiprocessing
import os
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaflow.core.data.source import open_source
from adaflow.errors import DataError
from adaflow.plugins.datasets.folder import FolderSource
from adaflow.plugins.datasets.zipped import ZipSource
from tests.images import encode, pixels, save, zip_folder

pytest_plugins = ["tests.images"]


def test_a_folder_is_read_in_order_with_its_labels(folder):
    source = FolderSource(folder)
    assert [source.image_name(i) for i in range(len(source))] == [
        f"{d}/{i}.png" for d, i in zip("aaabbb", (0, 2, 4, 1, 3, 5), strict=True)
    ]
    assert [source.label(i) for i in range(6)] == [0, 2, 1, 1, 0, 2]
    np.testing.assert_array_equal(source.read(3), pixels(1).transpose(2, 0, 1))
    assert (source.name, source.ignored, source.class_names) == ("images", 0, None)


def test_junk_is_passed_over_and_other_files_are_counted(folder):
    for name in (".hidden.png", "._0.png", ".git/a.png", "__MACOSX/a.png", "a/.DS_Store"):
        save(folder, name, pixels(0), format="png")
    (folder / "notes.txt").write_text("hello")
    (folder / "a" / "table.csv").write_text("hello")
    source = FolderSource(folder)
    assert (len(source), len(source.ignored)) == (6, 2)
    archive = ZipSource(zip_folder(folder, folder.parent / "x.zip"))
    assert (len(archive), len(archive.ignored)) == (6, 2)


def test_links_that_lead_in_circles_end(folder):
    (folder / "a" / "up").symlink_to(folder)
    (folder / "again").symlink_to(folder / "b")
    assert len(FolderSource(folder)) == 6


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_equals_its_folder(folder, tmp_path, compression):
    files = FolderSource(folder)
    with ZipSource(zip_folder(folder, tmp_path / "set one.zip", compression)) as archive:
        assert archive.name == "set_one"
        assert archive.names == files.names
        for index in range(6):
            assert archive.label(index) == files.label(index)
            np.testing.assert_array_equal(archive.read(index), files.read(index))


def read_all(source):
    for index in range(len(source)):
        np.testing.assert_array_equal(
            source.read(index), pixels(int(Path(source.image_name(index)).stem)).transpose(2, 0, 1)
        )


def test_a_zip_is_read_by_many_threads(folder, tmp_path):
    source = ZipSource(zip_folder(folder, tmp_path / "x.zip", zipfile.ZIP_DEFLATED))
    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(read_all, source) for _ in range(100)]:
            future.result()


def test_threads_take_turns_at_the_file_of_a_zip(folder, tmp_path):
    source = ZipSource(zip_folder(folder, tmp_path / "x.zip"))
    with ThreadPoolExecutor(1) as pool:
        with source._archive.lock:
            reading = pool.submit(read_all, source)
            with pytest.raises(TimeoutError):
                reading.result(timeout=0.2)
        reading.result(timeout=20)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_zip_is_read_after_a_fork_in_the_middle_of_reading(folder, tmp_path):
    source = ZipSource(zip_folder(folder, tmp_path / "x.zip"))
    child = multiprocessing.get_context("fork").Process(target=read_all, args=(source,))
    with source._archive.lock:  # as if another thread were reading
        child.start()
    child.join(timeout=20)
    if child.is_alive():
        child.kill()
    assert child.exitcode == 0
    read_all(source)


def test_encrypted_zips_are_refused(folder, tmp_path):
    path = zip_folder(folder, tmp_path / "x.zip")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="is encrypted"):
        ZipSource(path)


@pytest.mark.parametrize(
    "name", ["../x.png", "a/../../x.png", "/x.png", "\\x.png", "a\\..\\..\\x.png", "C:\\x.png", "C:/x.png"]
)
def test_paths_out_of_the_archive_are_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(name, encode(Image.fromarray(pixels(0))).getvalue())
    with pytest.raises(DataError, match="leads out of the archive"):
        ZipSource(tmp_path / "x.zip")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_listed_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("x.png", b"1")
        archive.writestr("x.png", b"2")
    with pytest.raises(DataError, match="twice"):
        ZipSource(tmp_path / "x.zip")


def test_a_member_with_a_changed_byte_is_named(folder, tmp_path):
    path = zip_folder(folder, tmp_path / "x.zip")
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a/0\.png in .* cannot be read: Bad CRC-32"):
        ZipSource(path).read(0)


def test_a_huge_member_is_refused_before_it_is_unpacked(folder, tmp_path):
    source = ZipSource(zip_folder(folder, tmp_path / "x.zip"))
    source.members["a/0.png"].file_size = 1 << 31
    with pytest.raises(DataError, match="larger than 1 GiB"):
        source.read(0)


def test_no_images_no_zip_no_data_set(readers, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.zip").write_bytes(b"not a zip")
    (tmp_path / "file.txt").write_text("")
    for name, message in {
        "empty": "has no images",
        "bad.zip": "cannot be opened",
        "file.txt": "no data set reader understands",
        "missing": "there is no data set at",
    }.items():
        with pytest.raises(DataError, match=message):
            open_source(str(tmp_path / name), readers)


def test_fingerprints_depend_on_names_contents_and_labels_alone(folder, tmp_path):
    original = FolderSource(folder).fingerprint()
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    os.utime(copy / "a/0.png", (0, 0))
    (copy / "unrelated.txt").write_text("x")
    assert FolderSource(copy).fingerprint() == original

    seen = {original}
    save(copy, "a/0.png", pixels(99))
    seen.add(FolderSource(copy).fingerprint())
    (copy / "a/0.png").rename(copy / "a/0b.png")
    seen.add(FolderSource(copy).fingerprint())
    (copy / "dataset.json").unlink()
    seen.add(FolderSource(copy).fingerprint())
    assert len(seen) == 4

    stored = ZipSource(zip_folder(folder, tmp_path / "1.zip")).fingerprint()
    os.utime(folder / "a/0.png", (10**9, 10**9))
    assert ZipSource(zip_folder(folder, tmp_path / "2.zip", zipfile.ZIP_DEFLATED)).fingerprint() == stored
    (folder / "dataset.json").unlink()
    assert ZipSource(zip_folder(folder, tmp_path / "3.zip")).fingerprint() != stored
