"""Readers of folders and archives."""

import hashlib
import json
import multiprocessing
import os
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from adaflow.core.data import image_files
from adaflow.core.data.source import fingerprint, open_source
from adaflow.errors import DataError
from adaflow.plugins.datasets.folder import FolderSource
from adaflow.plugins.datasets.zipped import ZipSource
from tests.images import load, pixels, save, zip_folder

pytest_plugins = ["tests.images"]


def test_a_folder_is_read_in_order_with_its_labels(folder):
    source = FolderSource(folder)
    assert [source.image_name(i) for i in range(len(source))] == [
        f"{d}/{i}.png" for d, i in zip("aaabbb", (0, 2, 4, 1, 3, 5), strict=True)
    ]
    assert [source.label(i) for i in range(6)] == [0, 2, 1, 1, 0, 2]
    np.testing.assert_array_equal(source.read(3), pixels(1).transpose(2, 0, 1))
    assert (source.name, source.ignored, source.class_names) == ("images", [], None)


def test_junk_is_passed_over_and_other_files_are_named(folder):
    for name in (".hidden.png", "._0.png", ".git/a.png", "__MACOSX/a.png", "a/.DS_Store"):
        save(folder, name, pixels(0), format="png")
    (folder / "notes.txt").write_text("hello")
    (folder / "a" / "dataset.json").write_text("not at the top")
    (folder / "a" / "table.csv").write_text("hello")
    archive = ZipSource(zip_folder(folder, folder.parent / "x.zip"))
    for source in (FolderSource(folder), archive):
        assert len(source) == 6
        assert source.ignored == ["a/dataset.json", "notes.txt"]
        assert source.tables() == {"a/table.csv": b"hello"}


@pytest.mark.parametrize("depth", ["set", "one/two"])
def test_dataset_json_may_lie_in_a_folder_that_all_images_share(folder, tmp_path, depth):
    plain = FolderSource(folder)
    content = json.loads((folder / "dataset.json").read_text())
    content |= {"groups": [["a/0.png", 7]], "validation": ["b/1.png", "b/gone.png"]}
    (folder / "dataset.json").write_text(json.dumps(content))
    shutil.copytree(folder, tmp_path / "packed" / depth)
    packed = zip_folder(tmp_path / "packed", tmp_path / "x.zip")
    for source in (FolderSource(tmp_path / "packed"), ZipSource(packed)):
        assert source.labels_from == f"{depth}/dataset.json"
        assert [source.label(index) for index in range(6)] == [plain.label(index) for index in range(6)]
        assert [source.group(0), source.is_validation(0), source.is_validation(3)] == [7, False, True]
        assert (source.ignored, source.unused_labels) == ([], ["b/gone.png"])
    (tmp_path / "packed" / "dataset.json").write_text('{"labels": null}')
    source = FolderSource(tmp_path / "packed")
    assert (source.labels_from, source.ignored, source.label(0)) == ("dataset.json", [f"{depth}/dataset.json"], None)


def test_dataset_json_beside_some_of_the_images_is_not_used(folder):
    (folder / "dataset.json").rename(folder / "a" / "dataset.json")
    source = FolderSource(folder)
    assert (source.labels_from, source.ignored, source.label(0)) == ("", ["a/dataset.json"], None)


def test_names_in_dataset_json_without_a_file_are_known(folder):
    os.unlink(folder / "b" / "5.png")
    source = FolderSource(folder)
    assert (source.labels_from, source.unused_labels) == ("dataset.json", ["b/5.png"])


def test_training_with_a_dataset_json_that_fits_no_image(folder, readers):
    for name in ("a", "b"):
        (folder / name).rename(folder / f"new-{name}")
    for options in ({"cond": True}, {"balance": True}):
        with pytest.raises(DataError, match=r"dataset\.json of images fits none of its images"):
            load(readers, folder, cache=False, **options)


def test_links_that_lead_in_circles_end(folder):
    (folder / "a" / "up").symlink_to(folder)
    (folder / "again").symlink_to(folder / "b")
    (folder / "self.png").symlink_to(folder / "self.png")
    source = FolderSource(folder)
    assert source.names == [*(f"{d}/{i}.png" for d, i in zip("aaabbb", (0, 2, 4, 1, 3, 5), strict=True)), "self.png"]
    with pytest.raises(DataError, match=r"self\.png cannot be read: Too many levels"):
        source.read(6)


def test_links_to_other_places_are_followed(folder, tmp_path):
    for name in ("one", "two"):
        (tmp_path / "links").mkdir(exist_ok=True)
        (tmp_path / "links" / name).symlink_to(folder)
    names = FolderSource(tmp_path / "links").names
    assert len(names) == 6
    assert all(name.startswith("one/") for name in names)


def test_encoded_images_are_the_files(folder, tmp_path):
    with ZipSource(zip_folder(folder, tmp_path / "x.zip", zipfile.ZIP_DEFLATED)) as archive:
        files = FolderSource(folder)
        for index in range(6):
            content = (folder / files.image_name(index)).read_bytes()
            assert files.encoded(index) == archive.encoded(index) == content


def test_groups_and_division_come_from_dataset_json(folder, tmp_path):
    plain = FolderSource(folder)
    assert [plain.group(0), plain.is_validation(0)] == [None, None]
    content = json.loads((folder / "dataset.json").read_text())
    content |= {"groups": [["a/0.png", 7]], "validation": ["b/1.png"], "class_names": ["x", "y", "z"]}
    (folder / "dataset.json").write_text(json.dumps(content))
    for source in (FolderSource(folder), ZipSource(zip_folder(folder, tmp_path / "x.zip"))):
        assert [source.group(index) for index in range(6)] == [7, None, None, None, None, None]
        assert [source.is_validation(index) for index in range(6)] == [False, False, False, True, False, False]
        assert source.class_names == ("x", "y", "z")


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_zip_is_read_by_forked_processes_at_the_same_time(folder, tmp_path):
    source = ZipSource(zip_folder(folder, tmp_path / "x.zip"))
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=lambda: [read_all(source) for _ in range(20)]) for _ in range(2)]
    for child in children:
        child.start()
    read_all(source)
    for child in children:
        child.join(timeout=60)
        assert child.exitcode == 0


def test_a_member_with_a_changed_byte_is_named(folder, tmp_path):
    path = zip_folder(folder, tmp_path / "x.zip")
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a/0\.png in .* cannot be read: its checksum"):
        ZipSource(path).read(0)


def test_a_huge_member_is_refused_before_it_is_unpacked(folder, tmp_path):
    source = ZipSource(zip_folder(folder, tmp_path / "x.zip"))
    source.members["a/0.png"].file_size = 1 << 31
    with pytest.raises(DataError, match="larger than 1,024 MiB"):
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


def test_fingerprints_of_sets_without_groups_are_as_they_always_were():
    expected = hashlib.sha256(b'["a.png", 1]\n["b.png", 2]\n\n0\nnull\n\n').hexdigest()
    contents, labels = [("a.png", 1), ("b.png", 2)], [0, None]
    assert fingerprint(contents, labels) == fingerprint(contents, labels, [None, None], [None, None]) == expected
    others = [
        fingerprint(contents, labels, *extra) for extra in ([[0, None]], [[None, 0]], [[], [True, False]], [[0, 1]])
    ]
    assert len({expected, *others}) == 5


def test_fingerprints_depend_on_groups_and_division(folder, tmp_path):
    seen = set()
    content = json.loads((folder / "dataset.json").read_text())
    for extra in ({}, {"groups": [["a/0.png", 0]]}, {"groups": [["a/0.png", 1]]}, {"validation": ["a/0.png"]}):
        (folder / "dataset.json").write_text(json.dumps(content | extra))
        seen |= {
            FolderSource(folder).fingerprint(),
            FolderSource(folder).stamp(),
            ZipSource(zip_folder(folder, tmp_path / "x.zip")).fingerprint(),
        }
    assert len(seen) == 12


def test_stamps_of_folders_change_with_sizes_and_times_alone(folder, tmp_path):
    stamp = FolderSource(folder).stamp()
    (folder / "unrelated.txt").write_text("x")
    assert FolderSource(folder).stamp() == stamp

    os.utime(folder / "a/0.png", (1, 1))
    later = FolderSource(folder).stamp()
    os.utime(folder / "a/0.png", (1, 1))
    swapped, other = folder / "a/0.png", folder / "a/2.png"
    os.utime(other, (1, 1))
    before = FolderSource(folder).stamp()
    swapped.rename(tmp_path / "x.png")
    other.rename(swapped)
    (tmp_path / "x.png").rename(other)
    assert len({stamp, later, before, FolderSource(folder).stamp()}) == 4

    broken = folder / "a/broken.png"
    broken.symlink_to("nowhere")
    assert FolderSource(folder).stamp() not in (stamp, later, before)


def test_stamps_of_zips_are_their_fingerprints(folder, tmp_path):
    source = ZipSource(zip_folder(folder, tmp_path / "x.zip"))
    assert source.stamp() == source.fingerprint()


def test_names_that_are_no_text_are_written_out(folder):
    os.rename(folder / "a/0.png", os.fsencode(folder) + b"/a/\xfc.png")
    source = FolderSource(folder)
    assert source.image_name(2) == "a/\\udcfc.png"
    json.dumps(source.image_name(2)).encode()
    source.image_name(2).encode()
    np.testing.assert_array_equal(source.read(2), pixels(0).transpose(2, 0, 1))
    source.fingerprint(), source.stamp()
    save(folder, "a/\\udcfc.png", pixels(1))
    with pytest.raises(DataError, match="cannot be told apart"):
        FolderSource(folder)


ODD_NAMES = [
    "a b.png",
    "a\nb.png",
    "\t.png",
    "Bläschen.png",
    "Bla\u0308schen.png",
    "皮膚.png",
    "'\"\\`$.png",
    "x" * 251 + ".png",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_kept(tmp_path, name):
    save(tmp_path / "set", f"{name[:200]} sub/{name}", pixels(0))
    (tmp_path / "set" / "broken\n\x1b[31m.png").write_bytes(b"")
    files = FolderSource(tmp_path / "set")
    (good,) = [index for index in range(2) if files.image_name(index).endswith(name)]
    assert files.image_name(good) == f"{name[:200]} sub/{name}"
    np.testing.assert_array_equal(files.read(good), pixels(0).transpose(2, 0, 1))
    with pytest.raises(DataError) as error:
        files.read(1 - good)
    assert error.value.message.isprintable()
    if "\\" not in name:  # in a zip it stands between folders
        archive = ZipSource(zip_folder(tmp_path / "set", tmp_path / "set.zip"))
        assert archive.names == files.names
        np.testing.assert_array_equal(archive.read(good), files.read(good))


def test_names_in_zips_are_brought_to_one_form(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("windows")
        for name in ("Bläschen.png", "windows\\1.png", "windows\\sub\\", "./sub//2.png"):
            archive.writestr(name, b"")
    expected = ["Bläschen.png", "sub/2.png", "windows/1.png"]
    assert ZipSource(path).names == expected
    data = bytearray(path.read_bytes())
    end = data.index("Bläschen.png".encode(), data.index(b"PK\x01\x02"))
    assert data[end - 46 + 9] == 8
    data[end - 46 + 9] = 0  # macOS writes UTF-8 without the flag that says so
    path.write_bytes(data)
    assert ZipSource(path).names == expected


def test_zips_of_four_gigabytes_and_more_are_known(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            with archive.open(str(file.relative_to(folder)), "w", force_zip64=True) as member:
                member.write(file.read_bytes())
    read_all(ZipSource(tmp_path / "x.zip"))
    stored = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(b"#!/bin/sh\nunzip $0\n" + stored)  # as archives that unpack themselves
    read_all(ZipSource(tmp_path / "x.zip"))


def test_tables_are_read_within_limits(folder, tmp_path, monkeypatch):
    (folder / "a.csv").write_bytes(b"x" * 100)
    (folder / "b.TSV").write_bytes(b"x" * 100)
    for source in (FolderSource(folder), ZipSource(zip_folder(folder, tmp_path / "x.zip"))):
        assert list(source.tables()) == ["a.csv", "b.TSV"]
        with monkeypatch.context() as patch:
            patch.setattr(image_files, "MAX_TABLE_BYTES", 99)
            assert all("csv" in str(error) or "TSV" in str(error) for error in source.tables().values())
            assert all("is larger than" in str(error) for error in source.tables().values())
            patch.setattr(image_files, "MAX_TABLE_BYTES", 199)
            with pytest.raises(DataError, match=r"all that the tables of .* hold is larger than"):
                source.tables()
            patch.setattr(image_files, "MAX_TABLES", 1)
            with pytest.raises(DataError, match="has 2 tables"):
                source.tables()
